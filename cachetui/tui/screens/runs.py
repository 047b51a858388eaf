"""What can I run? Every model on disk and in the catalogue against one device, smallest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from cachetui import units
from cachetui.memory import running
from cachetui.memory.model import Device, Estimate
from cachetui.memory.running import USES, Run
from cachetui.tui import background, fits, runs_table
from cachetui.tui.fits import Against, Known
from cachetui.tui.messages import Finished
from cachetui.tui.screens.listing import ListScreen
from cachetui.tui.text import Part, clip, line, words
from cachetui.tui.widgets.lines import KeyLine

if TYPE_CHECKING:
    from cachetui.tui.screens.main import MainScreen

_DIM = "$foreground-muted"
_ALL = ("", *USES)
_KEYS = [
    ("choose", "Enter", "go to it, or download"),
    ("card", "m", "card, context"),
    ("use", "u", "good for"),
    ("device", "Tab", "next device"),
    ("classes", "c", "sizes by class"),
    ("leave", "Esc", "back"),
]


class RunsScreen(ListScreen[str | None]):
    """Answers with the TARGET that was chosen, or None."""

    CSS_PATH = "runs.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q,f", "leave", "Back"),
        ("m", "card", "Card, context"),
        ("u", "use", "Good for"),
        ("tab", "device", "Next device"),
        ("c", "classes", "Sizes by class"),
        ("j", "move('down')", "Down"),
        ("k", "move('up')", "Up"),
    ]

    def __init__(self, main: MainScreen) -> None:
        super().__init__()
        self._main = main
        self._binary = main.cachetui.binary
        self._estimates: tuple[Estimate, ...] = ()
        self._skipped = 0
        """Models here that nothing can be told of."""
        self._devices: tuple[Device, ...] = ()
        self._device = 0
        self._use = ""
        self._runs: tuple[Run, ...] = ()
        self._with_classes = False
        self._asked = 0
        """Counts the questions, so that a late answer is known as one."""

    def compose(self) -> ComposeResult:
        """What it is compared with, the table, what the chosen one is."""
        with Vertical(id="runs") as box:
            box.border_title = words("What can I run?")
            yield Static(markup=False, id="runs-state")
            yield Static(markup=False, id="runs-head")
            yield OptionList(id="runs-list", markup=False)
            with VerticalScroll(id="runs-about", can_focus=False):
                yield Static(markup=False, id="runs-text")
            yield KeyLine(_KEYS)

    def on_mount(self) -> None:
        """Read headers in a thread."""
        self.query_one("#runs-list").focus()
        self._gather()

    def on_resize(self) -> None:
        """Other columns fit."""
        self._list()

    def _gather(self) -> None:
        self._asked += 1
        asked, against, store = self._asked, self._main.fits.against, self._main.fits
        scan = self._main.shelf.scan
        items = scan.items if scan is not None else ()
        seen = [k for i in items if (k := store.known(i)) is not None]

        def work() -> tuple[tuple[Known, ...], tuple[Estimate, ...], tuple[Device, ...], int]:
            here = fits.gather(items, seen, against.context)
            made = [k.estimate for k in here if k.estimate is not None]
            return here, (*made, *fits.elsewhere(made, against.context)), *fits.look_up(against)

        def came(result: tuple[tuple[Known, ...], tuple[Estimate, ...], tuple[Device, ...], int]) -> None:
            if asked != self._asked or not self.is_attached:
                return
            here, self._estimates, self._devices, store.ram = result
            self._device = 0
            self._skipped = sum(1 for k in here if k.estimate is None)
            if store.against == against:
                store.devices = self._devices
                for k in here:
                    store.keep(k)
            self._list()

        def failed(error: Exception) -> None:
            if asked == self._asked and self.is_attached:
                self.query_one("#runs-state", Static).update(words(str(error), "$text-error"))

        reading = " (the list is still being read: what is known so far)" if self._main.shelf.reading else ""
        self.query_one("#runs-state", Static).update(words(f"reading headers…{reading}", _DIM))
        background.start(self, work, came, failed, "runs")

    @on(Finished)
    def _answered(self, message: Finished) -> None:
        message.stop()
        message.then()

    # ---- what is shown

    def _list(self) -> None:
        """The table for the device, of what is good for the use."""
        if not self._devices or not self.is_attached:
            return
        chosen = self._chosen
        everything = running.what_runs(self._estimates, self._devices[self._device], self._main.fits.ram)
        self._runs = tuple(r for r in everything if not self._use or self._use in r.uses)
        options = self.query_one("#runs-list", OptionList)
        layout = runs_table.layout_for(max(options.content_size.width - 3, 40))
        self.query_one("#runs-head", Static).update(runs_table.head(layout))
        options.clear_options()
        rows = [Option(runs_table.row(r, layout, binary=self._binary), id=f"r{n}") for n, r in enumerate(self._runs)]
        options.add_options(rows)
        targets = [r.estimate.target for r in self._runs]
        before = chosen.estimate.target if chosen is not None else ""
        options.highlighted = targets.index(before) if before in targets else 0 if rows else None
        self._state(everything)
        self._tell()

    def _state(self, everything: tuple[Run, ...]) -> None:
        device, context = self._devices[self._device], self._main.fits.against.context
        runs = sum(1 for r in everything if r.runs)
        room = units.size(device.usable, binary=self._binary)
        parts: list[Part] = [
            (f"{clip(device.name, 30)}", "bold $accent"),
            (f"  {room}" + (f" {device.note}" if device.kind != "card" else ""), ""),
            (f"   {runs} of {len(everything)} run", "bold"),
            (f"   context {context:,}" if context else "   context 4,096", _DIM),
            (f"   good for: {self._use}" if self._use else "   good for: anything", "$accent" if self._use else _DIM),
        ]
        if len(self._devices) > 1:
            parts.append((f"   device {self._device + 1} of {len(self._devices)}", _DIM))
        if self._skipped:
            parts.append((f"   {self._skipped} without headers left out", _DIM))
        self.query_one("#runs-state", Static).update(line(*parts))

    @property
    def _chosen(self) -> Run | None:
        at = self.query_one("#runs-list", OptionList).highlighted
        return self._runs[at] if at is not None and at < len(self._runs) else None

    @on(OptionList.OptionHighlighted)
    def _tell(self) -> None:
        width = max(self.query_one("#runs-about").content_size.width - 1, 30)
        run = self._chosen
        if self._with_classes:
            told = runs_table.classes(width, binary=self._binary)
        elif run is None:
            told = [words("Nothing is good for that here. u shows the others, m another card.", _DIM)]
        else:
            told = runs_table.about(run, width, binary=self._binary)
        self.query_one("#runs-text", Static).update(Content("\n").join(told))

    # ---- keys

    @on(OptionList.OptionSelected)
    def action_choose(self) -> None:
        """Go to the row of what is here; download what is not."""
        if (run := self._chosen) is not None:
            self.dismiss(run.estimate.target)

    def action_card(self) -> None:
        """Another card or context."""
        from cachetui.tui.handlers.fits import turn_to
        from cachetui.tui.screens.card import CardScreen

        def answer(against: Against | None) -> None:
            if against is not None:
                turn_to(self._main, against)
                self._gather()

        self.app.push_screen(CardScreen(self._main.fits.against, self._main.cachetui), answer)

    def action_use(self) -> None:
        """Only what is good for the next use; after the last: everything."""
        self._use = _ALL[(_ALL.index(self._use) + 1) % len(_ALL)]
        self._list()

    def action_device(self) -> None:
        """The next device of this machine."""
        if self._devices:
            self._device = (self._device + 1) % len(self._devices)
            self._list()

    def action_classes(self) -> None:
        """What sizes of models weigh in 4 bits, in place of the chosen model."""
        self._with_classes = not self._with_classes
        self._tell()

    def action_leave(self) -> None:
        """Nothing is chosen."""
        self._asked += 1
        self.dismiss(None)
