"""Before a download: what comes, what is here already, whether it fits, and what stands in the way."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Checkbox, Input, OptionList, Static
from textual.widgets.option_list import Option

from cachetui import units
from cachetui.download.errors import PullError
from cachetui.ledger import Scan
from cachetui.tui import background
from cachetui.tui.finding import ROLES
from cachetui.tui.messages import Finished
from cachetui.tui.text import Part, clip, hang, line, words
from cachetui.tui.widgets.clean_input import CleanInput
from cachetui.tui.widgets.columns import short_path
from cachetui.tui.widgets.tick import Tick

if TYPE_CHECKING:
    from cachetui.download.planning import PullPlan, Request
    from cachetui.tui.app import CachetuiApp

_WIDTH = 86
_INDENT = 12
_REUSED = 8
_DIM, _STRONG, _GOOD, _WARN, _BAD = "$foreground-muted", "bold", "$text-success", "$text-warning", "$text-error"
_CHOOSE = "choose-quant"


class PullScreen(ModalScreen["PullPlan | None"]):
    """Asks the Hub in a thread, then shows the plan; answers with the plan that was confirmed, or None."""

    CSS_PATH = "pull.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]
    BINDINGS = [("escape,q", "cancel", "Cancel"), ("y", "confirm", "Confirm"), ("o", "more", "More choices")]

    def __init__(self, request: Request, scan: Scan | None, app: CachetuiApp) -> None:
        super().__init__()
        self._request = request
        self._cache = request.cache_dir
        """The cache it goes into as long as no folder is named."""
        self._scan = scan
        self._cachetui = app
        self._plan: PullPlan | None = None
        self._asked = 0
        """Counts the questions, so that a late answer is known as one."""
        self._bytes = partial(units.size, binary=app.binary)
        self._width = min(_WIDTH, app.size.width - 12)

    def compose(self) -> ComposeResult:
        """Text, quantizations where there is a choice, where to, two buttons."""
        with Vertical(id="pull") as box:
            box.border_title = words(f"Download {self._request.target}")
            yield Static(markup=False, id="pull-summary")
            with VerticalScroll(id="pull-body"):
                yield Static(markup=False, id="pull-text")
            yield OptionList(id="pull-quants", markup=False)
            yield Tick(words("all formats"), id="pull-formats", classes="box")
            yield CleanInput(placeholder="to another folder: name it, Enter plans it anew", id="pull-into")
            with Vertical(id="pull-more"):
                yield Tick(
                    words("the files themselves into that folder, without a cache"), id="pull-local", classes="box"
                )
                yield Tick(words("huggingface_hub downloads it, over Xet where it can"), id="pull-hub", classes="box")
                yield CleanInput(placeholder="only files like *.json config/; !*.bin leaves out", id="pull-files")
            with Horizontal(id="pull-buttons"):
                yield Button(words("More (o)"), id="more")
                yield Button(words("Download (y)"), variant="primary", id="confirm")
                yield Button(words("Cancel (Esc)"), id="cancel")

    def on_mount(self) -> None:
        """Ask."""
        self.query_one("#pull-more").display = False
        self._prepare(self._request)

    def _prepare(self, request: Request) -> None:
        """Make the plan beside the UI."""
        self._request = request
        self._plan = None
        self._asked += 1
        asked, where, scan = self._asked, self._cachetui.where, self._scan

        def work() -> PullPlan:
            from cachetui.download.client import Client
            from cachetui.download.planning import prepare

            return prepare(where, request, Client(tries=2), scan)

        def came(plan: PullPlan) -> None:
            if asked == self._asked and self.is_attached:
                self._plan = plan
                self._show(plan)

        def failed(error: Exception) -> None:
            if asked == self._asked and self.is_attached:
                self._refuse(error)

        self._offer(waiting=True)
        self._tell(words("asking the Hub, and looking what is on this machine…", _DIM), [])
        background.start(self, work, came, failed, "preflight")

    @on(Finished)
    def _answered(self, message: Finished) -> None:
        message.stop()
        message.then()

    def _tell(self, summary: Content, body: list[Content]) -> None:
        self.query_one("#pull-summary", Static).update(summary)
        self.query_one("#pull-text", Static).update(Content("\n").join(body))
        self.query_one("#pull-body").display = bool(body)

    def _offer(self, *, waiting: bool = False) -> None:
        """What can be answered now."""
        plan = self._plan
        choose = plan is not None and any(r.code == _CHOOSE for r in plan.refused)
        go = self._goes
        self.query_one("#pull-quants").display = choose
        self.query_one("#pull-formats").display = plan is not None and (
            not choose and (bool(plan.left_out) or plan.request.all_formats) and not plan.quants
        )
        self.query_one("#pull-into").display = plan is not None and not choose
        self.query_one("#more").display = plan is not None and not choose
        self.query_one("#confirm").display = go or choose
        self.query_one("#cancel", Button).label = words("Cancel (Esc)" if go or choose or waiting else "Close (Esc)")
        if choose:
            self.query_one("#pull-quants").focus()
        else:
            self.query_one("#confirm" if go else "#cancel").focus()

    @property
    def _goes(self) -> bool:
        return self._plan is not None and not self._plan.refused and not self._plan.is_done

    def _refuse(self, error: Exception) -> None:
        advice = error.advice if isinstance(error, PullError) else ""
        self._tell(words(str(error), _BAD), [line(f"→ {advice}")] if advice else [])
        self._offer()

    # ---- the plan

    def _show(self, plan: PullPlan) -> None:
        self.query_one("#pull-formats", Tick).label = words(self._formats(plan))
        if any(r.code == _CHOOSE for r in plan.refused):
            self._show_quants(plan)
        else:
            self._tell(self._summary(plan), self._body(plan))
        self._offer()

    def _show_quants(self, plan: PullPlan) -> None:
        options = self.query_one("#pull-quants", OptionList)
        options.clear_options()
        for n, q in enumerate(plan.quants):
            few = "1 file" if len(q.files) == 1 else f"{len(q.files)} files"
            shown = line((f"{clip(q.name, 40):<14}", _STRONG), f" {self._bytes(q.size):>10}", (f"  {few}", _DIM))
            options.add_option(Option(shown, id=f"q{n}"))
        options.highlighted = 0
        room = line(f"It holds {len(plan.quants)} quantizations; one is enough. ", (self._free(plan), _DIM))
        self._tell(room, [])

    def _formats(self, plan: PullPlan) -> str:
        if plan.request.all_formats:
            return "all formats, also what repeats the weights"
        few = "file" if len(plan.left_out) == 1 else f"{len(plan.left_out)} files"
        return f"also the {few} ({self._bytes(sum(s for _, s, _ in plan.left_out))}) left out"

    def _free(self, plan: PullPlan) -> str:
        return f"{self._bytes(plan.free)} free there"

    def _summary(self, plan: PullPlan) -> Content:
        if plan.refused:
            return words("It cannot be downloaded as it is:", _WARN)
        if plan.is_done:
            return words("Everything of it is here already.", _GOOD)
        parts: list[str | Part] = [(f"{self._bytes(plan.fetch)} to come", _STRONG)]
        if resumed := sum(f.have for f in plan.files):
            parts.append(f", {self._bytes(resumed)} came earlier")
        if plan.here:
            parts.append(f", {self._bytes(plan.here)} here already")
        if plan.copied:
            parts.append(f", {self._bytes(plan.copied)} copied on this machine")
        return line(*parts, (f"; {self._free(plan)}", _DIM))

    def _body(self, plan: PullPlan) -> list[Content]:
        out: list[Content] = []
        for refusal in plan.refused:
            out += hang(words("!", _BAD), words(refusal.message, _BAD), 2, self._width)
            if refusal.advice:
                out += hang(Content(""), line(f"→ {refusal.advice}"), 2, self._width)
        out += [Content("")] if out else []
        out += self._row("revision", plan.name.revision, (f"  {plan.commit[:7]}", _DIM))
        out += self._row("into", short_path(plan.into, self._cachetui.where.home))
        if plan.listing.licence:
            out += self._row("licence", plan.listing.licence)
        for role in ROLES:
            files = [f for f in plan.files if f.role == role]
            if files:
                names = ", ".join(f.path for f in files) if len(files) < 4 else f"{len(files)} files"
                out += self._row(role, (f"{self._bytes(sum(f.size for f in files)):>9}", _STRONG), (f"  {names}", _DIM))
        out += self._reused(plan)
        for file in plan.files:
            if file.replaces:
                out += self._row("", (f"! {file.path} takes the place of {file.replaces}", _WARN))
        for n, (why, count, size) in enumerate(_left_out(plan)):
            few = "1 file" if count == 1 else f"{count} files"
            out += self._row("left out" if n == 0 else "", f"{self._bytes(size):>9}", (f"  {few}: {why}", _DIM))
        for n, note in enumerate(plan.notes):
            out += self._row("note" if n == 0 else "", note[:1].upper() + note[1:])
        return out

    def _reused(self, plan: PullPlan) -> list[Content]:
        reused = [f for f in plan.files if f.origin is not None]
        out: list[Content] = []
        for n, f in enumerate(reused[:_REUSED]):
            assert f.origin is not None
            shared = f.action == "shared"
            what = "the shared store" if shared else short_path(f.origin.path, self._cachetui.where.home)
            holder = f" ({f.origin.holder})" if f.origin.holder else ""
            how = "copied from" if f.action == "copy" else "linked to"
            out += self._row("not fetched" if n == 0 else "", f"{f.path}", (f"  {how} {what}{holder}", _DIM))
        if len(reused) > _REUSED:
            out += self._row("", (f"and {len(reused) - _REUSED} more", _DIM))
        return out

    def _row(self, label: str, *value: str | Part) -> list[Content]:
        return hang(words(label, _DIM), line(*value), _INDENT, self._width)

    # ---- answers

    @on(OptionList.OptionSelected)
    def _quant_chosen(self, message: OptionList.OptionSelected) -> None:
        if self._plan is not None:
            self._prepare(replace(self._request, quant=self._plan.quants[message.option_index].name))

    @on(Checkbox.Changed)
    @on(Input.Submitted)
    def _otherwise(self) -> None:
        """Plan it anew as the boxes and lines say now."""
        folder = self.query_one("#pull-into", Input).value.strip()
        where = self._cachetui.where
        if folder and not where.allows(os.path.realpath(where.resolve(folder))):
            self._tell(words("That is outside of the folder this session keeps to.", _BAD), [])
            return
        local = self.query_one("#pull-local", Tick).value
        if local and not folder:
            self.query_one("#pull-into").focus()
            return
        patterns = self.query_one("#pull-files", Input).value.split()
        request = replace(
            self._request,
            all_formats=self.query_one("#pull-formats", Tick).value,
            cache_dir="" if local else folder or self._cache,
            local_dir=folder if local else "",
            include=tuple(p for p in patterns if not p.startswith("!")),
            exclude=tuple(p[1:] for p in patterns if p.startswith("!") and p != "!"),
            engine="hub" if self.query_one("#pull-hub", Tick).value else "own",
        )
        if request != self._request:
            self._prepare(request)

    @on(Button.Pressed, "#more")
    def action_more(self) -> None:
        """Show the choices that are seldom needed, or hide them."""
        more = self.query_one("#pull-more")
        if self.query_one("#more").display:
            more.display = not more.display
            self.query_one("#pull-into" if more.display else "#confirm" if self._goes else "#cancel").focus()

    @on(Button.Pressed, "#confirm")
    def action_confirm(self) -> None:
        """Choose the quantization under the cursor, or go on with the plan."""
        options = self.query_one("#pull-quants", OptionList)
        if self._goes:
            self.dismiss(self._plan)
        elif options.display and options.highlighted is not None and self._plan is not None:
            options.action_select()

    @on(Button.Pressed, "#cancel")
    def action_cancel(self) -> None:
        """Nothing happens; what the Hub still answers is not looked at."""
        self._asked += 1
        self.dismiss(None)


def _left_out(plan: PullPlan) -> list[tuple[str, int, int]]:
    """(why, files, bytes) of what does not come, by reason."""
    reasons: dict[str, list[int]] = {}
    for _, size, why in plan.left_out:
        reasons.setdefault(why, []).append(size)
    return [(why, len(sizes), sum(sizes)) for why, sizes in sorted(reasons.items())]
