"""Jobs with a real child process: jobs_worker.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jobs_world import SETTINGS, Under
from processes import wait_for


@pytest.fixture
def start() -> Iterator[Callable[..., Under]]:
    """start(request keys..., settings={...}): a job with the test worker; none is left running."""
    begun: list[Under] = []

    def do(settings: dict[str, Any] | None = None, resumable: bool = False, **request: Any) -> Under:
        under = Under(replace(SETTINGS, **(settings or {})), resumable, request)
        begun.append(under)
        return under

    yield do
    for under in begun:
        under.run.abandon()
        under.thread.join(60)


@pytest.fixture
def pid_of(tmp_path: Path) -> Callable[[], int]:
    """The worker's process id, once it wrote it to `pid`."""

    def ask() -> int:
        file = tmp_path / "pid"
        return int(wait_for(lambda: file.exists() and file.read_text()))

    return ask
