"""Plain aligned text for people: width-aware on a terminal, complete in a pipe, no escape from a name."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import click

from cachetui.text import safe

_EIGHTHS = " ▏▎▍▌▋▊▉█"
BAR = 10
_MIN_FLEX = 16
_COMFORT = 20
"""Columns that what is cut keeps, on average."""


def on_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def colours() -> bool:
    """Whether colours are wanted: on a terminal without NO_COLOR and that is not dumb."""
    return on_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def style(text: str, **how: bool | str) -> str:
    """Coloured where colours are wanted. Never the only sign of anything."""
    return click.style(text, **how) if colours() else text  # type: ignore[arg-type]


def out(line: str = "") -> None:
    """A line on stdout. Everything from outside in it has gone through `safe`."""
    sys.stdout.write(line + "\n")


def screen_width() -> int | None:
    """Columns of the terminal on stdout (COLUMNS first); None where there is none and nothing needs to be cut."""
    if not on_terminal():
        return None
    try:
        return int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except OSError:
        return 80


def columns(text: str) -> int:
    """How many columns a safe text takes: wide letters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def clip(text: str, width: int) -> str:
    """At most `width` columns; the middle goes, for names differ at both ends."""
    if columns(text) <= width:
        return text
    if width < 3:
        return text[:width] if text.isascii() else "." * width
    head, tail = text, text
    while columns(head) > (width - 1) // 2:
        head = head[:-1]
    while columns(tail) > width - 1 - columns(head):
        tail = tail[1:]
    return f"{head}{'…' if _can('…') else '~'}{tail}"


def _can(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def bar(part: float, whole: float, width: int = BAR) -> str:
    """A bar of `width` columns."""
    share = 0.0 if whole <= 0 else min(max(part / whole, 0.0), 1.0)
    if not _can(_EIGHTHS):
        return ("#" * round(share * width)).ljust(width)
    eighths = round(share * width * 8)
    if part > 0 and eighths == 0:
        eighths = 1
    full, rest = divmod(eighths, 8)
    return (_EIGHTHS[8] * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    right: bool = False
    flex: bool = False
    """Is cut when the terminal is narrow."""
    spare: bool = False
    """Is left out where what is cut would be cut too much."""


def table(heads: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headings. Cells may be outside strings; they are made safe here."""
    cells = [[safe(cell) for cell in row] for row in rows]
    widths = [max([columns(h.title), *(columns(r[n]) for r in cells)]) for n, h in enumerate(heads)]
    screen = screen_width()
    if screen is not None:
        over = sum(widths) + 2 * (len(heads) - 1) - screen
        room = sum(w for w, h in zip(widths, heads, strict=True) if h.flex) - over
        if over > 0 and room < _COMFORT * max(sum(h.flex for h in heads), 2):
            kept = [n for n, h in enumerate(heads) if not h.spare]
            heads, widths = [heads[n] for n in kept], [widths[n] for n in kept]
            cells = [[row[n] for n in kept] for row in cells]
        for n, head in enumerate(heads):
            over = sum(widths) + 2 * (len(heads) - 1) - screen
            if head.flex and over > 0:
                widths[n] = max(widths[n] - over, min(widths[n], _MIN_FLEX))
    out(style(_row([h.title for h in heads], heads, widths), dim=True))
    for row in cells:
        out(_row(row, heads, widths))


def _row(cells: Sequence[str], heads: Sequence[Column], widths: Sequence[int]) -> str:
    parts = []
    for cell, head, width in zip(cells, heads, widths, strict=True):
        text = clip(cell, width)
        gap = " " * (width - columns(text))
        parts.append(gap + text if head.right else text + gap)
    return "  ".join(parts).rstrip()


def fields(rows: Sequence[tuple[str, str]]) -> None:
    """Print `label  value` lines; values may be outside strings."""
    wide = max((columns(label) for label, _ in rows), default=0)
    for label, value in rows:
        out(f"{style(safe(label).ljust(wide), dim=True)}  {safe(value)}".rstrip())
