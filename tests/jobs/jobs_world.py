"""A job under way with a real child process (jobs_worker.py), and questions to the system about it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from cachetui.jobs.model import Ended, Progress, Spec
from cachetui.jobs.runner import Run, Settings

WORKER = str(Path(__file__).with_name("jobs_worker.py"))
SETTINGS = Settings(command=lambda kind: [sys.executable, WORKER], grace=5.0)


class Under:
    """A job under way in a thread."""

    def __init__(self, settings: Settings, resumable: bool, request: dict[str, Any]) -> None:
        self.cancel = threading.Event()
        self.told: list[Progress] = []
        self.logged: list[str] = []
        self.ended: Ended | None = None
        spec = Spec("job-1", "test", "a test", request, resumable=resumable)
        self.run = Run(spec, self.told.append, self.cancel, settings=settings, on_log=self.logged.append)
        self.thread = threading.Thread(target=self._wait)
        self.thread.start()

    def _wait(self) -> None:
        self.ended = self.run.wait()

    def end(self) -> Ended:
        """How it ended."""
        self.thread.join(60)
        assert self.ended is not None
        return self.ended
