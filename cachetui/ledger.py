"""A finished scan, and who holds which bytes: names, inodes and their holders over all stores together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from cachetui.model import Blob, Item, OfflineArchive, Problem, RootScan


@dataclass(frozen=True)
class Scan:
    """Everything that was found, complete or (when cancelled) as far as it got."""

    roots: tuple[RootScan, ...] = ()
    problems: tuple[Problem, ...] = ()
    complete: bool = True
    offline: tuple[OfflineArchive, ...] = ()
    """Archives of this machine that are not there now."""

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """All items of all roots."""
        return tuple(item for root in self.roots for item in root.items)

    @cached_property
    def ledger(self) -> Ledger:
        """Who holds which bytes, over all roots."""
        return Ledger(self)

    @cached_property
    def by_key(self) -> dict[tuple[str, str], Item]:
        """Items by (root, id)."""
        return {item.key: item for item in self.items}

    def root_of(self, item: Item) -> RootScan:
        """The root an item lies in. Raises KeyError where the item is not of this scan."""
        return self._roots_by_path[item.root]

    @cached_property
    def _roots_by_path(self) -> dict[str, RootScan]:
        return {r.root.path: r for r in self.roots}

    def replaced(self, root: RootScan) -> Scan:
        """The same scan with one root re-read."""
        return replace(self, roots=tuple(root if r.root.path == root.root.path else r for r in self.roots))


class Holder(NamedTuple):
    """Somebody else who needs bytes of an item."""

    item: Item
    size: int
    """Apparent bytes in common."""


class _Inode(NamedTuple):
    item: int
    name: tuple[str, str]


class Ledger:
    """Who holds which bytes: names, inodes and their holders, over all stores together.

    A *name* is one directory entry of content, (root, path). It goes when every item that holds it goes; an
    inode is freed when as many names go as it has links. Built once a scan, in one pass.
    """

    def __init__(self, scan: Scan) -> None:
        # Not the scan itself: it holds its ledger, and without a cycle both go at once when a newer one comes.
        self._roots = {r.root.path: r for r in scan.roots}
        self._items = scan.items
        self._position = {item.key: n for n, item in enumerate(self._items)}
        self._blind = frozenset(r.root.path for r in scan.roots if r.blind)
        names: dict[tuple[str, str], list[int]] = defaultdict(list)
        inodes: dict[tuple[int, int], list[_Inode]] = defaultdict(list)
        for n, item in enumerate(self._items):
            for b in item.links:
                holders = names[item.root, b.path]
                if not holders or holders[-1] != n:
                    holders.append(n)
        for n, item in enumerate(self._items):
            for b in item.blobs:
                if names and (item.root, b.path) in names and n not in names[item.root, b.path]:
                    names[item.root, b.path].append(n)
                if b.nlink > 1:
                    inodes[b.dev, b.ino].append(_Inode(n, (item.root, b.path)))
            for b in item.links:
                if b.nlink > 1:
                    inodes[b.dev, b.ino].append(_Inode(n, (item.root, b.path)))
        self._names = dict(names)
        self._inodes = dict(inodes)

    def root_of(self, item: Item) -> RootScan:
        """The root an item lies in. Raises KeyError where the item is not of this scan."""
        return self._roots[item.root]

    def holders_of(self, root: str, path: str) -> tuple[Item, ...]:
        """The items that hold a name which lies outside of at least one of them; empty for a private name."""
        return tuple(self._items[n] for n in self._names.get((root, path), ()))

    def name_goes(self, root: str, path: str, selected: set[int], *, link: bool) -> bool:
        """Whether a content name goes when these items (positions) go; `link`: it lies outside the item."""
        holders = self._names.get((root, path))
        if holders is None:
            return True
        if link and root in self._blind:
            return False
        return all(n in selected for n in holders)

    def positions(self, items: Iterable[Item]) -> set[int]:
        """Positions of items, for `name_goes`; items that are not of this scan are left out."""
        return {n for item in items if (n := self._position.get(item.key)) is not None}

    def own(self, item: Item) -> int:
        """Apparent bytes of the item that lie here and that nobody else holds."""
        return max(item.size - item.away - self.shared(item), 0)

    def shared(self, item: Item) -> int:
        """Apparent bytes of the item that somebody else holds too."""
        me = self._position.get(item.key)
        if me is None:
            return 0
        total = 0
        seen: set[tuple[int, int]] = set()
        for b in item.content:
            if self._is_private(item.root, b):
                continue
            if (b.dev, b.ino) not in seen and self._others(me, item.root, b):
                seen.add((b.dev, b.ino))
                total += b.size
        return total

    def shared_with(self, item: Item) -> tuple[Holder, ...]:
        """Who else holds bytes of the item, most bytes first."""
        me = self._position.get(item.key)
        if me is None:
            return ()
        common: dict[int, int] = defaultdict(int)
        seen: set[tuple[int, int]] = set()
        for b in item.content:
            if self._is_private(item.root, b) or (b.dev, b.ino) in seen:
                continue
            seen.add((b.dev, b.ino))
            for n in self._others(me, item.root, b):
                common[n] += b.size
        return tuple(Holder(self._items[n], size) for n, size in sorted(common.items(), key=lambda c: -c[1]))

    def _is_private(self, root: str, b: Blob) -> bool:
        """Whether the item that lists this content is the only one that can hold it; true for nearly all of it."""
        return b.nlink == 1 and (not self._names or (root, b.path) not in self._names)

    def _others(self, me: int, root: str, b: Blob) -> set[int]:
        others = {n for n in self._names.get((root, b.path), ()) if n != me}
        if b.nlink > 1:
            others |= {i.item for i in self._inodes.get((b.dev, b.ino), ()) if i.item != me}
        return others

    def frees(self, items: Sequence[Item]) -> int:
        """Allocated bytes that come back when exactly these items go, together."""
        selected = self.positions(items)
        total = 0
        going: dict[tuple[int, int], set[tuple[str, str]]] = defaultdict(set)
        blocks: dict[tuple[int, int], tuple[int, int]] = {}
        for n in selected:
            item = self._items[n]
            total += item.overhead
            for content, link in ((item.blobs, False), (item.links, True)):
                for b in content:
                    if not link and self._is_private(item.root, b):
                        total += b.allocated
                        continue
                    if not self.name_goes(item.root, b.path, selected, link=link):
                        continue
                    going[b.dev, b.ino].add((item.root, b.path))
                    blocks[b.dev, b.ino] = (b.nlink, b.allocated)
        for inode, names in going.items():
            nlink, allocated = blocks[inode]
            if len(names) >= nlink:
                total += allocated
        return total
