"""The UI's side of the warm models: one pool for the whole program, made when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cachetui.jobs.model import Ended, JobState, Json, Progress

if TYPE_CHECKING:
    from cachetui.config import Where
    from cachetui.jobs.warm import Pool, Warm
    from cachetui.runnable import Runnable
    from cachetui.tui.asking import Ask


class WarmDesk:
    """Its methods wait for the system, so they are for threads; `looking` and `used` are not."""

    def __init__(self, where: Where, make: Callable[[], Pool] | None = None) -> None:
        """`make`: how the pool is made, for tests."""
        self._where = where
        self._make = make
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self.looking = False
        """Somebody asks right now what is in memory."""
        self.seen: tuple[Warm, ...] = ()
        """What was in memory when this was last asked."""

    @property
    def used(self) -> bool:
        """Whether a model was ever asked."""
        return self._pool is not None

    def _running(self) -> Pool:
        with self._lock:
            if self._pool is None:
                from cachetui.jobs.warm import Pool

                seconds = self._where.config.warm_seconds
                self._pool = self._make() if self._make is not None else Pool(idle_seconds=seconds)
            return self._pool

    def asker(self, runnable: Runnable, request: Mapping[str, Any]) -> Ask:
        """What loads a model where that is needed, asks it, and waits for its answer.

        `load_seconds` in the result: how long loading took, where it was loaded for this question.
        """

        def ask(event: Callable[[Json], None], moved: Callable[[Progress], None], cancel: threading.Event) -> Ended:
            pool = self._running()
            cold = not any(w.key == runnable.key and w.loaded for w in pool.sessions())
            ready = pool.load(runnable, moved, cancel)
            if ready.state is not JobState.DONE:
                return ready
            ended = pool.ask(runnable, request, event, moved, cancel)
            if ended.result is not None and cold:
                ended.result["load_seconds"] = (ready.result or {}).get("seconds", 0.0)
            return ended

        return ask

    def sessions(self) -> tuple[Warm, ...]:
        """What is in memory now."""
        if self._pool is None:
            return ()
        self.looking = True
        try:
            self.seen = tuple(self._pool.sessions())
        finally:
            self.looking = False
        return self.seen

    def free(self, key: str) -> None:
        """Let a model go; what it answers is stopped."""
        if self._pool is not None:
            self._pool.free(key)

    def told(self, size: Callable[[int], str]) -> str:
        """One line about what is in memory; empty where nothing is."""
        return in_words(self.sessions(), size)

    def close(self) -> None:
        """Let everything go; takes a moment."""
        with self._lock:
            pool = self._pool
        if pool is not None:
            pool.close()


def in_words(warm: tuple[Warm, ...], size: Callable[[int], str]) -> str:
    """`2 models in memory, 4.3 GB`; empty for none."""
    if not warm:
        return ""
    few = "1 model" if len(warm) == 1 else f"{len(warm)} models"
    return f"{few} in memory, {size(sum(w.memory for w in warm))}"
