"""Before anything is read: what each item ought to be, which bytes that takes, and which are known already."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from cachetui.expected import Digest, Expected, ExpectedFile
from cachetui.model import Item, Problem
from cachetui.store import store_named
from cachetui.verify.archived import Archives
from cachetui.verify.memory import Memory
from cachetui.verify.reading import Reading, Stamp, failure, stamp

Inode = tuple[int, int]
Ask = Callable[[Item, Expected], None]
"""Completes what an item ought to be."""


@dataclass
class Job:
    """One inode that is read once, whoever needs it."""

    path: str
    was: Stamp
    algorithms: set[str]
    owner: int
    """Number of the first item that needs it."""
    waiting: list[int] = field(default_factory=list)
    """Numbers of the items that need it."""
    reading: Reading | None = None
    """What came of it; None while it was not read."""
    remembered: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """One expected file of an item, looked at."""

    expected: ExpectedFile
    real: str
    """Where its bytes lie."""
    inode: Inode | None = None
    """None where it cannot be looked at, or need not be read."""
    size: int = -1
    """Bytes it has; -1 where it is not there."""
    failed: Reading | None = None
    """Why it cannot be looked at."""


@dataclass
class Look:
    """One item, looked at."""

    item: Item
    expected: Expected
    files: list[File] = field(default_factory=list)
    pending: int = 0
    """Files that were not read yet."""


class Looker:
    """Looks at items, one after another, and collects what is to be read."""

    def __init__(self, memory: Memory, ask: Ask | None, *, full: bool) -> None:
        self._memory = memory
        self._full = full
        self._ask = ask
        self.archives = Archives()
        self.looks: list[Look] = []
        self.jobs: dict[Inode, Job] = {}

    def look(self, item: Item) -> None:
        """Note what an item takes. Reads no content."""
        number = len(self.looks)
        try:
            expected = store_named(item.store).expected(item)
        except OSError as e:
            expected = Expected(unknown=[Problem("unreadable", (e.strerror or str(e)).lower(), item.root)])
        if self._ask is not None:
            self._ask(item, expected)
        look = Look(item, expected)
        reals: set[str] = set()
        for file in expected.files:
            looked = self._file(file, number)
            reals.add(looked.real)
            look.files.append(looked)
        self.archives.lacks(item, reals, expected)
        self.looks.append(look)

    def _file(self, file: ExpectedFile, number: int) -> File:
        real = os.path.realpath(file.path) if os.path.islink(file.path) else file.path
        if (more := self.archives.file(real)) is not None:
            file = _with(file, *more)
        try:
            st = os.lstat(real)
        except OSError as e:
            return File(file, real, failed=failure(e))
        if not stat.S_ISREG(st.st_mode):
            return File(file, real, failed=Reading(code="not-a-file", message="it is not a regular file"))
        if not file.digests or (file.size not in (-1, st.st_size) and any(d.firm for d in file.digests)):
            return File(file, real, size=st.st_size)  # nothing to compare, or wrong already
        was = stamp(st)
        self._job(real, was, {d.algorithm for d in file.digests}, number)
        return File(file, real, was[:2], st.st_size)

    def _job(self, path: str, was: Stamp, algorithms: Collection[str], number: int) -> None:
        job = self.jobs.get(was[:2])
        if job is None:
            job = self.jobs[was[:2]] = Job(path, was, set(), number)
        job.algorithms |= set(algorithms)
        if not job.waiting or job.waiting[-1] != number:
            job.waiting.append(number)

    def recall(self) -> None:
        """Fill in what is remembered; then count what every item waits for."""
        for job in self.jobs.values():
            if not self._full:
                known = self._memory.recall(job.path, job.was, job.algorithms)
                if known is not None:
                    job.reading, job.remembered = Reading(known), True
                    continue
            for number in job.waiting:
                self.looks[number].pending += 1


def _with(file: ExpectedFile, digest: Digest, size: int) -> ExpectedFile:
    """The file with what a manifest knows, which says more than a hint."""
    rest = tuple(d for d in file.digests if d.firm and d != digest)
    same = any((d.algorithm, d.value) == (digest.algorithm, digest.value) for d in rest)
    return file._replace(size=size if file.size < 0 else file.size, digests=rest if same else (*rest, digest))
