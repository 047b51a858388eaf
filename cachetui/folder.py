"""One open folder: listed, and read below, by descriptor where the system can; by path where it cannot (Windows)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType

from cachetui import walk

_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)


class Folder:
    """An open folder, never reached through a link. A context manager; raises OSError where it cannot be opened."""

    __slots__ = ("fd", "path", "stat")

    def __init__(self, path: str, parent: Folder | None = None, name: str = "") -> None:
        self.path = path
        """Absolute."""
        self.fd = -1
        if not walk.HAS_SCANDIR_FD:
            self.stat = os.lstat(path)
            if os.path.islink(path) or not os.path.isdir(path):
                raise NotADirectoryError(path)
            return
        self.fd = os.open(path if parent is None else name, _FLAGS, dir_fd=None if parent is None else parent.fd)
        self.stat = os.fstat(self.fd)

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def inner(self, name: str) -> Folder:
        """A folder right below."""
        return Folder(f"{self.path}/{name}", self, name)

    def listing(self) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        """What is in it."""
        return os.scandir(self.fd if self.fd >= 0 else self.path)

    def lstat(self, entry: os.DirEntry[str]) -> os.stat_result:
        """Of an entry itself. On Windows an entry's own stat knows no inode and no links."""
        return entry.stat(follow_symlinks=False) if self.fd >= 0 else os.lstat(entry.path)

    def readlink(self, name: str) -> str:
        """Where a link right below points, as written; with "/" on every system."""
        if self.fd >= 0:
            return os.readlink(name, dir_fd=self.fd)
        return os.readlink(f"{self.path}/{name}").replace(os.sep, "/")

    def read(self, name: str, cap: int) -> bytes:
        """The first bytes of a small regular file below. Raises OSError."""
        if self.fd >= 0:
            return walk.read_small(name, cap, dir_fd=self.fd)
        return walk.read_small(f"{self.path}/{name}", cap)
