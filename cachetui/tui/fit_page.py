"""The fit table of the details pane: modes against devices, as lines of Content made for a width."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from cachetui.memory import running
from cachetui.memory.model import TRAINING, Device, Estimate, Fit, Mode
from cachetui.tui.text import Part, fit, line

if TYPE_CHECKING:
    from cachetui.memory.running import Run, Way
    from cachetui.tui.describe import Page
    from cachetui.tui.fits import Fits, Known

DIM, STRONG = "$foreground-muted", "bold"
STYLES = {Fit.FITS: "$text-success", Fit.TIGHT: "$text-warning", Fit.NO: "$text-error"}
SIGNS = {Fit.FITS: "✓ fits", Fit.TIGHT: "~ tight", Fit.NO: "✗ no"}
SHORT_NAMES = {"nf4 double-quant": "nf4 double", TRAINING: "train QLoRA"}
_MODE, _NEED, _FIT = 12, 9, 8
_ROOMY = 46
"""Cells that three devices need."""
_WORD = 5
_MOST_DEVICES, _MOST_TITLE = 3, 22


def fit_lines(known: Known, fits: Fits, page: Page) -> list[Content]:
    """What it needs and whether that goes in; short where it cannot be told."""
    e = known.estimate
    if e is None:
        return [*page.row("memory", (f"cannot be told: {known.reason}", DIM)), Content("")]
    devices = fits.devices[: _MOST_DEVICES if page.width >= _ROOMY else 2]
    runs = [running.run_of(e, d, fits.ram) for d in devices]
    tokens = f"{e.context:,} tokens" if e.cache is not None else "no KV cache"
    out = page.row("memory", (f"with {tokens}", DIM), ("  m", "bold $accent"), (" card, context", DIM))
    out += _table(e, runs, page)
    for run in runs:
        out += _taken(run, page, alone=len(runs) == 1)
    out += _three_sizes(e, runs[0], page)
    return [*out, Content("")]


def _table(e: Estimate, runs: Sequence[Run], page: Page) -> list[Content]:
    room = page.width - _MODE - _NEED - 2
    wide = min(room // len(runs) - 2, _MOST_TITLE)
    words = wide < _FIT  # too narrow for signs beside the words
    gap = " " if words else "  "
    wide = max((room + 1) // len(runs) - 1, _WORD) if words else wide
    context = len(runs) == 1 and room >= _FIT + 2 + 12
    head: list[Part] = [(" " * (_MODE + len(gap) + _NEED), DIM)]
    head += [
        (gap + fit(_title(run.device, page, room if context else wide), room if context else wide), DIM) for run in runs
    ]
    out = [line(*head).truncate(page.width)]
    for mode in (*e.modes, e.training):
        verdicts = [v for run in runs if (v := run.verdict(mode.name)) is not None]
        if not verdicts:
            continue
        strong = STRONG if any(run.take is not None and run.take.name == mode.name for run in runs) else ""
        parts: list[Part] = [
            (fit(SHORT_NAMES.get(mode.name, mode.name), _MODE), strong),
            (gap + fit(page.size(verdicts[0].need), _NEED, right=True), strong),
        ]
        for v in verdicts:
            told = SIGNS[v.fit][2:] if words else SIGNS[v.fit]
            parts.append((gap + fit(told, _FIT if context else wide), STYLES[v.fit]))
        if context and verdicts[0].context > 0:
            parts.append((f"  to {verdicts[0].context:,}", DIM))
        out.append(line(*parts).truncate(page.width))
    return out


def _title(device: Device, page: Page, width: int) -> str:
    """Its name without its maker's, and how much there is where that fits."""
    name = re.sub(r"^(NVIDIA )?(GeForce )?", "", device.name)
    size = page.size(device.usable)
    full = f"{name}, {size}" if size.split()[0] not in name else name
    return full if len(full) <= width else name


def _taken(run: Run, page: Page, *, alone: bool) -> list[Content]:
    if run.take is None:
        return page.row("still works", _ways(run.instead, page))
    parts: list[str | Part] = [
        (run.take.name, f"bold {STYLES[run.fit]}"),
        "" if alone else f" on {_title(run.device, page, 0)}",
    ]
    if run.context > 0:
        parts.append((f", up to {run.context:,} tokens", STRONG if run.is_short else DIM))
    near = [w for w in run.instead if w.here]
    return page.row("take", *parts) + (page.row("or", (_ways(near, page), DIM)) if near else [])


def _ways(ways: Sequence[Way], page: Page) -> str:
    return ", ".join(f"{w.name} ({page.size(w.need)})" if w.need else w.name for w in ways)


def _three_sizes(e: Estimate, run: Run, page: Page) -> list[Content]:
    """Download, disk and memory are three numbers; in the last one exact and estimated parts are told apart."""
    mode: Mode = run.take or e.modes[0]
    disk = page.size(e.disk.bytes) if e.disk.exact else "none"
    sizes = (f", disk {disk}, memory ", DIM)
    out = page.row("download", page.size(e.download.bytes), sizes, page.size(mode.total))
    exact = sum(part.bytes for part in mode.lines if part.exact)
    told = f"{page.size(exact)} exact, {page.size(mode.total - exact)} estimated"
    return out + page.row("of it", (told if exact else "all of it is estimated", DIM))


def count(number: int) -> str:
    """Parameters for people."""
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number) if number else "?"
