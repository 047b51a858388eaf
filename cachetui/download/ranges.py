"""Sets of byte ranges."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator


class Ranges:
    """Half-open ranges [start, end), kept merged and in order."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total = 0
        """Bytes covered."""
        for start, end in ranges:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """Cover these bytes too."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = first
        while last < len(self._starts) and self._starts[last] <= end:
            start, end = min(start, self._starts[last]), max(end, self._ends[last])
            self.total -= self._ends[last] - self._starts[last]
            last += 1
        self._starts[first:last], self._ends[first:last] = [start], [end]
        self.total += end - start

    def front(self) -> int:
        """How far it is covered from the beginning without a gap."""
        return self._ends[0] if self._starts and self._starts[0] == 0 else 0

    def gaps(self, size: int) -> Iterator[tuple[int, int]]:
        """What is not covered of [0, size)."""
        at = 0
        for start, end in self:
            if start > at:
                yield at, start
            at = end
        if at < size:
            yield at, size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._ends, strict=True)))
