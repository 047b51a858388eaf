"""Which columns the tree shows at a width, and how one row is painted into them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from cachetui import units
from cachetui.model import ARCHIVED, DAMAGED, NO_TRAITS, OFFLINE, OK, PINNED, Item
from cachetui.tui.rows import FILE, GROUP, ITEM, ROOT, Row
from cachetui.tui.shelf import Held, Shelf
from cachetui.tui.text import clip, fit
from cachetui.tui.under import is_state

_EIGHTHS = " ▏▎▍▌▋▊▉"
_GAP = 2
_LEFT = 2
_WELL = frozenset((PINNED, ARCHIVED))
"""States in which nothing is wrong."""
_SIZE = 9
_LEAST_NOTE = 10
# What is added as the pane grows: (column, width, narrowest pane that has it). A later row widens an earlier one.
# From the quantization on, names keep 40 cells: enough for sentence-transformers/all-MiniLM-L6-v2 below a heading.
_PLAN = (
    ("used", 7, 48), ("state", 9, 58), ("bar", 8, 68), ("quantization", 14, 102), ("format", 11, 116),
    ("own", 9, 128), ("format", 20, 137), ("files", 7, 146), ("bar", 14, 154), ("state", 18, 163), ("bar", 24, 175),
    ("quantization", 20, 182), ("lies in", 34, 220),
)  # fmt: skip
_ORDER = ("bar", "size", "own", "used", "files", "quantization", "format", "state", "lies in")
_RIGHT = frozenset(("size", "own", "used", "files"))
SORT_OF = {"size": "size", "own": "own", "used": "last used", "files": "files", "name": "name"}
"""The order that a click on a column's heading sorts by."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Widths in cells."""

    width: int
    name: int
    """Of the first column, indentation included."""
    cells: tuple[tuple[str, int], ...]
    """(column, width) of the others, left to right."""

    def at(self, x: int) -> str:
        """The column at a position."""
        edge = _LEFT + self.name
        if x < edge:
            return "name"
        for column, width in self.cells:
            edge += _GAP + width
            if x < edge:
                return column
        return ""


@lru_cache(32)
def columns_for(width: int) -> Columns:
    """The columns of a pane of this width; names get at least 24 cells and whatever is left over."""
    widths = {"size": _SIZE}
    for column, wide, least in _PLAN:
        if width >= least:
            widths[column] = wide
    cells = tuple((c, widths[c]) for c in _ORDER if c in widths)
    rest = width - _LEFT - sum(w + _GAP for _, w in cells) - 1
    return Columns(width, max(rest, 8), cells)


def bar(part: float, width: int) -> str:
    """A bar of block characters; anything above zero shows at least a sliver."""
    eighths = min(round(part * width * 8), width * 8)
    if part > 0:
        eighths = max(eighths, 1)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


@dataclass(frozen=True, slots=True)
class Palette:
    """The styles a row is painted with."""

    text: Style
    strong: Style
    dim: Style
    bar: Style
    bar_part: Style
    """Of revisions and files."""
    track: Style
    good: Style
    warn: Style
    bad: Style
    mark: Style
    cursor: Style
    """Laid over the row under the cursor."""
    marked: Style
    """Laid over marked rows."""


@dataclass(frozen=True, slots=True)
class Paint:
    """All that painting rows depends on besides the row."""

    columns: Columns
    palette: Palette
    now: float
    binary: bool
    home: str


def head(columns: Columns, sort: str, reverse: bool) -> list[tuple[str, bool]]:
    """The headings: (text, whether the list is sorted by it)."""
    arrow = "▴" if reverse else "▾"

    def cell(column: str, width: int) -> tuple[str, bool]:
        chosen = SORT_OF.get(column) == sort
        title = {"bar": ""}.get(column, column)
        title = title + arrow if chosen else title
        return fit(title, width, right=column in _RIGHT), chosen

    out = [(" " * _LEFT, False), cell("name", columns.name)]
    for column, width in columns.cells:
        out += [(" " * _GAP, False), cell(column, width)]
    return out


def row(row: Row, shelf: Shelf, paint: Paint, *, cursor: bool, marked: bool) -> list[Segment]:
    """One line of the tree, exactly as wide as the pane."""
    p = paint.palette
    held = shelf.get(row.key[1], row.key[2]) if row.kind == ITEM else None
    item = held if isinstance(held, Item) else None
    out: list[tuple[str, Style]] = [("▌" if cursor else " ", p.mark), ("●" if marked else " ", p.mark)]
    size = item.size if item is not None else row.size
    takes_bar = row.kind in (GROUP, ROOT) or (held is not None and bool(row.note) and is_state(held))
    if row.kind in (GROUP, ROOT):
        out += _heading(row, paint)
    else:
        out += _name(row, held, paint, _barred(paint) if takes_bar else paint.columns.name)
    for column, width in paint.columns.cells:
        if column == "bar" and takes_bar:
            continue
        out.append((" " * _GAP, p.text))
        out += _cell(column, width, row, item, size, shelf, paint)
    text_width = _LEFT + paint.columns.name + sum(w + _GAP for _, w in paint.columns.cells)
    out.append((" " * max(paint.columns.width - text_width, 0), p.text))
    over = p.cursor if cursor else p.marked if marked else None
    if cursor:  # dim words would be hard to read on the bar
        out = [(text, p.text if style is p.dim else style) for text, style in out]
    return [Segment(text, style + over if over is not None else style) for text, style in out if text]


