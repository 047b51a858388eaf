"""Progress in words: phase, percent, amount, rate, time left. Plain text; names in it are not made safe."""

from __future__ import annotations

from collections.abc import Callable

from cachetui.jobs.model import Progress

Size = Callable[[int], str]
"""Bytes for people."""

PHASES = {
    "start": "starting",
    "look": "looking",
    "copy": "copying",
    "check": "reading back",
    "swap": "linking",
    "free": "freeing the original",
    "wait": "waiting",
    "verify": "reading",
    "list": "listing",
    "download": "downloading",
    "pull": "pulling",
    "prepare": "preparing",
    "load": "loading",
    "warm up": "warming up",
}

_STEPS = "steps"


def phase(progress: Progress) -> str:
    """What it is doing."""
    return PHASES.get(progress.phase, progress.phase)


def percent(progress: Progress) -> str:
    """`43 %`; empty where it cannot be told."""
    return f"{min(progress.done * 100 // progress.total, 100)} %" if progress.total else ""


def amount(progress: Progress, size: Size) -> str:
    """`1.2 GB of 2.8 GB`, or counts of other units; empty where nothing is counted."""
    if not progress.done and not progress.total:
        return ""
    if progress.unit != "bytes":
        of = f" of {progress.total:,}" if progress.total else ""
        return f"{progress.done:,}{of} {progress.unit}"
    of = f" of {size(progress.total)}" if progress.total else ""
    return size(progress.done) + of


def rate(progress: Progress, size: Size) -> str:
    """`118 MB/s`; empty while it is not known, and for steps, which are not alike."""
    if progress.rate <= 0 or progress.unit == _STEPS:
        return ""
    if progress.unit != "bytes":
        return f"{progress.rate:,.0f} {progress.unit}/s"
    return f"{size(int(progress.rate))}/s"


def left(progress: Progress) -> str:
    """`0:31 left`; empty while it is not known, and for steps, which are not alike."""
    if progress.eta is None or progress.unit == _STEPS:
        return ""
    minutes, seconds = divmod(int(progress.eta), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left"


def stands_still(progress: Progress) -> str:
    """`no progress for 31 s`; empty where it moves."""
    return f"no progress for {int(progress.stalled)} s" if progress.stalled else ""


def line(progress: Progress, size: Size) -> str:
    """All of it on one line."""
    parts = (
        phase(progress),
        percent(progress),
        amount(progress, size),
        stands_still(progress) or rate(progress, size),
        left(progress),
        progress.name,
    )
    return "  ".join(p for p in parts if p)
