"""What a job is: a request that survives the program, a state, and how far it got. Frozen values, no I/O."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Json = dict[str, Any]


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True when nothing more will happen."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Spec:
    """What is to be done, complete: another process can do it from this alone."""

    id: str
    kind: str
    """archive, restore, move-root, verify ...: the worker that does it."""
    title: str
    """For people, e.g. `archive hf:org/name to /mnt/big`; may hold outside strings."""
    request: Mapping[str, Any] = field(default_factory=dict)
    """What the worker is told: a JSON object without secrets."""
    drives: tuple[str, ...] = ()
    """Mount points that are written a lot: one job each at a time."""
    resumable: bool = False
    """True when doing it again goes on where it stopped."""
    writes: tuple[str, ...] = ()
    """Absolute paths that are written a lot: a drive may be mounted there only after the job was asked for."""

    def to_json(self) -> Json:
        """As a JSON object."""
        return {
            "id": self.id,
            "kind": self.kind,
            "title": self.title,
            "request": dict(self.request),
            "drives": list(self.drives),
            "resumable": self.resumable,
            "writes": list(self.writes),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Spec:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError for what is none."""
        texts = [body[key] for key in ("id", "kind", "title")]
        request, drives, writes = body["request"], body["drives"], body.get("writes", ())
        if not all(isinstance(t, str) for t in (*texts, *drives, *writes)) or not isinstance(request, dict):
            raise TypeError("not a job")
        return cls(texts[0], texts[1], texts[2], request, tuple(drives), bool(body["resumable"]), tuple(writes))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job got in its present phase."""

    phase: str
    """E.g. copy, check, swap, free."""
    done: int
    total: int
    """0 where it is not known."""
    unit: str = "bytes"
    rate: float = 0.0
    """Units a second, a moving average; 0 while nothing is known."""
    eta: float | None = None
    """Seconds until the phase is done, at this rate."""
    name: str = ""
    """What is being worked on; an outside string."""
    stalled: float = 0.0
    """Seconds without any progress, once that is longer than usual; 0 while it goes on."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended."""

    state: JobState
    """done, failed or cancelled."""
    result: Json | None = None
    """What the worker found or did; of a cancelled one, as far as it got."""
    reason: str = ""
    """Why it failed; outside strings in it."""
    advice: str = ""
    """What to do about it."""
    begun: bool = False
    """Some of it was done, beyond looking: a job that can go on has something to go on with."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is at this moment."""

    spec: Spec
    state: JobState = JobState.QUEUED
    progress: Progress | None = None
    result: Json | None = None
    reason: str = ""
    advice: str = ""
    started: float | None = None
    """POSIX seconds; None while it waits."""
    ended: float | None = None

    @property
    def id(self) -> str:
        """Of its spec."""
        return self.spec.id


def new_id() -> str:
    """An id for a spec, in the order of time."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + "-" + secrets.token_hex(3)
