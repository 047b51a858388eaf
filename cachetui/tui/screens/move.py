"""The plan before a whole root moves: where to, what is copied, what comes back, what it asks for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Checkbox, Static

from cachetui import units
from cachetui.transfer.moving import MovePlan
from cachetui.tui.text import hang, line, words
from cachetui.tui.widgets.columns import short_path
from cachetui.tui.widgets.tick import Tick

if TYPE_CHECKING:
    from cachetui.tui.app import CachetuiApp

_DIM, _STRONG, _WARN = "$foreground-muted", "bold", "$text-warning"
_WIDTH = 86


class MovePlanScreen(ModalScreen[frozenset[str] | None]):
    """Answers with the cautions that were accepted, or None. It moves only when all of them are."""

    CSS_PATH = "plan.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]
    BINDINGS = [("escape,q", "cancel", "Cancel"), ("y", "confirm", "Confirm")]

    def __init__(self, plan: MovePlan, app: CachetuiApp) -> None:
        super().__init__()
        self.plan = plan
        self._home = app.where.home
        self._bytes = partial(units.size, binary=app.binary)
        self._width = min(_WIDTH, app.size.width - 12)

    def compose(self) -> ComposeResult:
        """Text, then what to tick, then two buttons."""
        plan = self.plan
        with Vertical(id="plan") as box:
            box.border_title = words(f"Move {short_path(plan.root.path, self._home)}")
            yield Static(self._summary(), markup=False, id="plan-summary")
            with VerticalScroll(id="plan-body"):
                yield Static(Content("\n").join(self._body()), markup=False)
            for caution in plan.asks if not plan.refused else ():
                yield Tick(words(f"go on all the same: {caution.message}"), name=caution.code, classes="caution")
            with Horizontal(id="plan-buttons"):
                if not plan.refused:
                    yield Button(words("Move (y)"), variant="primary", id="confirm")
                yield Button(words("Close (Esc)" if plan.refused else "Cancel (Esc)"), id="cancel")

    def on_mount(self) -> None:
        """The focus stands where the next answer is needed."""
        wanted = "#cancel" if self.plan.refused else ".caution" if self.plan.asks else "#confirm"
        self.query(wanted).first().focus()
        self._update()

    def _summary(self) -> Content:
        plan = self.plan
        if plan.refused:
            return line((f"Refused: {plan.refused}", _WARN))
        files = f"{plan.files:,} file{'' if plan.files == 1 else 's'}"
        when = "when the trash is emptied" if plan.keep_original else "once the copy is proven"
        return line(
            (f"Copies {self._bytes(plan.bytes)} in {files}", _STRONG),
            ("; here ", _DIM),
            (self._bytes(plan.frees), _STRONG),
            (f" come back {when}", _DIM),
        )

    def _body(self) -> list[Content]:
        plan, drive = self.plan, self.plan.drive
        label = f' "{drive.label}"' if drive.label else ""
        kind = f"  {drive.filesystem or 'unknown file system'}{label}, {self._bytes(drive.free)} free"
        out = hang(
            words("to ", _DIM), line((short_path(plan.place, self._home), _STRONG), (kind, _DIM)), 3, self._width
        )
        out.append(Content(""))
        out.append(words("Each file is read back from the drive and compared. Then the folder becomes a link."))
        for note in plan.notes:
            out += hang(words("! ", _WARN), words(note), 2, self._width)
        if plan.line and not plan.refused:
            out += [Content(""), words("Programs can look there themselves, without the link:", _DIM)]
            out.append(words(plan.line))
        return out

    @property
    def accepted(self) -> frozenset[str]:
        """The cautions that are ticked."""
        return frozenset(box.name for box in self.query(Tick) if box.value and box.name)

    @on(Checkbox.Changed)
    def _update(self) -> None:
        for button in self.query("#confirm").results(Button):
            button.disabled = not self.plan.cautions <= self.accepted

    @on(Button.Pressed, "#confirm")
    def action_confirm(self) -> None:
        """Go on, when everything it asks for is ticked."""
        if not self.plan.refused and self.plan.cautions <= self.accepted:
            self.dismiss(self.accepted)

    @on(Button.Pressed, "#cancel")
    def action_cancel(self) -> None:
        """Nothing happens."""
        self.dismiss(None)
