"""The worker's side: what every `python -m cachetui.workers.X` is, but for its work.

The protocol has a stream of its own: what libraries print to stdout goes to stderr. The main thread listens to the
parent and shows that the process lives; a second thread works. The worker never outlives its parent. `main` is for a
worker that does one thing, `serve` for one that stays and answers request after request.
"""

from __future__ import annotations

import ctypes
import errno
import os
import queue
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from cachetui.jobs import protocol
from cachetui.jobs.model import Json

_EVERY = 0.1
_HEARTBEAT = 1.0
_PR_SET_PDEATHSIG = 1
_ORPHANED = 3


class WorkFailed(Exception):
    """The work cannot be done, or not all of it: why, what to do about it, and what there is all the same."""

    def __init__(self, reason: str, advice: str = "", result: Json | None = None) -> None:
        super().__init__(reason)
        self.advice = advice
        self.result = result


class WorkCancelled(Exception):
    """The work stopped because it was asked to; `result` is what there is so far."""

    def __init__(self, result: Json | None = None) -> None:
        super().__init__("cancelled")
        self.result = result


class Channel:
    """How the work speaks to whoever waits for it. Its methods may be called from any thread, as often as one likes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._work = 0
        self._held: dict[str, Any] | None = None
        self._phase = ""
        self._next = 0.0
        self.ended = False
        """The last words are being said."""

    def progress(self, phase: str, done: int, total: int, name: str = "", unit: str = "bytes") -> None:
        """`done` of `total` units of this phase are made; total 0 where it is not known. Sent ten times a second."""
        with self._lock:
            self._work += 1
            self._held = {"phase": phase, "done": done, "total": total, "name": name, "unit": unit}
            now = time.monotonic()
            if now >= self._next or phase != self._phase or (total and done >= total):
                self._phase, self._next = phase, now + _EVERY
                self._flush()

    def event(self, name: str, **fields: Any) -> None:
        """Something that belongs to this work alone, at once and in order. Raises TypeError, ValueError."""
        with self._lock:
            self._work += 1
            self._send("event", name=name, **fields)

    def log(self, text: str) -> None:
        """A line for whoever looks at the job."""
        with self._lock:
            self._send("log", text=text)

    def cancelled(self) -> bool:
        """True when the work should stop (raise WorkCancelled)."""
        return self._cancel.is_set()

    def cancel(self) -> None:
        """Ask the work to stop."""
        self._cancel.set()

    def heartbeat(self) -> None:
        """Say that the process lives, how much it worked, and the progress held back so far."""
        with self._lock:
            self._flush()
            self._send("heartbeat", work=self._work)

    def started(self) -> None:
        """Say that the request was understood."""
        with self._lock:
            self._send("started", pid=os.getpid())

    def finish(self, result: Json | None, *, cancelled: bool = False) -> None:
        """The last words of work that ended by itself, or because it was asked to. Raises TypeError, ValueError."""
        self._last(result, "done", cancelled=cancelled)

    def fail(self, reason: str, advice: str, result: Json | None = None) -> None:
        """The last words of work that failed. Raises TypeError, ValueError."""
        self._last(result, "failed", reason=reason, advice=advice)

    def _last(self, result: Json | None, type_: str, **fields: Any) -> None:
        lines = list(protocol.result_lines(result)) if result is not None else []
        with self._lock:
            self.ended = True
            self._flush()
            for raw in lines:
                self._write(raw)
            self._send(type_, **fields)

    def _flush(self) -> None:
        if self._held is not None:
            self._send("progress", **self._held)
            self._held = None

    def _send(self, type_: str, **fields: Any) -> None:
        self._write(protocol.line(type_, **fields))

    def _write(self, raw: bytes) -> None:
        view = memoryview(raw)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except BrokenPipeError:
            os._exit(_ORPHANED)  # nobody listens any more


def main(work: Callable[[Json, Channel], Json]) -> NoReturn:
    """Read the request, do `work(request, channel)` and tell its result. Raised: WorkFailed, WorkCancelled, OSError."""
    _Desk(work, stays=False).run()


def serve(work: Callable[[Json, Channel], Json]) -> NoReturn:
    """The same for one request after the other, all in one thread, until the parent has no more."""
    _Desk(work, stays=True).run()


class _Desk:
    """The main thread, which talks with the parent, and the thread that works."""

    def __init__(self, work: Callable[[Json, Channel], Json], stays: bool) -> None:
        self._fd = _private_stdout()
        _die_with_parent()
        self._work = work
        self._stays = stays
        self._todo: queue.SimpleQueue[tuple[Json, Channel]] = queue.SimpleQueue()
        self._channel: Channel | None = None
        self._woken, self._wake = os.pipe()

    def run(self) -> NoReturn:
        """Until the work has ended, or the parent is gone."""
        threading.Thread(target=self._obey, name="work", daemon=True).start()
        try:
            self._listen(protocol.Lines(protocol.MAX_REQUEST))
        except protocol.ProtocolError as e:
            (self._channel or Channel(self._fd)).fail(f"the request was not understood: {e}", "")
            sys.stderr.flush()
            os._exit(2)
        sys.stderr.flush()
        os._exit(0)  # nothing of the work is left to wait for

    def _obey(self) -> None:
        while True:
            request, channel = self._todo.get()
            try:
                _run(self._work, request, channel)
            finally:
                os.write(self._wake, b".")

    def _listen(self, lines: protocol.Lines) -> None:
        """Obey the parent and show signs of life while there is work; end at once when the parent is gone."""
        while True:
            ready, _, _ = select.select([0, self._woken], [], [], _HEARTBEAT if self._channel else None)
            if self._woken in ready:
                os.read(self._woken, 1)
                if self._channel is not None and self._channel.ended:  # the next request may have come before this
                    self._channel = None
                if not self._stays:
                    return
            if 0 in ready:
                data = os.read(0, 65536)
                if not data:
                    os._exit(_ORPHANED)
                for raw in lines.feed(data):
                    self._hear(protocol.parse(raw))
            elif not ready and self._channel is not None:
                self._channel.heartbeat()

    def _hear(self, message: Json) -> None:
        """A request, or a cancel of the one that is being worked on. Raises ProtocolError."""
        if message["type"] == "cancel" and self._channel is not None:
            self._channel.cancel()
        elif message["type"] == "request":
            body = message.get("request")
            if not isinstance(body, dict) or not (self._channel is None or self._channel.ended):
                raise protocol.ProtocolError("no request, or one too many")
            self._channel = Channel(self._fd)
            self._channel.started()
            self._todo.put((body, self._channel))
        elif self._channel is None and not self._stays:
            raise protocol.ProtocolError("the first line is no request")


def _private_stdout() -> int:
    """A descriptor for the protocol alone; descriptor 1 becomes stderr."""
    sys.stdout.flush()
    fd = os.dup(1)
    os.dup2(2, 1)
    return fd


def _die_with_parent() -> None:
    """Linux: the kernel kills this process with its parent, even while it is stopped."""
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        pass  # the end of stdin says it too


def _run(work: Callable[[Json, Channel], Json], request: Json, channel: Channel) -> None:
    try:
        channel.finish(work(request, channel))
    except WorkCancelled as e:
        channel.finish(e.result, cancelled=True)
    except WorkFailed as e:
        channel.fail(str(e), e.advice, e.result)
    except OSError as e:
        traceback.print_exc()
        channel.fail(_words(e), _ADVICE.get(e.errno or 0, ""))
    except MemoryError:
        channel.fail("there is not enough memory", "end other programs and try again")
    except Exception as e:
        traceback.print_exc()
        channel.fail(f"{type(e).__name__}: {e}", "this is a mistake in cachetui, please report it")


def _words(e: OSError) -> str:
    about = f": {os.fsdecode(e.filename)}" if isinstance(e.filename, str | bytes) else ""
    return (e.strerror or str(e)) + about


_ADVICE = {
    errno.ENOSPC: "make room on that drive and start it again: it goes on where it stopped",
    errno.EDQUOT: "make room in your quota and start it again: it goes on where it stopped",
    errno.EIO: "the drive reports errors: check its cable and its health before anything else",
    errno.ENODEV: "the drive is gone: connect it and start it again",
    errno.ENOENT: "if it lies on a drive, connect that and start it again",
    errno.EROFS: "that drive is mounted read-only: mount it writable and start it again",
    errno.EACCES: "this user may not write there: choose another folder or change its owner",
    errno.EPERM: "this user may not write there: choose another folder or change its owner",
}
