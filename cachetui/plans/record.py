"""The journal of one trash entry: checksummed JSON lines, written in place into a file that was reserved before.

    intent   what will be moved, from where to where        (fsynced before the first change: I4)
    done     which items now lie in the trash               (undone: that line could not be made durable)
    skip     permanent deletion in place: items that were left after all
    restore  which items are being put back                 -> restored, or cancelled
    empty    everything in the entry is being unlinked      -> the record is cleared

What has already been moved is not written down: the disk tells (is files/N there?). Every line carries the operation
and its own position, so that remains of an earlier use of the file are never taken for lines of this one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from cachetui import lines
from cachetui.fs import Fs
from cachetui.plans.model import Identity, Replacement, TrashedItem

RESERVED = 128 * 1024
"""Bytes of a record that are really allocated when it is made, so that it can be written on a full disk."""
_MAX = 64 * 1024 * 1024
_VERSION = 1


class Act(StrEnum):
    """What an intent is for."""

    DELETE = "delete"
    DESTROY = "destroy"
    """Permanent: moved into the entry, which is emptied at once."""
    ERASE = "erase"
    """Permanent where no trash is possible: unlinked in place."""
    SERVER = "server"
    """A server deletes; the entry keeps second names."""


class State(StrEnum):
    """Where an entry stands."""

    FREE = "free"
    DELETING = "deleting"
    TRASHED = "trashed"
    RESTORING = "restoring"
    EMPTYING = "emptying"
    UNKNOWN = "unknown"
    """Written by a newer version: left alone."""


@dataclass(frozen=True, slots=True)
class Move:
    """One rename of a delete."""

    item: int
    source: str
    """Relative to the root."""
    slot: str
    """Name in the entry's files/."""
    was: Identity
    entries: int
    content: bool
    needs: tuple[int, ...] = ()
    """Other items of the entry that hold this too: it is moved after all of them and comes back with any of them."""
    replacement: Replacement | None = None
    """What takes its place. The target of a tree is relative to the trash folder."""
    staged: Identity | None = None
    """Of a tree, when it was still staged."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Content that stayed for others, with a second name in the entry's kept/."""

    items: tuple[int, ...]
    source: str
    slot: str
    ino: int
    reference: bool = False
    """Names content itself (a manifest), so it is put back last."""


@dataclass(frozen=True, slots=True)
class Intent:
    """The first line: all that undo and recovery need, on any machine that sees the drive."""

    operation: str
    act: Act
    root: str
    """Absolute, as seen by who deleted."""
    relative: str
    """The root as seen from the trash folder, for a drive that is mounted elsewhere."""
    store: str
    when: float
    by: str
    items: tuple[TrashedItem, ...]
    homes: tuple[str, ...]
    """For each item the folder it was part of and without which it makes no sense; empty for a whole item."""
    moves: tuple[Move, ...] = ()
    kept: tuple[Kept, ...] = ()
    verb: str = "delete"
    """What the operation is for; another one than delete where moves have a replacement."""
    whole: bool = False
    """It is about a root as a whole: `root` is the folder that it lies in, and the only move names it."""

    def moves_of(self, items: Iterable[int]) -> tuple[Move, ...]:
        """The moves that any of these items has a part in, in the order they are made."""
        chosen = set(items)
        return tuple(m for m in self.moves if m.item in chosen or chosen.intersection(m.needs))

    def kept_of(self, items: Iterable[int]) -> tuple[Kept, ...]:
        """The second names that any of these items needs."""
        chosen = set(items)
        return tuple(k for k in self.kept if chosen.intersection(k.items))


