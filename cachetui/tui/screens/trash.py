"""What lies in the trash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from cachetui import units
from cachetui.plans.model import TrashEntry
from cachetui.tui.screens.listing import ListScreen
from cachetui.tui.text import line, words
from cachetui.tui.widgets.columns import short_path

if TYPE_CHECKING:
    from cachetui.tui.app import CachetuiApp

_DIM = "$foreground-muted"
_SECOND = "$foreground 80%"
"""Of the second line of a row: legible also where the row is highlighted."""
_KEYS = (("Enter", "restore"), ("x", "empty this"), ("X", "empty all"), ("o", "empty older than…"), ("Esc", "back"))


@dataclass(frozen=True, slots=True)
class Wish:
    """What to do with which entries: bring them back, or give their space back."""

    restore: bool
    entries: tuple[TrashEntry, ...]


class TrashScreen(ListScreen[Wish | None]):
    """Newest first. Restoring is one key; emptying asks."""

    CSS_PATH = "trash.tcss"
    BINDINGS = [
        ("escape,q,T", "leave", "Back"),
        ("r", "restore", "Restore"),
        ("x", "empty_one", "Empty this"),
        ("X", "empty_all", "Empty all"),
        ("o", "empty_old", "Empty older than"),
        ("j", "move('down')", "Down"),
        ("k", "move('up')", "Up"),
    ]

    def __init__(self, entries: tuple[TrashEntry, ...], app: CachetuiApp) -> None:
        super().__init__()
        self.entries = entries
        self._cachetui = app

    def compose(self) -> ComposeResult:
        """The list, or that there is none."""
        frees = self._bytes(sum(e.frees for e in self.entries))
        with Vertical(id="trash") as box:
            box.border_title = words("Trash")
            if self.entries:
                count = f"{len(self.entries)} deletion{'s' if len(self.entries) > 1 else ''}"
                yield Static(
                    line(count, ("; emptying all frees ", _DIM), (frees, "bold")), markup=False, id="trash-sum"
                )
                options = (Option(self._entry(e), id=str(n)) for n, e in enumerate(self.entries))
                yield OptionList(*options, id="trash-list", markup=False)
            else:
                yield Static(words("Empty. What you delete with d lies here until you empty it."), markup=False)
            parts = [p for key, label in _KEYS for p in ((key, "bold $accent"), (f" {label}  ", _DIM))]
            yield Static(line(*(parts if self.entries else parts[-2:])), markup=False, id="trash-keys")

    def _bytes(self, count: int) -> str:
        return units.size(count, binary=self._cachetui.binary)

    def _entry(self, entry: TrashEntry) -> Content:
        when = units.age(entry.deleted, self._cachetui.clock())
        names = ", ".join(i.name for i in entry.items[:3])
        more = f" and {len(entry.items) - 3} more" if len(entry.items) > 3 else ""
        size = self._bytes(sum(i.size for i in entry.items))
        ago = "just now" if when == "now" else f"{when} ago"
        head = line((names + more, "bold"))
        by = f", by {entry.by}" if entry.by else ""
        where = short_path(entry.root, self._cachetui.where.home)
        body = line((f"{ago}, {size}, frees {self._bytes(entry.frees)}, from {where}{by}", _SECOND))
        return Content("\n").join((head, body))

    @property
    def _chosen(self) -> TrashEntry | None:
        lists = self.query(OptionList)
        if not lists or (at := lists.first().highlighted) is None:
            return None
        return self.entries[at]

    @on(OptionList.OptionSelected)
    def action_restore(self) -> None:
        """Bring the selected deletion back."""
        if (entry := self._chosen) is not None:
            self.dismiss(Wish(True, (entry,)))

    def action_empty_one(self) -> None:
        """Give the space of the selected one back."""
        if (entry := self._chosen) is not None:
            self._ask((entry,))

    def action_empty_all(self) -> None:
        """Give all the space back."""
        if self.entries:
            self._ask(self.entries)

    def action_empty_old(self) -> None:
        """Give back the space of what was deleted longer ago than a time that is asked for."""
        from cachetui.tui.screens.ask import AgeScreen

        if self.entries:
            self.app.push_screen(AgeScreen("Empty what was deleted longer ago than"), self._ask_older)

    def _ask_older(self, seconds: float | None) -> None:
        if seconds is None:
            return
        now = self._cachetui.clock()
        old = tuple(e for e in self.entries if now - e.deleted > seconds)
        if old:
            self._ask(old)
        else:
            from cachetui.tui.text import toast

            toast(self.app, "Nothing in the trash is that old.")

    def _ask(self, entries: tuple[TrashEntry, ...]) -> None:
        from cachetui.tui.screens.ask import AskScreen

        frees = self._bytes(sum(e.frees for e in entries))
        names = [f"  {i.name}" for e in entries for i in e.items]
        shown = [*names[:10], f"  and {len(names) - 10} more"] if len(names) > 11 else names
        lines = [f"Gone for good, {frees} come back:", *shown]

        def answer(yes: bool | None) -> None:
            if yes:
                self.dismiss(Wish(False, entries))

        self.app.push_screen(AskScreen("Empty the trash", lines, "Empty", loud=True), answer)

    def action_leave(self) -> None:
        """Back to the models."""
        self.dismiss(None)
