"""Progress in words: phase, percent, amount, rate, time left. Plain text; names in it are not made safe."""

from __future__ import annotations

from cachetui import units
from cachetui.jobs.model import Progress

PHASES = {
    "start": "starting",
    "look": "looking",
    "copy": "copying",
    "check": "reading back",
    "swap": "linking",
    "free": "freeing",
    "wait": "waiting",
    "verify": "reading",
    "list": "listing",
    "download": "downloading",
    "pull": "pulling",
}


def phase(progress: Progress) -> str:
    """What it is doing."""
    return PHASES.get(progress.phase, progress.phase)


def percent(progress: Progress) -> str:
    """`43 %`; empty where it cannot be told."""
    return f"{min(progress.done * 100 // progress.total, 100)} %" if progress.total else ""


def amount(progress: Progress, *, binary: bool = False) -> str:
    """`1.2 GB of 2.8 GB`, or counts of other units."""
    if progress.unit != "bytes":
        of = f" of {progress.total:,}" if progress.total else ""
        return f"{progress.done:,}{of} {progress.unit}"
    of = f" of {units.size(progress.total, binary=binary)}" if progress.total else ""
    return units.size(progress.done, binary=binary) + of


def rate(progress: Progress, *, binary: bool = False) -> str:
    """`118 MB/s`; empty while it is not known."""
    if progress.rate <= 0:
        return ""
    if progress.unit != "bytes":
        return f"{progress.rate:,.0f} {progress.unit}/s"
    return f"{units.size(int(progress.rate), binary=binary)}/s"


def left(progress: Progress) -> str:
    """`0:31 left`; empty while it is not known."""
    if progress.eta is None:
        return ""
    minutes, seconds = divmod(int(progress.eta), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left"


def stands_still(progress: Progress) -> str:
    """`no progress for 31 s`; empty where it moves."""
    return f"no progress for {int(progress.stalled)} s" if progress.stalled else ""


def line(progress: Progress, *, binary: bool = False) -> str:
    """All of it on one line."""
    parts = (
        phase(progress),
        percent(progress),
        amount(progress, binary=binary),
        stands_still(progress) or rate(progress, binary=binary),
        left(progress),
        progress.name,
    )
    return "  ".join(p for p in parts if p)
