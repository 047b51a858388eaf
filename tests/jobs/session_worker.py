"""A worker that stays, for tests: what it does stands in each request. `python session_worker.py`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from cachetui.jobs.worker import Channel, WorkCancelled, WorkFailed, serve

_KNOWS: dict[str, Any] = {"asked": 0}


def work(request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Obey the request's keys, in this order."""
    print("a library prints")
    _KNOWS["asked"] += 1
    if "pid_file" in request:
        Path(request["pid_file"]).write_text(str(os.getpid()))
    if "env" in request:
        return {"env": dict(os.environ)}
    if "raw" in request:
        os.write(channel._fd, request["raw"].encode("latin-1"))
    if "die" in request:
        sys.stderr.write("last words\n")
        sys.stderr.flush()
        os._exit(request["die"])
    if "fail" in request:
        raise WorkFailed(*request["fail"])
    for n in range(request.get("steps", 0)):
        channel.progress("load", n + 1, request["steps"], "w")
    for n in range(request.get("tokens", 0)):
        channel.event("token", text=f"{n}\udcff ")
    if "compute" in request:  # in native code that lets no other thread run: no heartbeat comes
        sum(range(request["compute"]))
    until = request.get("until")
    while until is not None and not Path(until).exists():
        if channel.cancelled() and not request.get("deaf"):
            raise WorkCancelled({"so_far": _KNOWS["asked"]})
        time.sleep(0.005)
    return {"pid": os.getpid(), "asked": _KNOWS["asked"], "held": request.get("held", 0)}


if __name__ == "__main__":
    serve(work)
