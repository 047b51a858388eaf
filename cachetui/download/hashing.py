"""The hash that names content: sha256 of LFS and Xet files, git-sha1 of all others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Protocol

from cachetui.download.partial import Partial

_READ = 1 << 20


class Hash(Protocol):
    """What hashlib gives."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take in bytes."""

    def hexdigest(self) -> str:
        """The hash so far."""


def begin(etag: str, size: int) -> Hash:
    """The hash that will be `etag`: 64 hex digits are a sha256, 40 a git-sha1 (`blob SIZE`, NUL, content)."""
    if len(etag) == 64:
        return hashlib.sha256()
    found = hashlib.sha1(usedforsecurity=False)
    found.update(b"blob %d\0" % size)
    return found


def follow(partial: Partial, etag: str, cancelled: Callable[[], bool]) -> str | None:
    """The hash of a file while it comes in: behind its contiguous front, what came ahead is read back.

    What an earlier run left is read from disk. None where it is cancelled or fails before its end.
    """
    found = begin(etag, partial.size)
    at = 0
    buffer = bytearray(_READ)
    view = memoryview(buffer)
    while at < partial.size:
        with partial.changed:
            while partial.written.front() <= at and partial.error is None and not cancelled():
                partial.changed.wait(0.5)
            if partial.error is not None or cancelled():
                return None
            front = partial.written.front()
        while at < front:
            count = os.preadv(partial.fd, [view[: min(_READ, front - at)]], at)
            if count == 0:
                return None
            found.update(view[:count])
            at += count
    return found.hexdigest()


def of_file(fd: int, etag: str, size: int, cancelled: Callable[[], bool]) -> str | None:
    """The hash of an open file, read from the beginning; None where cancelled."""
    found = begin(etag, size)
    at = 0
    while not cancelled():
        data = os.pread(fd, _READ, at)
        if not data:
            return found.hexdigest()
        found.update(data)
        at += len(data)
    return None
