"""How a job is told: its state as a word, and what became of it. No Textual in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cachetui.jobs.model import Job, JobState, Progress
from cachetui.jobs.words import Size
from cachetui.tui.text import Part

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


def summary(job: Job, size: Size) -> str:
    """What became of a job that ended, in a few words. Outside strings."""
    if job.state is JobState.FAILED:
        return job.reason
    result = job.result or {}
    if job.state is JobState.CANCELLED and "verdicts" not in result:
        return job.reason or "stopped by you"
    if isinstance(verdicts := result.get("verdicts"), list):
        return _verdicts(verdicts)
    if isinstance(entry := result.get("entry"), str):
        made = "made and kept" if result.get("made") else "there already"
        return f"{made}: {size(int(result.get('size', 0)))}, quant:{entry.rpartition('/')[2][:12]}"
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
