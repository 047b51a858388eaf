"""A worker for tests: what it does stands in the request. `python jobs_worker.py`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from cachetui.jobs.worker import Channel, WorkCancelled, WorkFailed, main


def work(request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Obey the request's keys, in this order."""
    print("a library prints")
    if "pid_file" in request:
        written = Path(request["pid_file"] + ".new")
        written.write_text(str(os.getpid()))
        written.rename(request["pid_file"])
    if "stderr" in request:
        for n in range(request["stderr"]):
            sys.stderr.write(f"noise {n} {'x' * 200}\n")
    if "raw" in request:
        os.write(channel._fd, request["raw"].encode("latin-1"))
    if "huge_line" in request:
        view = b"y" * request["huge_line"]
        while view:
            view = view[os.write(channel._fd, view) :]
    if "die" in request:
        sys.stderr.write("last words\n")
        sys.stderr.flush()
        os._exit(request["die"])
    if "fail" in request:
        raise WorkFailed(*request["fail"])
    if "raise" in request:
        raise OSError(request["raise"], os.strerror(request["raise"]), "/mnt/big/x")
    for n in range(request.get("steps", 0)):
        channel.progress("copy", n + 1, request["steps"], request.get("name", ""))
    if "fail_late" in request:
        raise WorkFailed(*request["fail_late"])
    if "log" in request:
        channel.log(request["log"])
    if "until" in request:  # go on until a file is there, or it is cancelled
        n = 0
        while not Path(request["until"]).exists():
            if channel.cancelled() and not request.get("deaf"):
                raise WorkCancelled({"so_far": True})
            time.sleep(0.01)
            n += 1
            if not request.get("stuck"):
                channel.progress("copy", n, 0, "")
    return dict(request.get("result", {"ok": True}))


if __name__ == "__main__":
    main(work)
