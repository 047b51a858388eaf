"""The UI's side of the job queue: one queue for the whole program, what was seen of it, what of last time is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cachetui.jobs.model import Job, JobState, Spec

if TYPE_CHECKING:
    from cachetui.jobs.queue import Queue
    from cachetui.jobs.runner import Settings


class JobDesk:
    """Owns the queue, which is made when it is first needed. `settings`: how workers are started."""

    def __init__(self, told: Callable[[], None], settings: Settings | None = None) -> None:
        self._told = told
        self._settings = settings
        self._queue: Queue | None = None
        self._left: dict[str, Spec] = {}
        self._ended: set[str] = set()
        self._seen: set[str] = set()
        self.leaving = False
        """The program ends as soon as nothing runs any more."""

    @property
    def _running(self) -> Queue:
        if self._queue is None:
            from cachetui.jobs.queue import Queue
            from cachetui.jobs.runner import DEFAULT

            self._queue = Queue(lambda job: self._told(), settings=self._settings or DEFAULT)
        return self._queue

    def take_over(self, left: tuple[Spec, ...]) -> None:
        """What an earlier run left unfinished and can go on."""
        self._left = {spec.id: spec for spec in left}

    @property
    def unfinished(self) -> tuple[Spec, ...]:
        """Jobs of an earlier run that nobody took up again, oldest first."""
        return tuple(self._left.values())

    def jobs(self) -> tuple[Job, ...]:
        """All jobs of this run that were not cleared away, in the order they were asked for."""
        return () if self._queue is None else self._queue.jobs()

    def job(self, id_: str) -> Job | None:
        """One of them."""
        return next((j for j in self.jobs() if j.id == id_), None)

    @property
    def active(self) -> bool:
        """Whether anything runs, waits or is paused."""
        return self._queue is not None and self._queue.active()

    def submit(self, spec: Spec) -> Job:
        """Put a job into the queue. Raises TakenError where another instance does it already."""
        job = self._running.submit(spec)
        self._left.pop(spec.id, None)
        self._ended.discard(spec.id)
        self._seen.discard(spec.id)
        return job

    def again(self, id_: str) -> None:
        """Start a failed or cancelled job once more, or go on with one of an earlier run. Raises TakenError."""
        job = self.job(id_)
        if id_ in self._left:
            self.submit(self._left[id_])
        elif job is not None and job.state in (JobState.FAILED, JobState.CANCELLED):
            self.submit(job.spec)

    def cancel(self, id_: str) -> None:
        """Stop a job."""
        if (job := self.job(id_)) is not None and not job.state.ended:
            self._running.cancel(id_)

    def let_go(self, id_: str) -> None:
        """An unfinished job of an earlier run was discarded."""
        self._left.pop(id_, None)

    def pause_or_resume(self, id_: str) -> None:
        """Hold a running or waiting job, or let a held one go on."""
        job = self.job(id_)
        if job is None or job.state.ended:
            return
        if job.state is JobState.PAUSED:
            self._running.resume(id_)
        else:
            self._running.pause(id_)

    def clear(self) -> None:
        """Take what has ended out of the list."""
        if self._queue is not None:
            self._queue.clear()

    def newly_ended(self) -> list[Job]:
        """Jobs that ended since this was last asked."""
        found = [j for j in self.jobs() if j.state.ended and j.id not in self._ended]
        self._ended |= {j.id for j in found}
        return found

    def see(self) -> None:
        """The list was looked at: what failed needs not be told any more."""
        self._seen |= {j.id for j in self.jobs() if j.state.ended}

    def unseen_failures(self) -> list[Job]:
        """What failed and was not looked at yet."""
        return [j for j in self.jobs() if j.state is JobState.FAILED and j.id not in self._seen]

    def close(self) -> None:
        """Stop everything; what can go on is offered next time. Takes a moment: for a thread, or at the very end."""
        if self._queue is not None:
            self._queue.close()
