"""Reading copies back from the medium and comparing their hashes, in a thread beside the copying."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import stat
import threading
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType

from cachetui.fs import open_below
from cachetui.transfer import medium

_CHUNK = 4 << 20
_OPEN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NOATIME = getattr(os, "O_NOATIME", 0)
_JOIN_SECONDS = 10
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """One durable copy and what it must hold."""

    path: str
    """Below the staging folder."""
    size: int
    sha256: str


class Checker:
    """Re-reads copies in the order they are added. A context manager: leaving it ends the thread."""

    def __init__(self, staging: int) -> None:
        self.done = 0
        """Bytes compared."""
        self.current = ""
        self.different: list[str] = []
        """Paths whose bytes are not what was written."""
        self.cached: list[str] = []
        """Paths of which some pages could not be dropped, so that they may have been read from memory."""
        self.error: OSError | None = None
        self.finished = threading.Event()
        """All that was added before `close` is compared, or there was an error."""
        self._staging = staging
        self._queue: SimpleQueue[Wanted | None] = SimpleQueue()
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Checker:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._stop = True
        self.close()
        self._thread.join(_JOIN_SECONDS)

    def add(self, wanted: Wanted) -> None:
        """Compare this one too; it must be durable (fsynced)."""
        self._queue.put(wanted)

    def close(self) -> None:
        """No more will be added."""
        self._queue.put(None)

    def _run(self) -> None:
        buffer = memoryview(mmap.mmap(-1, _CHUNK))
        try:
            while (wanted := self._queue.get()) is not None and not self._stop:
                self.current = wanted.path
                if not self._same(wanted, buffer):
                    self.different.append(wanted.path)
        except OSError as e:
            e.filename = e.filename or self.current
            self.error = e
        finally:
            self.finished.set()

    def _same(self, wanted: Wanted, buffer: memoryview) -> bool:
        fd = self._open(wanted.path)
        try:
            if os.fstat(fd).st_size != wanted.size:
                return False
            medium.uncached(fd)
            for _ in range(_TRIES):
                medium.drop(fd)
                if not (left := medium.resident(fd, wanted.size)):
                    break
            if left:
                self.cached.append(wanted.path)
            digest = hashlib.sha256()
            offset = 0
            while not self._stop and (got := os.preadv(fd, [buffer], offset)):
                digest.update(buffer[:got])
                offset += got
                self.done += got
            medium.drop(fd)
            return self._stop or (offset == wanted.size and digest.hexdigest() == wanted.sha256)
        finally:
            os.close(fd)

    def _open(self, path: str) -> int:
        folder = open_below(self._staging, os.path.dirname(path))
        try:
            name = os.path.basename(path)
            try:
                fd = os.open(name, _OPEN | _NOATIME, dir_fd=folder)
            except PermissionError:
                fd = os.open(name, _OPEN, dir_fd=folder)
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file", path)
        return fd
