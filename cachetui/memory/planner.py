"""The disk a project needs: models, adapters, checkpoints, datasets; line by line, as a range where it is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EACH = (50_000_000, 200_000_000)
"""Bytes of a LoRA adapter, or of a checkpoint of one."""
DATASET = (100_000_000, 1_000_000_000)
_SPARE = 0.2
"""Free space beyond the sum: a download needs room beside what it replaces, and a full disk is slow."""


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One thing that takes space, in bytes."""

    name: str
    low: int
    high: int
    note: str = ""
    here: bool = False
    """On disk already: it takes nothing more."""


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """All of it."""

    lines: tuple[PlanLine, ...]
    total_low: int
    total_high: int
    """Everything, also what is here already."""
    more_low: int
    more_high: int
    """What is still to come."""
    recommended: int
    """Free space to have before starting."""
    free: int
    """On this disk now; -1: unknown."""


def plan(
    models: Sequence[tuple[str, int, bool, str]],
    *,
    adapters: int = 0,
    checkpoints: int = 0,
    datasets: int | None = None,
    free: int = -1,
) -> DiskPlan:
    """Sum it up.

    `models`: (name, bytes, whether it is on disk, note). `datasets`: bytes; 0: some, size unknown; None: none.
    """
    lines = [PlanLine(name, size, size, note, here) for name, size, here, note in models]
    for number, what in ((adapters, "adapters"), (checkpoints, "checkpoints")):
        if number:
            lines.append(PlanLine(f"{number} {what}", number * EACH[0], number * EACH[1], "50 to 200 MB each"))
    if datasets is not None:
        low, high = (datasets, datasets) if datasets else DATASET
        lines.append(PlanLine("datasets", low, high, "as given" if datasets else "0.1 to 1 GB"))
    more_low = sum(line.low for line in lines if not line.here)
    more_high = sum(line.high for line in lines if not line.here)
    return DiskPlan(
        tuple(lines),
        sum(line.low for line in lines),
        sum(line.high for line in lines),
        more_low,
        more_high,
        int(more_high * (1 + _SPARE)),
        free,
    )
