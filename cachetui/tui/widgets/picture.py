"""A picture in the terminal: real pixels where the terminal has a protocol for them, half blocks everywhere else."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from cachetui.tui.widgets import graphics

if TYPE_CHECKING:
    from cachetui.tui.pictures import Shown

_UPPER = "▀"
_LEAST = 2
_MOST = 1200
"""Pixels on the longer side where the terminal draws real ones."""


@lru_cache(maxsize=16384)
def _cell(above: tuple[int, int, int], below: tuple[int, int, int]) -> Style:
    return Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below))


@lru_cache(maxsize=4096)
def _edge(above: tuple[int, int, int]) -> Style:
    return Style(color=Color.from_rgb(*above))


class HalfBlocks(Widget):
    """Two pixels a cell, one above the other; in the middle of its room."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: Shown | None = None

    def show(self, shown: Shown | None) -> None:
        """Another picture, already as small as it has to be."""
        self._shown = shown
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row of cells."""
        width, height = self.size
        blank = self.rich_style
        shown = self._shown
        if shown is None:
            return Strip.blank(width, blank)
        rows = (shown.height + 1) // 2
        left, top = max((width - shown.width) // 2, 0), max((height - rows) // 2, 0)
        row = y - top
        if not 0 <= row < rows:
            return Strip.blank(width, blank)
        segments = [Segment(" " * left, blank)]
        for x in range(min(shown.width, width)):
            above = _pixel(shown, x, 2 * row)
            style = _cell(above, _pixel(shown, x, 2 * row + 1)) if 2 * row + 1 < shown.height else blank + _edge(above)
            segments.append(Segment(_UPPER, style))
        rest = width - left - min(shown.width, width)
        return Strip([*segments, Segment(" " * max(rest, 0), blank)], width).simplify()


def _pixel(shown: Shown, x: int, y: int) -> tuple[int, int, int]:
    at = 3 * (y * shown.width + x)
    r, g, b = shown.rgb[at : at + 3]
    return r, g, b


class PictureView(Vertical):
    """Room for a picture, or for the words why there is none. Asks for it anew when its room changes."""

    DEFAULT_CSS = """
    PictureView { height: 1fr; min-height: 3; align: center middle; }
    PictureView > HalfBlocks { height: 1fr; }
    PictureView > Static { height: 1fr; content-align: center middle; text-align: center; }
    """

    class Resized(Message):
        """The room is another one now."""

    class Pressed(Message):
        """It was clicked."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._blocks = HalfBlocks()
        self._words = Static(markup=False)
        self._pixels = graphics.widget()
        """Of textual-image; None where half blocks are all there is."""

    def compose(self) -> ComposeResult:
        """The words, and one of the two ways to draw."""
        yield self._words
        yield self._pixels or self._blocks

    def on_mount(self) -> None:
        """Nothing is there yet."""
        self.tell(Content(""))

    def on_resize(self, event: events.Resize) -> None:
        """Half blocks are made for one size."""
        self.post_message(self.Resized())

    def on_click(self) -> None:
        """Perhaps another picture is wanted."""
        self.post_message(self.Pressed())

    @property
    def room(self) -> tuple[int, int]:
        """Pixels that can be shown, (width, height)."""
        width, height = max(self.size.width, _LEAST), max(self.size.height, 1)
        if self._pixels is not None:
            cell = graphics.cell_size()
            scale = min(1.0, _MOST / max(width * cell[0], height * cell[1], 1))
            return max(int(width * cell[0] * scale), 1), max(int(height * cell[1] * scale), 1)
        return width, 2 * height

    def show(self, shown: Shown) -> None:
        """A picture that fits the room."""
        self._words.display = False
        if self._pixels is not None:
            graphics.give(self._pixels, shown)
            self._pixels.display = True
        else:
            self._blocks.display = True
            self._blocks.show(shown)

    def tell(self, text: Content) -> None:
        """Words in place of a picture."""
        self._words.update(text)
        self._words.display = True
        (self._pixels or self._blocks).display = False
