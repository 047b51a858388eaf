"""What models are compared with: this machine, a card from the list, or so much memory; and with how many tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import Key
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from cachetui import units
from cachetui.memory.devices import here
from cachetui.memory.model import Device
from cachetui.tui import background, fits
from cachetui.tui.fits import Against
from cachetui.tui.messages import Finished
from cachetui.tui.screens.listing import ListScreen
from cachetui.tui.text import fit, line, words
from cachetui.tui.widgets.clean_input import CleanInput
from cachetui.tui.widgets.lines import KeyLine

if TYPE_CHECKING:
    from cachetui.tui.app import CachetuiApp

_DIM, _BAD = "$foreground-muted", "$text-error"
_KEYS = [("choose", "Enter", "choose"), ("other", "Tab", "card or context"), ("leave", "Esc", "back")]


class CardScreen(ListScreen["Against | None"]):
    """Answers with what was chosen, or None."""

    CSS_PATH = "card.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "leave", "Back")]

    def __init__(self, against: Against, app: CachetuiApp) -> None:
        super().__init__()
        self._against = against
        self._cachetui = app
        self._this: tuple[Device, ...] = ()
        """What this machine has; empty until it was looked up."""
        self._cards: list[str] = []
        """What each option stands for; empty for this machine."""

    def compose(self) -> ComposeResult:
        """Two fields, the list."""
        with Vertical(id="card") as box:
            box.border_title = words("Compare memory with")
            with Horizontal(id="card-fields"):
                yield CleanInput(placeholder="a card, or its memory: rtx 4090, 8GB", id="card-words")
                yield CleanInput(
                    str(self._against.context or ""), placeholder="tokens of context (4,096)", id="card-context"
                )
            yield Static(markup=False, id="card-state")
            yield OptionList(id="card-list", markup=False)
            yield KeyLine(_KEYS)

    def on_mount(self) -> None:
        """The list, and in a thread what this machine has."""
        self.query_one("#card-words").focus()
        self._fill()
        background.start(self, here, self._found, lambda e: None, "devices")

    @on(Finished)
    def _answered(self, message: Finished) -> None:
        message.stop()
        if self.is_attached:
            message.then()

    def _found(self, devices: tuple[Device, ...]) -> None:
        self._this = devices
        self._fill()

    @on(Input.Changed, "#card-words")
    def _fill(self) -> None:
        typed = self.query_one("#card-words", Input).value.strip()
        options = self.query_one("#card-list", OptionList)
        found = fits.cards(typed)
        self._cards = ([] if typed else [""]) + [kept for kept, _ in found]
        rows = ([] if typed else [self._machine()]) + [self._row(d) for _, d in found]
        options.clear_options()
        options.add_options([Option(row, id=f"c{n}") for n, row in enumerate(rows)])
        now = self._against.card
        options.highlighted = self._cards.index(now) if now in self._cards else 0 if rows else None
        self._say("" if rows else f"{typed} is not in the list: type its memory, such as 8GB", bad=not rows)

    def _bytes(self, count: int) -> str:
        return units.size(count, binary=self._cachetui.binary)

    def _machine(self) -> Content:
        has = ", ".join(f"{d.name} {self._bytes(d.usable)} {d.note}" for d in self._this)
        return line(("This machine", "bold"), (f"  {has or 'looking what it has…'}", _DIM))

    def _row(self, device: Device) -> Content:
        return line(fit(device.name, 24), (fit(self._bytes(device.total), 10, right=True), _DIM))

    def _say(self, text: str, *, bad: bool = False) -> None:
        self.query_one("#card-state", Static).update(words(text, _BAD if bad else _DIM))

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def action_choose(self) -> None:
        """The card under the cursor, with the context that is typed."""
        at = self.query_one("#card-list", OptionList).highlighted
        typed = self.query_one("#card-context", Input).value
        try:
            context = fits.context_of(typed)
        except ValueError:
            self._say(f"{typed} is no number of tokens: 8192, or 8k", bad=True)
            self.query_one("#card-context").focus()
            return
        if at is not None and at < len(self._cards):
            self.dismiss(Against(self._cards[at], context))

    def on_key(self, event: Key) -> None:
        """From a field into the list, which keeps its place."""
        options = self.query_one("#card-list", OptionList)
        if isinstance(self.focused, Input) and event.key in ("down", "up"):
            event.stop()
            if event.key == "down":
                options.action_cursor_down()
            else:
                options.action_cursor_up()

    def action_other(self) -> None:
        """The next field."""
        self.focus_next()

    def action_leave(self) -> None:
        """Nothing changes."""
        self.dismiss(None)
