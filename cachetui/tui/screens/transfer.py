"""The plan before archiving, restoring or adopting: what is copied, what comes back here, what stays with whom."""

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
from cachetui.transfer.model import Drive, TransferItem, TransferPlan
from cachetui.tui.text import Part, clip, hang, line, words
from cachetui.tui.widgets.columns import short_path
from cachetui.tui.widgets.tick import Tick

if TYPE_CHECKING:
    from cachetui.tui.app import CachetuiApp

_ITEMS = 200
_NOTES = 6
_PATH = 32
_WIDTH = 86
_DIM, _STRONG, _WARN, _BAD = "$foreground-muted", "bold", "$text-warning", "$text-error"
_VERBS = {"archive": "Archive", "restore": "Restore", "adopt": "Adopt"}
_GOES = {"archive": "Is copied, proven, and becomes a link", "restore": "Comes back", "adopt": "Is linked"}


class TransferScreen(ModalScreen[frozenset[str] | None]):
    """Answers with the cautions that were accepted, or None. An item whose caution is not accepted is left out."""

    CSS_PATH = "plan.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]
    BINDINGS = [("escape,q", "cancel", "Cancel"), ("y", "confirm", "Confirm")]

    def __init__(self, plan: TransferPlan, app: CachetuiApp) -> None:
        super().__init__()
        self.plan = plan
        self._home = app.where.home
        self._bytes = partial(units.size, binary=app.binary)
        self._width = min(_WIDTH, app.size.width - 12)

    def compose(self) -> ComposeResult:
        """Text, then what to tick, then two buttons."""
        plan = self.plan
        with Vertical(id="plan") as box:
            box.border_title = words(self._heading())
            yield Static(self._summary(), markup=False, id="plan-summary")
            with VerticalScroll(id="plan-body"):
                yield Static(Content("\n").join(self._body()), markup=False)
            for code in sorted(plan.cautions):
                yield Tick(words(f"go on all the same: {self._reason(code)}"), name=code, classes="caution")
            with Horizontal(id="plan-buttons"):
                if plan.accepted:
                    yield Button(words(f"{self._verb()} (y)"), variant="primary", id="confirm")
                yield Button(words("Cancel (Esc)" if plan.accepted else "Close (Esc)"), id="cancel")

    def on_mount(self) -> None:
        """The focus stands where the next answer is needed."""
        wanted = ".caution" if self.plan.cautions else "#confirm"
        self.query(wanted if self.plan.accepted else "#cancel").first().focus()
        self._update()

    def _verb(self) -> str:
        return "Copy" if self.plan.verb == "archive" and self.plan.keep else _VERBS.get(self.plan.verb, "Go on")

    def _heading(self) -> str:
        plan = self.plan
        if not plan.accepted:
            return f"{self._verb()}: nothing can be done"
        count = len(plan.accepted)
        what = plan.accepted[0].selection.item.name if count == 1 else f"{count} items"
        place = short_path(plan.directory, self._home)
        return f"{self._verb()} {what} {'from' if plan.verb == 'restore' else 'to'} {place}"

    def _reason(self, code: str) -> str:
        told = [(i.selection.item.name, c) for i in self.plan.accepted for c in i.cautions if c.code == code]
        told = [("", c) for c in self.plan.asks if c.code == code] + told
        name, caution = told[0]
        named = f"{name}: {caution.message}" if name else caution.message
        return named if len(told) == 1 else f"{len(told)} items are concerned, e.g. {named}"

    def _summary(self) -> Content:
        plan = self.plan
        if plan.refused:
            return line((f"Refused: {plan.refused}", _WARN))
        if not plan.accepted:
            return words("Everything that was chosen is refused:", _WARN)
        if plan.verb == "adopt":
            return line(("Only links are set; nothing is copied", _DIM) if not plan.bytes else self._copies())
        parts: list[Part] = [self._copies()]
        if plan.verb == "archive":
            if plan.keep:
                parts.append(("; a backup: the original stays, nothing comes back here", _DIM))
            else:
                when = "when the trash is emptied" if plan.keep_original else "once the copy is proven"
                parts += [("; here ", _DIM), (self._bytes(plan.frees), _STRONG), (f" come back {when}", _DIM)]
        elif plan.keep:
            parts.append(("; the copy in the archive stays", _DIM))
        else:
            parts.append(("; the copy in the archive goes once this one is proven", _DIM))
        return line(*parts)

    def _copies(self) -> Part:
        files = sum(i.files for i in self.plan.accepted)
        return f"Copies {self._bytes(self.plan.bytes)} in {files:,} file{'' if files == 1 else 's'}", _STRONG

    def _body(self) -> list[Content]:
        plan = self.plan
        out = self._drive(plan.drive) if plan.drive is not None else []
        if plan.accepted:
            out.append(
                words("Is copied" if plan.keep and plan.verb == "archive" else _GOES[plan.verb], "bold $text-primary")
            )
            for item in plan.accepted[:_ITEMS]:
                out += self._item(item)
            if len(plan.accepted) > _ITEMS:
                out.append(words(f"  and {len(plan.accepted) - _ITEMS} more", _DIM))
        stays = {(s.path, i.root): s for i in plan.accepted for s in i.stays}
        if stays:
            out += [Content(""), words("Stays here, because others need it", "bold $text-success")]
            for stay in list(stays.values())[:_ITEMS]:
                needed = ", ".join(stay.holders[:4]) + (", …" if len(stay.holders) > 4 else "")
                told = line(f"{clip(stay.path, _PATH)}  ", self._bytes(stay.size), (f"  needed by {needed}", _DIM))
                out += hang(Content(" "), told, 2, self._width)
        refused = [i for i in plan.items if i.refused]
        if refused and not plan.refused:
            out += [Content("")] if out else []
            out.append(words("Refused", "bold $text-warning"))
            for item in refused[:_ITEMS]:
                out.append(words(f"  {item.target}"))
                out += hang(Content(""), words(item.refused, _WARN), 4, self._width)
        for note in [n for n in plan.notes if plan.drive is None or n not in plan.drive.notes]:
            out += [Content(""), *hang(words("!", _WARN), words(note), 2, self._width)]
        return out

    def _drive(self, drive: Drive) -> list[Content]:
        both = f"{drive.label} ({drive.filesystem})" if drive.label and drive.filesystem else ""
        name = both or drive.label or drive.filesystem
        mount = f"{name} at {drive.mount}" if drive.mount else name or drive.directory
        out = hang(words("Drive", _DIM), line(mount, (f", {self._bytes(drive.free)} free", _DIM)), 6, self._width)
        for note in drive.notes:
            out += hang(Content(""), line(("! ", _WARN), note), 6, self._width)
        return [*out, Content("")]

    def _item(self, item: TransferItem) -> list[Content]:
        plan = self.plan
        frees = f"  frees {self._bytes(item.frees)} here" if item.frees and not plan.keep else ""
        size = f"  {self._bytes(item.bytes)}" if item.bytes else ""
        out = [line((f"  {item.selection.item.name}", _STRONG), size, (frees, _DIM))]
        if plan.verb == "archive":
            place = short_path(f"{plan.directory}/{item.place}", self._home)
            out += hang(words("    →", _DIM), words(place, _DIM), 6, self._width)
        else:
            shown = item.parts[:_NOTES]
            for part in shown:
                out += hang(words("    ←", _DIM), words(short_path(part.source, self._home), _DIM), 6, self._width)
            if len(item.parts) > len(shown):
                out.append(words(f"    and {len(item.parts) - len(shown)} more", _DIM))
        there = sum(p.there for p in item.parts)
        if there and plan.verb != "adopt":
            out.append(words(f"    {there} of {len(item.parts)} parts are there already: compared, not copied", _DIM))
        for note in item.notes[:_NOTES]:
            out += hang(Content(""), words(note, _DIM), 4, self._width)
        for caution in item.cautions:
            out += hang(Content(""), line(("! ", _WARN), (caution.message, _WARN)), 4, self._width)
        return out

    @property
    def accepted(self) -> frozenset[str]:
        """Cautions ticked."""
        return frozenset(box.name for box in self.query(Tick) if box.value and box.name)

    @property
    def _acts(self) -> int:
        accepted = self.accepted
        if not {c.code for c in self.plan.asks} <= accepted:
            return 0
        return sum(1 for i in self.plan.accepted if {c.code for c in i.cautions} <= accepted)

    @on(Checkbox.Changed)
    def _update(self) -> None:
        acts = self._acts
        for button in self.query("#confirm").results(Button):
            button.disabled = not acts
            left = len(self.plan.accepted) - acts
            button.label = words(f"{self._verb()} (y)" + (f"; not {left}" if acts and left else ""))

    @on(Button.Pressed, "#confirm")
    def action_confirm(self) -> None:
        """Go on, when there is anything to go on with."""
        if self._acts:
            self.dismiss(self.accepted)

    @on(Button.Pressed, "#cancel")
    def action_cancel(self) -> None:
        """Nothing happens."""
        self.dismiss(None)
