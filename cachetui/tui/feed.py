"""The scanning thread and what it hands over: a lock-guarded buffer that the UI empties some ten times a second."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cachetui.config import Where
from cachetui.ledger import Scan
from cachetui.marks import Marks
from cachetui.model import Item, Problem, Root, RootScan, Stub
from cachetui.plans.model import Recovery
from cachetui.scan import collector_paused, find_roots, scan_roots
from cachetui.store import store_named

_PATIENCE = 1.0
"""Seconds that sizes wait for the names to be painted first."""


@dataclass(frozen=True, slots=True)
class Disk:
    """One file system that roots lie on. Bytes."""

    dev: int
    mount: str
    total: int
    free: int
    ours: int
    """Allocated by all roots on it, as far as they are read."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What takes a pass over every blob: made in a thread, once a scan."""

    own: dict[tuple[str, str], int]
    """Apparent bytes that nobody else holds, by item key."""
    size: int
    """Apparent bytes of everything, each blob once across all roots."""


@dataclass(slots=True)
class Batch:
    """What came since the last look."""

    named: list[tuple[Root, Sequence[Stub]]] = field(default_factory=list)
    sized: list[Item] = field(default_factory=list)
    done: list[RootScan] = field(default_factory=list)
    disks: tuple[Disk, ...] | None = None
    problems: list[Problem] = field(default_factory=list)
    recovered: list[Recovery] = field(default_factory=list)
    scan: Scan | None = None
    figures: Figures | None = None

    def __bool__(self) -> bool:
        return self != Batch()


class Feed:
    """A `model.Reporter` for the UI. Every method may be called from any thread."""

    def __init__(self, on_named: Callable[[], object] = lambda: None) -> None:
        self._lock = threading.Lock()
        self._batch = Batch()
        self._stop = threading.Event()
        self._painted = threading.Event()
        self._on_named = on_named
        self._marks = Marks()
        self._roots: dict[str, Root] = {}
        self._allocated: dict[str, int] = {}
        self.names = threading.Event()
        """Set when every root has told its names."""
        self.reserved = threading.Event()
        """Set when the trash folders are made: until then they are locked."""

    def take(self) -> Batch:
        """Everything since the last call."""
        with self._lock:
            batch, self._batch = self._batch, Batch()
        return batch

    def painted(self) -> None:
        """The names are on screen: the sizes may come."""
        self._painted.set()

    def cancel(self) -> None:
        """Stop reading soon; what was read is kept."""
        self._stop.set()
        self._painted.set()

    def named(self, root: Root, stubs: Sequence[Stub]) -> None:
        """From the scan: names of a root."""
        with self._lock:
            self._batch.named.append((root, stubs))
        self._roots[root.path] = root

    def sized(self, root: Root, item: Item) -> None:
        """From the scan: one item."""
        item = self._marks.apply(item)
        with self._lock:
            self._batch.sized.append(item)

    def done(self, root: RootScan) -> None:
        """From the scan: one root."""
        self._allocated[root.root.path] = root.allocated
        _ = root.size  # counted here, in the thread, so that the UI finds it ready
        disks = disks_of(list(self._roots.values()), self._allocated)
        with self._lock:
            self._batch.done.append(root)
            self._batch.disks = disks

    def cancelled(self) -> bool:
        """From the scan: whether to stop."""
        return self._stop.is_set()

    def read(self, where: Where) -> None:
        """The whole scan; runs in the scanning thread."""
        roots, problems = find_roots(where)
        for root in roots:
            self.named(root, store_named(root.store).stubs(root))
        disks = disks_of(roots, {})
        with self._lock:
            self._batch.disks = disks
        self.names.set()
        self._on_named()
        self._painted.wait(_PATIENCE)
        gc.freeze()
        gc.enable()
        self._recover(roots)
        self._load_marks()
        with collector_paused():
            result = self._marks.apply_scan(scan_roots(roots, roots, self, problems))
        figures = figures_of(result)
        disks = disks_of(roots, self._allocated)
        with self._lock:
            self._batch.scan, self._batch.figures, self._batch.disks = result, figures, disks
        try:
            self._reserve(where, result)
        finally:
            self.reserved.set()

    def _reserve(self, where: Where, result: Scan) -> None:
        """Make room for the trash while there is some."""
        if self.cancelled() or not result.complete:
            return
        from cachetui.plans.trash import reserve

        reserve([r.root for r in result.roots], where)

    def _recover(self, roots: Sequence[Root]) -> None:
        """Finish or take back what an earlier run left unfinished, before its roots are read."""
        from cachetui.plans.recovery import recover

        found = recover(roots)
        with self._lock:
            self._batch.recovered += found

    def _load_marks(self) -> None:
        self._marks = Marks.cautious()
        if self._marks.unknown:
            with self._lock:
                self._batch.problems.append(Problem("pins-unreadable", self._marks.unknown))

    def start(self, where: Where) -> None:
        """Read in a thread of its own."""
        threading.Thread(target=self.read, args=(where,), name="cachetui-scan", daemon=True).start()


def figures_of(result: Scan) -> Figures:
    """Own sizes and the total; builds the ledger on the way, so that it is ready when the UI asks."""
    with collector_paused():
        ledger = result.ledger
        own = {item.key: ledger.own(item) for item in result.items}
        size = 0
        seen: set[tuple[int, int]] = set()
        for root in result.roots:
            size += root.size
            linked = {(b.dev, b.ino): b.size for item in root.items for b in item.content if b.nlink > 1}
            size -= sum(linked[inode] for inode in linked.keys() & seen)
            seen |= linked.keys()
            _ = root.allocated
        _ = result.by_key
    return Figures(own, size)


def disks_of(roots: Sequence[Root], allocated: dict[str, int]) -> tuple[Disk, ...]:
    """The file systems that roots lie on, in order of the roots."""
    by_dev: dict[int, list[Root]] = {}
    for root in (r for r in roots if not r.offline):
        by_dev.setdefault(root.dev, []).append(root)
    disks: list[Disk] = []
    for dev, mine in by_dev.items():
        try:
            st = os.statvfs(mine[0].path)
        except (OSError, AttributeError):
            continue
        ours = sum(allocated.get(r.path, 0) for r in mine)
        disks.append(
            Disk(dev, _mount_of(mine[0].path, dev), st.f_blocks * st.f_frsize, st.f_bavail * st.f_frsize, ours)
        )
    return tuple(disks)


def _mount_of(path: str, dev: int) -> str:
    """The topmost folder above `path` on the same file system."""
    while (parent := os.path.dirname(path)) != path:
        try:
            if os.stat(parent).st_dev != dev:
                break
        except OSError:
            break
        path = parent
    return path
