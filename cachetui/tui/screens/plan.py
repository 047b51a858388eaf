"""The plan before a deletion: what goes, what stays and who needs it, what is refused and why, what comes back when."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Checkbox, Input, Static

from cachetui import units
from cachetui.model import PINNED
from cachetui.plans.model import NO_UNDO, PERMANENT, Plan, PlannedItem
from cachetui.tui.rows import revision_title
from cachetui.tui.text import Part, clip, hang, line, words
from cachetui.tui.widgets.clean_input import CleanInput
from cachetui.tui.widgets.columns import short_path
from cachetui.tui.widgets.tick import Tick

if TYPE_CHECKING:
    from cachetui.tui.app import CachetuiApp

WORD = "delete"
"""To be typed before something that cannot be undone."""
_LOUD = frozenset((PERMANENT, NO_UNDO))
_STEPS = 6
_ITEMS = 200
_PATH = 32
"""Cells for the path of content that stays: enough to tell hashes apart."""
_WIDTH = 72
"""Cells that a long reason is wrapped to: fits in a narrow terminal too."""
_DIM, _STRONG, _WARN, _BAD = "$foreground-muted", "bold", "$text-warning", "$text-error"


class PlanScreen(ModalScreen[frozenset[str] | None]):
    """Answers with the cautions that were accepted, or None. An item whose caution is not accepted stays."""

    CSS_PATH = "plan.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]
    BINDINGS = [("escape,q", "cancel", "Cancel"), ("y", "confirm", "Confirm")]

    def __init__(self, plan: Plan, app: CachetuiApp) -> None:
        super().__init__()
        self.plan = plan
        self._home = app.where.home
        self._bytes = partial(units.size, binary=app.binary)
        self._width = min(88, app.size.width - 12)
        self._loud = bool(plan.cautions & _LOUD)
        self._asked = sorted(plan.cautions - _LOUD)

    def compose(self) -> ComposeResult:
        """Text, then what to tick or type, then two buttons."""
        plan = self.plan
        with Vertical(id="plan", classes="-loud" if self._loud else "") as box:
            box.border_title = words(self._heading())
            yield Static(self._summary(), markup=False, id="plan-summary")
            with VerticalScroll(id="plan-body"):
                yield Static(Content("\n").join(self._body()), markup=False)
            for code in self._asked:
                yield Tick(words(f"go on all the same: {self._reason(code)}"), name=code, classes="caution")
            if self._loud and plan.accepted:
                yield Static(line(("Type ", ""), (WORD, "bold $text-error"), " to go on"), markup=False)
                yield CleanInput(placeholder=WORD, id="word")
            with Horizontal(id="plan-buttons"):
                if plan.accepted:
                    yield Button(words(self._verb()), variant="error" if self._loud else "primary", id="confirm")
                yield Button(words("Cancel (Esc)" if plan.accepted else "Close (Esc)"), id="cancel")

    def on_mount(self) -> None:
        """The focus stands where the next answer is needed."""
        wanted = "#word" if self._loud else ".caution" if self._asked else "#confirm"
        found = self.query(wanted if self.plan.accepted else "#cancel")
        found.first().focus()
        self._update()

    def _heading(self) -> str:
        count = len(self.plan.accepted)
        if not count:
            return "Nothing can be deleted"
        what = self.plan.accepted[0].selection.item.name if count == 1 else f"{count} items"
        return f"Delete {what} for good" if self.plan.permanent else f"Delete {what}"

    def _verb(self) -> str:
        if self.plan.permanent:
            return "Delete for good"
        return "Delete" if NO_UNDO in self.plan.cautions else "Move to the trash (y)"

    def _reason(self, code: str) -> str:
        found = [(i, c) for i in self.plan.accepted for c in i.cautions if c.code == code]
        item, caution = found[0]
        if len(found) == 1:
            return f"{item.selection.item.name}: {caution.message}"
        return f"{len(found)} items are concerned, e.g. {item.selection.item.name}: {caution.message}"

    def _summary(self) -> Content:
        plan = self.plan
        if not plan.accepted:
            return words("Everything that was chosen is refused:", _WARN)
        up_to = "up to " if plan.up_to else ""
        later = plan.frees_when_emptied - plan.frees_now
        parts: list[str | Part] = [("Comes back now ", _DIM), (up_to + self._bytes(plan.frees_now), _STRONG)]
        if plan.permanent:
            parts += [("; it cannot be undone", _BAD)]
        else:
            parts += [("; when the trash is emptied ", _DIM), (up_to + self._bytes(later), _STRONG)]
            parts += [("; u brings it back", _DIM)] if NO_UNDO not in plan.cautions else []
        return line(*parts)

    def _body(self) -> list[Content]:
        plan = self.plan
        out: list[Content] = []
        if plan.accepted:
            out.append(words("Goes for good" if plan.permanent else "Goes to the trash", "bold $text-primary"))
            for item in plan.accepted[:_ITEMS]:
                out += self._item(item)
            if len(plan.accepted) > _ITEMS:
                out.append(words(f"  and {len(plan.accepted) - _ITEMS} more", _DIM))
        stays = {(s.path, i.selection.item.root): s for i in plan.accepted for s in i.stays}
        if stays:
            out += [Content(""), words("Stays, because others need it", "bold $text-success")]
            for stay in list(stays.values())[:_ITEMS]:
                needed = ", ".join(stay.holders[:4]) + (", …" if len(stay.holders) > 4 else "")
                out.append(
                    line(f"  {clip(stay.path, _PATH)}  ", self._bytes(stay.size), (f"  needed by {needed}", _DIM))
                )
        if plan.refused:
            out += [Content("")] if out else []
            out.append(words("Refused", "bold $text-warning"))
            for item in plan.refused[:_ITEMS]:
                out.append(words(f"  {item.target}"))
                out += hang(Content(""), words(item.refused, _WARN), 4, _WIDTH)
            if any(PINNED in i.selection.item.states for i in plan.refused):
                out.append(words("  In the list, P unpins.", _DIM))
        for note in plan.notes:
            out += [Content(""), line(("! ", _WARN), note)]
        return out

    def _item(self, item: PlannedItem) -> list[Content]:
        held = item.selection.item
        part = ""
        if item.selection.revision:
            revision = next((r for r in held.revisions + held.parts if r.commit == item.selection.revision), None)
            part = f"  {revision_title(revision)}" if revision is not None else f"  {item.selection.revision}"
        if item.selection.file:
            part += f"  {item.selection.file}"
        total = self._bytes(sum(s.size for s in item.steps))
        out = [line((f"  {held.name}", _STRONG), part, f"  {total}", (f"  frees {self._bytes(item.frees)}", _DIM))]
        for step in item.steps[:_STEPS]:
            path = words(short_path(f"{held.root}/{step.path}", self._home), _DIM)
            out += hang(Content(""), path, 4, self._width)
        if len(item.steps) > _STEPS:
            out.append(words(f"    and {len(item.steps) - _STEPS} more", _DIM))
        if item.via_server:
            out.append(line(("    ", ""), (f"deleted by the server at {item.via_server}", _WARN)))
        return out + [line(("    ! ", _WARN), (c.message, _WARN)) for c in item.cautions]

    @property
    def accepted(self) -> frozenset[str]:
        """Cautions ticked, and the loud ones once the word is typed."""
        ticked = {box.name for box in self.query(Tick) if box.value and box.name}
        typed = any(i.value.strip().lower() == WORD for i in self.query(Input))
        return frozenset(ticked) | (self.plan.cautions & _LOUD if typed else frozenset())

    @property
    def _acts(self) -> int:
        accepted = self.accepted
        return sum(1 for i in self.plan.accepted if {c.code for c in i.cautions} <= accepted)

    @on(Checkbox.Changed)
    @on(Input.Changed)
    def _update(self) -> None:
        acts = self._acts
        for button in self.query("#confirm").results(Button):
            button.disabled = not acts
            left = len(self.plan.accepted) - acts
            button.label = words(self._verb() + (f"; {left} stay{'s' if left == 1 else ''}" if acts and left else ""))

    @on(Button.Pressed, "#confirm")
    @on(Input.Submitted)
    def action_confirm(self) -> None:
        """Go on, when there is anything to go on with."""
        if self._acts:
            self.dismiss(self.accepted)

    @on(Button.Pressed, "#cancel")
    def action_cancel(self) -> None:
        """Nothing happens."""
        self.dismiss(None)
