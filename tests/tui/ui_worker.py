"""A worker for the UI's tests: half of its work, then it waits for a file, then the rest. `python ui_worker.py`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from cachetui.jobs.worker import Channel, WorkCancelled, WorkFailed, main

_TOTAL = 2_000_000_000


def work(request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """`until`: a file to wait for; `fail`: (reason, advice); `result`: what to end with."""
    channel.progress("copy", _TOTAL // 2, _TOTAL, request.get("name", "model.safetensors"))
    while not Path(request["until"]).exists():
        if channel.cancelled():
            raise WorkCancelled
        time.sleep(0.01)
    if "fail" in request:
        raise WorkFailed(*request["fail"])
    channel.progress("copy", _TOTAL, _TOTAL, "")
    return dict(request.get("result", {}))


if __name__ == "__main__":
    main(work)
