"""Loaded models that wait for the next question: one worker each, freed when idle, on demand, or to make room."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psutil

from cachetui.jobs.child import DEFAULT, Settings
from cachetui.jobs.model import Ended, JobState
from cachetui.jobs.session import Event, Session, Tell
from cachetui.memory import devices
from cachetui.runnable import OLLAMA, Runnable

IDLE_SECONDS = 300.0
_PATIENCE = 1.0
"""Seconds that a model gets to stop what it does: what it writes is then whole or gone."""
_SERVER_PATIENCE = 5.0
"""Seconds that a server gets to free a model."""
_TOLD = ("device", "dtype", "quantization", "folder", "notes")
Free = Callable[[str], int]
"""Device as in `Wanted` -> bytes that a model may take there now."""


@dataclass(frozen=True, slots=True)
class Warm:
    """One loaded model, as it is at this moment."""

    key: str
    name: str
    """An outside string."""
    engine: str
    device: str
    """Where it runs, once it is loaded; before: where it is wanted."""
    dtype: str
    quantization: str
    memory: int
    """Bytes that its process holds now, on a GPU too."""
    since: float
    """POSIX seconds when it was first asked for."""
    used: float
    """POSIX seconds when its last answer ended."""
    busy: bool
    loaded: bool
    pid: int


@dataclass
class _Entry:
    runnable: Runnable
    session: Session
    since: float = field(default_factory=time.time)
    used: float = field(default_factory=time.time)
    idle_since: float = field(default_factory=time.monotonic)
    askers: int = 0
    """Who asks or waits for his turn; it is not freed by itself meanwhile."""


def free_memory(device: str) -> int:
    """Bytes that a model may take now without pushing others out, where `device` (as in `Wanted`) leads."""
    if device != "cpu" and (cards := [d.usable for d in devices.here() if d.kind == "gpu"]):
        return max(cards)
    return int(psutil.virtual_memory().available)


class Pool:
    """All loaded models of this program. Its methods may be called from any thread.

    Whatever it says of a model is gone with the process; a model whose worker died is loaded anew.
    """

    def __init__(
        self, *, idle_seconds: float = IDLE_SECONDS, settings: Settings = DEFAULT, free_memory: Free = free_memory
    ) -> None:
        """`idle_seconds`: after so long without a question a model is freed; 0: never."""
        self._idle = idle_seconds
        self._settings = settings
        self._free_memory = free_memory
        self._changed = threading.Condition()
        self._entries: dict[str, _Entry] = {}
        self._closed = False
        self._keeper: threading.Thread | None = None

    def ask(
        self,
        runnable: Runnable,
        request: Mapping[str, object],
        on_event: Event | None = None,
        on_progress: Tell | None = None,
        cancel: threading.Event | None = None,
    ) -> Ended:
        """One question to a model, which is loaded first where it is not. Never raises for what goes wrong.

        A result has beside the answer: device, dtype, quantization and folder of the model, `loaded_now` (whether
        it was loaded for this) and then `load_seconds`.
        """
        entry = self._take(runnable)
        if entry is None:
            return Ended(JobState.CANCELLED, None, "the program was closed", "")
        try:
            cold, begun = entry.session.loaded is None, time.monotonic()
            if cold and (ready := entry.session.load(on_progress, cancel)).state is not JobState.DONE:
                return ready
            loading = time.monotonic() - begun if cold else 0.0
            ended = entry.session.ask(request, on_event, cancel, on_progress=on_progress)
        finally:
            self._give_back(runnable.key, entry)
        if ended.result is not None and (told := entry.session.loaded) is not None:
            ended.result.update({key: told[key] for key in _TOLD if key in told})
            ended.result.update(loaded_now=cold, load_seconds=loading)
        return ended

    def load(self, runnable: Runnable, on_progress: Tell | None = None, cancel: threading.Event | None = None) -> Ended:
        """Load a model, unless it is; `result`: what the worker says of it."""
        entry = self._take(runnable)
        if entry is None:
            return Ended(JobState.CANCELLED, None, "the program was closed", "")
        try:
            return entry.session.load(on_progress, cancel)
        finally:
            self._give_back(runnable.key, entry)

    def sessions(self) -> tuple[Warm, ...]:
        """The loaded models, the first one first. Asks the system for their memory: not for every frame of a screen."""
        with self._changed:
            entries = list(self._entries.items())
        return tuple(_warm(key, entry) for key, entry in entries if not entry.session.over)

    def free(self, key: str) -> bool:
        """End one, also while it answers, and wait until it is gone; False where there is none."""
        with self._changed:
            entry = self._entries.pop(key, None)
            self._changed.notify_all()
        if entry is None:
            return False
        if entry.runnable.engine == OLLAMA and entry.session.loaded is not None and not entry.session.busy:
            enough = threading.Event()
            timer = threading.Timer(_SERVER_PATIENCE, enough.set)
            timer.start()
            entry.session.ask({"op": "free"}, None, enough)  # else the server keeps it for some minutes
            timer.cancel()
        entry.session.close(_PATIENCE)
        return True

    def close(self) -> None:
        """End all, for the program ends. Waits for them."""
        with self._changed:
            self._closed = True
            entries = list(self._entries.values())
            self._entries.clear()
            self._changed.notify_all()
        closing = [threading.Thread(target=entry.session.close, args=(_PATIENCE,)) for entry in entries]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()

    def _take(self, runnable: Runnable) -> _Entry | None:
        """The entry of a model, with room made for it where it is new; None when the pool is closed."""
        with self._changed:
            entry = self._mine(runnable.key)
        if entry is None:
            self._make_room(runnable)
        with self._changed:
            if self._closed:
                return None
            entry = self._mine(runnable.key)
            if entry is None:
                load = {"op": "load", "runnable": runnable.to_json()}
                entry = self._entries[runnable.key] = _Entry(runnable, Session(load, settings=self._settings))
            entry.askers += 1
            return entry

    def _mine(self, key: str) -> _Entry | None:
        """The entry, unless its worker is gone. The lock is held."""
        entry = self._entries.get(key)
        if entry is not None and entry.session.over:
            del self._entries[key]
            return None
        return entry

    def _make_room(self, runnable: Runnable) -> None:
        """Free what waits, the longest unused first, until the model goes in."""
        while runnable.memory > self._free_memory(runnable.wanted.device):
            with self._changed:
                waiting = [(e.idle_since, key) for key, e in self._entries.items() if not e.askers]
            if not waiting:
                return
            self.free(min(waiting)[1])

    def _give_back(self, key: str, entry: _Entry) -> None:
        with self._changed:
            entry.askers -= 1
            entry.used, entry.idle_since = time.time(), time.monotonic()
            if entry.session.over and self._entries.get(key) is entry:
                del self._entries[key]
            if self._idle and self._keeper is None and not self._closed:
                self._keeper = threading.Thread(target=self._keep, name="cachetui-warm", daemon=True)
                self._keeper.start()
            self._changed.notify_all()

    def _keep(self) -> None:
        """Frees what nobody asked for a while; ends when there is nothing to wait for."""
        while True:
            with self._changed:
                if self._closed or not self._entries:
                    self._keeper = None
                    return
                now = time.monotonic()
                due = {key: e.idle_since + self._idle - now for key, e in self._entries.items() if not e.askers}
                late = [key for key, left in due.items() if left <= 0]
                if not late:
                    self._changed.wait(min(due.values(), default=None))
                    continue
                gone = [self._entries.pop(key) for key in late]
            for entry in gone:
                entry.session.close()


def _warm(key: str, entry: _Entry) -> Warm:
    told, wanted = entry.session.loaded or {}, entry.runnable.wanted
    return Warm(
        key,
        entry.runnable.name,
        entry.runnable.engine,
        str(told.get("device") or wanted.device),
        str(told.get("dtype") or wanted.dtype),
        str(told.get("quantization") or wanted.quantization),
        entry.session.memory(),
        entry.since,
        entry.used,
        entry.session.busy,
        entry.session.loaded is not None,
        entry.session.pid,
    )
