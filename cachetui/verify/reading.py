"""Reading one file for its hashes: streamed, politely, and never anything but a regular file.

Big blocks into a buffer that is used again; the next stretch is asked for while this one is hashed (hashlib lets the
other threads run). Pages that were not in memory before are dropped behind, so that a verification of everything
does not push out what other programs use. Access times stay where the file is ours (O_NOATIME).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cachetui.expected import GIT_SHA1, STATE_DATA
from cachetui.transfer import medium

BLOCK = 1 << 20
WINDOW = 32 << 20
"""What is asked for in advance, and dropped behind."""
_SMALL = 1 << 17
"""Up to here a file costs less than asking what of it is in memory."""
_STEP = 4096
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NOATIME = getattr(os, "O_NOATIME", 0)
_DENIED = (errno.EACCES, errno.EPERM)
_GONE = (errno.ENOENT, errno.ENOTDIR)
_BAD_DATA = (errno.EIO, getattr(errno, "EUCLEAN", errno.EIO), getattr(errno, "EBADMSG", errno.EIO))
"""Read errors of a medium or of a file system that checks its own sums."""


class Stamp(NamedTuple):
    """A file as it was: while all of this is the same, so is the content. Sizes in bytes, times in nanoseconds."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int


def stamp(st: os.stat_result) -> Stamp:
    """Of a stat result."""
    return Stamp(st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)


class Stopped(Exception):
    """Reading was cancelled."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading a file."""

    digests: dict[str, str] = field(default_factory=dict)
    """Hex by algorithm; empty where it could not be read to the end as it was."""
    read: int = 0
    """Bytes."""
    code: str = ""
    """Why there are none: missing, no-permission, not-a-file, changed, unreadable-data, unreadable."""
    message: str = ""


ReadInto = Callable[[int, list[memoryview], int], int]


class Reader:
    """Reads files one after another; one for each thread."""

    def __init__(
        self,
        advance: Callable[[int], None],
        stopped: Callable[[], bool],
        *,
        from_medium: bool = False,
        gate: AbstractContextManager[Any] | None = None,
        read_into: ReadInto = os.preadv,
    ) -> None:
        """`advance` hears of bytes; `from_medium` drops pages first, so that the drive is read, not memory.

        `gate` is held while a file that is not in memory is read: a disk with one head reads one at a time.
        """
        self._buffer = memoryview(bytearray(BLOCK))
        self._advance = advance
        self._stopped = stopped
        self._from_medium = from_medium
        self._gate = gate
        self._read_into = read_into

    def read(self, path: str, was: Stamp, algorithms: Collection[str]) -> Reading:
        """The hashes of a file that was like `was` when it was looked at. Raises Stopped."""
        try:
            fd = open_regular(path)
        except OSError as e:
            return failure(e)
        try:
            st = os.fstat(fd)
            if not stat.S_ISREG(st.st_mode):
                return Reading(code="not-a-file", message="it is not a regular file")
            now = stamp(st)
            if now[:4] != was[:4]:
                return Reading(code="changed", message="it was changed while it was verified: verify it again")
            gate = self._gate
            if gate is None or st.st_size <= _SMALL or _in_memory(fd, 0, st.st_size):
                gate = nullcontext()
            with gate:
                return self._hash(fd, path, now, algorithms)
        finally:
            os.close(fd)

    def _hash(self, fd: int, path: str, was: Stamp, algorithms: Collection[str]) -> Reading:
        hashes = {a: _new(a, was.size) for a in algorithms}
        offset = 0
        if self._from_medium:
            medium.drop(fd)
        if was.size > _SMALL:
            _advise(fd, "POSIX_FADV_SEQUENTIAL", 0, 0)
        kept = _in_memory(fd, 0, was.size)
        while offset < was.size:
            start, end = offset, min(offset + WINDOW, was.size)
            keep_next = _in_memory(fd, end, was.size)
            _advise(fd, "POSIX_FADV_WILLNEED", end, min(WINDOW, was.size - end))
            while offset < end:
                if self._stopped():
                    raise Stopped
                try:
                    count = self._read_into(fd, [self._buffer[: min(BLOCK, end - offset)]], offset)
                except OSError as e:
                    return self._bad(fd, path, offset, e)
                if not count:
                    return Reading(read=offset, code="changed", message="it became shorter while it was read")
                for h in hashes.values():
                    h.update(self._buffer[:count])
                offset += count
                self._advance(count)
            if not kept:
                medium.drop(fd, start, end - start)
            kept = keep_next
        if stamp(os.fstat(fd)) != was:
            return Reading(read=offset, code="changed", message="it was changed while it was read: verify it again")
        return Reading({a: h.hexdigest() for a, h in hashes.items()}, offset)

    def _bad(self, fd: int, path: str, offset: int, error: OSError) -> Reading:
        """A read error: of the medium at a place, unless the whole drive has gone."""
        try:
            os.stat(path)
        except OSError:
            return Reading(read=offset, code="unreadable", message="the drive it lies on is not there any more")
        if error.errno not in _BAD_DATA:
            return Reading(read=offset, code="unreadable", message=_words(error))
        first = offset - offset % _STEP
        for at in range(first, first + BLOCK + _STEP, _STEP):
            try:
                if not self._read_into(fd, [self._buffer[:_STEP]], at):
                    break
            except OSError:
                message = f"it cannot be read at byte {at} ({_words(error)}): the drive lost that part"
                return Reading(read=offset, code="unreadable-data", message=message)
        return Reading(read=offset, code="unreadable", message=f"reading failed once at byte {offset}: verify it again")


def failure(error: OSError) -> Reading:
    """What an error of looking at a file, or of opening it, means."""
    if error.errno in _GONE:
        return Reading(code="missing", message="it is not there")
    if error.errno in _DENIED:
        return Reading(code="no-permission", message="you may not read it")
    if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV):
        return Reading(code="not-a-file", message="it is not a regular file")
    return Reading(code="unreadable", message=_words(error))


def open_regular(path: str) -> int:
    """A descriptor that follows no link, blocks on no pipe and moves no access time of ours. Raises OSError."""
    try:
        return os.open(path, _FLAGS | _NOATIME)
    except PermissionError:
        return os.open(path, _FLAGS)  # O_NOATIME is for the owner only


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _new(algorithm: str, size: int) -> Any:
    if algorithm == GIT_SHA1:
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    return _DataHash() if algorithm == STATE_DATA else hashlib.sha256()


class _DataHash:
    """sha256 of what follows a safetensors header: eight bytes that say how long it is, and itself."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._length = b""
        self._skip = 0

    def update(self, data: memoryview) -> None:
        """The next bytes of the file."""
        if (missing := 8 - len(self._length)) > 0:
            self._length += bytes(data[:missing])
            self._skip = int.from_bytes(self._length, "little") if len(self._length) == 8 else 0
            data = data[missing:]
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._sha256.update(data[skipped:])

    def hexdigest(self) -> str:
        """Of the data so far."""
        return self._sha256.hexdigest()


def _in_memory(fd: int, start: int, size: int) -> bool:
    """Whether most of the window at `start` is in memory; yes where unknown or small: nothing is dropped then."""
    length = min(WINDOW, size - start)
    if length <= 0 or size <= _SMALL:
        return True
    pages = medium.resident(fd, length, start)
    return pages < 0 or pages * medium.PAGE * 2 >= length


def _advise(fd: int, how: str, offset: int, length: int) -> None:
    advice = getattr(os, how, None)
    if advice is None or (offset and length <= 0):
        return
    try:
        os.posix_fadvise(fd, offset, length, advice)
    except OSError:
        pass  # advice that is not taken changes nothing
