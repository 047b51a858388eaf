"""The tree: one virtualised widget over a flat list of visible rows. Only what is on screen is ever painted."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from cachetui.tui.rows import Key, Row, Rows, parent_keys
from cachetui.tui.shelf import Shelf
from cachetui.tui.widgets import columns
from cachetui.tui.widgets.columns import Columns, Paint, Palette, columns_for

_STYLES = ("text", "strong", "dim", "bar", "bar-part", "track", "good", "warn", "bad", "mark", "cursor", "marked")


class ModelTree(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows, a cursor that stays on what it stands on, and marks. Keys are commands of the screen."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"tree--{name}" for name in _STYLES}

    class Highlighted(Message):
        """The cursor stands on another row."""

        def __init__(self, row: Row | None) -> None:
            super().__init__()
            self.row = row

    class Toggle(Message):
        """A row was asked to open or close by mouse."""

        def __init__(self, key: Key) -> None:
            super().__init__()
            self.key = key

    class MarkClicked(Message):
        """The mark column of a row was clicked."""

        def __init__(self, key: Key) -> None:
            super().__init__()
            self.key = key

    def __init__(self, shelf: Shelf, marked: dict[Key, None], home: str, *, binary: bool = False) -> None:
        super().__init__()
        self._shelf = shelf
        self._marked = marked
        self._home = home
        self._binary = binary
        self._palette: Palette | None = None
        self.rows = Rows(())
        self.cursor = 0
        self.now = 0.0
        """POSIX seconds that ages count from."""

    @property
    def row(self) -> Row | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None

    def show_rows(self, rows: Rows) -> None:
        """Other rows; the cursor stays on its row, and that row stays where it is on the screen."""
        before = self.row
        offset = self.cursor - self.scroll_offset.y
        self.rows = rows
        if before is not None:
            self.cursor = self._place_of(before.key)
        self.virtual_size = Size(self.size.width, len(rows))
        top = 0 if self.cursor == 0 else max(self.cursor - offset, 0)
        self.scroll_to(y=top, animate=False, force=True, immediate=True)
        after = self.row
        if (before and before.key) != (after and after.key) or before != after:
            self.post_message(self.Highlighted(after))
        self.refresh()

    def _place_of(self, key: Key) -> int:
        for candidate in (key, *parent_keys(key)):
            if (found := self.rows.find(candidate)) is not None:
                return found
        return max(min(self.cursor, len(self.rows) - 1), 0)

    def move_to(self, position: int) -> None:
        """Put the cursor on a row, as near as there is one, and bring it into view."""
        position = max(min(position, len(self.rows) - 1), 0)
        if position == self.cursor:
            self._into_view()
            return
        self.cursor = position
        self._into_view()
        self.refresh()
        self.post_message(self.Highlighted(self.row))

    def select(self, key: Key) -> None:
        """Put the cursor on the row of this key, where it is visible."""
        if (position := self.rows.find(key)) is not None:
            self.move_to(position)

    def _into_view(self) -> None:
        top, height = self.scroll_offset.y, self.size.height
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, force=True, immediate=True)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False, force=True, immediate=True)

    def on_resize(self) -> None:
        """The rows are as wide as the pane."""
        self.virtual_size = Size(self.size.width, len(self.rows))
        self._into_view()

    def notify_style_update(self) -> None:
        """Another theme: paint with its colours."""
        super().notify_style_update()
        self._palette = None

    def palette(self) -> Palette:
        """The styles of the current theme."""
        if self._palette is None:
            found = [self.get_component_rich_style(f"tree--{name}") for name in _STYLES]
            texts, over = found[:-2], [Style(bgcolor=s.bgcolor, bold=s.bold) for s in found[-2:]]
            self._palette = Palette(*texts, *over)
        return self._palette

    def paint(self) -> Paint:
        """What rows are painted with now."""
        return Paint(columns_for(self.size.width), self.palette(), self.now, self._binary, self._home)

    def render_line(self, y: int) -> Strip:
        """One line of the widget."""
        position = y + self.scroll_offset.y
        if position >= len(self.rows):
            return Strip.blank(self.size.width, self.rich_style)
        row = self.rows[position]
        segments = columns.row(
            row, self._shelf, self.paint(), cursor=position == self.cursor, marked=row.key in self._marked
        )
        return Strip(segments, self.size.width)

    def on_click(self, event: events.Click) -> None:
        """A click selects; on the triangle or the second time it opens; in the first column it marks."""
        position = event.y + self.scroll_offset.y
        if position >= len(self.rows):
            return
        self.focus()
        row = self.rows[position]
        self.move_to(position)
        triangle = 2 + 2 * row.level
        if event.x < 2:
            self.post_message(self.MarkClicked(row.key))
        elif row.open is not None and (triangle <= event.x < triangle + 2 or event.chain == 2):
            self.post_message(self.Toggle(row.key))


class TreeHead(Widget):
    """The headings above the tree; a click sorts."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"head--text", "head--sorted"}

    class Sort(Message):
        """Sort by this."""

        def __init__(self, by: str) -> None:
            super().__init__()
            self.by = by

    def __init__(self) -> None:
        super().__init__()
        self.sort = "size"
        self.reverse = False

    def show(self, sort: str, reverse: bool) -> None:
        """What the list is sorted by."""
        self.sort, self.reverse = sort, reverse
        self.refresh()

    def _columns(self) -> Columns:
        return columns_for(self.size.width)

    def render_line(self, y: int) -> Strip:
        """The one line."""
        plain = self.get_component_rich_style("head--text")
        chosen = self.get_component_rich_style("head--sorted")
        cells = columns.head(self._columns(), self.sort, self.reverse)
        segments = [Segment(text, chosen if is_sorted else plain) for text, is_sorted in cells]
        return Strip(segments).adjust_cell_length(self.size.width, plain)

    def on_click(self, event: events.Click) -> None:
        """Sort by the column under the mouse."""
        by = columns.SORT_OF.get(self._columns().at(event.x))
        if by is not None:
            self.post_message(self.Sort(by))
