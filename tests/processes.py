"""Questions to the system about processes, and waiting for an answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def stopped(pid: int) -> bool:
    """Whether a process is stopped."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"


def wait_for(what: Callable[[], Any], limit: float = 30) -> Any:
    """The first true answer."""
    stop = time.monotonic() + limit
    while not (answer := what()):
        assert time.monotonic() < stop, "it did not come"
        time.sleep(0.01)
    return answer
