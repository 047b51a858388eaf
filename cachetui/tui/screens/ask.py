"""A question before something goes on."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from cachetui.tui.text import block, words
from cachetui.tui.widgets.clean_input import CleanInput


class AskScreen(ModalScreen[bool]):
    """Yes or no; No has the focus. With `loud` it looks like what it is: something that cannot be undone."""

    CSS_PATH = "ask.tcss"
    BINDINGS = [("escape,n,q", "answer(False)", "No"), ("y", "answer(True)", "Yes")]

    def __init__(self, title: str, lines: Sequence[str], yes: str, *, loud: bool = False) -> None:
        super().__init__()
        self._heading = title
        self._lines = lines
        self._yes = yes
        self._loud = loud

    def compose(self) -> ComposeResult:
        """Title, text, two buttons."""
        with Vertical(id="ask", classes="-loud" if self._loud else "") as box:
            box.border_title = words(self._heading)
            with VerticalScroll(id="ask-body", can_focus=False):
                yield Static(block("\n".join(self._lines)), markup=False)
            with Horizontal(id="ask-buttons"):
                yield Button(words(f"{self._yes} (y)"), variant="error" if self._loud else "primary", id="yes")
                yield Button(words("No (Esc)"), id="no")

    def on_mount(self) -> None:
        """The harmless answer is the near one."""
        self.query_one("#no").focus()

    @on(Button.Pressed)
    def _pressed(self, message: Button.Pressed) -> None:
        self.dismiss(message.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        """By key."""
        self.dismiss(yes)


class AgeScreen(ModalScreen[float | None]):
    """How old; answers in seconds."""

    CSS_PATH = "ask.tcss"
    BINDINGS = [("escape", "cancel", "Cancel")]

    def __init__(self, title: str) -> None:
        super().__init__()
        self._heading = title

    def compose(self) -> ComposeResult:
        """One line to type in."""
        with Vertical(id="ask") as box:
            box.border_title = words(self._heading)
            yield CleanInput("30d", id="age")
            yield Static(words("12h, 30d, 2w, 6mo or 1y; Enter goes on, Esc does not"), markup=False, id="age-help")

    @on(Input.Submitted)
    def _given(self, message: Input.Submitted) -> None:
        from cachetui.units import parse_age

        try:
            self.dismiss(parse_age(message.value))
        except ValueError as e:
            self.query_one("#age-help", Static).update(words(str(e), "$text-error"))

    def action_cancel(self) -> None:
        """No age."""
        self.dismiss(None)
