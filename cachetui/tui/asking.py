"""One request to a warm model: it runs in a thread of its own, and the UI looks at it some ten times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from cachetui.jobs.model import Ended, JobState, Json, Progress

Ask = Callable[[Callable[[Json], None], Callable[[Progress], None], threading.Event], Ended]
"""(on_event, on_progress, cancel) -> how it ended; waits for the end."""


class Asking:
    """Collects what comes; `take` and the rest may be called from the UI at any time."""

    def __init__(self, ask: Ask, done: Callable[[Asking], Any] | None = None) -> None:
        self._ask = ask
        self._done = done
        self._lock = threading.Lock()
        self._fresh: list[str] = []
        self._progress: Progress | None = None
        self.cancel = threading.Event()
        self.begun = time.monotonic()
        self.first: float | None = None
        """When the first token came, in monotonic seconds."""
        self.pieces = 0
        """Token events so far."""
        self.ended: Ended | None = None

    def start(self) -> None:
        """Begin; does not wait."""
        threading.Thread(target=self._work, name="cachetui-job-ask", daemon=True).start()

    def _work(self) -> None:
        try:
            ended = self._ask(self._event, self._moved, self.cancel)
        except Exception as e:  # told to the person, not to a dead thread
            ended = Ended(JobState.FAILED, None, f"{type(e).__name__}: {e}", "")
        self.ended = ended
        if self._done is not None:
            self._done(self)

    def _event(self, event: Json) -> None:
        if event.get("name") != "token":
            return
        with self._lock:
            self._fresh.append(str(event.get("text", "")))
            self.pieces += 1
            if self.first is None:
                self.first = time.monotonic()

    def _moved(self, progress: Progress) -> None:
        self._progress = progress

    def take(self) -> str:
        """The text that came since this was last asked."""
        with self._lock:
            text = "".join(self._fresh)
            self._fresh.clear()
        return text

    @property
    def progress(self) -> Progress | None:
        """How far loading is."""
        return self._progress

    @property
    def rate(self) -> float:
        """Tokens a second so far, roughly; 0 until it can be told."""
        if self.first is None or self.pieces < 2:
            return 0.0
        passed = time.monotonic() - self.first
        return (self.pieces - 1) / passed if passed > 0 else 0.0
