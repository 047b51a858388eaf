"""The parent's side of one job: start its worker, listen, cancel, and never wait for ever."""

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
from dataclasses import dataclass, replace

from cachetui.jobs import protocol
from cachetui.jobs.environment import of_child
from cachetui.jobs.meter import Meter
from cachetui.jobs.model import Ended, JobState, Json, Progress, Spec

_TICK = 0.1
_CHUNK = 1 << 16
_KEPT_LINES = 30
_KEPT_WIDTH = 1000
_SHOWN_LINES = 5
_LOOKING = ("start", "look")
_KIND = re.compile(r"[a-z][a-z-]*\Z")

AGAIN = "start it again: it goes on where it stopped"
REPORT = "this is a mistake in cachetui, please report it with the lines above"


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


def run(
    spec: Spec,
    on_progress: Callable[[Progress], None],
    cancel: threading.Event,
    *,
    settings: Settings = DEFAULT,
    on_log: Callable[[str], None] | None = None,
) -> Ended:
    """Do a job in a child process and wait for its end; setting `cancel` stops it. Never raises for what goes wrong."""
    return Run(spec, on_progress, cancel, settings=settings, on_log=on_log).wait()


class Run:
    """One job under way. `wait` belongs to one thread, which has to live as long as the worker; the rest to any."""

    def __init__(
        self,
        spec: Spec,
        on_progress: Callable[[Progress], None],
        cancel: threading.Event,
        *,
        settings: Settings = DEFAULT,
        on_log: Callable[[str], None] | None = None,
    ) -> None:
        self._spec = spec
        self._tell = on_progress
        self._log = on_log
        self._cancel = cancel
        self._settings = settings
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        self._abandoned = threading.Event()
        self._meter = Meter()
        self._progress: Progress | None = None
        self._work = -1
        self._lines = protocol.Lines()
        self._result = protocol.ResultText()
        self._stderr: deque[bytes] = deque(maxlen=_KEPT_LINES)
        self._ended: Ended | None = None
        self._alive_at = self._moved_at = 0.0
        self._asked_at: float | None = None
        self._killed_at: float | None = None
        self._ended_at: float | None = None
        self._sent = False
        self._started = False
        self._begun = False

    def pause(self) -> None:
        """Stop the worker where it is; it holds what it holds."""
        with self._lock:
            self._paused = True
            if self._started:  # before, it would not yet die with us
                self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        with self._lock:
            self._paused = False
            self._signal(signal.SIGCONT)

    def abandon(self) -> None:
        """Kill it at once: the program ends."""
        self._abandoned.set()

    def wait(self) -> Ended:
        """Start the worker and wait for its end."""
        try:
            command = self._settings.command(self._spec.kind)
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=of_child(self._spec.kind, os.environ),
                start_new_session=True,
            )
        except (OSError, ValueError) as e:
            return Ended(JobState.FAILED, None, f"the worker cannot be started: {e}", "")
        with self._lock:
            self._process = process
        try:
            self._talk(process)
        except BaseException:  # an impatient Control-C: the worker does not get the time it otherwise has
            self._kill()
            raise
        finally:
            self._finish(process)
        return self._verdict(process)

    def _signal(self, number: signal.Signals) -> None:
        """To the worker's group, while it surely is the worker's. The lock is held."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _kill(self) -> None:
        with self._lock:
            self._signal(signal.SIGKILL)
        if self._killed_at is None:
            self._killed_at = time.monotonic()

    def _talk(self, process: subprocess.Popen[bytes]) -> None:
        """Until both streams have ended, or a killed worker does not end."""
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        to_send = bytearray(protocol.line("request", request=dict(self._spec.request)))
        self._alive_at = self._moved_at = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for stream in (process.stdin, process.stdout, process.stderr):
                os.set_blocking(stream.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stderr, selectors.EVENT_READ)
            while process.stdout in selector.get_map() or process.stderr in selector.get_map():
                gone = self._gone(process)  # asked before reading: what it wrote is then all there
                if gone:
                    with self._lock:
                        self._signal(signal.SIGKILL)  # what it left behind may hold the streams open
                events = selector.select(0 if gone else _TICK)
                for key, _ in events:
                    if key.fileobj is process.stdin:
                        if self._sent_all(process.stdin.fileno(), to_send):
                            selector.unregister(process.stdin)
                    elif not self._read(key.fd, key.fileobj is process.stdout):
                        selector.unregister(key.fileobj)
                if gone and not events:
                    return
                if not self._watch(time.monotonic(), process.stdin.fileno()):
                    return

    def _sent_all(self, fd: int, data: bytearray) -> bool:
        """Send what the pipe takes; True when all is sent, or nobody reads it."""
        try:
            del data[: os.write(fd, data[:_CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            return True
        self._sent = not data
        return self._sent

    def _read(self, fd: int, is_protocol: bool) -> bool:
        """Take what came; False at the end."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        if not is_protocol:
            self._keep(data)
        elif self._killed_at is None:
            self._take(data)
        return True

    def _keep(self, data: bytes) -> None:
        """The last lines of stderr, each cut."""
        first, *more = data.split(b"\n")
        before = self._stderr.pop() if self._stderr else b""
        self._stderr.append((before + first)[:_KEPT_WIDTH])
        self._stderr.extend(part[:_KEPT_WIDTH] for part in more)

    def _take(self, data: bytes) -> None:
        try:
            for raw in self._lines.feed(data):
                self._hear(protocol.parse(raw))
        except protocol.ProtocolError as e:
            self._ended = Ended(JobState.FAILED, None, f"the worker said what is not understood: {e}", REPORT)
            self._kill()

    def _hear(self, message: Json) -> None:
        now = time.monotonic()
        self._alive_at = now
        match message["type"]:
            case "started":
                with self._lock:
                    self._started = True
                    if self._paused:
                        self._signal(signal.SIGSTOP)
            case "progress":
                progress = self._meter.update(message, now)
                if progress is not None:
                    if self._progress is None or (progress.phase, progress.done) != (
                        self._progress.phase, self._progress.done,
                    ):  # fmt: skip
                        self._moved_at = now
                    self._progress = progress
                    self._begun = self._begun or progress.phase not in _LOOKING
                    self._tell(progress)
            case "heartbeat":
                if message.get("work") != self._work:
                    self._work = message.get("work", -1)
                    self._moved_at = now
            case "log":
                if self._log is not None:
                    self._log(str(message.get("text", "")))
            case "result":
                self._result.add(message)
            case "failed":
                words = (str(message.get("reason") or "it failed"), str(message.get("advice") or ""))
                state = JobState.CANCELLED if self._cancel.is_set() else JobState.FAILED
                self._ended = Ended(state, self._result.value, *words)
            case "done":
                state = JobState.CANCELLED if message.get("cancelled") else JobState.DONE
                self._ended = Ended(state, self._result.value)

    def _watch(self, now: float, stdin: int) -> bool:
        """Cancel, give up on the dead, say what stands still. False when it is no longer waited for."""
        settings = self._settings
        if self._killed_at is not None:
            return now - self._killed_at < settings.grace
        if self._abandoned.is_set():
            self._ended = Ended(
                JobState.CANCELLED, None, "the program was closed", AGAIN if self._spec.resumable else ""
            )
            self._kill()
        elif self._cancel.is_set():
            self._stop(now, stdin)
        elif self._paused:
            self._alive_at = self._moved_at = now
            self._meter.restart()
        elif now - self._alive_at > settings.silent:
            self._ended = Ended(
                JobState.FAILED,
                None,
                f"no sign of life from the worker for {settings.silent:.0f} s, so it was stopped",
                self._again(),
            )
            self._kill()
        elif now - self._moved_at > settings.stalled:
            self._say_stalled(now - self._moved_at)
        return True

    def _say_stalled(self, seconds: float) -> None:
        before = self._progress or Progress("start", 0, 0)
        if int(seconds) > int(before.stalled):
            self._progress = replace(before, rate=0.0, eta=None, stalled=seconds)
            self._tell(self._progress)

    def _stop(self, now: float, stdin: int) -> None:
        """Ask first, then kill."""
        if self._asked_at is None:
            self._asked_at = now
            if self._sent:
                with suppress(OSError):
                    os.write(stdin, protocol.line("cancel"))
            self.resume()
        elif now - self._asked_at > self._settings.grace:
            self._kill()

    @staticmethod
    def _gone(process: subprocess.Popen[bytes]) -> bool:
        """Whether the worker has ended, without forgetting it yet."""
        if not hasattr(os, "waitid"):
            return process.poll() is not None
        try:
            return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        """Whatever happened, nothing of the worker's group stays."""
        stop = time.monotonic() + self._settings.grace
        while not self._gone(process) and self._killed_at is None and time.monotonic() < stop:
            time.sleep(0.01)
        self._kill()
        stop = time.monotonic() + self._settings.grace
        while not self._gone(process) and time.monotonic() < stop:
            time.sleep(0.01)
        if self._gone(process):
            with self._lock:
                process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _verdict(self, process: subprocess.Popen[bytes]) -> Ended:
        return replace(self._how(process), begun=self._begun)

    def _how(self, process: subprocess.Popen[bytes]) -> Ended:
        if process.returncode is None:
            why = f"the worker (process {process.pid}) hangs in the system and ends once its drive answers"
            state = JobState.CANCELLED if self._cancel.is_set() else JobState.FAILED
            return Ended(state, None, why, "disconnect the drive, or wait")
        if self._ended is not None:
            return self._ended
        if self._cancel.is_set():
            return Ended(JobState.CANCELLED)
        return Ended(JobState.FAILED, None, _death(process.returncode, self._stderr), self._advice(process.returncode))

    def _advice(self, code: int) -> str:
        return (self._again() or "start it again") if code < 0 else REPORT

    def _again(self) -> str:
        return AGAIN if self._spec.resumable else ""


def _death(code: int, stderr: deque[bytes]) -> str:
    """How a worker ended that did not say so, from its last lines."""
    if code < 0:
        try:
            how = f"was killed ({signal.Signals(-code).name})"
        except ValueError:
            how = f"was killed (signal {-code})"
    else:
        how = f"ended without a word (exit code {code})"
    last = [os.fsdecode(raw).strip() for raw in stderr if raw.strip()][-_SHOWN_LINES:]
    return f"the worker {how}" + (": " + "\n".join(last) if last else "")
