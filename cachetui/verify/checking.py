"""Verifying items: look at all, read what is not remembered with a few threads for each disk, judge one by one."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from cachetui.fs import DISK, Fs
from cachetui.ledger import Scan
from cachetui.model import Item
from cachetui.transfer import medium
from cachetui.verify import disks
from cachetui.verify.judging import Judge
from cachetui.verify.looking import Ask, Job, Looker
from cachetui.verify.memory import Memory
from cachetui.verify.model import DAMAGED, Progress, Verdict
from cachetui.verify.reading import Reader, ReadInto, Stopped

LOOK, VERIFY = "look", "verify"
"""Phases of the progress: items, then bytes."""
_EVERY = 0.05


def _never() -> bool:
    return False


def check(
    scan: Scan,
    items: Sequence[Item],
    *,
    full: bool = False,
    fs: Fs = DISK,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = _never,
    note: Callable[[str], None] | None = None,
    ask: Ask | None = None,
    read_into: ReadInto = os.preadv,
) -> Iterator[Verdict]:
    """A verdict for each item, as soon as it is known: what waits for no reading first. Changes nothing but its memory.

    `full` reads everything from the drive, even what is remembered or in memory. When `cancelled`, the verdicts that
    are complete come, and those that are bad already; what was read is remembered. `note` hears what else to know,
    `ask` may complete what an item ought to be (from a network, where the user wants that).
    Never raises for what is on disk.
    """
    run = _Check(scan, Memory(fs), full, progress, cancelled, note, ask, read_into)
    with closing(run):
        yield from run.verdicts(items)


class _Check:
    def __init__(
        self,
        scan: Scan,
        memory: Memory,
        full: bool,
        progress: Progress | None,
        cancelled: Callable[[], bool],
        note: Callable[[str], None] | None,
        ask: Ask | None,
        read_into: ReadInto,
    ) -> None:
        self.memory = memory
        self.looker = Looker(memory, ask, full=full)
        self.judge = Judge(scan, self.looker)
        self.full = full
        self.progress = progress
        self.cancelled = cancelled
        self.note = note
        self.read_into = read_into
        self.stop = threading.Event()
        self.results: queue.SimpleQueue[Job | BaseException | None] = queue.SimpleQueue()
        self.threads: list[threading.Thread] = []
        self.lock = threading.Lock()
        self.done = self.total = self.said = 0
        self.next = 0.0
        self.later: list[int] = []

    def close(self) -> None:
        """Stop reading, and remember what was read."""
        self.stop.set()
        for thread in self.threads:
            thread.join()
        while not self.results.empty():
            if isinstance(result := self.results.get(), Job):
                self._keep(result)
        self.memory.close()

    def stopped(self) -> bool:
        """Whether reading should end."""
        return self.stop.is_set() or self.cancelled()

    def verdicts(self, items: Sequence[Item]) -> Iterator[Verdict]:
        """All of them, or as many as there are when it is cancelled."""
        for n, item in enumerate(items):
            if self.stopped():
                return
            if self.progress is not None:
                self.progress.advance(LOOK, n, len(items), item.name)
            self.looker.look(item)
        self.looker.recall()
        self._say_notes()
        readers = self._start([job for job in self.looker.jobs.values() if job.reading is None])
        looks = self.looker.looks
        for n, look in enumerate(looks):
            if not look.pending:
                yield from self._judge(n)
        while readers:
            result = self.results.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                readers -= 1
            else:
                yield from self._settle(result)
        yield from (self.judge.verdict(n) for n in self.later)
        for n, look in enumerate(looks):
            if look.pending and (verdict := self.judge.verdict(n, partly=True)).outcome == DAMAGED:
                yield verdict
        self.memory.flush()
        self._say_notes()

    def _say_notes(self) -> None:
        if self.note is not None:
            for text in self.memory.notes[self.said :]:
                self.note(text)
        self.said = len(self.memory.notes)

    def _start(self, jobs: Sequence[Job]) -> int:
        """Start reading; returns the number of readers."""
        self.total = sum(job.was.size for job in jobs)
        lanes: dict[int, deque[Job]] = {}
        for job in jobs:
            lanes.setdefault(job.was.dev, deque()).append(job)
        for lane in lanes.values():
            gate = threading.Lock() if medium.rotates(lane[0].path) else None
            for _ in range(min(disks.readers(), len(lane))):
                thread = threading.Thread(target=self._read, args=(lane, gate), name="verify", daemon=True)
                self.threads.append(thread)
        for thread in self.threads:
            thread.start()
        return len(self.threads)

    def _read(self, lane: deque[Job], gate: threading.Lock | None) -> None:
        """A reader: one file after another, until its disk has no more."""
        name = ""

        def advance(count: int) -> None:
            self._advance(count, name)

        reader = Reader(advance, self.stopped, from_medium=self.full, gate=gate, read_into=self.read_into)
        try:
            while not self.stopped():
                try:
                    job = lane.popleft()
                except IndexError:
                    break
                name = self.looker.looks[job.owner].item.name
                job.reading = reader.read(job.path, job.was, job.algorithms)
                advance(job.was.size - job.reading.read)
                self.results.put(job)
        except Stopped:
            pass
        except BaseException as e:
            self.results.put(e)
        self.results.put(None)

    def _advance(self, count: int, name: str) -> None:
        with self.lock:
            self.done += count
            now = time.monotonic()
            if self.progress is not None and (now >= self.next or self.done >= self.total):
                self.next = now + _EVERY
                self.progress.advance(VERIFY, min(self.done, self.total), self.total, name)

    def _keep(self, job: Job) -> None:
        if job.reading is not None and job.reading.digests:
            self.memory.keep(job.path, job.was, job.reading.digests)

    def _settle(self, job: Job) -> Iterator[Verdict]:
        """The verdicts that this file was the last for."""
        self._keep(job)
        for number in job.waiting:
            look = self.looker.looks[number]
            look.pending -= 1
            if not look.pending:
                yield from self._judge(number)

    def _judge(self, number: int) -> Iterator[Verdict]:
        """The verdict of an item; later, where it offers a copy that is yet to be read."""
        verdict = self.judge.verdict(number)
        if self.judge.is_settled(verdict):
            yield verdict
        else:
            self.later.append(number)
