"""What the UI knows so far: names first, then items, then the finished scan. No Textual in here."""

from __future__ import annotations

from dataclasses import dataclass, field

from cachetui.ledger import Scan
from cachetui.model import Item, Problem, Root, RootScan, Stub
from cachetui.tui.feed import Batch, Disk, Figures

Held = Item | Stub
"""An item, or as long as it was not read, its name."""


@dataclass
class Shelf:
    """Everything known, by root and id."""

    roots: dict[str, Root] = field(default_factory=dict)
    held: dict[str, dict[str, Held]] = field(default_factory=dict)
    done: dict[str, RootScan] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    disks: tuple[Disk, ...] = ()
    outdated: dict[tuple[str, str], str] = field(default_factory=dict)
    """Commit that main names upstream, of items whose main was another one when the Hub was asked; by (root, id)."""
    asked: bool = False
    """A Hub was asked what is outdated, and answered."""
    scan: Scan | None = None
    figures: Figures | None = None
    reading: bool = True
    largest: int = 0
    """Size of the biggest item that lies here, which the bars are measured against."""
    read_count: int = 0
    """Items read so far."""
    partial_size: int = 0
    """Sum of the sizes read so far, until the figures are there."""

    def apply(self, batch: Batch) -> bool:
        """Take a batch in; True when rows were added or removed, not only filled in."""
        changed = False
        for root, stubs in batch.named:
            self.roots[root.path] = root
            known = self.held.get(root.path, {})
            self.held[root.path] = known | {stub.id: stub for stub in stubs if stub.id not in known}
            changed = True
        for item in batch.sized:
            changed |= self._add(item)
        for done in batch.done:
            self.done[done.root.path] = done
            self.roots[done.root.path] = done.root
        self.problems += batch.problems
        if batch.disks is not None:
            self.disks = batch.disks
        if batch.scan is not None:
            self.finish(batch.scan, batch.figures)
            changed = True
        return changed

    def _add(self, item: Item) -> bool:
        held = self.held.setdefault(item.root, {})
        new = item.id not in held
        held[item.id] = item
        self.read_count += 1
        self.partial_size += item.size - item.away
        self.largest = max(self.largest, item.size - item.away)
        return new

    def finish(self, scan: Scan, figures: Figures | None) -> None:
        """The scan is complete, or cancelled: names of which nothing was read stay names."""
        before = self.held
        self.scan, self.figures, self.reading = scan, figures, False
        self.roots = {r.root.path: r.root for r in scan.roots}
        self.done = {r.root.path: r for r in scan.roots}
        self.held = {}
        for r in scan.roots:
            held: dict[str, Held] = {}
            if not r.complete:
                held.update(before.get(r.root.path, {}))
            held.update((item.id, item) for item in r.items)
            self.held[r.root.path] = held
        self.problems = [p for p in self.problems if p not in scan.problems] + list(scan.problems)
        self.largest = max((i.size - i.away for i in scan.items), default=0)

    def begin_again(self) -> None:
        """Everything is about to be read again; what is known stays until then."""
        self.reading, self.read_count, self.partial_size = True, 0, 0
        self.scan, self.problems = None, []

    def get(self, root: str, id_: str) -> Held | None:
        """An item or its name, or None when it is gone."""
        return self.held.get(root, {}).get(id_)

    def item(self, key: tuple[str, str]) -> Item | None:
        """An item that was read, by (root, id)."""
        found = self.get(*key)
        return found if isinstance(found, Item) else None

    def newer(self, item: Item) -> str:
        """The upstream commit that an item does not have as its main; empty where none is known."""
        there = self.outdated.get(item.key, "")
        return "" if any(r.commit == there and "main" in r.refs for r in item.revisions) else there

    def is_outdated(self, item: Item) -> bool:
        """Whether `newer` knows a commit."""
        return bool(self.newer(item))

    @property
    def count(self) -> int:
        """Items known by name at least."""
        return sum(len(h) for h in self.held.values())

    @property
    def size(self) -> int:
        """Apparent bytes of everything read so far; each blob once as soon as that is known."""
        return self.figures.size if self.figures is not None else self.partial_size

    def own(self, key: tuple[str, str]) -> int | None:
        """Bytes of an item that nobody else holds; None until everything was read."""
        return None if self.figures is None else self.figures.own.get(key)
