"""What a start does first: finish or take back what an earlier process was killed in (I4)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from cachetui import fs as fs_module
from cachetui.fs import DISK, Fs, open_dir
from cachetui.model import Root
from cachetui.plans import places
from cachetui.plans.deletion import StuckError
from cachetui.plans.lock import HeldError, holder
from cachetui.plans.model import Identity, Recovery
from cachetui.plans.moves import Meter, Place, empty_slot, put_back, remove_tree
from cachetui.plans.record import Act, Intent, Record, State
from cachetui.plans.restoration import Restoration, tidy
from cachetui.plans.survey import is_there, lstat_below, parent_of, reason
from cachetui.plans.trash import open_entry
from cachetui.plans.vault import ENTRIES, Slot, Vault, open_vault, peek


def recover(roots: Sequence[Root], *, dry_run: bool = False, fs: Fs = DISK) -> tuple[Recovery, ...]:
    """Finish or take back what was left unfinished in these roots. Quick when there is nothing. Never raises.

    With `dry_run`, or while a live instance works there, it only reports.
    """
    if not fs_module.HAS_DIR_FD:
        return ()
    found: list[Recovery] = []
    for path, owners in places.existing(roots).items():
        unfinished = [(name, record) for name, record, kept in peek(path) if _is_unfinished(record, kept)]
        if not unfinished:
            continue
        if dry_run or (who := _holder(path)):
            found += [_pending(path, r, "" if dry_run else who) for _, r in unfinished if r.state is not State.TRASHED]
            continue
        known = {os.path.realpath(o.path) for o in owners}
        found += _recover_all(fs, path, [name for name, _ in unfinished], known)
    return tuple(found)


def _is_unfinished(record: Record, kept: int) -> bool:
    if record.state is State.TRASHED:
        return bool(kept) and not _needs_kept(record)
    return True


def _needs_kept(record: Record) -> bool:
    """Whether every second name in the entry belongs to an item that is in the trash."""
    intent = record.intent
    return (
        intent is not None and all(record.present.intersection(k.items) for k in intent.kept) and bool(record.present)
    )


def _holder(path: str) -> str:
    try:
        fd = open_dir(path)
    except OSError:
        return ""
    try:
        return holder(fd)
    finally:
        os.close(fd)


def _pending(path: str, record: Record, who: str) -> Recovery:
    if who and record.intent is None:
        return Recovery(path, "", "pending", who)
    if record.intent is None:
        return Recovery(path, "", "failed", "an entry of the trash is not understood and left alone")
    return Recovery(path, record.intent.operation, "pending", who or f"unfinished {_words(record.intent)}")


_VERBS = {
    "delete": "deletion",
    "archive": "archiving",
    "restore": "restoring",
    "relink": "linking",
    "adopt": "adopting",
    "repair": "repairing",
}


def _words(intent: Intent) -> str:
    names = ", ".join(i.target for i in intent.items[:3])
    more = f" and {len(intent.items) - 3} more" if len(intent.items) > 3 else ""
    return f"{_VERBS.get(intent.verb, intent.verb)} of {names}{more}"


def _recover_all(fs: Fs, path: str, names: Sequence[str], known: set[str]) -> list[Recovery]:
    found: list[Recovery] = []
    try:
        with open_vault(fs, path) as vault:
            for name in names:
                if (one := _recover_one(fs, vault, name, known)) is not None:
                    found.append(one)
    except HeldError as e:
        found.append(Recovery(path, "", "pending", str(e)))
    except OSError as e:
        found.append(Recovery(path, "", "failed", f"unfinished work cannot be reached: {reason(e)}"))
    return found


def _recover_one(fs: Fs, vault: Vault, name: str, known: set[str]) -> Recovery | None:
    operation = ""
    try:
        slot = vault.open_slot(name)
        record = slot.record
        if record.state is State.FREE and slot.is_empty():
            return None  # who used it when it was first looked at has finished meanwhile
        if record.intent is None or record.state is State.UNKNOWN:  # garbage, or written by a newer version
            return Recovery(vault.path, "", "failed", f"entry {name} of the trash is not understood and left alone")
        operation = record.intent.operation
        if record.state is State.EMPTYING:
            return _empty_on(fs, vault, slot, record.intent)
        with open_entry(fs, vault, name) as (place, intent):
            if not intent.whole and os.path.realpath(place.root_path) not in known:
                return None  # of another root that shares this trash folder; its turn comes with that root
            return _settle(place, intent, vault)
    except (OSError, StuckError) as e:
        why = reason(e) if isinstance(e, OSError) else str(e)
        return Recovery(vault.path, operation, "failed", f"unfinished work stays unfinished: {why}; it is tried again")


def _empty_on(fs: Fs, vault: Vault, slot: Slot, intent: Intent) -> Recovery:
    """Go on unlinking; but while the drive with the proven copies is not there, what is whole goes back (I1)."""
    swapped = any(m.replacement is not None for m in intent.moves)
    if swapped and intent.act is Act.DESTROY:
        with open_entry(fs, vault, slot.name) as (place, _):
            if any(place.dangles(m) for m in intent.moves):
                if not all(place.intact(m) for m in intent.moves):
                    message = (
                        f"{_words(intent)}: its drive is not there; what is left here goes when it is back, "
                        f"or now: cachetui trash empty {intent.operation} --include offline"
                    )
                    return Recovery(vault.path, intent.operation, "failed", message)
                place.slot.record.append(fs, "undone")
                return _revert(place, intent, vault)
    empty_slot(fs, slot, os.path.join(vault.path, ENTRIES, slot.name), Meter())
    slot.record.clear(fs)
    what = _words(intent) if swapped and intent.act is Act.DESTROY else f"emptying the trash of the {_words(intent)}"
    return Recovery(vault.path, intent.operation, "finished", what)


def _settle(place: Place, intent: Intent, vault: Vault) -> Recovery | None:
    record = place.slot.record
    if record.state is State.TRASHED:
        tidy(place, intent)
        return None
    if record.state is State.RESTORING:
        restoration = Restoration(place, intent, patient=True)
        back = restoration.run()
        what = f"bringing back {', '.join(i.target for i in intent.items if i.number in back)}"
        if back:
            return Recovery(vault.path, intent.operation, "finished", what)
        why = "; ".join(restoration.failed.values())
        return Recovery(vault.path, intent.operation, "reverted", f"bringing back was not possible: {why}")
    if intent.act is Act.ERASE:
        return _erase_on(place, intent, vault)
    if intent.act is Act.SERVER:
        return _settle_server(place, intent, vault)
    if intent.moves and all(place.holds(m) and (m.replacement is None or place.gone(m)) for m in intent.moves):
        return _finish(place, intent, vault)
    return _revert(place, intent, vault)


def _settle_server(place: Place, intent: Intent, vault: Vault) -> Recovery:
    """What the server deleted is in the trash, what it did not is as it was."""
    standing = {
        n for k in intent.kept if k.reference and lstat_below(place.root, k.source) is not None for n in k.items
    }
    gone = {i.number for i in intent.items} - standing
    place.slot.record.append(place.fs, "done", gone)
    tidy(place, intent)
    if gone:
        return Recovery(vault.path, intent.operation, "finished", f"{_words(intent)} by the server; it is in the trash")
    return Recovery(vault.path, intent.operation, "reverted", f"{_words(intent)}; the server had not begun")


def _finish(place: Place, intent: Intent, vault: Vault) -> Recovery:
    record, everything = place.slot.record, [i.number for i in intent.items]
    if intent.act is Act.DESTROY:
        place.sync(intent.moves)
        record.append(place.fs, "empty", everything)
        empty_slot(place.fs, place.slot, os.path.join(vault.path, ENTRIES, place.slot.name), Meter())
        record.clear(place.fs)
        permanent = "permanent " if intent.verb == "delete" else ""
        return Recovery(vault.path, intent.operation, "finished", f"{permanent}{_words(intent)}")
    place.sync(intent.moves)
    record.append(place.fs, "done", everything)
    what = "it" if intent.verb == "delete" else "what was there before"
    return Recovery(vault.path, intent.operation, "finished", f"{_words(intent)}; {what} is in the trash")


def _revert(place: Place, intent: Intent, vault: Vault) -> Recovery:
    """Everything back; where something new is in the way, what remains stays in the trash as an entry."""
    everything = [i.number for i in intent.items]
    try:
        put_back(place, intent, everything)
    except FileExistsError:
        for move in reversed(intent.moves):
            with suppress(FileExistsError):
                place.back(move)
        place.sync(intent.moves)
        place.unmake(intent.moves)
    remaining = {n for m in intent.moves if place.holds(m) for n in (m.item, *m.needs)}
    if remaining or not place.slot.is_empty():
        place.slot.record.append(place.fs, "done", remaining)
        message = f"{_words(intent)}: something new stands where it was; what was moved is in the trash"
        return Recovery(vault.path, intent.operation, "failed", message)
    place.slot.record.clear(place.fs)
    return Recovery(vault.path, intent.operation, "reverted", f"{_words(intent)}; everything is back in its place")


def _erase_on(place: Place, intent: Intent, vault: Vault) -> Recovery:
    """A permanent deletion in place goes on; what was written since stays."""
    record = place.slot.record
    left: list[str] = []
    for move in intent.moves:
        if {move.item, *move.needs} <= record.present and not _erase(place.fs, place.root, move.source, move.was):
            left.append(move.source)
    record.clear(place.fs)
    message = f"permanent {_words(intent)}"
    if left:
        return Recovery(vault.path, intent.operation, "failed", f"{message}: newer files stay in {', '.join(left[:3])}")
    return Recovery(vault.path, intent.operation, "finished", message)


def _erase(fs: Fs, root: int, path: str, was: Identity) -> bool:
    try:
        with parent_of(root, path) as (parent, name):
            if not is_there(parent, name):
                return True
            if os.stat(name, dir_fd=parent, follow_symlinks=False).st_ino != was.ino:
                return False
            return remove_tree(fs, parent, name, Meter(), was.mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return True
