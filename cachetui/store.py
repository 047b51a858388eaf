"""What a store is. Read this, copy stores/ollama.py, and you have added one.

A store is a program's way of keeping models on disk: the hub cache, Ollama, LM Studio. Each is one file in
stores/, found by scanning that folder. The tree, the table, the command line, delete and undo come free.
"""

from __future__ import annotations

import os
import stat
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import ClassVar

from cachetui import afar, archives
from cachetui.config import Where
from cachetui.expected import Expected, plain_files
from cachetui.ledger import Ledger
from cachetui.model import Blob, Item, Problem, Reporter, Root, RootScan, Silent, Stub
from cachetui.units import iso


@dataclass(frozen=True, slots=True)
class Selection:
    """What a verb works on: a whole item, one revision of it, or one file."""

    item: Item
    revision: str = ""
    """`Revision.commit` (or ~orphan, ~partial, ~litter); empty for the whole item, or for a file in every revision."""
    file: str = ""
    """One of `Revision.names`; empty for all."""

    @property
    def is_whole(self) -> bool:
        """True when the whole item is meant."""
        return not self.revision and not self.file


@dataclass(frozen=True, slots=True)
class Removal:
    """What removing a selection takes, in order. Paths are relative to the root and are moved as they are."""

    references: tuple[str, ...]
    """Go first: refs, snapshot links, manifests, or the one folder that is all of it."""
    content: tuple[str, ...] = ()
    """Go last: blobs that nothing else needs."""
    stays: tuple[Blob, ...] = ()
    """Content the selection uses that stays for others: hard-linked into the trash entry, so that undo is complete."""
    refused: str = ""
    """Why it cannot be removed; empty when it can."""


class Store(ABC):
    """One program's way of keeping models. Stateless; one instance serves the whole process."""

    name: ClassVar[str]
    """For --store, e.g. `hf`, `ollama`."""
    title: ClassVar[str]
    """For people, e.g. `Hugging Face hub`."""
    order: ClassVar[int] = 50
    """Position among the stores; lower is first."""
    holds_states: ClassVar[bool] = False
    """Whether saved states in its roots are items of them (store `state`), found by content."""

    @abstractmethod
    def roots(self, where: Where) -> Iterable[Root]:
        """The roots that exist, by the environment and defaults, with the owning library's own precedence.

        May name another store's kind (`Root.store`): a project cache in hub layout is a root of `hf`.
        """

    @abstractmethod
    def stubs(self, root: Root) -> Sequence[Stub]:
        """The names of the root's items from as few reads as possible: what is on screen first. Never raises."""

    @abstractmethod
    def scan(self, root: Root, nested: frozenset[tuple[int, int]], report: Reporter) -> RootScan:
        """Everything in the root. Never raises for what is on disk: oddities are Problems, unreadable is `blind`.

        `nested` are (device, inode) of other roots: not entered, named in `RootScan.nested`. Calls report.sized for
        every item as it is ready and stops early, with complete=False, when report.cancelled().
        """

    def rescan(self, before: RootScan, nested: frozenset[tuple[int, int]], changed: Sequence[Item]) -> RootScan:
        """The root again after `changed` were acted on. Stores where a full scan is slow re-read only those."""
        return self.scan(before.root, nested, Silent())

    @abstractmethod
    def removal(self, selection: Selection, ledger: Ledger, selected: set[int]) -> Removal:
        """What removing takes. `selected`: ledger positions of all whole items that go in the same plan."""

    def expected(self, item: Item) -> Expected:
        """What the item's content ought to be (hashes, sizes, what is missing), by what lies on disk. Never raises.

        A store that knows no hashes gives the files as they are: then only their structure can be checked.
        """
        return plain_files(item, item.root)


@cache
def all_stores() -> tuple[Store, ...]:
    """One instance of every Store class found in stores/, in order."""
    package = import_module("cachetui.stores")
    found: list[Store] = []
    for info in iter_modules(package.__path__):
        module = import_module(f"cachetui.stores.{info.name}")
        found += [
            c()
            for c in vars(module).values()
            if isinstance(c, type) and issubclass(c, Store) and c.__module__ == module.__name__
        ]
    return tuple(sorted(found, key=lambda s: (s.order, s.name)))


def store_named(name: str) -> Store:
    """The store of that name. Raises KeyError."""
    for store in all_stores():
        if store.name == name:
            return store
    raise KeyError(name)


def make_root(
    store: str,
    path: str,
    origin: str,
    *,
    given: str = "",
    group: str = "",
    problems: tuple[Problem, ...] = (),
) -> Root | None:
    """A Root for a folder (links resolved); None where there is none.

    A folder that lies on a drive or server that is away is an offline root, when a link or the registry of archives
    says that it lies there.
    """
    lead = afar.reach(os.path.abspath(path))
    if lead.stat is None:
        return _offline_root(store, lead, origin, given or path, group, problems)
    if not stat.S_ISDIR(lead.stat.st_mode):
        return None
    st, real = lead.stat, lead.real
    given = given or ("" if real == lead.path else lead.path)
    return Root(store, real, st.st_dev, st.st_ino, origin, given, os.access(real, os.W_OK), group, problems)


def _offline_root(
    store: str, lead: afar.Lead, origin: str, given: str, group: str, problems: tuple[Problem, ...]
) -> Root | None:
    path = afar.dangling(lead.path)
    archive = archives.holding(path or lead.path)
    if not (path or archive or lead.silent) or lead.loop:
        return None
    path = path or lead.path
    message = f"lies at {path}, which {lead.state}"
    if archive is not None:
        message += f"; it was on {archive.label or archive.path}, last seen {iso(archive.seen)}"
    problem = Problem("root-offline", message, path, afar.HINT)
    number = zlib.crc32(os.fsencode(path))
    return Root(store, path, -1, number, origin, given, False, group, (*problems, problem), offline=True)
