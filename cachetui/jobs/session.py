"""A worker that stays: it loads a model once and answers question after question, and never outlives the program."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import psutil

from cachetui.jobs import protocol
from cachetui.jobs.child import DEFAULT, Child, Settings
from cachetui.jobs.meter import Meter
from cachetui.jobs.model import Ended, JobState, Json, Progress
from cachetui.jobs.runner import REPORT

Event = Callable[[Json], None]
Tell = Callable[[Progress], None]

_LOOK_AROUND = 1.0
_TICK = 0.1
_LOAD_GRACE = 1.0
"""Seconds until a worker that is to stop loading is killed: nothing is lost, and native code may not hear of it."""
_GONE: Json = {"type": "gone"}
FREED = "the model was freed"
MEMORY_ADVICE = (
    "the system ends programs when memory runs out: free a loaded model, take a smaller one, or load it with --bits 4"
)


class Session:
    """One model in a process of its own. Its methods may be called from any thread; it answers one at a time.

    The process starts with the first question, or with `load`. `memory` and `pid` may be asked for at any time.
    """

    def __init__(self, load: Mapping[str, object], kind: str = "prompt", *, settings: Settings = DEFAULT) -> None:
        """`load`: the request that makes the worker ready, e.g. {"op": "load", "runnable": {...}}."""
        self._load = dict(load)
        self._kind = kind
        self._settings = settings
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._refused = ""
        self._thread: threading.Thread | None = None
        self._born = threading.Event()
        self._dead = threading.Event()
        self._heard: queue.SimpleQueue[Json] = queue.SimpleQueue()
        self._closed = False
        self._stop = threading.Event()
        self.loaded: Json | None = None
        """What the worker said when it was ready; None before."""

    @property
    def pid(self) -> int:
        """Of its process; 0 where there is none."""
        child = self._child
        return child.pid if child is not None and not self._dead.is_set() else 0

    @property
    def busy(self) -> bool:
        """Whether it loads or answers."""
        return self._turn.locked()

    @property
    def over(self) -> bool:
        """Whether its process has ended; it will not start again."""
        return self._closed or self._dead.is_set()

    def memory(self) -> int:
        """Bytes that its process holds now, and what it last said (`held`) it holds elsewhere: on a GPU, in a server.

        0 where there is no process.
        """
        if not (pid := self.pid):
            return 0
        held = (self.loaded or {}).get("held", 0)
        try:
            return int(psutil.Process(pid).memory_info().rss) + (held if type(held) is int else 0)
        except psutil.Error:
            return 0

    def load(self, on_progress: Tell | None = None, cancel: threading.Event | None = None) -> Ended:
        """Make it ready, unless it is. A session that cannot load is over; so is one whose load is cancelled."""
        with _Turn(self._turn, cancel) as mine:
            return self._ready(on_progress, cancel) if mine else Ended(JobState.CANCELLED)

    def ask(
        self,
        request: Mapping[str, object],
        on_event: Event | None = None,
        cancel: threading.Event | None = None,
        *,
        on_progress: Tell | None = None,
    ) -> Ended:
        """One question; loads first where that was not done. Never raises for what goes wrong.

        The callbacks are called in the calling thread; what they raise cancels the question and is raised here.
        """
        with _Turn(self._turn, cancel) as mine:
            if not mine:
                return Ended(JobState.CANCELLED)
            ready = self._ready(on_progress, cancel)
            if ready.state is not JobState.DONE:
                return ready
            ended = self._exchange(dict(request), on_event, on_progress, cancel)
            if self.loaded is not None and type(held := (ended.result or {}).get("held")) is int:
                self.loaded = {**self.loaded, "held": held}
            return ended

    def kill(self) -> None:
        """End its process at once, whatever it does. Returns without waiting."""
        with self._lock:
            self._closed = True
            if self._child is not None:
                self._child.kill()

    def close(self, patience: float = 0.0) -> None:
        """End its process and wait until nothing of it is left. `patience`: seconds it gets to stop what it does."""
        with self._lock:
            self._closed = True
        self._stop.set()
        if patience and self._turn.acquire(timeout=patience):
            self._turn.release()
        self.kill()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(2 * self._settings.grace + 1)

    def _ready(self, on_progress: Tell | None, cancel: threading.Event | None) -> Ended:
        if self.loaded is not None and not self.over:
            return Ended(JobState.DONE, self.loaded)
        if not self._start():
            return Ended(JobState.FAILED, None, self._refused or "the worker was ended", "ask again")
        ended = self._exchange(self._load, None, on_progress, cancel)
        if ended.state is JobState.DONE:
            self.loaded = ended.result or {}
        else:
            self.close()
        return ended

    def _start(self) -> bool:
        """Start the process, and the thread that it lives as long as."""
        with self._lock:
            if self._closed or self._dead.is_set():
                return False
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name="cachetui-session", daemon=True)
                self._thread.start()
        self._born.wait()
        return self._child is not None

    def _live(self) -> None:
        """The thread of the process: the process dies with it."""
        try:
            child = Child(self._kind, self._settings, _LOOK_AROUND)
        except (OSError, ValueError) as e:
            self._refused = f"the worker cannot be started: {e}"
            self._dead.set()
            self._born.set()
            return
        with self._lock:
            self._child = child
            if self._closed:
                child.kill()
        self._born.set()
        try:
            child.pump(self._heard.put, lambda now: not self._hangs(child, now))
        finally:
            child.finish()
            self._dead.set()
            self._heard.put(_GONE)

    def _hangs(self, child: Child, now: float) -> bool:
        return child.killed_at is not None and now - child.killed_at > self._settings.grace

    def _exchange(
        self, request: Json, on_event: Event | None, on_progress: Tell | None, cancel: threading.Event | None
    ) -> Ended:
        child = self._child
        assert child is not None
        child.post(protocol.line("request", request=request))
        stops = (self._stop,) if cancel is None else (self._stop, cancel)
        grace = self._settings.grace if self.loaded is not None else min(self._settings.grace, _LOAD_GRACE)
        talk = _Talk(child, replace(self._settings, grace=grace), on_event, on_progress, stops)
        try:
            while talk.ended is None:
                try:
                    message = self._heard.get(timeout=_TICK)
                except queue.Empty:
                    talk.watch(time.monotonic())
                    continue
                if message is _GONE:
                    return self._end_of(child, talk)
                talk.hear(message)
                talk.watch(time.monotonic())
        except protocol.ProtocolError as e:
            self.close()
            return Ended(JobState.FAILED, None, f"the worker said what is not understood: {e}", REPORT)
        except BaseException:
            self.close()  # it may be in the middle of an answer: nothing it says can be told from the next one's
            raise
        return talk.ended

    def _end_of(self, child: Child, talk: _Talk) -> Ended:
        """How a question ended whose worker is gone."""
        if self._closed:
            return Ended(JobState.CANCELLED, None, FREED, "ask again to load it anew")
        if talk.cancelled:
            return Ended(JobState.CANCELLED)
        if talk.gave_up:
            return Ended(JobState.FAILED, None, talk.gave_up, "ask again")
        if child.misspoke:
            return Ended(JobState.FAILED, None, f"the worker said what is not understood: {child.misspoke}", REPORT)
        killed = child.code == -signal.SIGKILL
        return Ended(JobState.FAILED, None, child.death(), MEMORY_ADVICE if killed else REPORT)


class _Turn:
    """Waits for the lock, not longer than until `cancel` is set."""

    def __init__(self, lock: threading.Lock, cancel: threading.Event | None) -> None:
        self._turn = lock
        self._cancel = cancel
        self._mine = False

    def __enter__(self) -> bool:
        while True:
            self._mine = self._turn.acquire(timeout=_TICK)
            if self._mine or (self._cancel is not None and self._cancel.is_set()):
                return self._mine

    def __exit__(self, *_: object) -> None:
        if self._mine:
            self._turn.release()


class _Talk:
    """One request under way: what came, when, and whether to go on waiting."""

    def __init__(
        self,
        child: Child,
        settings: Settings,
        on_event: Event | None,
        on_progress: Tell | None,
        stops: Sequence[threading.Event],
    ) -> None:
        self._child = child
        self._settings = settings
        self._on_event = on_event
        self._on_progress = on_progress
        self._stops = stops
        self._meter = Meter()
        self._result = protocol.ResultText()
        self._alive_at = time.monotonic()
        self._asked_at: float | None = None
        self.ended: Ended | None = None
        self.gave_up = ""
        """Why the worker was killed for it."""

    @property
    def cancelled(self) -> bool:
        """Whether the worker was asked to stop."""
        return self._asked_at is not None

    def hear(self, message: Json) -> None:
        """One message. Raises ProtocolError."""
        now = self._alive_at = time.monotonic()
        match message["type"]:
            case "event":
                if self._on_event is not None:
                    self._on_event(message)
            case "progress":
                progress = self._meter.update(message, now)
                if progress is not None and self._on_progress is not None:
                    self._on_progress(progress)
            case "result":
                self._result.add(message)
            case "failed":
                state = JobState.CANCELLED if self.cancelled else JobState.FAILED
                reason, advice = str(message.get("reason") or "it failed"), str(message.get("advice") or "")
                self.ended = Ended(state, self._result.value, reason, advice)
            case "done":
                state = JobState.CANCELLED if message.get("cancelled") else JobState.DONE
                self.ended = Ended(state, self._result.value)

    def watch(self, now: float) -> None:
        """Ask it to stop, and kill it where it does not, or does nothing at all any more."""
        if self._asked_at is not None:
            if now - self._asked_at > self._settings.grace:
                self._child.kill()
        elif any(stop.is_set() for stop in self._stops):
            self._asked_at = now
            self._child.post(protocol.line("cancel"))
        elif now - self._alive_at > self._settings.silent:
            if self._child.works():
                self._alive_at = now
                return
            self.gave_up = f"no sign of life from the worker for {self._settings.silent:.0f} s, so it was stopped"
            self._child.kill()
