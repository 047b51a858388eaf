"""The line to type a filter in."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input, Static

from cachetui.tui.text import words
from cachetui.tui.widgets.clean_input import CleanInput

_EXAMPLE = "words, or size>10GB accessed>6mo type=model quant=Q4_K_M state=partial"


class FilterLine(Vertical):
    """Filters while one types. Enter keeps the filter, Esc clears it."""

    BINDINGS = [("escape", "clear", "Clear"), ("down", "keep", "To the list")]

    def __init__(self, text: str) -> None:
        super().__init__(id="filter")
        self._text = text

    def compose(self) -> ComposeResult:
        """The line, and below it what is wrong with it."""
        yield Static("/", markup=False, id="filter-sign")
        yield CleanInput(self._text, placeholder=_EXAMPLE, id="filter-input")
        yield Static(markup=False, id="filter-error", classes="-hidden")

    def on_mount(self) -> None:
        """Ready to type."""
        self.query_one(Input).focus()

    def open(self) -> None:
        """Type again."""
        self.query_one(Input).focus()

    @on(Input.Changed)
    def _typed(self, message: Input.Changed) -> None:
        from cachetui.tui.handlers import filtering
        from cachetui.tui.screens.main import MainScreen

        message.stop()
        assert isinstance(self.screen, MainScreen)
        trouble = filtering.apply(self.screen, message.value)
        error = self.query_one("#filter-error", Static)
        error.update(words(trouble))
        error.set_class(not trouble, "-hidden")

    @on(Input.Submitted)
    def action_keep(self) -> None:
        """To the list; an empty filter goes away."""
        self.screen.query_one("ModelTree").focus()
        if not self.query_one(Input).value.strip():
            self.remove()

    def action_clear(self) -> None:
        """Show everything again."""
        from cachetui.tui.handlers import filtering
        from cachetui.tui.screens.main import MainScreen

        assert isinstance(self.screen, MainScreen)
        filtering.clear(self.screen)
