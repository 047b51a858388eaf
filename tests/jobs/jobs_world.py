"""A job under way with a real child process (jobs_worker.py), and questions to the system about it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cachetui.jobs.model import Ended, Progress, Spec
from cachetui.jobs.runner import Run, Settings

WORKER = str(Path(__file__).with_name("jobs_worker.py"))
SETTINGS = Settings(command=lambda kind: [sys.executable, WORKER], grace=5.0)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def wait_for(what: Callable[[], Any], limit: float = 30) -> Any:
    """The first true answer."""
    stop = time.monotonic() + limit
    while not (answer := what()):
        assert time.monotonic() < stop, "it did not come"
        time.sleep(0.01)
    return answer


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


def stopped(pid: int) -> bool:
    """Whether a process is stopped."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"
