"""Jobs that wait, run and end: so many of a kind at once, and one writer on a drive.

Lives as long as the program, not the screen that started a job. A thread waits for each running worker; the listener
is told of every change, in order, from a thread of its own.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from cachetui.fs import DISK, Fs
from cachetui.jobs import ground, unfinished
from cachetui.jobs.model import Ended, Job, JobState, Progress, Spec
from cachetui.jobs.runner import DEFAULT, Run, Settings

LIMITS: Mapping[str, int] = {"archive": 2, "restore": 2, "verify": 1, "move-root": 1}
"""How many of a kind run at once; 1 where nothing is said."""


@dataclass
class _Entry:
    job: Job
    cancel: threading.Event = field(default_factory=threading.Event)
    run: Run | None = None
    held: bool = False
    """Paused before it began."""
    goes_on: bool = False
    """Begun by an earlier run."""
    drives: frozenset[str] = frozenset()
    """What it took when it started."""


def _drives(spec: Spec) -> frozenset[str]:
    """What of the machine's drives a job writes, as they are mounted now."""
    return frozenset(spec.drives) | ground.of(spec.writes)


class Queue:
    """All jobs of this program. Its methods may be called from any thread."""

    def __init__(
        self,
        listener: Callable[[Job], None],
        limits: Mapping[str, int] = LIMITS,
        *,
        settings: Settings = DEFAULT,
        fs: Fs = DISK,
    ) -> None:
        self._listener = listener
        self._limits = limits
        self._settings = settings
        self._fs = fs
        self._lock = threading.RLock()
        self._entries: dict[str, _Entry] = {}
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._news: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._teller = threading.Thread(target=self._tell, name="cachetui-jobs", daemon=True)
        self._teller.start()

    def submit(self, spec: Spec) -> Job:
        """Let a job wait for its turn. Raises TakenError when another instance does it already."""
        with self._lock:
            known = self._entries.get(spec.id)
            if known is not None and not known.job.state.ended:
                return known.job
            known_before = False
            if spec.resumable:
                with suppress(OSError):  # then it cannot be offered next time; its copy is still found on the drive
                    known_before = unfinished.claim(spec, fs=self._fs)
            entry = self._entries[spec.id] = _Entry(Job(spec), goes_on=known_before)
            self._news.put(entry.job)
            self._start_ready()
            return entry.job

    def cancel(self, id_: str) -> None:
        """Stop a job for good. What it copied so far stays where it is, until the same is asked for again."""
        with self._lock:
            entry = self._entries[id_]
            entry.cancel.set()
            if entry.run is None and not entry.job.state.ended:
                self._end(entry, Ended(JobState.CANCELLED))

    def pause(self, id_: str) -> None:
        """Stop a job where it is; it keeps its drives."""
        with self._lock:
            entry = self._entries[id_]
            if entry.job.state in (JobState.QUEUED, JobState.RUNNING) and not entry.cancel.is_set():
                if entry.run is None:
                    entry.held = True
                else:
                    entry.run.pause()
                self._change(entry, state=JobState.PAUSED)

    def resume(self, id_: str) -> None:
        """Let a paused job go on."""
        with self._lock:
            entry = self._entries[id_]
            if entry.job.state is not JobState.PAUSED:
                return
            if entry.run is None:
                entry.held = False
                self._change(entry, state=JobState.QUEUED)
                self._start_ready()
            else:
                entry.run.resume()
                self._change(entry, state=JobState.RUNNING)

    def jobs(self) -> tuple[Job, ...]:
        """All jobs since the program started, in the order they came."""
        with self._lock:
            return tuple(e.job for e in self._entries.values())

    def active(self) -> bool:
        """Whether a job is waiting, running or paused."""
        return any(not job.state.ended for job in self.jobs())

    def clear(self) -> None:
        """Forget the jobs that have ended."""
        with self._lock:
            self._entries = {id_: e for id_, e in self._entries.items() if not e.job.state.ended}

    @staticmethod
    def unfinished() -> tuple[Spec, ...]:
        """What was not done to the end and nobody does now: `submit` it, or `forget` it."""
        return unfinished.offered()

    def forget(self, id_: str) -> None:
        """Offer an unfinished job no more. Raises OSError."""
        unfinished.drop(id_, fs=self._fs)

    def close(self) -> None:
        """End all workers at once, for the program ends: what can go on is offered next time. Waits for them."""
        with self._lock:
            self._closed = True
            for entry in self._entries.values():
                if entry.run is not None:
                    entry.run.abandon()
        for thread in self._threads:
            thread.join(2 * self._settings.grace + 1)
        self._news.put(None)
        if threading.current_thread() is not self._teller:
            self._teller.join(1)

    def _start_ready(self) -> None:
        """Start what may start now. The lock is held."""
        if self._closed:
            return
        for entry in self._entries.values():
            if entry.run is None and entry.job.state is JobState.QUEUED and self._may_start(entry.job.spec):
                entry.drives = _drives(entry.job.spec)
                entry.run = Run(entry.job.spec, partial(self._moved, entry), entry.cancel, settings=self._settings)
                self._change(entry, state=JobState.RUNNING, started=time.time())
                # The worker dies with the thread that started it, so that thread is the one that waits.
                thread = threading.Thread(target=self._wait, args=(entry, entry.run), name="cachetui-job", daemon=True)
                self._threads = [t for t in self._threads if t.is_alive()] + [thread]
                thread.start()

    def _may_start(self, spec: Spec) -> bool:
        running = [e for e in self._entries.values() if e.run is not None and not e.job.state.ended]
        if sum(e.job.spec.kind == spec.kind for e in running) >= self._limits.get(spec.kind, 1):
            return False
        wanted = _drives(spec)
        # Also as it is now: a drive may have come where a running job writes, or gone from there.
        return all(wanted.isdisjoint(e.drives | _drives(e.job.spec)) for e in running)

    def _wait(self, entry: _Entry, run: Run) -> None:
        ended = run.wait()
        with self._lock:
            self._end(entry, ended)
            self._start_ready()

    def _end(self, entry: _Entry, ended: Ended) -> None:
        spec = entry.job.spec
        if spec.resumable and (not self._closed or ended.state is JobState.DONE):
            with suppress(OSError):
                unfinished.settle(spec, ended, entry.goes_on, fs=self._fs)
        self._change(
            entry,
            state=ended.state,
            result=ended.result,
            reason=ended.reason,
            advice=ended.advice,
            ended=time.time(),
        )

    def _moved(self, entry: _Entry, progress: Progress) -> None:
        with self._lock:
            if not entry.job.state.ended:
                self._change(entry, progress=progress)

    def _change(self, entry: _Entry, **fields: object) -> None:
        entry.job = replace(entry.job, **fields)  # type: ignore[arg-type]
        self._news.put(entry.job)

    def _tell(self) -> None:
        while (job := self._news.get()) is not None:
            self._listener(job)
