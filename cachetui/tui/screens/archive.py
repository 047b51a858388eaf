"""Where to archive to, and what is to become of the original."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Checkbox, Input, OptionList, Static
from textual.widgets.option_list import Option

from cachetui import units
from cachetui.tui.choices import Choice
from cachetui.tui.text import Part, line, words
from cachetui.tui.widgets.clean_input import CleanInput
from cachetui.tui.widgets.columns import short_path
from cachetui.tui.widgets.tick import Tick

if TYPE_CHECKING:
    from cachetui.tui.app import CachetuiApp

_DIM, _SECOND, _WARN = "$foreground-muted", "$foreground 80%", "$text-warning"
_WHAT = {
    "archive": "archive",
    "configured": "of your configuration",
    "drive": "drive, no archive yet",
    "mount": "drive",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What was chosen."""

    to: str
    """Absolute path of the archive's folder, which need not exist."""
    keep: bool
    """Only a copy: the original stays as it is."""
    keep_original: bool
    """The original stays in the trash until that is emptied."""


class ArchiveScreen(ModalScreen[Wish | None]):
    """A list of places, a line for any other, two boxes."""

    CSS_PATH = "archive.tcss"
    BINDINGS = [("escape", "cancel", "Cancel")]
    VERB = "Archive"
    EXPLAINS = " go to another drive; links stay, and programs load through them."
    TICKS: tuple[tuple[str, str], ...] = (
        ("keep", "only copy: the original stays (a backup)"),
        ("keep-original", "keep the original in the trash, until that is emptied"),
    )

    def __init__(self, what: str, size: int, choices: Sequence[Choice], app: CachetuiApp) -> None:
        super().__init__()
        self._what = what
        self._amount = size
        self._choices = choices
        self._cachetui = app

    def compose(self) -> ComposeResult:
        """The places, then the boxes, then two buttons."""
        with Vertical(id="archive") as box:
            box.border_title = words(f"{self.VERB} {self._what}")
            size = self._bytes(self._amount)
            yield Static(
                line((size, "bold"), (self.EXPLAINS, _DIM)),
                markup=False,
                id="archive-sum",
            )
            if self._choices:
                options = [
                    Option(self._row(c), id=f"c{n}", disabled=bool(c.refused)) for n, c in enumerate(self._choices)
                ]
                yield OptionList(*options, id="archive-list", markup=False)
            else:
                yield Static(
                    words("No other drive is mounted. Plug one in, or name a folder on one:", _WARN), markup=False
                )
            yield CleanInput(placeholder="/another/folder on another drive", id="archive-path")
            for n, (name, label) in enumerate(self.TICKS):
                yield Tick(words(label), id=name, classes="box" if n else "box first")
            yield Static(markup=False, id="archive-error")
            with Horizontal(id="archive-buttons"):
                yield Button(words("Plan it"), variant="primary", id="plan-it")
                yield Button(words("Cancel (Esc)"), id="cancel")

    def on_mount(self) -> None:
        """The first place that can be chosen."""
        if any(not c.refused for c in self._choices):
            self.query_one(OptionList).focus()
        else:
            self.query_one(Input).focus()

    def _bytes(self, count: int) -> str:
        return units.size(count, binary=self._cachetui.binary)

    def _row(self, choice: Choice) -> Content:
        path = short_path(choice.directory, self._cachetui.where.home)
        head: list[str | Part] = [(path, "bold" if not choice.refused else _DIM)]
        if choice.label:
            head.append((f"  {choice.label}", _SECOND))
        items = (
            "" if choice.items is None else ", 1 item in it" if choice.items == 1 else f", {choice.items} items in it"
        )
        free = f", {self._bytes(choice.free)} free" if choice.free else ""
        body: list[str | Part] = [(f"{_WHAT[choice.what]}{items}{free}", _SECOND)]
        if choice.refused:
            body.append((f"  {choice.refused}", _WARN))
        return Content("\n").join((line(*head), line(*body)))

    @on(OptionList.OptionSelected)
    def _place_chosen(self, message: OptionList.OptionSelected) -> None:
        self._finish(self._choices[message.option_index].directory)

    @on(Input.Submitted)
    def _path_given(self) -> None:
        self._plan()

    @on(Button.Pressed, "#plan-it")
    def _plan(self) -> None:
        typed = self.query_one(Input).value.strip()
        if typed:
            self._finish(self._cachetui.where.resolve(typed))
            return
        lists = self.query(OptionList)
        at = lists.first().highlighted if lists else None
        if at is None:
            self.query_one("#archive-error", Static).update(words("Name a folder on another drive.", "$text-error"))
        else:
            self._finish(self._choices[at].directory)

    def _finish(self, directory: str) -> None:
        if not self._cachetui.where.allows(os.path.realpath(directory)):
            text = "That is outside of the folder this session keeps to."
            self.query_one("#archive-error", Static).update(words(text, "$text-error"))
            return
        ticked = {box.id for box in self.query(Checkbox) if box.value}
        keep, keep_original = "keep" in ticked, "keep-original" in ticked
        self.dismiss(Wish(directory, keep, keep_original and not keep))

    @on(Button.Pressed, "#cancel")
    def action_cancel(self) -> None:
        """Nothing happens."""
        self.dismiss(None)


class MoveScreen(ArchiveScreen):
    """The same for a whole root, which is always moved."""

    VERB = "Move"
    EXPLAINS = " go to another drive as they are; one link stays in the folder's place."
    TICKS = ArchiveScreen.TICKS[1:]
