"""Copies that did not end: what transfer/staging.py left in a `.cachetui-incoming`, of an archive or beside a root."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from cachetui import walk
from cachetui.manifest import INCOMING
from cachetui.model import Problem
from cachetui.units import size

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

CODE = "unfinished-archive"
_HINT = (
    "`cachetui jobs` lists it: `cachetui jobs resume ID` goes on, `cachetui jobs forget ID` discards it; "
    "where it is not listed, the same command again goes on, or delete this folder"
)
_LOCK, _LOG = "lock", "log"
_MAX_LINE = 1 << 16


def problems(directory: str) -> Iterator[Problem]:
    """One for each copy into this folder that did not end and that nobody works on. Never raises."""
    incoming = os.path.join(directory, INCOMING)
    try:
        keys = sorted(os.listdir(incoming))
    except OSError:
        return
    for key in keys:
        path = os.path.join(incoming, key)
        if os.path.islink(path) or not os.path.isdir(path) or _is_held(os.path.join(path, _LOCK)):
            continue
        header = _header(os.path.join(path, _LOG))
        tally = walk.tree(path)
        taken = tally.overhead + sum(b.allocated for b in tally.files)
        yield Problem(
            CODE,
            f"{_did(header)} did not end: {size(taken)} of it are copied",
            path,
            _HINT,
        )


def _did(header: Mapping[str, Any]) -> str:
    """What was done, in words."""
    root, place = (str(header.get(key) or "something") for key in ("root", "place"))
    return f"moving {root} to {place}" if header.get("verb") == "move-root" else f"archiving {place}"


def _is_held(lock: str) -> bool:
    """Whether a process works on a copy."""
    if fcntl is None:
        return False
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def _header(log: str) -> dict[str, Any]:
    """What the first line of a log says: a checksum, then JSON."""
    try:
        line = walk.read_small(log, _MAX_LINE).split(b"\n", 1)[0]
        header = json.loads(line.partition(b" ")[2])["header"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}
