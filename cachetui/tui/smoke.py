"""The smoke test: each model loaded, asked once and let go; what became of it, row by row. No Textual in here."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from cachetui.jobs import words as telling
from cachetui.jobs.model import JobState, Json, Progress
from cachetui.runnable import ABOUT_A_PICTURE, WITHOUT_PICTURE
from cachetui.tui.talk import NOISE, seconds

if TYPE_CHECKING:
    from cachetui.runnable import Runnable
    from cachetui.tui.warmdesk import WarmDesk

TOKENS = 32
_WORDS = 60


class Outcome(StrEnum):
    """Where one model stands."""

    WAITING = "waiting"
    RUNNING = "running"
    WORKS = "works"
    FAILED = "failed"
    STOPPED = "stopped"
    CANNOT = "cannot run"


@dataclass(frozen=True, slots=True)
class Row:
    """One model. Texts may be outside strings."""

    name: str
    subject: Runnable | None
    """None for what cannot run at all; `reason` says why."""
    outcome: Outcome = Outcome.WAITING
    doing: str = ""
    load_seconds: float = 0.0
    memory: int = 0
    """Bytes its process holds."""
    rate: float = 0.0
    """Tokens a second."""
    first_seconds: float = 0.0
    answer: str = ""
    reason: str = ""
    advice: str = ""

    @property
    def words(self) -> str:
        """The first words of the answer, in one line."""
        text = " ".join(self.answer.split())
        return text if len(text) <= _WORDS else text[: _WORDS - 1] + "…"

    def to_json(self) -> Json:
        """For whoever keeps it."""
        return {
            "name": self.name,
            "outcome": self.outcome.value,
            "load_seconds": round(self.load_seconds, 3),
            "memory": self.memory,
            "tokens_per_second": round(self.rate, 2),
            "first_token_seconds": round(self.first_seconds, 3),
            "answer": self.answer,
            "reason": self.reason,
            "advice": self.advice,
        }


class Smoke:
    """Runs through the rows in one thread; `rows` may be read at any time."""

    def __init__(self, rows: Sequence[Row], warm: WarmDesk) -> None:
        self._rows = list(rows)
        self._warm = warm
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._all = threading.Event()
        self._thread: threading.Thread | None = None
        self._shown = ""

    @property
    def rows(self) -> tuple[Row, ...]:
        """As they are now."""
        with self._lock:
            return tuple(self._rows)

    @property
    def begun(self) -> bool:
        """Whether it was started."""
        return self._thread is not None

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin; does not wait."""
        self._thread = threading.Thread(target=self._work, name="cachetui-job-smoke", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """The model that runs, and all that wait."""
        self._all.set()
        self._cancel.set()

    def skip(self) -> None:
        """The model that runs; the next one goes on."""
        self._cancel.set()

    def _set(self, n: int, **changes: Any) -> None:
        with self._lock:
            self._rows[n] = replace(self._rows[n], **changes)

    def _work(self) -> None:
        held = {w.key for w in self._warm.sessions()}
        for n, row in enumerate(self.rows):
            if row.subject is None:
                continue
            if self._all.is_set():
                self._set(n, outcome=Outcome.STOPPED, doing="")
                continue
            self._cancel.clear()
            self._one(n, row.subject)
            if row.subject.key not in held:
                self._warm.free(row.subject.key)

    def _one(self, n: int, subject: Runnable) -> None:
        begun = time.monotonic()
        first: list[float] = []
        pieces: list[str] = []

        def event(message: Json) -> None:
            if message.get("name") != "token":
                return
            if not first:
                first.append(time.monotonic())
            pieces.append(str(message.get("text", "")))
            self._set(n, answer="".join(pieces), doing="answering")

        def moved(progress: Progress) -> None:
            told = (telling.phase(progress), telling.percent(progress), seconds(time.monotonic() - begun))
            self._set(n, doing=" ".join(t for t in told if t))

        self._set(n, outcome=Outcome.RUNNING, doing="starting")
        request = {
            "op": "ask", "text": ABOUT_A_PICTURE if subject.images else WITHOUT_PICTURE,
            "images": [NOISE] if subject.images else [], "system": "", "max_new_tokens": TOKENS, "temperature": 0.0,
            "seed": 0, "max_pixels": 0, "resize": None, "state": "", "auto_state": False,
        }  # fmt: skip
        try:
            ended = self._warm.asker(subject, request)(event, moved, self._cancel)
        except Exception as e:
            self._set(n, outcome=Outcome.FAILED, doing="", reason=f"{type(e).__name__}: {e}")
            return
        result = ended.result or {}
        told = partial(_number, result)
        outcomes = {JobState.DONE: Outcome.WORKS, JobState.CANCELLED: Outcome.STOPPED}
        outcome = outcomes.get(ended.state, Outcome.FAILED)
        if result.get("finish") == "cancelled":
            outcome = Outcome.STOPPED
        warm = next((w for w in self._warm.sessions() if w.key == subject.key), None)
        self._set(
            n,
            outcome=outcome,
            doing="",
            load_seconds=told("load_seconds"),
            memory=warm.memory if warm is not None else 0,
            rate=told("tokens_per_second"),
            first_seconds=told("first_token_seconds"),
            answer=str(result.get("text") or "".join(pieces)),
            reason=ended.reason if outcome is not Outcome.WORKS else "",
            advice=ended.advice or str(result.get("advice") or ""),
        )


def _number(values: Json, key: str) -> float:
    value = values.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def as_text(rows: Sequence[Row], size: Callable[[int], str]) -> str:
    """A table of plain text."""
    head = ("model", "outcome", "load", "memory", "tokens/s", "first words or why")
    table = [head] + [
        (
            row.name,
            row.outcome.value,
            seconds(row.load_seconds) if row.load_seconds else "",
            size(row.memory) if row.memory else "",
            f"{row.rate:.1f}" if row.rate else "",
            row.words if row.outcome is Outcome.WORKS else " ".join((row.reason, row.advice)).strip(),
        )
        for row in rows
    ]
    widths = [max(len(line[n]) for line in table) for n in range(len(head) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in table
    )


def as_json(rows: Sequence[Row]) -> str:
    """The same for programs."""
    return json.dumps({"schema": 1, "models": [row.to_json() for row in rows]}, indent=1)
