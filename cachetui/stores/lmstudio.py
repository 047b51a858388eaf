"""LM Studio: `models/<publisher>/<model>/` with GGUF or MLX files, and nothing else to know."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence

from cachetui import loose, loose_expected, walk
from cachetui.config import Where
from cachetui.expected import Expected
from cachetui.ledger import Ledger
from cachetui.model import Item, Reporter, Root, RootScan, Stub
from cachetui.store import Removal, Selection, Store, make_root
from cachetui.text import encode_target

_MAX_SETTINGS = 1 << 20


class LMStudio(Store):
    """Models that LM Studio downloaded."""

    name = "lmstudio"
    title = "LM Studio"
    order = 60
    holds_states = True

    def roots(self, where: Where) -> Iterable[Root]:
        """settings.json's downloadsFolder, else `models` in its home (~/.lmstudio, or where the pointer says)."""
        pointer = _text(os.path.join(where.home, ".lmstudio-home-pointer"), 4096).strip()
        home = pointer if os.path.isabs(pointer) else os.path.join(where.home, ".lmstudio")
        folder, origin = _downloads_folder(home), "settings.json"
        if not folder:
            folder, origin = os.path.join(home, "models"), "default"
        root = make_root(self.name, folder, origin)
        return () if root is None else (root,)

    def stubs(self, root: Root) -> Sequence[Stub]:
        """Names of the models, from listings alone."""
        return loose.stubs(root, _identify)

    def scan(self, root: Root, nested: frozenset[tuple[int, int]], report: Reporter) -> RootScan:
        """Every model, and the blocks of the rest."""
        return loose.scan(self.name, root, nested, report, _identify)

    def removal(self, selection: Selection, ledger: Ledger, selected: set[int]) -> Removal:
        """The folder or the files."""
        return loose.removal(selection, ledger.root_of(selection.item).nested)

    def expected(self, item: Item) -> Expected:
        """What `hf download --local-dir` recorded of each file."""
        return loose_expected.expected(item)


def _identify(root: Root, path: str) -> str:
    return f"lmstudio:{encode_target(path) or '.'}"


def _text(path: str, cap: int) -> str:
    try:
        return os.fsdecode(walk.read_small(path, cap))
    except OSError:
        return ""


def _downloads_folder(home: str) -> str:
    try:
        settings = json.loads(_text(os.path.join(home, "settings.json"), _MAX_SETTINGS))
    except (ValueError, RecursionError):
        return ""
    folder = settings.get("downloadsFolder") if isinstance(settings, dict) else None
    return folder if isinstance(folder, str) and os.path.isabs(folder) and "\0" not in folder else ""
