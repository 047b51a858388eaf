"""Leaving while jobs run."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from cachetui.jobs.model import Job
from cachetui.tui import job_words
from cachetui.tui.text import line, words

_SHOWN = 8


class LeaveScreen(ModalScreen[str | None]):
    """Answers `wait` or `stop`, or None to stay; staying has the focus."""

    CSS_PATH = "ask.tcss"
    BINDINGS = [("escape,q,n", "answer('')", "Stay"), ("w", "answer('wait')", "Wait"), ("s", "answer('stop')", "Stop")]

    def __init__(self, jobs: Sequence[Job]) -> None:
        super().__init__()
        self._jobs = jobs

    def compose(self) -> ComposeResult:
        """What runs, and three ways on."""
        with Vertical(id="ask") as box:
            box.border_title = words("Jobs are not done")
            with VerticalScroll(id="ask-body", can_focus=False):
                yield Static(Content("\n").join(self._lines()), markup=False)
            with Horizontal(id="ask-buttons"):
                yield Button(words("Wait, then quit (w)"), id="wait")
                yield Button(words("Stop and quit (s)"), id="stop")
                yield Button(words("Stay (Esc)"), variant="primary", id="stay")

    def _lines(self) -> list[Content]:
        out = [line(job_words.state_word(j), f"  {j.spec.title}") for j in self._jobs[:_SHOWN]]
        if len(self._jobs) > _SHOWN:
            out.append(words(f"and {len(self._jobs) - _SHOWN} more"))
        lost = [j for j in self._jobs if not j.spec.resumable]
        out += [Content(""), words("Stopped now, nothing is lost: what can go on is offered at the next start.")]
        if lost:
            kinds = ", ".join(dict.fromkeys(j.spec.kind for j in lost))
            out.append(words(f"To be asked for again: {kinds}."))
        return out

    def on_mount(self) -> None:
        """The harmless answer is the near one."""
        self.query_one("#stay").focus()

    @on(Button.Pressed)
    def _pressed(self, message: Button.Pressed) -> None:
        self.dismiss(message.button.id if message.button.id != "stay" else None)

    def action_answer(self, choice: str) -> None:
        """By key."""
        self.dismiss(choice or None)
