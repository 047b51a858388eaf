"""Rows, headings and the words below them of "what can I run?", as lines of Content made for a width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual.content import Content

from cachetui import units
from cachetui.memory import running
from cachetui.memory.model import HALF, INT8, NF4, NF4_DOUBLE, STORED, TRAINING
from cachetui.memory.running import USES, Run
from cachetui.tui.fit_page import SHORT_NAMES, STYLES, count
from cachetui.tui.text import Part, clip, fit, hang, line, words

_DIM, _STRONG, _SECOND = "$foreground-muted", "bold", "$foreground 80%"
_WORDS = {"fits": "fits", "tight": "tight", "does not fit": "no"}
_TITLES = {STORED: "stored", HALF: "16-bit", INT8: "int8", NF4: "nf4", NF4_DOUBLE: "nf4 double", TRAINING: "train"}
_CELL, _GAP = 12, 2
_PARAMS = 8
_PLAN = (
    (NF4, _CELL), (STORED, _CELL), ("here", 4), (TRAINING, _CELL), (INT8, _CELL), ("take", 22), (HALF, _CELL),
    (NF4_DOUBLE, _CELL), ("uses", 34),
)  # fmt: skip
"""Columns and their widths, the most needed first."""
_NAME, _WIDE_NAME = 26, 46
_INDENT = 13


@dataclass(frozen=True, slots=True)
class Layout:
    """Widths in cells; 0 where a column is not there."""

    name: int
    modes: tuple[str, ...]
    take: int
    uses: int
    here: int


def layout_for(width: int) -> Layout:
    """As many columns as fit, most needed first; what is left over goes to the names."""
    room = width - _NAME - _PARAMS - _GAP
    got: dict[str, int] = {}
    for column, wide in _PLAN:
        if room >= wide + _GAP:
            got[column] = wide
            room -= wide + _GAP
    modes = tuple(m for m in _TITLES if m in got)
    return Layout(min(_NAME + room, _WIDE_NAME), modes, got.get("take", 0), got.get("uses", 0), got.get("here", 0))


def head(layout: Layout) -> Content:
    """The headings, above the rows."""
    parts = [fit("model", layout.name), "  ", fit("params", _PARAMS, right=True)]
    if layout.here:
        parts += ["  ", fit("", layout.here)]
    for mode in layout.modes:
        parts += ["  ", fit(f"{_TITLES[mode]:>6}", _CELL)]
    if layout.take:
        parts += ["  ", fit("take", layout.take)]
    if layout.uses:
        parts += ["  ", fit("good for", layout.uses)]
    return words("".join(parts))


def row(run: Run, layout: Layout, *, binary: bool) -> Content:
    """One model: every verdict is a word; a colour repeats it."""
    e = run.estimate
    name = e.name if e.target.startswith("hf:") else e.target
    parts: list[Part] = [(fit(name, layout.name), _STRONG if run.runs else _DIM)]
    parts.append(("  " + fit(count(e.parameters), _PARAMS, right=True), _SECOND))
    if layout.here:
        parts.append(("  " + fit("disk" if e.disk.exact else "", layout.here), "$text-success"))
    for mode in layout.modes:
        verdict = run.verdict(mode)
        if verdict is None:
            parts.append((f"  {'-':>6}{'':{_CELL - 6}}", _DIM))
            continue
        number = verdict.need / ((1 << 30) if binary else 10**9)
        shown = f"{number:6.1f}" if number < 1000 else f"{number:6,.0f}"
        parts.append(("  " + fit(f"{shown} {_WORDS[str(verdict.fit)]}", _CELL), STYLES[verdict.fit]))
    if layout.take:
        parts.append(("  " + fit(taken(run), layout.take), _STRONG if run.take is not None else _SECOND))
    if layout.uses:
        parts.append(("  " + fit(", ".join(run.uses), layout.uses), _SECOND))
    return line(*parts)


def taken(run: Run) -> str:
    """In a few words: what to load it as, or what still works."""
    if run.take is None:
        return run.instead[0].name.replace(", slowly", "").replace(", such as", ":")
    return f"{SHORT_NAMES.get(run.take.name, run.take.name)}, short" if run.is_short else run.take.name


def about(run: Run, width: int, *, binary: bool) -> list[Content]:
    """Everything about one model on the device."""
    e = run.estimate

    def size(n: int) -> str:
        return units.size(n, binary=binary)

    out = [line((clip(e.target, width - 24), _STRONG), (f"  {e.family}, {count(e.parameters)} parameters", _DIM))]
    if run.take is not None:
        room = size(run.device.usable)
        parts: list[str | Part] = [
            (run.take.name, f"bold {STYLES[run.fit]}"),
            f": {size(run.take.total)} of {room}" if not run.is_short else "",
        ]
        if run.context > 0:
            short = " only: less than was asked for" if run.is_short else ""
            parts.append((f", up to {run.context:,} tokens{short}", "$text-warning" if run.is_short else _DIM))
        out += _row("take", width, *parts)
    if run.instead:
        out += _row("still works", width, ", ".join(_way(w, size) for w in run.instead))
    if run.uses:
        out += _row("good for", width, ", ".join(run.uses), (f"  ({USES[run.uses[0]]})", _DIM))
    here = f", {size(e.disk.bytes)} on disk" if e.disk.exact else ""
    made = ", ".join(f"{v.name} about {size(v.weights)}" for v in e.variants)
    out += _row(
        "download", width, size(e.download.bytes) + here, (f"; others make: {made} (computed)" if made else "", _DIM)
    )
    for n, note in enumerate(e.notes):
        out += _row("note" if n == 0 else "", width, (note, _DIM))
    return out + (_row("source", width, (e.source, _DIM)) if e.source else [])


def _way(way: running.Way, size: Callable[[int], str]) -> str:
    return f"{way.name} ({size(way.need)})" if way.need else way.name


def _row(label: str, width: int, *value: str | Part) -> list[Content]:
    return hang(words(label, _DIM), line(*value), _INDENT, width)


def classes(width: int, *, binary: bool) -> list[Content]:
    """What each size of models weighs in 4 bits."""
    found = running.by_class()
    names: Sequence[str] = [name for name, _ in found[0].modes]
    out = [line((fit("4 bits", _INDENT), _STRONG), *((fit(n, 18, right=True), _DIM) for n in names)).truncate(width)]
    for c in found:
        sizes = ((fit(units.size(n, binary=binary), 18, right=True), "") for _, n in c.modes)
        out.append(line((fit(c.name, _INDENT), _STRONG), *sizes, (f"  {c.repo}", _DIM)).truncate(width))
    return [*out, words("Computed from their configs. bitsandbytes leaves the experts of a mixture in 16 bit.", _DIM)]
