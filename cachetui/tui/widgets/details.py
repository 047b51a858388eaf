"""The pane beside the tree: what is known of the row under the cursor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from cachetui.tui.describe import Page
from cachetui.tui.text import clip, words

if TYPE_CHECKING:
    from cachetui.tui.app import CachetuiApp

Write = Callable[[Page], list[Content]]


class Details(VerticalScroll):
    """Scrolls; written anew when its width changes."""

    BORDER_TITLE = "Details"

    def __init__(self, app: CachetuiApp) -> None:
        super().__init__()
        self._cachetui = app
        self._write: Write = lambda page: []
        self._body = Static(markup=False)

    def compose(self) -> ComposeResult:
        """One text."""
        yield self._body

    def show(self, title: str, write: Write, *, keep_place: bool = False) -> None:
        """What to show; `write` makes the lines for a width. Stays where it is scrolled to with `keep_place`."""
        self._write = write
        self.border_title = words(clip(title, 40))
        self._draw()
        if not keep_place:
            self.scroll_home(animate=False)

    def on_resize(self) -> None:
        """Wrap for the new width."""
        self._draw()

    def _draw(self) -> None:
        width = self.scrollable_content_region.width
        if width < 10:
            return
        page = Page(width, self._cachetui.clock(), self._cachetui.binary, self._cachetui.where.home)
        self._body.update(Content("\n").join(self._write(page)))
