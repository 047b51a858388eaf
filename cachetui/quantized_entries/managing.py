"""Which entries are old or spoilt, and taking them away: plans like every other, into the trash, with undo."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cachetui.fs import DISK, Fs
from cachetui.ledger import Scan
from cachetui.model import PINNED, Item
from cachetui.plans.executor import execute
from cachetui.plans.model import Outcome, Plan
from cachetui.plans.removal import prepare
from cachetui.quant_items import STORE
from cachetui.quant_sources import STALE
from cachetui.quantized_entries.checking import check
from cachetui.quantized_entries.listing import ENTRY, LOCKS, OLDER, STAGING, UNFINISHED
from cachetui.scan import scan_roots
from cachetui.store import Selection, make_root
from cachetui.verify.structure import fault

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

DAY = 86400.0
MAX_AGE = 7
"""Days, where none are given."""
_AWAY = ("offline", "slow")
"""Problems of an archived entry that cannot be looked at now."""


@dataclass(frozen=True, slots=True)
class Spoilt:
    """An item that cannot be used."""

    item: Item
    reason: str
    """One sentence; outside strings."""


def look(folder: str) -> Scan:
    """A scan of one folder of quantized models; empty where it is not there."""
    root = make_root(STORE, folder, "asked for")
    return scan_roots([root], [root]) if root is not None else Scan()


def old(items: Iterable[Item], days: float, now: float) -> list[Item]:
    """Those that were neither made nor used for so long. What is being made, or pinned, is none of them."""
    limit = now - days * DAY
    return [i for i in items if i.kind != UNFINISHED and PINNED not in i.states and last_of(i) <= limit]


def last_of(item: Item) -> float:
    """When it was made or used last, POSIX seconds."""
    return max(item.last_used or 0.0, item.last_modified or 0.0)


def stale(items: Iterable[Item]) -> list[Item]:
    """Those whose model has another commit now."""
    return [i for i in items if any(p.code == STALE for p in i.problems)]


def spoilt(
    items: Sequence[Item], *, full: bool = True, progress: Callable[[int, int, str], None] = lambda *_: None
) -> list[Spoilt]:
    """Those that are not what they ought to be: with `full` every byte is read. `progress(done, total, name)`."""
    found = []
    total, before = sum(i.size for i in items), 0
    for item in items:

        def told(count: int, _total: int, _name: str, before: int = before, name: str = item.name) -> None:
            progress(before + count, total, name)

        if why := _why(item, full, told):
            found.append(Spoilt(item, why))
        before += item.size
        progress(before, total, item.name)
    return found


def _why(item: Item, full: bool, told: Callable[[int, int, str], None]) -> str:
    if item.kind == ENTRY and not any(p.code in _AWAY for p in item.problems):
        return check(f"{item.root}/{item.path}", full=full, progress=told).reason
    if item.kind == UNFINISHED:
        return "" if is_being_made(item.root, item.path[len(STAGING) :]) else "making it did not end"
    if item.kind == OLDER:
        if not any(b.size for b in item.content):
            return "it is empty"
        files = [f"{item.root}/{b.path}" for b in item.blobs]
        return next((why for f in files if (why := fault(os.path.basename(f), f))), "")
    return ""


def is_being_made(folder: str, key: str) -> bool:
    """Whether a process holds the lock of an entry. Never waits."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        fd = os.open(f"{folder}/{LOCKS}/{key}.lock", flags)
    except OSError:
        return False
    try:
        if fcntl is not None:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(fd)


def removal(scan: Scan, items: Iterable[Item]) -> Plan:
    """The plan that takes these to the trash."""
    return prepare(scan, [Selection(i) for i in items], bulk=True)


def take_away(folder: str, names: Iterable[str], fs: Fs = DISK) -> Outcome:
    """Move names in a folder of quantized models to the trash, without asking; undo brings them back.

    Only what is an entry, was made by the older convention, or did not end is taken. Never raises for what is on disk.
    """
    wanted, scan = set(names), look(folder)
    plan = removal(scan, [i for i in scan.items if i.path in wanted])
    return execute(plan, accept=frozenset(c.code for i in plan.accepted for c in i.cautions), fs=fs)


def quarantine(path: str, fs: Fs = DISK) -> str:
    """Take one damaged entry away, so that it can be made anew: empty when done, else why it is still there."""
    folder, name = os.path.split(os.path.abspath(path))
    outcome = take_away(folder, [name], fs)
    if not outcome.results:
        return "there is no such entry"
    return next((r.message for r in outcome.results if not r.done), "")
