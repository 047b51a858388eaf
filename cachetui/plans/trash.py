"""The trash as a person sees it: what lies in it, getting it back, emptying it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from cachetui import fs as fs_module
from cachetui.config import Where
from cachetui.fs import DISK, Fs, open_dir
from cachetui.model import Root
from cachetui.plans import history, places
from cachetui.plans.deletion import StuckError
from cachetui.plans.lock import HeldError
from cachetui.plans.model import Outcome, Progress, Result, TrashEntry
from cachetui.plans.moves import Meter, Place, empty_slot, remove_tree
from cachetui.plans.record import Intent, Move, Record, State
from cachetui.plans.restoration import Restoration
from cachetui.plans.survey import reason
from cachetui.plans.vault import ENTRIES, Vault, open_vault, peek

UNFINISHED = "interrupted ({}); the next start of cachetui puts it right"
_NOT_THERE = "it is no longer in the trash"


def entries(roots: Sequence[Root]) -> tuple[TrashEntry, ...]:
    """What can be brought back to these roots, newest first. Changes nothing."""
    if not fs_module.HAS_DIR_FD:
        return ()
    found: list[TrashEntry] = []
    for path in places.existing(roots):
        for name, record, kept in peek(path):
            if record.intent is not None and record.state is State.TRASHED and (record.present or kept):
                found.append(_entry(path, name, record, record.intent))
    return tuple(sorted(found, key=lambda e: (-e.deleted, e.root)))


def reserve(roots: Sequence[Root], where: Where, *, fs: Fs = DISK) -> None:
    """Make the trash of each root and its spare entries now, so that what a full disk holds can still be deleted.

    Only where it is sure to be welcome: in folders of this user that programs keep their models in, not in those of
    projects or given by --cache-dir, and never outside of what may be looked at. What does not work is left out.
    """
    if not fs_module.HAS_DIR_FD:
        return
    for root in roots:
        if not root.writable or root.group or root.archive or root.ours_only or root.origin == "--cache-dir":
            continue
        with suppress(OSError, HeldError):
            if os.stat(root.path).st_uid != os.geteuid():
                continue
            place = places.choose(root)
            if place.path and where.allows(place.path):
                with open_vault(fs, place.path, create=True) as vault:
                    vault.top_up()


def _entry(path: str, name: str, record: Record, intent: Intent) -> TrashEntry:
    return TrashEntry(
        intent.operation,
        os.path.join(path, ENTRIES, name),
        path,
        os.path.join(root_of(path, intent), intent.moves[0].source) if intent.whole else root_of(path, intent),
        intent.store,
        intent.when,
        tuple(i for i in intent.items if i.number in record.present),
        intent.by,
        intent.verb,
    )


def root_of(trash: str, intent: Intent) -> str:
    """The root an entry is about: as seen from the trash, so that a drive may be mounted elsewhere than before."""
    near = os.path.normpath(os.path.join(trash, intent.relative))
    return near if os.path.isdir(near) else intent.root


def moves_of(entry: TrashEntry) -> tuple[str, tuple[Move, ...]]:
    """The folder that the names of an entry are relative to, and its renames; none where it is not there any more."""
    for name, record, _ in peek(entry.trash):
        intent = record.intent
        if name == os.path.basename(entry.path) and intent is not None and intent.operation == entry.id:
            return root_of(entry.trash, intent), intent.moves_of(record.present)
    return entry.root, ()


@contextmanager
def open_entry(fs: Fs, vault: Vault, name: str) -> Iterator[tuple[Place, Intent]]:
    """An entry with its root, both open. Raises OSError where the root is gone or the entry is not about it."""
    slot = vault.open_slot(name)
    intent = slot.record.intent
    if intent is None:
        raise FileNotFoundError(errno.ENOENT, _NOT_THERE)
    path = root_of(vault.path, intent)
    if not os.path.isdir(path):
        raise FileNotFoundError(errno.ENOENT, f"the folder it came from, {path}, is gone; make it again first")
    if os.path.islink(path):
        raise NotADirectoryError(errno.ENOTDIR, f"{path} was moved and is a link now; it cannot come back there")
    ours = places.belongs_beside(vault.path, path) if intent.whole else places.belongs(vault.path, path, intent.store)
    if not ours:
        raise PermissionError(errno.EPERM, "it is not in a trash folder of that root")
    root = open_dir(path)
    try:
        yield Place(fs, root, path, slot), intent
    finally:
        os.close(root)


def check(entry: TrashEntry, numbers: frozenset[int] | None = None) -> tuple[dict[int, str], tuple[str, ...]]:
    """What undo would meet: why an item cannot come back (by number), and which paths would be missing afterwards.

    Changes nothing on disk.
    """
    found: dict[int, str] = {}
    missing: list[str] = []
    try:
        with open_vault(DISK, entry.trash, lock=False) as vault, _opened(DISK, vault, entry) as (place, intent):
            restoration = Restoration(place, intent)
            for number in sorted(_chosen(place, numbers)):
                if why := restoration.conflict(number):
                    found[number] = why
                missing += restoration.missing(number)
    except (HeldError, OSError) as e:
        why = reason(e) if isinstance(e, OSError) else str(e)
        found.update({i.number: why for i in entry.items if numbers is None or i.number in numbers})
    return found, tuple(dict.fromkeys(missing))


def restore(
    entry: TrashEntry, numbers: frozenset[int] | None = None, *, fs: Fs = DISK, progress: Progress | None = None
) -> Outcome:
    """Bring items of an entry back (all without `numbers`). Nothing is overwritten: what is in the way refuses."""
    wanted = [i for i in entry.items if numbers is None or i.number in numbers]
    failed: dict[int, str] = {}
    back: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()
    why = _NOT_THERE
    try:
        with open_vault(fs, entry.trash) as vault, _opened(fs, vault, entry) as (place, intent):
            restoration = Restoration(place, intent, _advance(progress, len(intent.moves)))
            chosen = _chosen(place, numbers)
            failed = {n: conflict for n in chosen if (conflict := restoration.conflict(n))}
            lost = [path for n in sorted(chosen - failed.keys()) for path in restoration.missing(n)]
            notes = tuple(f"not in the trash, so still missing: {path}" for path in dict.fromkeys(lost))
            if chosen - failed.keys():
                restoration.begin(chosen - failed.keys())
                back = restoration.run()
                failed |= restoration.failed
            vault.top_up()
    except HeldError as e:
        why = str(e)
    except StuckError as e:
        why = UNFINISHED.format(e)
    except OSError as e:
        why = reason(e)
    results = tuple(
        Result(i.target, entry.root, i.number in back, "" if i.number in back else failed.get(i.number, why))
        for i in wanted
    )
    history.note(fs, time.time(), "undo", entry.id, results)
    return Outcome("undo", results, entry.id if back else "", notes)


def empty(entries: Sequence[TrashEntry], *, fs: Fs = DISK, progress: Progress | None = None) -> Outcome:
    """Unlink everything in these entries: the one act that cannot be undone."""
    results: list[Result] = []
    advance = _advance(progress, sum(_count(e) for e in entries))
    for entry in entries:
        mine: list[Result] = []
        try:
            with open_vault(fs, entry.trash) as vault:
                mine = _empty(fs, vault, entry, advance)
                vault.top_up()
        except HeldError as e:
            mine = [Result(i.target, entry.root, False, str(e)) for i in entry.items]
        except OSError as e:
            mine = [Result(i.target, entry.root, False, reason(e)) for i in entry.items]
        history.note(fs, time.time(), "empty trash", entry.id, mine)
        results += mine
    return Outcome("empty trash", tuple(results), entries[0].id if any(r.done for r in results) else "")


def _empty(fs: Fs, vault: Vault, entry: TrashEntry, advance: Callable[[str], None]) -> list[Result]:
    slot = vault.open_slot(os.path.basename(entry.path))
    record = slot.record
    if record.intent is None or record.intent.operation != entry.id or record.state is not State.TRASHED:
        return [Result(i.target, entry.root, False, _NOT_THERE) for i in entry.items]
    intent = record.intent
    record.append(fs, "empty", record.present)
    freed: dict[int, int] = {}
    try:
        for move in intent.moves:
            meter = Meter(advance)
            remove_tree(fs, slot.files, move.slot, meter)
            freed[move.item] = freed.get(move.item, 0) + meter.freed
        rest = Meter(advance)
        empty_slot(fs, slot, entry.path, rest)
    except OSError as e:
        why = UNFINISHED.format(reason(e))
        return [Result(i.target, entry.root, False, why, freed.get(i.number, 0)) for i in entry.items]
    with suppress(OSError):
        record.clear(fs)
    if entry.items:
        first = entry.items[0].number
        freed[first] = freed.get(first, 0) + rest.freed
    return [Result(i.target, entry.root, True, "", freed.get(i.number, 0)) for i in entry.items]


@contextmanager
def _opened(fs: Fs, vault: Vault, entry: TrashEntry) -> Iterator[tuple[Place, Intent]]:
    with open_entry(fs, vault, os.path.basename(entry.path)) as (place, intent):
        if intent.operation != entry.id or place.slot.record.state is not State.TRASHED:
            raise FileNotFoundError(errno.ENOENT, _NOT_THERE)
        yield place, intent


def _chosen(place: Place, numbers: frozenset[int] | None) -> frozenset[int]:
    present = place.slot.record.present
    return present if numbers is None else present & numbers


def _count(entry: TrashEntry) -> int:
    """Names in an entry, for progress."""
    return sum(1 + len(folders) + len(files) for _, folders, files in os.walk(entry.path))


def _advance(progress: Progress | None, total: int) -> Callable[[str], None]:
    done = 0

    def advance(name: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress.advance(min(done, total), total, name)

    return advance
