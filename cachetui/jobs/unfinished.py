"""jobs.json in the state folder: jobs that can go on, and whose they are, so that the next start can offer them.

Each belongs to one process (its id and when it began). Only what a process left behind that is gone is offered, and
taking it up again makes it ours at once: two instances never do the same.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from cachetui import paths
from cachetui.fs import DISK, Fs
from cachetui.jobs.model import Ended, JobState, Json, Spec
from cachetui.ownfile import OwnFile

_VERSION = 1
_MOST = 1 << 24


class TakenError(Exception):
    """Another live instance does this job; the message names it."""


def claim(spec: Spec, *, fs: Fs = DISK) -> bool:
    """Note that this process does a job; whether it goes on with one. Raises TakenError, OSError."""
    known = False

    def change(rows: list[Json]) -> list[Json]:
        for row in rows:
            if row["spec"]["id"] == spec.id and not _is_ours(row) and _alive(row["owner"]):
                raise TakenError(f"another cachetui (process {row['owner'].get('pid')}) does this already")
        nonlocal known
        others = [row for row in rows if row["spec"]["id"] != spec.id]
        known = len(others) < len(rows)
        return [*others, {"spec": spec.to_json(), "owner": _me()}]

    _change(change, fs)
    return known


def settle(spec: Spec, ended: Ended, known: bool, *, fs: Fs = DISK) -> None:
    """Keep a job that ended only if it has something to go on with. `known`: what `claim` said. Raises OSError."""
    if ended.state is JobState.DONE or not (ended.begun or known):
        drop(spec.id, fs=fs)


def drop(id_: str, *, fs: Fs = DISK) -> None:
    """Forget a job: it ended, or is not wanted any more. Raises OSError."""
    _change(lambda rows: [row for row in rows if row["spec"]["id"] != id_], fs)


def offered() -> tuple[Spec, ...]:
    """The jobs that were not done to the end, and that no live process does; oldest first. Never raises.

    Their requests name no plan any more (`digest`): part of it may be done. What was agreed to (`accept`) stays.
    """
    rows = [row for row in _read() or () if not _is_ours(row) and not _alive(row["owner"])]
    return tuple(_without_digest(Spec.from_json(row["spec"])) for row in rows)


def _without_digest(spec: Spec) -> Spec:
    if "digest" not in spec.request:
        return spec
    return replace(spec, request={**spec.request, "digest": ""})


def _change(change: Callable[[list[Json]], list[Json]], fs: Fs) -> None:
    with OwnFile(paths.jobs_file(), fs) as file:
        before = _read()
        if before is None:
            return  # what a newer version noted is not ours to change
        after = change(before)
        if after != before:
            file.write(json.dumps({"v": _VERSION, "jobs": after}, indent=1) + "\n")


def _read() -> list[Json] | None:
    """The rows that make sense; a file that makes none holds nothing: its copies are still found on their drives.

    None for the file of a newer version.
    """
    try:
        with paths.jobs_file().open("rb") as file:
            body = json.loads(file.read(_MOST))
        if type(body["v"]) is int and body["v"] > _VERSION:
            return None
        rows = body["jobs"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return []
    return [row for row in rows if _makes_sense(row)] if isinstance(rows, list) else []


def _makes_sense(row: object) -> bool:
    try:
        if isinstance(row, dict) and isinstance(row["owner"], dict):
            Spec.from_json(row["spec"])
            return True
    except (KeyError, TypeError, ValueError):
        pass
    return False


@cache
def _started(pid: int) -> float:
    import psutil  # late: what only reads the file never needs it

    return psutil.Process(pid).create_time()


def _me() -> Json:
    return {"pid": os.getpid(), "started": _started(os.getpid()), "host": socket.gethostname()}


def _is_ours(row: Json) -> bool:
    owner = row["owner"]
    return bool(owner == _me())


def _alive(owner: Json) -> bool:
    pid, started, host = owner.get("pid"), owner.get("started"), owner.get("host")
    if type(pid) is not int or not isinstance(started, int | float):
        return False
    if host != socket.gethostname():
        return True  # cannot be asked from here
    import psutil

    try:
        return bool(abs(psutil.Process(pid).create_time() - started) < 1)
    except (psutil.Error, ValueError, OverflowError):
        return False
