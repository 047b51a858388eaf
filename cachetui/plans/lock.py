"""One writer per trash folder (I10): flock, with the holder's pid and start time inside."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from cachetui.fs import Fs

try:
    import fcntl
except ImportError:  # Windows: nothing is deleted there
    fcntl = None  # type: ignore[assignment]

_NAME = "lock"
_LENGTH = 256
_PAUSE = 0.05
PATIENCE = 3.0
"""Seconds to wait for a holder: recovery, a reserve or a small deletion takes less."""
LONG = 60.0
"""The same where hours of copying may hang on it."""
_OPEN = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class HeldError(Exception):
    """Another live instance works on this trash folder; the message names it."""


@dataclass(frozen=True, slots=True)
class _Manner:
    seconds: float
    tell: Callable[[str], None]


_MANNER: ContextVar[_Manner | None] = ContextVar("manner", default=None)


@contextmanager
def patience(seconds: float, tell: Callable[[str], None] = lambda why: None) -> Iterator[None]:
    """Within this, whoever takes a lock waits so long for its holder.

    `tell` is called while it waits, with the reason in words; what it raises ends the waiting.
    """
    token = _MANNER.set(_Manner(seconds, tell))
    try:
        yield
    finally:
        _MANNER.reset(token)


@contextmanager
def exclusive(fs: Fs, folder: int) -> Iterator[None]:
    """Hold the lock of an open trash folder, waiting PATIENCE (or `patience`) for it. Raises HeldError, OSError."""
    fd = _open(fs, folder)
    try:
        _wait(fd)
        _write_holder(fs, fd)
        yield
    finally:
        os.close(fd)


def holder(folder: int) -> str:
    """Who holds the lock of an open trash folder, in words; empty when nobody does. Changes nothing."""
    try:
        fd = os.open(_NAME, _OPEN, dir_fd=folder)
    except OSError:
        return ""
    try:
        _acquire(fd)
    except HeldError as e:
        return str(e)
    except OSError:
        return ""
    finally:
        os.close(fd)
    return ""


def _open(fs: Fs, folder: int) -> int:
    try:
        return os.open(_NAME, _OPEN, dir_fd=folder)
    except FileNotFoundError:
        try:
            return fs.create(folder, _NAME)
        except FileExistsError:
            return os.open(_NAME, _OPEN, dir_fd=folder)


def _wait(fd: int) -> None:
    manner = _MANNER.get()
    until = time.monotonic() + (PATIENCE if manner is None else manner.seconds)
    while True:
        try:
            return _acquire(fd)
        except HeldError as e:
            if time.monotonic() >= until:
                raise
            if manner is not None:
                manner.tell(str(e))
        time.sleep(_PAUSE)


def _acquire(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HeldError(_describe(_read_holder(fd))) from None
    except OSError as e:
        if e.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
            raise
        found = _read_holder(fd)  # no flock on this file system: the holder's own word decides
        if _alive(found):
            raise HeldError(_describe(found)) from None


def _write_holder(fs: Fs, fd: int) -> None:
    import psutil  # late: what only reads never comes here

    me = psutil.Process()
    body = json.dumps({"pid": me.pid, "started": me.create_time(), "host": socket.gethostname()})
    try:
        fs.write_at(fd, body.encode("utf-8")[:_LENGTH].ljust(_LENGTH), 0)
    except OSError:
        pass  # a full disk before the first use: the lock itself holds, only its holder has no name


def _read_holder(fd: int) -> dict[str, object]:
    try:
        found = json.loads(os.pread(fd, _LENGTH, 0))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _alive(found: dict[str, object]) -> bool:
    pid, started, host = found.get("pid"), found.get("started"), found.get("host")
    if not isinstance(pid, int) or not isinstance(started, float):
        return False
    if host != socket.gethostname():
        return True  # cannot be asked from here
    import psutil

    try:
        return pid != os.getpid() and abs(psutil.Process(pid).create_time() - started) < 1
    except (psutil.Error, ValueError):
        return False


def _describe(found: dict[str, object]) -> str:
    pid, host = found.get("pid"), found.get("host")
    if not _alive(found) and pid != os.getpid():
        return "another cachetui is working on this folder; wait until it is done"
    where = "" if host == socket.gethostname() else f" on {host}"
    return f"another cachetui (process {pid}{where}) is working on this folder; wait until it is done"
