"""The parent's side of one job: start its worker, listen, cancel, and never wait for ever."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from cachetui.jobs import protocol
from cachetui.jobs.child import DEFAULT, Child, Settings
from cachetui.jobs.meter import Meter
from cachetui.jobs.model import Ended, JobState, Json, Progress, Spec

__all__ = ["AGAIN", "DEFAULT", "REPORT", "Run", "Settings", "run"]

_LOOKING = ("start", "look")

AGAIN = "start it again: it goes on where it stopped"
REPORT = "this is a mistake in cachetui, please report it with the lines above"


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
        self._child: Child | None = None
        self._paused = False
        self._abandoned = threading.Event()
        self._meter = Meter()
        self._progress: Progress | None = None
        self._work = -1
        self._result = protocol.ResultText()
        self._ended: Ended | None = None
        self._alive_at = self._moved_at = 0.0
        self._asked_at: float | None = None
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
            child = Child(self._spec.kind, self._settings)
        except (OSError, ValueError) as e:
            return Ended(JobState.FAILED, None, f"the worker cannot be started: {e}", "")
        with self._lock:
            self._child = child
        child.post(protocol.line("request", request=dict(self._spec.request)))
        self._alive_at = self._moved_at = time.monotonic()
        try:
            child.pump(self._hear, self._watch)
        except BaseException:  # an impatient Control-C: the worker does not get the time it otherwise has
            child.kill()
            raise
        finally:
            child.finish()
        return replace(self._how(child), begun=self._begun)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.signal(number)

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()

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

    def _watch(self, now: float) -> bool:
        """Cancel, give up on the dead, say what stands still. False when it is no longer waited for."""
        settings = self._settings
        killed_at = self._child.killed_at if self._child is not None else None
        if killed_at is not None:
            return now - killed_at < settings.grace
        if self._abandoned.is_set():
            self._ended = Ended(
                JobState.CANCELLED, None, "the program was closed", AGAIN if self._spec.resumable else ""
            )
            self._kill()
        elif self._cancel.is_set():
            self._stop(now)
        elif self._paused:
            self._alive_at = self._moved_at = now
            self._meter.restart()
        elif now - self._alive_at > settings.silent and self._child is not None and self._child.works():
            self._alive_at = now
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

    def _stop(self, now: float) -> None:
        """Ask first, then kill."""
        if self._asked_at is None:
            self._asked_at = now
            if self._child is not None:
                self._child.post(protocol.line("cancel"))
            self.resume()
        elif now - self._asked_at > self._settings.grace:
            self._kill()

    def _how(self, child: Child) -> Ended:
        if child.code is None:
            state = JobState.CANCELLED if self._cancel.is_set() else JobState.FAILED
            return Ended(state, None, child.death(), "disconnect the drive, or wait")
        if child.misspoke:
            return Ended(JobState.FAILED, None, f"the worker said what is not understood: {child.misspoke}", REPORT)
        if self._ended is not None:
            return self._ended
        if self._cancel.is_set():
            return Ended(JobState.CANCELLED)
        advice = (self._again() or "start it again") if child.code < 0 else REPORT
        return Ended(JobState.FAILED, None, child.death(), advice)

    def _again(self) -> str:
        return AGAIN if self._spec.resumable else ""