def _heading(row: Row, paint: Paint) -> list[tuple[str, Style]]:
    """A group or root: its note takes the room of the bar."""
    p = paint.palette
    before = "  " * row.level + ("▾ " if row.open else "▸ ")
    width = _barred(paint) - len(before)
    title = clip(short_path(row.title, paint.home), width)
    room = width - cell_len(title)
    note = fit("  " + short_path(row.note, paint.home), room) if room >= _LEAST_NOTE else " " * room
    return [(before, p.dim), (title, p.strong if row.kind == GROUP else p.text), (note, p.dim)]


def _barred(paint: Paint) -> int:
    """Cells of a name that takes the room of the bar."""
    first, width = paint.columns.cells[0]
    return paint.columns.name + (_GAP + width if first == "bar" else 0)


def _name(row: Row, held: Held | None, paint: Paint, width: int) -> list[tuple[str, Style]]:
    p = paint.palette
    indent = "  " * row.level
    triangle = "  " if row.open is None else "▾ " if row.open else "▸ "
    width -= len(indent) + 2
    out = [(indent, p.text), (triangle, p.dim)]
    if row.kind == ITEM:
        name = held.name if held is not None else row.title
        room = width - cell_len(name)
        if not row.note or room < _LEAST_NOTE:
            return out + _item_name(name, held, width, p)
        return [*out, *_item_name(name, held, width - room, p), (fit("  " + row.note, room), p.dim)]
    if row.kind == FILE:
        return [*out, (fit(row.title, width), p.bad if row.note else p.dim)]
    title = clip(row.title, width)
    return [*out, (title, p.text), (fit("  " + row.note, width - cell_len(title)), p.dim)]


def _item_name(name: str, held: Held | None, width: int, p: Palette) -> list[tuple[str, Style]]:
    """The owner of a repo stands back behind its name."""
    shown = fit(name, width)
    if not isinstance(held, Item) or OFFLINE in held.states:
        return [(shown, p.dim)]
    cut = shown.find("/") + 1
    if not 0 < cut < len(shown) or "…" in shown[:cut] or name.startswith(("/", ".", "~")):
        return [(shown, p.text)]
    return [(shown[:cut], p.dim), (shown[cut:], p.text)]


def _cell(
    column: str, width: int, row: Row, item: Item | None, size: int | None, shelf: Shelf, paint: Paint
) -> list[tuple[str, Style]]:
    p = paint.palette
    if column == "size":
        unknown = row.note if row.kind == FILE else "…"
        text = unknown if size is None else units.size(size, binary=paint.binary)
        style = p.strong if row.kind == GROUP else p.text if row.kind in (ROOT, ITEM) else p.dim
        return [(fit(text, width, right=True), style)]
    if column == "state":
        return [_state(row, item, width, p, outdated=item is not None and bool(shelf.newer(item)))]
    if column == "bar":
        if row.kind in (GROUP, ROOT) or not size or not shelf.largest:
            return [(" " * width, p.text)]
        drawn = bar(min(size / shelf.largest, 1.0), width)
        here = row.kind == ITEM and (item is None or not item.away)
        return [(drawn, p.bar if here else p.bar_part), (" " * (width - len(drawn)), p.track)]
    return [(fit(_plain(column, item, shelf, paint), width, right=column in _RIGHT), p.dim)]


def _plain(column: str, item: Item | None, shelf: Shelf, paint: Paint) -> str:
    if item is None:
        return ""
    if column == "used":
        return units.age(item.last_used, paint.now)
    if column == "files":
        return f"{item.file_count:,}"
    if column == "own":
        own = shelf.own(item.key)
        return "…" if own is None else units.size(own, binary=paint.binary)
    traits = item.traits
    if column == "quantization":
        return traits.quantization if traits is not NO_TRAITS else ""
    if column == "format":
        return ", ".join(traits.formats)
    return short_path(f"{item.root}/{item.path}" if item.path else item.root, paint.home)


def _state(row: Row, item: Item | None, width: int, p: Palette, *, outdated: bool) -> tuple[str, Style]:
    if item is None:
        return " " * width, p.text
    words = [s for s in item.states if s != OK] + (["outdated"] if outdated else [])
    if not words and item.problems:
        words = ["see problem" if len(item.problems) == 1 else f"{len(item.problems)} problems"]
    if not words:
        return " " * width, p.text
    style = p.bad if DAMAGED in words else p.good if set(words) <= _WELL else p.warn
    return fit(", ".join(words), width), style


def short_path(path: str, home: str) -> str:
    """With `~` for the home folder. For reading only: a shown path never becomes a path again."""
    return "~" + path[len(home) :] if home and (path == home or path.startswith(home + "/")) else path
