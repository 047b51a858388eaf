"""How a job is told: a state as a word, percent, bytes, rate, time left. No Textual in here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cachetui.jobs.model import Job, JobState, Progress
from cachetui.tui.text import Part

Size = Callable[[int], str]
"""Bytes for people."""

DIM, STRONG, ACCENT, GOOD, WARN, BAD = (
    "$foreground-muted", "bold", "$accent", "$text-success", "$text-warning", "$text-error",
)  # fmt: skip
_STYLES = {
    JobState.QUEUED: DIM,
    JobState.RUNNING: ACCENT,
    JobState.PAUSED: WARN,
    JobState.DONE: GOOD,
    JobState.FAILED: BAD,
    JobState.CANCELLED: DIM,
}
PHASES = {
    "copy": "copying",
    "check": "reading back",
    "swap": "linking",
    "free": "freeing the original",
    "look": "looking",
    "verify": "reading",
    "list": "listing",
    "download": "downloading",
    "pull": "pulling",
    "start": "starting",
}


def state_word(job: Job) -> Part:
    """Its state, as a word and a colour; `done` only where all of it was done."""
    if job.state is JobState.RUNNING and job.progress is not None and job.progress.stalled:
        return "standing still", WARN
    if job.state is JobState.DONE and undone(job):
        return "partly done", WARN
    return job.state.value, _STYLES[job.state]


def undone(job: Job) -> list[tuple[str, str]]:
    """(target, why) of what a job that ended did not do. Outside strings."""
    rows = (job.result or {}).get("results", ())
    return [(str(r.get("target", "")), str(r.get("message", ""))) for r in rows if r.get("done") is False]


def part_done(progress: Progress) -> float | None:
    """From 0 to 1; None where the total is not known."""
    return min(progress.done / progress.total, 1.0) if progress.total > 0 else None


def phase_word(progress: Progress) -> str:
    """What it is doing, in our own words where we know the phase."""
    return PHASES.get(progress.phase, progress.phase)


def percent(progress: Progress) -> str:
    """`43 %`, or nothing where that cannot be told. Never 100 before the end."""
    part = part_done(progress)
    return "" if part is None else f"{int(part * 100)} %"


def amount(progress: Progress, size: Size) -> str:
    """`1.2 GB of 2.8 GB`, or counts of other units."""
    if progress.unit != "bytes":
        done = f"{progress.done:,}"
        return f"{done} of {progress.total:,} {progress.unit}" if progress.total else f"{done} {progress.unit}"
    return f"{size(progress.done)} of {size(progress.total)}" if progress.total else size(progress.done)


def rate(progress: Progress, size: Size) -> str:
    """`118 MB/s`; empty while it is not known."""
    if progress.rate <= 0:
        return ""
    per_second = size(int(progress.rate)) if progress.unit == "bytes" else f"{progress.rate:,.0f} {progress.unit}"
    return f"{per_second}/s"


def left(progress: Progress) -> str:
    """`0:31 left`; empty while it is not known."""
    if progress.eta is None:
        return ""
    seconds = int(progress.eta)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left"


def stands_still(progress: Progress) -> str:
    """That nothing moved for a while; empty where it moves."""
    return f"no progress for {int(progress.stalled)} s" if progress.stalled else ""


def summary(job: Job, size: Size) -> str:
    """What became of a job that ended, in a few words. Outside strings."""
    if job.state is JobState.FAILED:
        return job.reason
    result = job.result or {}
    if job.state is JobState.CANCELLED and "verdicts" not in result:
        return job.reason or "stopped by you"
    if isinstance(verdicts := result.get("verdicts"), list):
        return _verdicts(verdicts)
    if isinstance(came := result.get("received"), int):
        return f"there and verified; {size(came)} came" if "server" not in result else "pulled by Ollama's server"
    rows = result.get("results")
    if isinstance(rows, Sequence):
        missed = undone(job)
        done = f"{len(rows) - len(missed)} of {len(rows)} items" if missed else _items(len(rows))
        freed = sum(r.get("freed", 0) for r in rows)
        done += f", {size(freed)} came back here" if freed else ""
        return f"{done}; not {missed[0][0]}: {missed[0][1]}" if missed else done
    return ""


def _verdicts(verdicts: Sequence[Mapping[str, Any]]) -> str:
    from cachetui.verify.model import OUTCOMES  # late: the first picture needs none of it

    counts: dict[str, int] = {}
    for outcome in OUTCOMES:
        if count := sum(v.get("outcome") == outcome for v in verdicts):
            counts[outcome] = count
    return ", ".join(f"{n} {outcome.replace('-', ' ')}" for outcome, n in counts.items())


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count:,} items"
