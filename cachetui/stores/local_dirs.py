"""Plain folders with models: CUSTOM_MODEL_DIR, ~/models, folders that were given, caches inside of projects."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from cachetui import afar, loose, loose_expected
from cachetui.config import Where
from cachetui.expected import Expected
from cachetui.hub_layout import is_hub_layout
from cachetui.ledger import Ledger
from cachetui.model import Item, Problem, Reporter, Root, RootScan, Stub
from cachetui.ollama_layout import is_ollama_layout
from cachetui.projects import project_caches
from cachetui.store import Removal, Selection, Store, make_root
from cachetui.text import encode_target

PROJECTS = "Projects"
_MAX_INNER = 2000


class LocalDirs(Store):
    """Folders that no program keeps books of."""

    name = "dir"
    title = "Folders"
    order = 40
    holds_states = True

    def roots(self, where: Where) -> Iterable[Root]:
        """The user's own folder, what was given, projects' caches; what has another layout goes to its store."""
        custom = where.env.get("CUSTOM_MODEL_DIR", "")
        if custom:
            yield from _roots(where.resolve(custom), "CUSTOM_MODEL_DIR", given=custom)
        else:
            yield from _roots(os.path.join(where.home, "models"), "default")
        for given in where.cache_dirs:
            origin = "config" if given in where.config.cache_dirs else "--cache-dir"
            yield from _roots(where.resolve(given), origin, given=given)
        for cache in project_caches(where):
            yield from _roots(cache.path, cache.origin, given=cache.given, group=PROJECTS, problems=cache.problems)

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
    return f"dir:{encode_target(f'{root.path}/{path}' if path else root.path)}"


def _roots(
    path: str, origin: str, *, given: str = "", group: str = "", problems: tuple[Problem, ...] = ()
) -> Iterator[Root]:
    """The root at a path under the store whose layout it has, and the hub caches right inside of it."""

    def root(store: str, where: str) -> Iterator[Root]:
        found = make_root(store, where, origin, group=group, problems=problems)
        if found is not None:
            yield replace(found, given=given) if given not in ("", found.path) else found

    if afar.is_silent(path):
        yield from root("dir", path)
    elif is_hub_layout(path):
        yield from root("hf", path)
    elif is_ollama_layout(path):
        yield from root("ollama", path)
    else:
        inner = [p for p in _folders(path) if is_hub_layout(p)]
        if not (inner and _holds_only(path, inner)):
            yield from root("dir", path)
        for folder in inner:
            yield from root("hf", folder)


def _folders(path: str) -> Iterator[str]:
    """Folders right inside, and `hub` in each: where a hub cache may lie."""
    try:
        with os.scandir(path) as entries:
            names = sorted(e.name for _, e in zip(range(_MAX_INNER), entries, strict=False)
                           if e.is_dir(follow_symlinks=False))  # fmt: skip
    except OSError:
        return
    for name in names:
        yield f"{path}/{name}"
        hub = f"{path}/{name}/hub"
        if os.path.isdir(hub) and not os.path.islink(hub):
            yield hub


def _holds_only(path: str, inner: Sequence[str]) -> bool:
    """Whether nothing lies in a folder but one hub cache: then the folder itself is no root worth showing."""
    try:
        return set(os.listdir(path)) == {os.path.basename(p) for p in inner if os.path.dirname(p) == path}
    except OSError:
        return False
