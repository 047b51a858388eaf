"""What a verification found: worst first, with what can be done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from cachetui import units
from cachetui.jobs.model import Job, JobState
from cachetui.tui.text import Part, hang, line, words
from cachetui.tui.widgets.columns import short_path
from cachetui.verify.model import CANNOT_TELL, DAMAGED, INCOMPLETE, INTACT, OUTCOMES

if TYPE_CHECKING:
    from cachetui.tui.app import CachetuiApp

_DIM, _STRONG, _WARN, _BAD = "$foreground-muted", "bold", "$text-warning", "$text-error"
SIGNS: dict[str, Part] = {
    INTACT: ("✓ intact", "$text-success"),
    DAMAGED: ("✗ damaged", _BAD),
    INCOMPLETE: ("! incomplete", _WARN),
    CANNOT_TELL: ("? cannot tell", _DIM),
}
"""Each outcome as a sign and a word, never only as a colour."""
_ITEMS = 300
_FINDINGS = 12
_WORD = 15


class ReportScreen(ModalScreen[str | None]):
    """Scrolls; any of the usual keys leaves. Answers with what is to be done about what is damaged, or None."""

    CSS_PATH = "report.tcss"
    BINDINGS = [
        ("escape,q,enter", "dismiss", "Back"),
        ("j", "scroll('down')", "Down"),
        ("k", "scroll('up')", "Up"),
        ("f", "mend('repair')", "Repair"),
        ("x", "mend('quarantine')", "Quarantine"),
    ]

    def __init__(self, job: Job, app: CachetuiApp) -> None:
        super().__init__()
        self._job = job
        self._cachetui = app

    def compose(self) -> ComposeResult:
        """One long text."""
        with VerticalScroll(id="report") as box:
            box.border_title = words("Verify report")
            mend = "f repairs from equal copies   x moves the damaged to the trash   "
            box.border_subtitle = words(f"{mend if self._damaged else ''}Esc goes back")
            yield Static(Content("\n").join(self._lines()), markup=False)

    @property
    def _damaged(self) -> bool:
        verdicts = (self._job.result or {}).get("verdicts", ())
        return any(isinstance(v, dict) and v.get("outcome") == DAMAGED for v in verdicts)

    def action_mend(self, way: str) -> None:
        """Do something about what is damaged; nothing where nothing is."""
        if self._damaged:
            self.dismiss(way)

    def action_scroll(self, direction: str) -> None:
        """As in vi."""
        box = self.query_one("#report", VerticalScroll)
        if direction == "down":
            box.scroll_down(animate=False)
        else:
            box.scroll_up(animate=False)

    def _bytes(self, count: Any) -> str:
        return units.size(count if isinstance(count, int) else 0, binary=self._cachetui.binary)

    def _lines(self) -> list[Content]:
        width = min(102, self.app.size.width * 96 // 100 - 8)
        verdicts = [v for v in (self._job.result or {}).get("verdicts", ()) if isinstance(v, dict)]
        verdicts.sort(key=lambda v: OUTCOMES.index(v["outcome"]) if v.get("outcome") in OUTCOMES else -1)
        out = [self._sum(verdicts), Content("")]
        for verdict in verdicts[:_ITEMS]:
            out += self._item(verdict, width)
        if len(verdicts) > _ITEMS:
            out.append(words(f"and {len(verdicts) - _ITEMS} more", _DIM))
        return out

    def _sum(self, verdicts: list[dict[str, Any]]) -> Content:
        parts: list[str | Part] = []
        for outcome in OUTCOMES:
            if count := sum(v.get("outcome") == outcome for v in verdicts):
                sign, style = SIGNS[outcome]
                parts += [("  " if parts else "", ""), (f"{count} {sign.split(' ', 1)[1]}", style)]
        read = sum(v.get("read", 0) for v in verdicts)
        known = sum(v.get("remembered", 0) for v in verdicts)
        parts.append((f"   {self._bytes(read)} read", _DIM))
        if known:
            parts.append((f", {self._bytes(known)} unchanged since it was last read", _DIM))
        if self._job.state is JobState.CANCELLED:
            parts.append(("   stopped before the end: the rest was not looked at", _WARN))
        return line(*parts)

    def _item(self, verdict: dict[str, Any], width: int) -> list[Content]:
        sign, style = SIGNS.get(str(verdict.get("outcome")), (str(verdict.get("outcome")), _WARN))
        where = short_path(str(verdict.get("root", "")), self._cachetui.where.home)
        name = line((str(verdict.get("target", "")), _STRONG), (f"  {where}", _DIM))
        out = hang(words(sign, style), name, _WORD, width)
        findings = [f for f in verdict.get("findings", ()) if isinstance(f, dict)]
        for finding in findings[:_FINDINGS]:
            what = str(finding.get("name") or "")
            told: list[str | Part] = [(f"{what}: " if what else "", ""), (str(finding.get("message", "")), style)]
            out += hang(Content(""), line(*told), _WORD + 2, width)
            path = short_path(str(finding.get("path", "")), self._cachetui.where.home)
            out += hang(Content(""), words(path, _DIM), _WORD + 2, width)
            if finding.get("offer"):
                out += hang(Content(""), line(f"→ {finding['offer']}"), _WORD + 2, width)
        if len(findings) > _FINDINGS:
            out += hang(Content(""), words(f"and {len(findings) - _FINDINGS} more", _DIM), _WORD + 2, width)
        return out
