"""Saved states: a picture and a system prompt that a model has read, one file each (see cachetui/states).

They lie in a folder of this program's own, and in folders of the user's that were named for one. In the latter only
what begins as a state does is looked at, whatever it is called; nothing else there is read, counted or touched.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from cachetui import afar, archives, state_folders, state_items, walk
from cachetui.config import Where
from cachetui.expected import STATE_DATA, Digest, Expected, ExpectedFile
from cachetui.filesystem import shares_extents
from cachetui.folder import Folder
from cachetui.formats import is_weights
from cachetui.hub_layout import OURS
from cachetui.ledger import Ledger
from cachetui.model import Item, Problem, Reporter, Root, RootScan, Stub
from cachetui.states.errors import StateError
from cachetui.store import Removal, Selection, Store, make_root


class States(Store):
    """Saved states, wherever they lie."""

    name = state_items.STORE
    title = "Saved states"
    order = 45

    def roots(self, where: Where) -> Iterable[Root]:
        """The folder of our own, the one the user set, and every folder that was named by --output."""
        for folder in state_folders.folders(where):
            root = make_root(self.name, folder.path, folder.origin, given=folder.given)
            if root is not None:
                given = root.given if root.given != root.path else ""
                yield replace(root, ours_only=not folder.ours, given=given)

    def stubs(self, root: Root) -> Sequence[Stub]:
        """By the first bytes of each file."""
        return [
            Stub(state_items.identify(f.path), state_items.KIND, state_items.title(f.path), f.path)
            for f in _Found(root).states()
        ]

    def scan(self, root: Root, nested: frozenset[tuple[int, int]], report: Reporter) -> RootScan:
        """Every state; of a folder of our own also the blocks of the rest."""
        found = _Found(root, nested, report)
        items: list[Item] = []
        for file in found.states():
            if report.cancelled():
                break
            items.append(file.item(root))
            report.sized(root, items[-1])
        return RootScan(
            root, tuple(items), found.other(items), tuple(found.nested), tuple(found.problems), tuple(found.blind),
            shares_extents(root.dev), not report.cancelled(), sum(i.away for i in items),
        )  # fmt: skip

    def removal(self, selection: Selection, ledger: Ledger, selected: set[int]) -> Removal:
        """The one file."""
        return state_items.removal(selection)

    def expected(self, item: Item) -> Expected:
        """What its header says of the data; the header itself is sealed by a hash of its own."""
        found = Expected()
        found.sort_in(item.problems)
        path = f"{item.root}/{item.path}"
        if found.damaged or found.unknown:
            return found
        try:
            info = state_items.info_of(os.path.realpath(path))
        except StateError as e:
            problem = Problem(state_items.code_of(e), e.reason, path, e.advice)
            found.sort_in([problem])
            return found
        digest = Digest(STATE_DATA, info.data_sha256, "its header")
        found.files.append(ExpectedFile(path, os.path.basename(path), info.bytes, (digest,)))
        return found


@dataclass(frozen=True, slots=True)
class _File:
    """A state, or a link to one."""

    path: str
    st: os.stat_result
    lead: afar.Lead | None = None

    def item(self, root: Root) -> Item:
        if self.lead is not None:
            return state_items.linked(root, self.path, self.st, self.lead)
        return state_items.make(root, self.path, self.st)


@dataclass
class _Found:
    """What lies in a root, read while it is asked for."""

    root: Root
    inside: frozenset[tuple[int, int]] = frozenset()
    report: Reporter | None = None
    nested: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)
    overhead: int = 0
    rest: list[tuple[int, int, int]] = field(default_factory=list)
    """(device, inode, blocks) of files that are no states."""

    def states(self) -> Iterator[_File]:
        """The states by name."""
        return self._flat() if self.root.ours_only else self._deep()

    def other(self, items: Iterable[Item]) -> int:
        """Blocks of what is no item; of a folder of the user's nothing was gathered."""
        seen = {(b.dev, b.ino) for item in items for b in item.blobs}
        total = self.overhead
        for dev, ino, blocks in self.rest:
            if (dev, ino) not in seen:
                seen.add((dev, ino))
                total += blocks
        return total

    def _flat(self) -> Iterator[_File]:
        try:
            with Folder(self.root.path) as folder:
                with folder.listing() as listing:
                    entries = sorted((e.name, folder.lstat(e)) for e in listing)
                files = [(n, st) for n, st in entries if stat.S_ISREG(st.st_mode) or stat.S_ISLNK(st.st_mode)]
                for name, st in files:
                    if len(files) > state_items.MANY and not is_weights(name):
                        continue
                    if stat.S_ISLNK(st.st_mode):
                        yield from self._link(name, st)
                    elif state_items.is_state(name, folder=folder):
                        yield _File(name, st)
        except OSError as e:
            self._cannot(e)

    def _deep(self) -> Iterator[_File]:
        cancelled = self.report.cancelled if self.report is not None else None
        tally = walk.tree(self.root.path, nested=self.inside, cancelled=cancelled)
        self.nested, self.problems, self.overhead = tally.nested, tally.problems, tally.overhead
        self.blind = [f"{self.root.path}/{path}" for path in tally.blind]
        links = [path for path, _ in tally.links]
        for path in sorted([b.path for b in tally.files] + links):
            full = f"{self.root.path}/{path}"
            try:
                st = os.lstat(full)
            except OSError:
                continue
            if stat.S_ISLNK(st.st_mode):
                for link in self._link(path, st):
                    self.overhead -= walk.allocated(st)
                    yield link
            elif not path.startswith(OURS) and state_items.is_state(full):
                yield _File(path, st)
            else:
                self.rest.append((st.st_dev, st.st_ino, walk.allocated(st)))

    def _link(self, path: str, st: os.stat_result) -> Iterator[_File]:
        """A link to a state that was put elsewhere; one to what is not there now where an archive is known to be."""
        lead = afar.follow(f"{self.root.path}/{path}")
        if not afar.leaves(self.root.path, self.root.dev, lead):
            return
        if lead.stat is None:
            known = archives.holding(lead.path) is not None
        else:
            known = stat.S_ISREG(lead.stat.st_mode) and afar.patiently(
                lead.real, lambda: state_items.is_state(lead.real), False
            )
        if known:
            yield _File(path, st, lead)

    def _cannot(self, error: OSError) -> None:
        message = f"cannot be read: {error.strerror or error}"
        self.problems.append(Problem("unreadable", message, self.root.path, "check its permissions and the disk"))
        self.blind.append(self.root.path)
