"""The yardstick of first paint: the same widgets and stylesheet in a plain Textual app, and no data."""

from __future__ import annotations

from pathlib import Path

from textual.app import App, ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

import cachetui.tui
from cachetui.tui import commands
from cachetui.tui.shelf import Shelf
from cachetui.tui.widgets.lines import KeyLine, StatusLine
from cachetui.tui.widgets.tree import ModelTree, TreeHead


class Bare(App[None]):
    """Panes and lines, empty."""

    CSS_PATH = Path(cachetui.tui.__file__).parent / "screens" / "main.tcss"

    def compose(self) -> ComposeResult:
        yield Static("", id="strip")
        with Horizontal(id="panes"):
            with Vertical(id="models"):
                yield TreeHead()
                yield ModelTree(Shelf(), {}, "/", binary=False)
            yield Static("", id="details")
        yield StatusLine()
        yield KeyLine(commands.footer_keys())


if __name__ == "__main__":
    Bare().run()
