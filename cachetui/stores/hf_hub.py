"""The Hugging Face hub cache: `models--ORG--NAME` folders with blobs, snapshots and refs, and their shared store.

Layout and precedence of variables follow huggingface_hub 2.4 (constants.py, file_download.py). Reading is in
hub_scan.py and hub_repo.py, removing in hub_removal.py; this file finds the roots and ties them together.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from cachetui import hub_expected, hub_layout
from cachetui.config import Where
from cachetui.expected import Expected
from cachetui.hub_removal import removal
from cachetui.hub_scan import TWINS, item_id, scan_hub
from cachetui.ledger import Ledger
from cachetui.model import ARCHIVED, OFFLINE, Item, Problem, Reporter, Root, RootScan, Silent, Stub
from cachetui.store import Removal, Selection, Store, make_root

_EMPTY_HINT = "unset it, or set it to a folder"
_TRANSFORMERS = Problem(
    "transformers-cache", "transformers 5 ignores this variable, 4.x obeys it: set HF_HOME or HF_HUB_CACHE"
)


class HuggingFaceHub(Store):
    """Hub caches: the library's own, LLAMA_CACHE, TRANSFORMERS_CACHE, and folders that are told."""

    name: ClassVar[str] = "hf"
    title: ClassVar[str] = "Hugging Face hub"
    order: ClassVar[int] = 10

    def roots(self, where: Where) -> Iterable[Root]:
        """The library's cache first, then what other variables name, then folders that were given."""
        main = self._main(where)
        if main is not None:
            yield main
        yield from self._forgotten(where, main)
        llama = where.env.get("LLAMA_CACHE", "")
        if llama:
            path = where.resolve(llama)
            if hub_layout.is_hub_layout(path):
                yield from _root(path, "LLAMA_CACHE", llama)
        old = where.env.get("TRANSFORMERS_CACHE", "")
        if old:
            for root in _root(where.resolve(old), "TRANSFORMERS_CACHE", old, _TRANSFORMERS):
                if main is None or (root.dev, root.ino) != (main.dev, main.ino):
                    yield root
        for given in where.cache_dirs:
            origin = "config" if given in where.config.cache_dirs else "--cache-dir"
            path = where.resolve(given)
            for folder in (path, os.path.join(path, "hub")):
                if hub_layout.is_hub_layout(folder):
                    yield from _root(folder, origin, given)

    def _forgotten(self, where: Where, main: Root | None) -> Iterator[Root]:
        """The cache in HF_HOME when another variable names a different one: nothing reads it, but it takes space."""
        home = hub_layout.hf_home(where.env, where.home)
        path = os.path.normpath(os.path.join(where.cwd, home, "hub"))
        if main is None or not home or not hub_layout.is_hub_layout(path):
            return
        message = f"{main.origin} names another cache, so programs do not use this one"
        for root in _root(path, "HF_HOME", path, Problem("unused-cache", message, path, "delete what you do not need")):
            if (root.dev, root.ino) != (main.dev, main.ino):
                yield root

    def _main(self, where: Where) -> Root | None:
        given, origin = hub_layout.hub_cache(where.env, where.home)
        problems: tuple[Problem, ...] = ()
        if origin != "default" and not where.env[origin]:
            path = os.path.normpath(os.path.join(where.cwd, given))
            message = f"{origin} is set to nothing, which means the folder {path} to huggingface_hub"
            problems = (Problem("empty-variable", message, path, _EMPTY_HINT),)
            if origin.endswith("HUB_CACHE") and not hub_layout.is_hub_layout(path):
                return None  # the working folder itself, without a hub in it: anything but a cache
        path = os.path.normpath(os.path.join(where.cwd, given))
        return next(iter(_root(path, origin, given, *problems)), None)

    def stubs(self, root: Root) -> Sequence[Stub]:
        """Names of repos, from one listing."""
        try:
            names = sorted(os.listdir(root.path))
        except OSError:
            return ()
        found: dict[str, Stub] = {}
        for folder in names:
            decoded = hub_layout.decode_folder(folder)
            if decoded is not None:
                kind, name = decoded
                target = item_id(kind, name, found, f"{root.path}/{folder}")
                found[target] = Stub(target, kind, name, folder)
        return tuple(found.values())

    def scan(self, root: Root, nested: frozenset[tuple[int, int]], report: Reporter) -> RootScan:
        """Every repo, payload and stray in one pass."""
        return scan_hub(root, nested, report)

    def rescan(self, before: RootScan, nested: frozenset[tuple[int, int]], changed: Sequence[Item]) -> RootScan:
        """Reads the changed repos and what is new; keeps the others, with the state their payloads are in now."""
        if not before.complete or any(p.code == TWINS for p in before.problems):
            return self.scan(before.root, nested, Silent())
        touched = {item.path for item in changed}
        unclear = (*before.blind, *before.nested)
        touched |= {item.path for item in before.items for path in unclear if f"{path}/".startswith(f"{item.path}/")}
        touched |= {item.path for item in before.items if ARCHIVED in item.states or OFFLINE in item.states}
        repos = {i.path: i for i in before.items if hub_layout.decode_folder(i.path) and i.path not in touched}
        return scan_hub(before.root, nested, Silent(), repos)

    def removal(self, selection: Selection, ledger: Ledger, selected: set[int]) -> Removal:
        """References first: the folder, or snapshots, refs and listings; blobs that nothing else names last."""
        return removal(selection, ledger, selected)

    def expected(self, item: Item) -> Expected:
        """Names of blobs are hashes; listings know sizes, what is missing, and files that are no links."""
        return hub_expected.expected(item)


def _root(path: str, origin: str, given: str, *problems: Problem) -> Iterator[Root]:
    root = make_root("hf", path, origin, problems=problems)
    if root is not None:
        yield root if given == root.path else replace(root, given=given)
