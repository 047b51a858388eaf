"""A second drive beside the small world, and questions about what lies where."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli_shape import BYTES, OUTCOME
from processes import wait_for

CAUTION = {"code": str, "message": str}
DRIVE = {
    "directory": str, "mount": str, "label": str, "filesystem": str, "free": BYTES, "links": bool, "probed": bool,
    "writable": bool, "network": bool, "same_as": [str], "refused": (str, None), "notes": [str],
}  # fmt: skip
TRANSFER = {
    "verb": str, "digest": str, "directory": str, "drive": (DRIVE, None), "keep": bool, "keep_original": bool,
    "refused": (str, None), "bytes": BYTES, "frees": BYTES, "cautions": [str], "asks": [CAUTION], "notes": [str],
    "items": [
        {
            "target": str, "id": str, "store": str, "root": str, "place": str, "refused": (str, None), "bytes": BYTES,
            "files": int, "frees": BYTES, "cautions": [CAUTION], "notes": [str],
            "parts": [{"source": str, "place": str, "bytes": BYTES, "files": int, "there": bool}],
            "stays": [{"path": str, "size": BYTES, "needed_by": [str]}],
        }
    ],
}  # fmt: skip
MOVE = {
    "verb": str, "digest": str, "root": str, "store": str, "place": str, "drive": DRIVE, "keep_original": bool,
    "refused": (str, None), "bytes": BYTES, "files": int, "frees": BYTES, "line": (str, None), "cautions": [str],
    "asks": [CAUTION], "notes": [str],
}  # fmt: skip
JOB = {"state": str, "reason": str, "advice": str}
DONE = {"schema": int, "verb": str, "dry_run": bool, "plan": {}, "outcome": (OUTCOME, None), "job": (JOB, None)}

LOAD = """
import hashlib, json, os, sys
from huggingface_hub import hf_hub_download, snapshot_download
found = {}
for repo in sys.argv[1:]:
    top = snapshot_download(repo, local_files_only=True)
    for folder, _, files in os.walk(top, followlinks=True):
        for name in files:
            path = os.path.join(folder, name)
            inside = os.path.relpath(path, top)
            assert open(hf_hub_download(repo, inside, local_files_only=True), "rb").read() == open(path, "rb").read()
            found[repo + "/" + inside] = hashlib.sha256(open(path, "rb").read()).hexdigest()
print(json.dumps(found))
"""


def load(*repos: str, **env: str) -> dict[str, str]:
    """What huggingface_hub finds of these repos, offline, in a process of its own: name -> sha256."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *repos],
        env={**os.environ, "HF_HUB_OFFLINE": "1", **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert isinstance(found, dict) and found
    return found


def content(top: Path) -> dict[str, Any]:
    """Every name below a folder: text of a link, hash of a file, None for a folder. Trash and locks aside."""
    found: dict[str, Any] = {}
    for folder, folders, files in os.walk(top):
        folders[:] = [f for f in folders if not f.startswith(".cachetui")]
        for name in folders + files:
            path = Path(folder) / name
            key = str(path.relative_to(top))
            if path.is_symlink():
                found[key] = os.readlink(path)
            elif path.is_file():
                found[key] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[key] = None
    return found


def begin(*args: str) -> subprocess.Popen[str]:
    """The program, begun; its stderr and stdout are read later."""
    return subprocess.Popen(
        [sys.executable, "-m", "cachetui", *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def worker_of(pid: int) -> int:
    """The process id of the worker of a program, once it is there."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return int(wait_for(lambda: children.read_text().split())[0])


def held_when(process: subprocess.Popen[str], ready: Callable[[], Any]) -> int:
    """Stop the worker at the moment that `ready` is true; its process id."""
    import signal

    pid = worker_of(process.pid)
    wait_for(ready)
    os.kill(pid, signal.SIGSTOP)
    return pid
