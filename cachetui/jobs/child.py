"""A worker's process as its parent holds it: streams, process group, last words. What is said is not known here."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil

from cachetui.jobs import protocol
from cachetui.jobs.environment import of_child
from cachetui.jobs.model import Json

TICK = 0.1
_CHUNK = 1 << 16
_KEPT_LINES = 30
_KEPT_WIDTH = 1000
_SHOWN_LINES = 5
_KIND = re.compile(r"[a-z][a-z-]*\Z")


def worker_command(kind: str) -> list[str]:
    """The command line of the worker for a kind. Raises ValueError for a kind that cannot be one."""
    if not _KIND.match(kind):
        raise ValueError(f"no kind of job: {kind!r}")
    return [sys.executable, "-m", "cachetui.workers." + kind.replace("-", "_")]


@dataclass(frozen=True, slots=True)
class Settings:
    """How workers are started and how long they may be silent (seconds)."""

    command: Callable[[str], list[str]] = worker_command
    silent: float = 120.0
    """Without any sign of life a worker is taken for dead, and killed."""
    stalled: float = 20.0
    """Without progress, though alive, this is said (`Progress.stalled`); only the user may give up on a drive."""
    grace: float = 10.0
    """From asking a worker to stop until it is killed, and from killing it until it is no longer waited for."""


DEFAULT = Settings()


class Child:
    """One worker process. It dies with the thread that made it, which also calls `pump` and `finish`.

    `post`, `signal`, `kill` may be called from any thread.
    """

    def __init__(self, kind: str, settings: Settings, tick: float = TICK) -> None:
        """Start it. `tick`: seconds after which `pump` looks around though nothing came. Raises OSError, ValueError."""
        self._grace = settings.grace
        self._tick = tick
        self._lock = threading.Lock()
        self._outbox = bytearray()
        self._lines = protocol.Lines()
        self._stderr: deque[bytes] = deque(maxlen=_KEPT_LINES)
        self.killed_at: float | None = None
        """Of the monotonic clock; what the worker says after it is not heard."""
        self._worked: list[float] = []
        self.misspoke = ""
        """How the worker broke the protocol, for which it was killed."""
        command = settings.command(kind)
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=of_child(kind, os.environ),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._woken)
            os.close(self._wake)
            raise

    @property
    def pid(self) -> int:
        """Its process id, and its group's."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None until `finish` saw it end."""
        return self._process.returncode

    def post(self, data: bytes) -> None:
        """Send this, after what was posted before."""
        with self._lock:
            self._outbox += data
            with suppress(OSError):  # full: then it wakes anyway; closed: nobody is there any more
                os.write(self._wake, b".")

    def signal(self, number: signal.Signals) -> None:
        """To its group, while it surely is its."""
        with self._lock:
            if self._process.returncode is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End it and its children at once."""
        self.signal(signal.SIGKILL)
        if self.killed_at is None:
            self.killed_at = time.monotonic()

    def pump(self, hear: Callable[[Json], None], watch: Callable[[float], bool]) -> None:
        """Send and receive until both streams have ended, or `watch(now)` waits no longer.

        `hear` may raise ProtocolError: the worker is then killed.
        """
        process = self._process
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        with selectors.DefaultSelector() as selector:
            for stream in (process.stdin, process.stdout, process.stderr):
                os.set_blocking(stream.fileno(), False)
            for source in (process.stdout, process.stderr, self._woken):
                selector.register(source, selectors.EVENT_READ)
            while process.stdout in selector.get_map() or process.stderr in selector.get_map():
                gone = self.gone()  # asked before reading: what it wrote is then all there
                if gone:
                    self.signal(signal.SIGKILL)  # what it left behind may hold the streams open
                self._want_to_send(selector, process.stdin.fileno())
                events = selector.select(0 if gone else self._tick)
                for key, _ in events:
                    if key.fd == process.stdin.fileno():
                        self._send(key.fd)
                    elif key.fd == self._woken:
                        os.read(self._woken, _CHUNK)
                    elif not self._read(key.fd, hear if key.fileobj is process.stdout else None):
                        selector.unregister(key.fileobj)
                if gone and not any(key.fileobj in (process.stdout, process.stderr) for key, _ in events):
                    return
                if not watch(time.monotonic()):
                    return

    def _want_to_send(self, selector: selectors.BaseSelector, stdin: int) -> None:
        with self._lock:
            full = bool(self._outbox)
        if full and stdin not in selector.get_map():
            selector.register(stdin, selectors.EVENT_WRITE)
        elif not full and stdin in selector.get_map():
            selector.unregister(stdin)

    def _send(self, fd: int) -> None:
        """What the pipe takes; nothing is kept for somebody who does not read any more."""
        with self._lock:
            try:
                del self._outbox[: os.write(fd, self._outbox[:_CHUNK])]
            except BlockingIOError:
                pass
            except OSError:
                self._outbox.clear()

    def _read(self, fd: int, hear: Callable[[Json], None] | None) -> bool:
        """Take what came; False at the end."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        if hear is None:
            self._keep(data)
        elif self.killed_at is None:
            try:
                for raw in self._lines.feed(data):
                    hear(protocol.parse(raw))
            except protocol.ProtocolError as e:
                self.misspoke = str(e)
                self.kill()
        return True

    def _keep(self, data: bytes) -> None:
        """The last lines of stderr, each cut."""
        first, *more = data.split(b"\n")
        before = self._stderr.pop() if self._stderr else b""
        self._stderr.append((before + first)[:_KEPT_WIDTH])
        self._stderr.extend(part[:_KEPT_WIDTH] for part in more)

    def gone(self) -> bool:
        """Whether it has ended, without forgetting it yet."""
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def finish(self) -> None:
        """Whatever happened, nothing of its group stays."""
        stop = time.monotonic() + self._grace
        while not self.gone() and self.killed_at is None and time.monotonic() < stop:
            time.sleep(0.01)
        self.kill()
        stop = time.monotonic() + self._grace
        while not self.gone() and time.monotonic() < stop:
            time.sleep(0.01)
        with self._lock:
            if self.gone():
                self._process.wait()
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()
            os.close(self._woken)
            os.close(self._wake)
            self._wake = -1

    def works(self) -> bool:
        """Whether it computed or read since this was last asked: native code may keep it from saying so for minutes."""
        try:
            process = psutil.Process(self.pid)
            times = process.cpu_times()
            now: list[float] = [times.user, times.system]
            if hasattr(process, "io_counters"):
                now.append(process.io_counters().read_bytes)
        except psutil.Error:
            return False
        before, self._worked = self._worked, now
        return now != before

    def death(self) -> str:
        """How it ended that did not say so, from its last lines. After `finish`."""
        code = self._process.returncode
        if code is None:
            return f"the worker (process {self.pid}) hangs in the system and ends once its drive answers"
        if code < 0:
            try:
                how = f"was killed ({signal.Signals(-code).name})"
            except ValueError:
                how = f"was killed (signal {-code})"
        else:
            how = f"ended without a word (exit code {code})"
        last = [os.fsdecode(raw).strip() for raw in self._stderr if raw.strip()][-_SHOWN_LINES:]
        return f"the worker {how}" + (": " + "\n".join(last) if last else "")
