"""The smoke test of the marked models: a row each, filled in while it runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from cachetui import units
from cachetui.text import safe_block
from cachetui.tui import smoke
from cachetui.tui.screens.listing import ListScreen
from cachetui.tui.smoke import Outcome, Row, Smoke
from cachetui.tui.talk import BAD, DIM, GOOD, WARN, seconds
from cachetui.tui.text import Part, block, fit, hang, line, toast, words
from cachetui.tui.widgets.lines import KeyLine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cachetui.tui.app import CachetuiApp

_TICK = 1 / 8
_SIGNS: dict[Outcome, Part] = {
    Outcome.WAITING: ("· waiting", DIM),
    Outcome.RUNNING: ("▸ running", "$accent"),
    Outcome.WORKS: ("✓ works", GOOD),
    Outcome.FAILED: ("✗ failed", BAD),
    Outcome.STOPPED: ("■ stopped", WARN),
    Outcome.CANNOT: ("✗ cannot run", BAD),
}
_SIGN = 13
_COLUMNS = (("load", 9), ("memory", 10), ("tokens/s", 9))
_BEFORE = [("start", "Enter", "start"), ("leave", "Esc", "back")]
_WHILE = [("skip", "n", "next model"), ("leave", "Esc", "stop")]
_AFTER = [("copy", "y", "copy as text"), ("copy_json", "Y", "copy as JSON"), ("leave", "Esc", "back")]


class SmokeScreen(ListScreen[None]):
    """Begins when it is told to; every model is let go afterwards unless it was in memory before."""

    CSS_PATH = "smoke.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q", "leave", "Stop, or back"),
        ("ctrl+c", "leave", "Stop"),
        ("s", "start", "Start"),
        ("n", "skip", "Next model"),
        ("y", "copy", "Copy as text"),
        ("Y", "copy_json", "Copy as JSON"),
        ("j", "move('down')", "Down"),
        ("k", "move('up')", "Up"),
    ]

    def __init__(self, rows: Sequence[Row], app: CachetuiApp) -> None:
        super().__init__()
        self._cachetui = app
        self._smoke = Smoke(rows, app.warm)
        self._shown: tuple[Row, ...] = ()
        self._bytes = partial(units.size, binary=app.binary)

    def compose(self) -> ComposeResult:
        """What it is about, the rows, what there is to know of the one under the cursor."""
        with Vertical(id="smoke") as box:
            box.border_title = words("Smoke test")
            yield Static(markup=False, id="smoke-sum")
            yield Static(markup=False, id="smoke-head")
            yield OptionList(id="smoke-list", markup=False)
            with VerticalScroll(id="smoke-more", can_focus=False):
                yield Static(markup=False, id="smoke-text")
            yield KeyLine(_BEFORE)

    def on_mount(self) -> None:
        """Every row waits."""
        self.query_one("#smoke-list", OptionList).add_options([Option(self._row(r)) for r in self._smoke.rows])
        self._look()
        self.query_one("#smoke-list", OptionList).highlighted = 0
        self.set_interval(_TICK, self._look)

    def on_resize(self) -> None:
        """Draw for the new width."""
        self._shown = ()
        self._look()

    @property
    def running(self) -> bool:
        """Whether a model is being tested."""
        return self._smoke.running

    @property
    def _width(self) -> int:
        return max(self.query_one("#smoke").content_size.width - 2, 30)

    def _look(self) -> None:
        """Rows that changed are drawn anew; the cursor stays."""
        rows = self._smoke.rows
        if not self.query("#smoke-text"):
            return
        options = self.query_one("#smoke-list", OptionList)
        for n, row in enumerate(rows):
            if not self._shown or row != self._shown[n]:
                options.replace_option_prompt_at_index(n, self._row(row))
        changed = rows != self._shown
        self._shown = rows
        keys = _WHILE if self._smoke.running else _AFTER if self._smoke.begun else _BEFORE
        self.query_one(KeyLine).show(keys)
        self.query_one("#smoke-sum", Static).update(self._sum(rows))
        if changed:
            self.query_one("#smoke-head", Static).update(self._head())
            self._show_more()

    def _sum(self, rows: Sequence[Row]) -> Content:
        if not self._smoke.begun:
            count = sum(r.subject is not None for r in rows)
            few = "1 model" if count == 1 else f"{count} models"
            return words(f"{few}, one after the other: loaded, asked about a random picture (or for a word), let go.")
        counts = {o: sum(r.outcome is o for r in rows) for o in Outcome}
        return words("   ".join(f"{count} {outcome.value}" for outcome, count in counts.items() if count))

    def _head(self) -> Content:
        cells = "".join(fit(name, width, right=True) for name, width in _COLUMNS)
        return line((" " * _SIGN + fit("model", self._width - _SIGN - 28), DIM), (cells, DIM))

    def _row(self, row: Row) -> Content:
        sign, style = _SIGNS[row.outcome]
        load = seconds(row.load_seconds) if row.load_seconds else ""
        cells = (load, self._bytes(row.memory) if row.memory else "", f"{row.rate:,.1f}" if row.rate else "")
        figures = "".join(fit(cell, width, right=True) for cell, (_, width) in zip(cells, _COLUMNS, strict=True))
        head = line(
            (fit(sign, _SIGN), style), (fit(row.name, self._width - _SIGN - 28), "bold"), (figures, "$foreground")
        )
        room = self._width - _SIGN
        if row.outcome in (Outcome.FAILED, Outcome.CANNOT):
            told = words(row.reason.partition("\n")[0], BAD)
        elif row.answer.strip():
            told = words(" ".join(row.answer.split()), "$foreground 80%")
        else:
            told = words(row.doing, DIM)
        return Content("\n").join((head, line(" " * _SIGN, told.truncate(room, ellipsis=True))))

    @on(OptionList.OptionHighlighted)
    def _show_more(self) -> None:
        at = self.query_one("#smoke-list", OptionList).highlighted
        if at is None or at >= len(self._shown):
            return
        row, width = self._shown[at], self._width

        def tell(label: str, text: str, style: str = "") -> list[Content]:
            return hang(words(label, DIM), block(text, style), 10, width) if text else []

        out = tell("model", row.name)
        out += tell("answer", row.answer.strip("\n"))
        if row.first_seconds:
            out += tell("first", f"after {seconds(row.first_seconds)}")
        out += tell("why", row.reason, BAD if row.outcome is not Outcome.STOPPED else "")
        out += tell("note" if row.outcome is Outcome.WORKS else "what now", f"→ {row.advice}" if row.advice else "")
        self.query_one("#smoke-text", Static).update(Content("\n").join(out))

    # ---- keys

    @on(OptionList.OptionSelected)
    def action_start(self) -> None:
        """Begin."""
        if not self._smoke.begun:
            self._smoke.start()
            self._look()

    def action_skip(self) -> None:
        """Give this one up; the next one goes on."""
        self._smoke.skip()

    def action_leave(self) -> None:
        """Stop; once stopped, back."""
        if self._smoke.running:
            self._smoke.stop()
        else:
            self.dismiss(None)

    def action_copy(self) -> None:
        """The table, to the clipboard."""
        self._to_clipboard(smoke.as_text(self._smoke.rows, self._bytes))

    def action_copy_json(self) -> None:
        """The same for programs."""
        self._to_clipboard(smoke.as_json(self._smoke.rows))

    def _to_clipboard(self, text: str) -> None:
        self.app.copy_to_clipboard(safe_block(text))
        toast(self.app, "The result is on the clipboard.")

    def on_unmount(self) -> None:
        """Nobody looks at it any more."""
        self._smoke.stop()
