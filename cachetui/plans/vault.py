"""A trash folder on disk: a lock, and entries made before they are needed.

    <trash>/.gitignore  lock
            incoming/           what is staged here to take the place of something; not looked at here
            entries/0001/record   the journal (record.py), its blocks really allocated
                         files/   what was moved here: 0, 1, 2 ...
                         kept/    second names of content that stayed for others

On a full ext4 no file or folder can be created, but a rename into an existing folder works and so does overwriting
blocks that a file already has. So an operation takes a free entry, and a few are always made in advance.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from cachetui.fs import Fs, open_dir
from cachetui.plans.lock import exclusive
from cachetui.plans.record import RESERVED, Record, State, reserve
from cachetui.plans.survey import is_there

SPARE = 2
"""Free entries that are kept ready."""
ENTRIES, FILES, KEPT, RECORD, INCOMING = "entries", "files", "kept", "record", "incoming"
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_WRITE = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass
class Slot:
    """One entry, open for writing."""

    name: str
    fd: int
    files: int
    kept: int
    record: Record
    top: int
    """The trash folder."""

    def is_empty(self) -> bool:
        """True when nothing was moved or linked into it."""
        return not os.listdir(self.files) and not os.listdir(self.kept)


class Vault:
    """A trash folder, open and locked by this process."""

    def __init__(self, fs: Fs, path: str, top: int, entries: int, stack: ExitStack) -> None:
        self.fs = fs
        self.path = path
        self._top = top
        self._entries = entries
        self._stack = stack

    def names(self) -> list[str]:
        """Names of all entries, oldest first."""
        return sorted(n for n in os.listdir(self._entries) if n.isdigit())

    def open_slot(self, name: str) -> Slot:
        """An existing, complete entry. Raises OSError."""
        with ExitStack() as made:
            fd = _until(made, open_dir(name, self._entries))
            files = _until(made, open_dir(FILES, fd))
            kept = _until(made, open_dir(KEPT, fd))
            record = _until(made, os.open(RECORD, _WRITE, dir_fd=fd))
            slot = Slot(name, fd, files, kept, Record.read(record), self._top)
            self._stack.push(made.pop_all())
            return slot

    def take(self) -> Slot:
        """A free entry, made where none is ready. Raises OSError (ENOSPC on a full disk without a reserve)."""
        for name in self.names():
            if _free(self._entries, name):
                slot = self._complete(name)
                if slot.record.state is State.FREE and slot.is_empty():
                    return slot
        return self._complete(self._make())

    def top_up(self) -> None:
        """Make free entries until SPARE are ready; where there is no room, the next time."""
        with suppress(OSError):
            free = [n for n in self.names() if _free(self._entries, n)]
            for name in free:
                if not _is_complete(self._entries, name):
                    self._complete(name)
            for _ in range(SPARE - len(free)):
                self._complete(self._make())

    def make_room(self, slot: Slot) -> bool:
        """Take a spare entry apart, for what an operation on a full disk has to create; `top_up` makes it again.

        False where there is none left. Raises OSError.
        """
        spare = [n for n in self.names() if n != slot.name and _free(self._entries, n)]
        if not spare:
            return False
        fd = open_dir(spare[-1], self._entries)
        try:
            for name in os.listdir(fd):
                (self.fs.unlink if name == RECORD else self.fs.rmdir)(fd, name)
        finally:
            os.close(fd)
        self.fs.rmdir(self._entries, spare[-1])
        self.fs.fsync(self._entries)
        return True

    def _make(self) -> str:
        taken = {int(n) for n in self.names()}
        name = f"{next(n for n in range(1, len(taken) + 2) if n not in taken):04d}"
        self.fs.mkdir(self._entries, name)
        return name

    def _complete(self, name: str) -> Slot:
        fd = open_dir(name, self._entries)
        try:
            for folder in (FILES, KEPT):
                if not is_there(fd, folder):
                    self.fs.mkdir(fd, folder)
            record = os.open(RECORD, _WRITE, dir_fd=fd) if is_there(fd, RECORD) else self.fs.create(fd, RECORD)
            try:
                reserve(self.fs, record)
            finally:
                os.close(record)
            self.fs.fsync(fd)
        finally:
            os.close(fd)
        self.fs.fsync(self._entries)
        return self.open_slot(name)


@contextmanager
def open_vault(fs: Fs, path: str, *, create: bool = False, lock: bool = True) -> Iterator[Vault]:
    """A trash folder, locked unless it is only looked at. Raises HeldError where another works on it, OSError."""
    with ExitStack() as stack:
        if create:
            _create(fs, path)
        fd = _until(stack, open_dir(path))
        if lock:
            stack.enter_context(exclusive(fs, fd))
        if create and not is_there(fd, ENTRIES):
            fs.mkdir(fd, ENTRIES)
            fs.fsync(fd)
        entries = _until(stack, open_dir(ENTRIES, fd))
        yield Vault(fs, path, fd, entries, stack)


def peek(path: str) -> Iterator[tuple[str, Record, int]]:
    """(name, record, number of names in kept/) of every entry in use. Changes nothing; what cannot be read is left out.

    The record's descriptor is closed before the next one: it can be looked at, not written.
    """
    try:
        fd = open_dir(path)
    except OSError:
        return
    try:
        entries = open_dir(ENTRIES, fd)
    except OSError:
        return
    finally:
        os.close(fd)
    try:
        for name in sorted(n for n in os.listdir(entries) if n.isdigit()):
            with suppress(OSError):
                record, kept = _peek_slot(entries, name)
                if record.state is not State.FREE:
                    yield name, record, kept
    finally:
        os.close(entries)


def _peek_slot(entries: int, name: str) -> tuple[Record, int]:
    with ExitStack() as stack:
        slot = _until(stack, open_dir(name, entries))
        record = Record(-1)
        with suppress(FileNotFoundError):
            record = Record.read(_until(stack, os.open(RECORD, _READ, dir_fd=slot)))
        if record.state is State.FREE:
            if not _is_empty(stack, slot):
                record.state = State.UNKNOWN
            return record, 0
        return record, len(os.listdir(_until(stack, open_dir(KEPT, slot))))


def _is_empty(stack: ExitStack, slot: int) -> bool:
    return all(not is_there(slot, f) or not os.listdir(_until(stack, open_dir(f, slot))) for f in (FILES, KEPT))


def _create(fs: Fs, path: str) -> None:
    parent = open_dir(os.path.dirname(path))
    try:
        if not is_there(parent, os.path.basename(path)):
            fs.mkdir(parent, os.path.basename(path))
            fs.fsync(parent)
    finally:
        os.close(parent)
    fd = open_dir(path)
    try:
        if not is_there(fd, ".gitignore"):  # a project's folder may lie around it
            with suppress(OSError):
                ignore = fs.create(fd, ".gitignore")
                try:
                    fs.write_at(ignore, b"*\n", 0)
                finally:
                    os.close(ignore)
    finally:
        os.close(fd)


def _free(entries: int, name: str) -> bool:
    """Whether an entry holds no operation; one that was only half made counts as free."""
    try:
        with ExitStack() as stack:
            slot = _until(stack, open_dir(name, entries))
            if is_there(slot, RECORD):
                record = Record.read(_until(stack, os.open(RECORD, _READ, dir_fd=slot)))
                if record.state is not State.FREE:
                    return False
            return all(not is_there(slot, f) or not os.listdir(_until(stack, open_dir(f, slot))) for f in (FILES, KEPT))
    except OSError:
        return False


def _is_complete(entries: int, name: str) -> bool:
    slot = open_dir(name, entries)
    try:
        return (
            is_there(slot, FILES)
            and is_there(slot, KEPT)
            and is_there(slot, RECORD)
            and os.stat(RECORD, dir_fd=slot).st_size >= RESERVED
        )
    finally:
        os.close(slot)


def _until(stack: ExitStack, fd: int) -> int:
    """A descriptor that is closed with the stack."""
    stack.callback(os.close, fd)
    return fd
