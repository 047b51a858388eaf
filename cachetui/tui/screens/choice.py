"""A question with more than two answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from cachetui.tui.text import words


class Answer(NamedTuple):
    """One way on."""

    id: str
    key: str
    label: str


class ChoiceScreen(ModalScreen[str | None]):
    """Answers with the id of what was chosen, or None; the harmless way back has the focus."""

    CSS_PATH = "ask.tcss"
    BINDINGS = [("escape,q,n", "cancel", "Back")]

    def __init__(self, title: str, lines: Sequence[Content], answers: Sequence[Answer], back: str) -> None:
        super().__init__()
        self._heading = title
        self._lines = lines
        self._answers = answers
        self._back = back

    def compose(self) -> ComposeResult:
        """Text, then a button for each way on."""
        with Vertical(id="ask") as box:
            box.border_title = words(self._heading)
            with VerticalScroll(id="ask-body", can_focus=False):
                yield Static(Content("\n").join(self._lines), markup=False)
            with Horizontal(id="ask-buttons"):
                for answer in self._answers:
                    yield Button(words(f"{answer.label} ({answer.key})"), name=answer.id)
                yield Button(words(f"{self._back} (Esc)"), variant="primary", id="back")

    def on_mount(self) -> None:
        """The harmless answer is the near one."""
        self.query_one("#back").focus()

    @on(Button.Pressed)
    def _pressed(self, message: Button.Pressed) -> None:
        self.dismiss(message.button.name)

    def on_key(self, event: Key) -> None:
        """By key."""
        for answer in self._answers:
            if event.key == answer.key:
                event.stop()
                self.dismiss(answer.id)

    def action_cancel(self) -> None:
        """None of them."""
        self.dismiss(None)
