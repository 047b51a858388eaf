"""Where the bytes of one connection go: a range of a partial, or a small file as a whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from cachetui.download import hashing
from cachetui.download.fetching import NoRanges
from cachetui.download.partial import SUFFIX, Partial
from cachetui.fs import Fs
from cachetui.plans.moves import Meter, remove_tree

if TYPE_CHECKING:
    from cachetui.download.engine import Wanted


class Ranged:
    """A range of a big file; every segment is made durable while the next one comes."""

    def __init__(self, partial: Partial, segment: int, arrived: Callable[[int], None], start: int) -> None:
        self._partial, self._segment, self._arrived = partial, segment, arrived
        self._from = self._at = start
        self._before: tuple[int, int] | None = None

    def write(self, data: memoryview, offset: int) -> None:
        """Take bytes."""
        self._partial.write(data, offset)
        self._at = offset + len(data)
        self._arrived(len(data))
        if self._at - self._from >= self._segment:
            self.end()

    def end(self) -> None:
        """What came so far is a segment. Raises what making it durable raised."""
        if self._at > self._from:
            self._partial.commit(self._from, self._at, before=self._before)
            self._before = (self._from, self._at)
            self._from = self._at

    def tag(self, tag: str) -> None:
        """The server's ETag is known."""
        self._partial.remember(tag)

    def again(self) -> None:
        """A range cannot start over."""
        raise NoRanges


class Whole:
    """A small file, hashed as it comes."""

    def __init__(self, fs: Fs, folder: int, name: str, wanted: Wanted, arrived: Callable[[int], None]) -> None:
        self._fs, self._folder, self.name = fs, folder, name + SUFFIX
        self._wanted, self._arrived = wanted, arrived
        self._hash = hashing.begin(wanted.etag, wanted.size)
        self._came = 0
        remove_tree(fs, folder, self.name, Meter())
        self._fd = fs.create(folder, self.name, 0o666)

    def __enter__(self) -> Whole:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def write(self, data: memoryview, offset: int) -> None:
        """Take bytes."""
        self._fs.write_at(self._fd, data, offset)
        self._hash.update(data)
        self._came += len(data)
        self._arrived(len(data))

    def tag(self, tag: str) -> None:
        """Not kept: a small file is never resumed."""

    def again(self) -> None:
        """Forget what came."""
        self._arrived(-self._came)
        self._came = 0
        self._fs.truncate(self._fd, 0)
        self._hash = hashing.begin(self._wanted.etag, self._wanted.size)

    def digest(self) -> str:
        """The hash of what came."""
        return self._hash.hexdigest()

    def settle(self) -> None:
        """Make it durable."""
        self._fs.fsync(self._fd)

    def discard(self) -> None:
        """Nothing of it stays."""
        remove_tree(self._fs, self._folder, self.name, Meter())
