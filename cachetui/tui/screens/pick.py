"""Choosing a picture: the folders and pictures of a folder, and what the one under the cursor looks like."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.timer import Timer
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from cachetui import units
from cachetui.tui import background, pictures
from cachetui.tui.messages import Finished
from cachetui.tui.pictures import PictureError, Shown
from cachetui.tui.screens.listing import ListScreen
from cachetui.tui.talk import BAD, DIM, NOISE
from cachetui.tui.text import clip, line, words
from cachetui.tui.widgets.columns import short_path
from cachetui.tui.widgets.lines import KeyLine
from cachetui.tui.widgets.picture import PictureView

if TYPE_CHECKING:
    from cachetui.tui.app import CachetuiApp

_RESTING = 0.15
"""Seconds that the cursor rests before a picture is looked at."""
_KEYS = [
    ("choose", "Enter", "choose"), ("up", "←", "folder above"), ("noise", "n", "a random picture"),
    ("none", "0", "no picture"), ("leave", "Esc", "back"),
]  # fmt: skip


class PickScreen(ListScreen["str | None"]):
    """Answers with a path, `noise`, an empty string for no picture, or None."""

    CSS_PATH = "pick.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q", "leave", "Back"),
        ("left,h,backspace", "up", "Folder above"),
        ("right,l", "choose", "Choose"),
        ("n", "noise", "A random picture"),
        ("0", "none", "No picture"),
        ("j", "move('down')", "Down"),
        ("k", "move('up')", "Up"),
    ]

    def __init__(self, app: CachetuiApp, folder: str = "") -> None:
        super().__init__()
        self._cachetui = app
        self._folder = folder
        self._entries: list[tuple[str, bool]] = []
        self._waiting: Timer | None = None
        self._looked = 0
        """Counts the looks, so that a late picture is known as one."""

    def compose(self) -> ComposeResult:
        """The list, and beside it the picture."""
        with Vertical(id="pick") as box:
            box.border_title = words("Choose a picture")
            yield Static(markup=False, id="pick-folder")
            with Horizontal(id="pick-panes"):
                yield OptionList(id="pick-list", markup=False)
                with Vertical(id="pick-preview"):
                    yield PictureView(id="pick-picture")
                    yield Static(markup=False, id="pick-about")
            yield KeyLine(_KEYS)

    def on_mount(self) -> None:
        """Where there are pictures."""
        self._open(self._folder)

    def _open(self, folder: str, cursor: str = "") -> None:
        """List a folder, in a thread; an empty name looks for one with pictures. The cursor goes to that entry."""
        home, cwd = self._cachetui.where.home, self._cachetui.where.cwd

        def work() -> tuple[str, list[tuple[str, bool]], str]:
            chosen = folder or pictures.first_folder(home, cwd)
            return chosen, *pictures.entries(chosen)

        def came(found: tuple[str, list[tuple[str, bool]], str]) -> None:
            if self.is_attached:
                self._show(*found, cursor)

        background.start(self, work, came, lambda e: None, "folder")

    @on(Finished)
    def _answered(self, message: Finished) -> None:
        message.stop()
        message.then()

    def _show(self, folder: str, entries: list[tuple[str, bool]], trouble: str, cursor: str) -> None:
        self._folder = folder
        self._entries = [("..", True), *entries] if os.path.dirname(folder) != folder else entries
        width = max(self.query_one("#pick").content_size.width - 2, 20)
        self.query_one("#pick-folder", Static).update(
            line((clip(short_path(folder, self._cachetui.where.home), width), "bold"))
        )
        options = self.query_one("#pick-list", OptionList)
        options.clear_options()
        options.add_options(
            [
                Option(words(name + "/", "bold $text-primary") if is_folder else words(name))
                for name, is_folder in self._entries
            ]
        )
        names = [name for name, _ in self._entries]
        first = next((n for n, (_, is_folder) in enumerate(self._entries) if not is_folder), 0)
        options.highlighted = names.index(cursor) if cursor in names else first if names else None
        options.focus()
        if trouble:
            self._about(trouble, BAD)
        elif not entries:
            self._about("no pictures and no folders in here", DIM)

    def _about(self, text: str, style: str = "") -> None:
        self.query_one("#pick-about", Static).update(words(text, style))

    @property
    def _chosen(self) -> tuple[str, bool] | None:
        at = self.query_one("#pick-list", OptionList).highlighted
        return self._entries[at] if at is not None and at < len(self._entries) else None

    @on(OptionList.OptionHighlighted)
    @on(PictureView.Resized)
    def _moved(self) -> None:
        self._looked += 1
        if self._waiting is not None:
            self._waiting.stop()
        chosen = self._chosen
        view = self.query_one(PictureView)
        if chosen is None or chosen[1]:
            view.tell(words("a folder: Enter opens it" if chosen else "", DIM))
            self._about("")
        elif self.query_one("#pick-preview").display:
            self._waiting = self.set_timer(_RESTING, self._look)

    def _look(self) -> None:
        chosen = self._chosen
        if chosen is None or chosen[1]:
            return
        self._looked += 1
        looked, path = self._looked, os.path.join(self._folder, chosen[0])
        view = self.query_one(PictureView)
        room = view.room

        def came(shown: Shown) -> None:
            if looked == self._looked and self.is_attached:
                view.show(shown)
                wide, high = shown.original
                self._about(f"{wide} × {high}, {units.size(shown.file_size, binary=self._cachetui.binary)}", DIM)

        def failed(error: Exception) -> None:
            if looked == self._looked and self.is_attached:
                view.tell(words("no preview", DIM))
                advice = error.advice if isinstance(error, PictureError) and error.advice else ""
                self._about(f"{error}{': ' if advice else ''}{advice}", BAD)

        background.start(self, lambda: pictures.look(path, room), came, failed, "picture")

    # ---- keys

    @on(OptionList.OptionSelected)
    def action_choose(self) -> None:
        """Open the folder, or take the picture."""
        chosen = self._chosen
        if chosen is None:
            return
        name, is_folder = chosen
        if name == "..":
            self.action_up()
        elif is_folder:
            self._open(os.path.join(self._folder, name))
        else:
            self.dismiss(os.path.join(self._folder, name))

    def action_up(self) -> None:
        """To the folder above; the cursor stays on where it came from."""
        above, name = os.path.split(self._folder)
        if name:
            self._open(above, name)

    def action_noise(self) -> None:
        """A random test picture."""
        self.dismiss(NOISE)

    def action_none(self) -> None:
        """Ask without a picture."""
        self.dismiss("")

    def action_leave(self) -> None:
        """Nothing is chosen."""
        self._looked += 1
        self.dismiss(None)