@dataclass
class Record:
    """A record file, read; `append` and `clear` write it through `fs`."""

    fd: int
    intent: Intent | None = None
    state: State = State.FREE
    present: frozenset[int] = frozenset()
    """Numbers of the items that lie in the trash (TRASHED), or that the unfinished act is about."""
    folders: tuple[str, ...] = ()
    """RESTORING: folders that had to be made first, relative to the root, outermost first."""
    linked: tuple[str, ...] = ()
    """RESTORING: names in kept/ whose original was missing."""
    pending: frozenset[int] = frozenset()
    """RESTORING: numbers of the items being put back."""
    _end: int = 0
    _count: int = field(default=0, repr=False)

    @classmethod
    def read(cls, fd: int) -> Record:
        """The record of an open file. Never raises for what is in it: lines end where they stop making sense."""
        record = cls(fd)
        for line in lines.read(fd, _MAX):
            body = lines.decode(line)
            if body is None or not record._take(body):
                break
            record._end += len(line) + 1
            record._count += 1
        return record

    def _take(self, body: dict[str, Any]) -> bool:
        if body.get("n") != self._count:
            return False
        if self.intent is None:
            self.intent = _intent(body) if body.get("version") == _VERSION else None
            if self.intent is None:
                self.state = State.UNKNOWN
                return False
            self.state, self.present = State.DELETING, frozenset(i.number for i in self.intent.items)
            return True
        if body.get("operation") != self.intent.operation:
            return False
        self._apply(body["do"], body)
        return True

    def _apply(self, do: str, body: dict[str, Any]) -> None:
        items = frozenset(body.get("items", ()))
        if do == "done":
            self.state, self.present = State.TRASHED, items
        elif do == "skip":
            self.present -= items
        elif do == "restore":
            self.state, self.pending = State.RESTORING, items
            self.folders, self.linked = tuple(body["folders"]), tuple(body["linked"])
        elif do == "restored":
            self.state, self.present = State.TRASHED, self.present - items
        elif do == "cancelled":
            self.state = State.TRASHED
        elif do == "empty":
            self.state, self.present = State.EMPTYING, items
        elif do == "undone" and self.intent is not None:
            self.state, self.present = State.DELETING, frozenset(i.number for i in self.intent.items)
        else:
            self.state = State.UNKNOWN

    def begin(self, fs: Fs, intent: Intent) -> None:
        """Write the intent and make it durable. Raises OSError (ENOSPC: no room for so long a record)."""
        self._write(fs, {"n": 0, "version": _VERSION, **_body(intent)})
        self.intent, self._count = intent, 1
        self.state, self.present = State.DELETING, frozenset(i.number for i in intent.items)

    def append(
        self,
        fs: Fs,
        do: str,
        items: Iterable[int] = (),
        folders: Iterable[str] = (),
        linked: Iterable[str] = (),
    ) -> None:
        """Write one more line and make it durable. Raises OSError."""
        assert self.intent is not None
        body: dict[str, Any] = {
            "n": self._count,
            "operation": self.intent.operation,
            "do": do,
            "items": sorted(items),
            "folders": list(folders),
            "linked": list(linked),
        }
        self._write(fs, body)
        self._count += 1
        self._apply(do, body)

    def _write(self, fs: Fs, body: dict[str, Any]) -> None:
        line = lines.encode(body)
        if self._end + len(line) > _MAX:
            raise OSError(errno.EFBIG, "too many files for one operation; delete fewer at a time")
        size = os.fstat(self.fd).st_size
        if self._end + len(line) > size:
            fs.write_at(self.fd, bytes(self._end + len(line) - size), size)
        fs.write_at(self.fd, line, self._end)
        fs.fsync(self.fd)
        self._end += len(line)

    def clear(self, fs: Fs) -> None:
        """Make it free again: nothing of this operation is in the entry any more. Raises OSError."""
        size = os.fstat(self.fd).st_size
        fs.write_at(self.fd, bytes(min(4096, size)), 0)
        fs.fsync(self.fd)
        self.intent, self.state, self.present, self._count, self._end = None, State.FREE, frozenset(), 0, 0


def reserve(fs: Fs, fd: int) -> None:
    """Give a record its blocks: real zeros, so that later lines need no new ones. Raises OSError (ENOSPC)."""
    missing = RESERVED - os.fstat(fd).st_size
    if missing > 0:
        fs.write_at(fd, bytes(missing), RESERVED - missing)
        fs.fsync(fd)


def _body(intent: Intent) -> dict[str, Any]:
    """An intent as JSON; what a deletion does not need is left out, so that older versions read it too."""
    body = asdict(intent)
    for move in body["moves"]:
        for key in ("replacement", "staged"):
            if move[key] is None:
                del move[key]
    if intent.verb == "delete":
        del body["verb"]
    if not intent.whole:
        del body["whole"]
    return body


def _move(body: dict[str, Any]) -> Move:
    more: dict[str, Any] = {"was": Identity(**body["was"]), "needs": tuple(body["needs"])}
    if "replacement" in body:
        more["replacement"] = Replacement(**body["replacement"])
        if more["replacement"].kind not in ("link", "tree"):
            raise ValueError
    if "staged" in body:
        more["staged"] = Identity(**body["staged"])
    return Move(**{**body, **more})


def _intent(body: dict[str, Any]) -> Intent | None:
    """The first line as a value; None where it is not one that this version could have written."""
    try:
        moves = tuple(_move(m) for m in body["moves"])
        kept = tuple(Kept(**{**k, "items": tuple(k["items"])}) for k in body["kept"])
        if not all(s.isdigit() for s in [m.slot for m in moves] + [k.slot for k in kept]):
            return None
        return Intent(
            operation=str(body["operation"]),
            act=Act(body["act"]),
            root=str(body["root"]),
            relative=str(body["relative"]),
            store=str(body["store"]),
            when=float(body["when"]),
            by=str(body["by"]),
            items=tuple(TrashedItem(**i) for i in body["items"]),
            homes=tuple(body["homes"]),
            moves=moves,
            kept=kept,
            verb=str(body.get("verb", "delete")),
            whole=bool(body.get("whole", False)),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
