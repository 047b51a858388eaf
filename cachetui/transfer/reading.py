"""Reading files once: one thread reads into buffers that are used again, one hashes, the caller writes.

Sources are opened without following a link or blocking, must be the regular files that were surveyed, and are looked
at again at their end. Holes are told apart from data and hashed as the zeros they are. Pages are dropped behind us, so
that copying 40 GB leaves in memory what was there.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType

from cachetui.transfer import faults, medium
from cachetui.transfer.pieces import Piece, open_folder

CHUNK = 4 << 20
"""Bytes of one read."""
_BUFFERS = 6
_ZEROS = memoryview(bytes(1 << 20))
_OPEN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NOATIME = getattr(os, "O_NOATIME", 0)
_JOIN_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Task:
    """One file to read."""

    piece: Piece
    start: int = 0
    """Bytes that the copy has already: they are read and hashed, but not handed out."""


@dataclass(slots=True)
class Buffer:
    """Memory for one read; free again when it was given back as often as it was lent."""

    memory: mmap.mmap
    lent: int = 0


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of the current file. `give_back` the buffer when they are written."""

    offset: int
    view: memoryview
    buffer: Buffer


@dataclass(frozen=True, slots=True)
class Skipped:
    """A hole, or bytes that the copy has already."""

    length: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The next file. `attributes`: its user.* extended attributes."""

    task: Task
    attributes: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The current file is at its end and was the surveyed one all the time."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Reading stopped."""

    error: BaseException


Message = Opened | Data | Skipped | Ended | Failed


def open_source(piece: Piece, folder: int) -> int:
    """A descriptor of a piece's bytes, in the open folder that they lie in; atime is left alone where we may.

    Raises CopyError when it is not the surveyed file any more, OSError.
    """
    name = os.path.basename(piece.inside)
    try:
        fd = os.open(name, _OPEN | _NOATIME, dir_fd=folder)
    except PermissionError:
        if not _NOATIME:
            raise
        fd = os.open(name, _OPEN, dir_fd=folder)  # O_NOATIME is for the owner only
    try:
        check_source(piece, fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def check_source(piece: Piece, fd: int) -> None:
    """Raise CopyError when an open file is not, or not any more, what was surveyed."""
    st = os.fstat(fd)
    if not stat.S_ISREG(st.st_mode) or (st.st_dev, st.st_ino) != (piece.dev, piece.ino):
        raise faults.changed(piece.source, "it was replaced while it was copied")
    if (st.st_size, st.st_mtime_ns) != (piece.size, piece.mtime_ns):
        raise faults.changed(piece.source)


class Reading:
    """The two threads at work on a list of tasks. A context manager: leaving it ends them.

    `next` gives the messages of each task in order: Opened, then Data and Skipped, then Ended.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._messages: SimpleQueue[Message] = SimpleQueue()
        self._hashing: SimpleQueue[Data | Skipped | Ended | None] = SimpleQueue()
        self._digests: SimpleQueue[str] = SimpleQueue()
        self._known: list[str] = []
        self._free: SimpleQueue[Buffer | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._stop = False
        self._threads = [threading.Thread(target=f, daemon=True) for f in (self._read_all, self._hash_all)]

    def __enter__(self) -> Reading:
        for _ in range(_BUFFERS):
            self._free.put(Buffer(mmap.mmap(-1, CHUNK)))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._stop = True
        self._free.put(None)
        self._hashing.put(None)
        for thread in self._threads:  # a drive that hangs must not hang us: the threads die with the process
            thread.join(_JOIN_SECONDS)

    def next(self, seconds: float) -> Message | None:
        """The next message, or None when there is none for so long."""
        try:
            return self._messages.get(timeout=seconds)
        except Empty:
            return None

    def digest(self, number: int, seconds: float) -> str | None:
        """sha256 of the task of this number (from 0), which has ended, or None when it is not known for so long."""
        try:
            while len(self._known) <= number:
                self._known.append(self._digests.get(timeout=seconds))
        except Empty:
            return None
        return self._known[number]

    def give_back(self, buffer: Buffer) -> None:
        """What lies in a buffer is used no more by who calls."""
        with self._lock:
            buffer.lent -= 1
            free = buffer.lent == 0
        if free:
            self._free.put(buffer)

    def _read_all(self) -> None:
        folder, opened = -1, ("", "")
        try:
            for task in self._tasks:
                where = (task.piece.base, os.path.dirname(task.piece.inside))
                if where != opened or folder < 0:
                    if folder >= 0:
                        os.close(folder)
                        folder = -1
                    folder = open_folder(task.piece)
                    opened = where
                if not self._read_one(task, folder):
                    return
        except OSError as e:
            self._messages.put(Failed(faults.at_source(e, task.piece.source)))
        except BaseException as e:  # whatever it is, who waits for messages must hear of it
            self._messages.put(Failed(e))
        finally:
            if folder >= 0:
                os.close(folder)

    def _read_one(self, task: Task, folder: int) -> bool:
        """False when it was told to stop."""
        piece = task.piece
        fd = open_source(piece, folder)
        try:
            medium.uncached(fd)
            self._messages.put(Opened(task, _attributes(fd)))
            offset = 0
            while offset < piece.size:
                start, end = medium.data_end(fd, offset, piece.size)
                end = min(end, piece.size)
                if start > offset:
                    self._skip(start - offset)
                if not self._read_data(fd, task, start, end):
                    return False
                offset = end if end > start else piece.size
            check_source(piece, fd)
        finally:
            os.close(fd)
        self._messages.put(Ended())
        self._hashing.put(Ended())
        return not self._stop

    def _skip(self, length: int) -> None:
        self._hashing.put(Skipped(length))
        self._messages.put(Skipped(length))

    def _read_data(self, fd: int, task: Task, offset: int, end: int) -> bool:
        while offset < end:
            buffer = self._free.get()
            if self._stop or buffer is None:
                return False
            want = min(CHUNK - offset % CHUNK, end - offset)
            got = os.preadv(fd, [memoryview(buffer.memory)[:want]], offset)
            if got == 0:
                raise faults.changed(task.piece.source, "it became shorter while it was copied")
            medium.drop(fd, offset, got)
            data = Data(offset, memoryview(buffer.memory)[:got], buffer)
            had = offset < task.start
            buffer.lent = 1 if had else 2
            self._hashing.put(data)
            self._messages.put(Skipped(got) if had else data)
            offset += got
        return True

    def _hash_all(self) -> None:
        digest = hashlib.sha256()
        while (message := self._hashing.get()) is not None:
            if isinstance(message, Data):
                digest.update(message.view)
                self.give_back(message.buffer)
            elif isinstance(message, Skipped):
                left = message.length
                while left > 0 and not self._stop:
                    digest.update(_ZEROS[:left])
                    left -= len(_ZEROS)
            else:
                self._digests.put(digest.hexdigest())
                digest = hashlib.sha256()


def _attributes(fd: int) -> tuple[tuple[str, bytes], ...]:
    if not hasattr(os, "listxattr"):
        return ()
    try:
        return tuple((n, os.getxattr(fd, n)) for n in os.listxattr(fd) if n.startswith("user."))
    except OSError as e:
        if e.errno in faults.NOT_KEPT or e.errno == errno.ENODATA:
            return ()
        raise
