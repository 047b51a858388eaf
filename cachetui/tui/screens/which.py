"""One of several: a title, a sentence, a list."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from cachetui.tui.text import words


class WhichScreen(ModalScreen["int | None"]):
    """Answers with the position of what was chosen, or None."""

    CSS_PATH = "warm.tcss"
    BINDINGS = [("escape,q", "leave", "Back"), ("j", "move('down')", "Down"), ("k", "move('up')", "Up")]

    def __init__(self, title: str, told: str, names: Sequence[str]) -> None:
        super().__init__()
        self._heading, self._told, self._names = title, told, names

    def compose(self) -> ComposeResult:
        """The sentence, the list."""
        with Vertical(id="warm") as box:
            box.border_title = words(self._heading)
            box.border_subtitle = words("Enter chooses, Esc goes back")
            yield Static(words(self._told), markup=False, id="warm-sum")
            yield OptionList(*(Option(words(name)) for name in self._names), id="warm-list", markup=False)

    @on(OptionList.OptionSelected)
    def _chosen(self, message: OptionList.OptionSelected) -> None:
        self.dismiss(message.option_index)

    def action_move(self, direction: str) -> None:
        """Up and down as in vi."""
        options = self.query_one(OptionList)
        if direction == "down":
            options.action_cursor_down()
        else:
            options.action_cursor_up()

    def action_leave(self) -> None:
        """None of them."""
        self.dismiss(None)
