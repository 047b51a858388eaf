"""Before a model is quantized: what each way takes on disk and in memory, where it is kept, what is in the way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, OptionList, Static
from textual.widgets.option_list import Option

from cachetui import units
from cachetui.quantized_entries.planning import QuantPlan
from cachetui.tui.text import Part, fit, hang, line, words
from cachetui.tui.widgets.columns import short_path

if TYPE_CHECKING:
    from cachetui.tui.app import CachetuiApp

_DIM, _STRONG, _WARN, _GOOD = "$foreground-muted", "bold", "$text-warning", "$text-success"
_MEANS = {
    "nf4": "4 bit; the usual choice, good for QLoRA",
    "nf4-double": "4 bit, its maxima too: a little less",
    "int8": "8 bit; closest to the original",
    "mlx 4-bit": "for mlx_lm, on Macs and here",
    "Q4_K_M": "GGUF, for llama.cpp and Ollama",
}
_WIDTH = 84


class QuantizeScreen(ModalScreen[QuantPlan | None]):
    """Answers with the plan that was chosen, or None. A plan with something in the way cannot be chosen."""

    CSS_PATH = "quantize.tcss"
    BINDINGS = [("escape,q", "cancel", "Cancel"), ("y", "confirm", "Quantize")]

    def __init__(self, plans: Sequence[QuantPlan], app: CachetuiApp) -> None:
        super().__init__()
        self._plans = plans
        self._home = app.where.home
        self._bytes = partial(units.size, binary=app.binary)
        self._width = min(_WIDTH, app.size.width - 12)

    def compose(self) -> ComposeResult:
        """What it is, the ways, what the one under the cursor does, two buttons."""
        first = self._plans[0]
        with Vertical(id="quantize") as box:
            box.border_title = words(f"Quantize {first.wanted.name}")
            commit = f" at {first.wanted.commit[:7]}" if first.wanted.commit else ""
            now = self._bytes(first.source) if first.source else "kept already"
            yield Static(
                line((now, _STRONG), (f"{commit}: quantized once, kept, and loaded in a second from then on.", _DIM)),
                markup=False,
                id="quantize-sum",
            )
            yield OptionList(
                *(Option(self._row(p), id=f"q{n}") for n, p in enumerate(self._plans)), id="quantize-ways", markup=False
            )
            with VerticalScroll(id="quantize-body", can_focus=False):
                yield Static(markup=False, id="quantize-plan")
            with Horizontal(id="quantize-buttons"):
                yield Button(words("Quantize (y)"), variant="primary", id="confirm")
                yield Button(words("Cancel (Esc)"), id="cancel")

    def on_mount(self) -> None:
        """The first way that can be gone."""
        ways = self.query_one(OptionList)
        ways.highlighted = next((n for n, p in enumerate(self._plans) if not (p.refused or p.is_done)), 0)
        ways.focus()
        self._show()

    @property
    def _plan(self) -> QuantPlan:
        return self._plans[self.query_one(OptionList).highlighted or 0]

    def _row(self, plan: QuantPlan) -> Content:
        label = plan.identity.label
        sign: Part = ("✓ kept already", _GOOD) if plan.is_done else ("  can be made", _DIM)
        if plan.refused:
            sign = (f"✗ {plan.refused[0].code.replace('-', ' ')}", _WARN)
        elif plan.damaged:
            sign = ("! damaged", _WARN)
        made = plan.there.manifest.size if plan.there is not None and plan.there.manifest is not None else plan.size
        size = self._bytes(made) if made else ""
        share = f"{made / plan.source:.0%}" if plan.source and made else ""
        return line(
            (fit(label, 11), _STRONG),
            fit(size, 10, right=True),
            (fit(share, 6, right=True), _DIM),
            "   ",
            (fit(sign[0], 18), sign[1]),
            (_MEANS.get(label, ""), _DIM),
        )

    @on(OptionList.OptionHighlighted)
    def _show(self) -> None:
        plan = self._plan
        self.query_one("#quantize-plan", Static).update(Content("\n").join(self._lines(plan)))
        self.query_one("#confirm", Button).disabled = bool(plan.refused or plan.is_done)

    def _lines(self, plan: QuantPlan) -> list[Content]:
        out: list[Content] = []

        def row(label: str, *parts: str | Part) -> None:
            out.extend(hang(words(label, _DIM), line(*parts), 11, self._width))

        if plan.there is not None and plan.there.manifest is not None:
            manifest = plan.there.manifest
            row("kept", f"{self._bytes(manifest.size)}, made {units.iso(manifest.made)} in {manifest.seconds:.0f} s")
        elif plan.size:
            row("on disk", (self._bytes(plan.size), _STRONG), (", counted from the headers", _DIM))
            free = self._bytes(plan.usable)
            row(
                "memory",
                (self._bytes(plan.memory), _STRONG),
                (f" or so while it is made; {free} free, {plan.device}", _DIM),
            )
        if plan.plain:
            row("stays", ", ".join(plan.plain), (f"  in {plan.identity.dtype}", _DIM))
        row("kept in", short_path(plan.place.path, self._home), (f"  as {plan.identity.key[:12]}", _DIM))
        left = f"; {self._bytes(plan.room.free)} free" if plan.room.free >= 0 else ""
        row("storage", (f"{plan.storage.words}{left}", _DIM))
        if plan.damaged:
            row("!", (f"the one that is there is damaged: {plan.damaged}. It goes to the trash.", _WARN))
        for note in plan.notes:
            row("!", (note, _WARN))
        for refusal in plan.refused:
            row("✗", (refusal.message, _WARN))
            if refusal.advice:
                row("", f"→ {refusal.advice}")
        return out

    @on(OptionList.OptionSelected)
    @on(Button.Pressed, "#confirm")
    def action_confirm(self) -> None:
        """Make it, where nothing is in the way."""
        if not (self._plan.refused or self._plan.is_done):
            self.dismiss(self._plan)

    @on(Button.Pressed, "#cancel")
    def action_cancel(self) -> None:
        """Nothing happens."""
        self.dismiss(None)
