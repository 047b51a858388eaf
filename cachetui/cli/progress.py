"""One line of progress on stderr, on a terminal only; nothing for what is quick."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from cachetui import units
from cachetui.model import Item, Root, RootScan, Stub
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.jobs.model import Progress as JobProgress

_BAR = 20
_QUIET_FOR = 0.4
_EVERY = 0.1


class Line:
    """A line that is written over, at most ten times a second, and gone in the end."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._next = time.monotonic() + _QUIET_FOR
        self._shown = False

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            print("\r" + " " * self._width() + "\r", end="", file=sys.stderr, flush=True)

    def show(self, text: str) -> None:
        """Write the line, if it is time."""
        if not self._on or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY
        self._shown = True
        width = self._width()
        print("\r" + safe(text)[:width].ljust(width), end="", file=sys.stderr, flush=True)

    def now(self, text: str) -> None:
        """Write the line at once: what follows waits for somebody else."""
        self._next = 0.0
        self.show(text)

    def log(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        print(safe(text), file=sys.stderr, flush=True)

    @staticmethod
    def _width() -> int:
        try:
            return max(os.get_terminal_size(2).columns - 1, 20)
        except OSError:
            return 79


class Reading(Line):
    """Progress of a scan (a model.Reporter)."""

    def __init__(self, roots: int) -> None:
        super().__init__()
        self._roots = roots
        self._names = 0
        self._sized = 0

    def __enter__(self) -> Reading:
        return self

    def named(self, root: Root, stubs: Sequence[Stub]) -> None:
        """Names of a root are known."""
        self._names += len(stubs)

    def sized(self, root: Root, item: Item) -> None:
        """One item is complete."""
        self._sized += 1
        if self._on:
            self.show(f"reading {self._sized} of {max(self._names, self._sized)}: {item.name}")

    def done(self, root: RootScan) -> None:
        """A root is complete."""

    def cancelled(self) -> bool:
        """Never: Control-C ends the process."""
        return False


class Bar(Line):
    """Progress of a job: a bar with bytes, rate and time left. Without a terminal only what it logs is said."""

    def __init__(self, binary: bool) -> None:
        super().__init__()
        self._binary = binary

    def __enter__(self) -> Bar:
        return self

    def tell(self, progress: JobProgress) -> None:
        """The job got this far."""
        if not self._on:
            return
        from cachetui.jobs import words

        bar = ""
        if progress.total:
            filled = min(progress.done * _BAR // progress.total, _BAR)
            bar = "█" * filled + "░" * (_BAR - filled) + "  "
        self.show(bar + words.line(progress, partial(units.size, binary=self._binary)))


class Doing(Line):
    """Progress of an operation (a plans.model.Progress)."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def __enter__(self) -> Doing:
        return self

    def advance(self, done: int, total: int, name: str) -> None:
        """`done` of `total` steps are made."""
        if self._on:
            self.show(f"{self._what} {done} of {total}: {name}")
