"""All jobs: what runs, what waits, what became of the others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from cachetui import units
from cachetui.jobs import words as telling
from cachetui.jobs.model import Job, JobState, Spec
from cachetui.tui import job_words
from cachetui.tui.job_words import BAD, DIM, STRONG, WARN
from cachetui.tui.screens.listing import ListScreen
from cachetui.tui.text import Part, clip, hang, line, words
from cachetui.tui.widgets.columns import bar
from cachetui.tui.widgets.lines import KeyLine

if TYPE_CHECKING:
    from cachetui.tui.app import CachetuiApp

_SECOND = "$foreground 80%"
_BAR = 24
_KEYS = (
    ("cancel", "x", "stop"), ("pause", "p", "pause or go on"), ("again", "r", "start again"),
    ("clear", "c", "clear the ended"), ("report", "Enter", "report"), ("leave", "Esc", "back"),
)  # fmt: skip
_SHOWN = 40
_LEFT_OVER = "not finished"


class JobsScreen(ListScreen[None]):
    """Newest last, as they were asked for. What failed says why, and what to do."""

    CSS_PATH = "jobs.tcss"
    BINDINGS = [
        ("escape,q,J", "leave", "Back"),
        ("x,delete", "cancel", "Stop"),
        ("p,space", "pause", "Pause or go on"),
        ("r", "again", "Start again"),
        ("c", "clear", "Clear the ended"),
        ("j", "move('down')", "Down"),
        ("k", "move('up')", "Up"),
    ]

    def __init__(self, app: CachetuiApp) -> None:
        super().__init__()
        self._cachetui = app
        self._desk = app.desk
        self._shown: dict[str, Job | Spec] = {}

    def compose(self) -> ComposeResult:
        """The list, and what there is to know of the one under the cursor."""
        with Vertical(id="jobs") as box:
            box.border_title = words("Jobs")
            yield Static(markup=False, id="jobs-sum")
            yield OptionList(id="jobs-list", markup=False)
            with VerticalScroll(id="jobs-more", can_focus=False):
                yield Static(markup=False, id="jobs-text")
            yield KeyLine(_KEYS)

    def on_mount(self) -> None:
        """Show what there is."""
        self.show()

    def on_resize(self) -> None:
        """Draw for the new width."""
        self._shown = {}
        self.show()

    def show(self) -> None:
        """As it is now: rows that did not change stay, and the cursor with them."""
        if not self.query("#jobs-text"):  # not made yet
            return
        rows: dict[str, Job | Spec] = {spec.id: spec for spec in self._desk.unfinished}
        rows |= {job.id: job for job in self._desk.jobs()}
        self._desk.see()
        options = self.query_one("#jobs-list", OptionList)
        if rows.keys() == self._shown.keys():
            for n, (id_, row) in enumerate(rows.items()):
                if row != self._shown[id_]:
                    options.replace_option_prompt_at_index(n, self._row(row))
        else:
            chosen = self._chosen
            options.clear_options()
            options.add_options([Option(self._row(row), id=f"j{n}") for n, row in enumerate(rows.values())])
            ids = list(rows)
            options.highlighted = None if not ids else ids.index(chosen) if chosen in rows else len(ids) - 1
        options.display = bool(rows)
        self._shown = rows
        self.query_one("#jobs-sum", Static).update(self._sum(rows))
        self._show_more()

    def _sum(self, rows: dict[str, Job | Spec]) -> Content:
        if not rows:
            return words("Nothing runs. Downloading (D), archiving (a), restoring (r) and verifying (v) show up here.")
        counts: dict[str, int] = {}
        for row in rows.values():
            word = _LEFT_OVER if isinstance(row, Spec) else job_words.state_word(row)[0]
            counts[word] = counts.get(word, 0) + 1
        return line((", ".join(f"{n} {word}" for word, n in counts.items()), DIM))

    @property
    def _width(self) -> int:
        return max(self.query_one("#jobs").content_size.width - 2, 20)

    def _bytes(self, count: int) -> str:
        return units.size(count, binary=self._cachetui.binary)

    def _row(self, row: Job | Spec) -> Content:
        spec = row if isinstance(row, Spec) else row.spec
        word, style = (_LEFT_OVER, WARN) if isinstance(row, Spec) else job_words.state_word(row)
        room = self._width - len(word) - 2
        head = line((word, style), "  ", (clip(spec.title, max(room, 10)), STRONG))
        body = (
            line(("from last time: r goes on, x gives it up", _SECOND)) if isinstance(row, Spec) else self._second(row)
        )
        return Content("\n").join((head, body.truncate(self._width)))

    def _second(self, job: Job) -> Content:
        if job.state.ended:
            style = BAD if job.state is JobState.FAILED else _SECOND
            return line((job_words.summary(job, self._bytes) or "finished", style))
        p = job.progress
        if p is None:
            waits = "waits for its turn" if job.state is JobState.QUEUED else "starting…"
            return line((waits, _SECOND))
        parts: list[Part] = []
        if (part := job_words.part_done(p)) is not None:
            cells = min(_BAR, self._width // 4)
            drawn = bar(part, cells)
            parts = [(drawn, "$primary"), ("░" * (cells - len(drawn)), "$foreground-disabled"), ("  ", "")]
        told = [telling.percent(p), telling.amount(p, self._bytes)]
        if p.stalled:
            told.append(telling.stands_still(p))
        elif job.state is JobState.RUNNING:
            told += [telling.rate(p, self._bytes), telling.left(p)]
        told.append(telling.phase(p))
        return line(*parts, (" · ".join(t for t in told if t), _SECOND))

    @on(OptionList.OptionHighlighted)
    def _show_more(self) -> None:
        row = self._shown.get(self._chosen or "")
        text = Content("\n").join(self._more(row)) if row is not None else Content("")
        self.query_one("#jobs-text", Static).update(text)

    def _more(self, row: Job | Spec) -> list[Content]:
        width = self._width - 2

        def tell(label: str, *value: str | Part) -> list[Content]:
            return hang(words(label, DIM), line(*value), 10, width)

        spec = row if isinstance(row, Spec) else row.spec
        out = tell("what", spec.title)
        if isinstance(row, Spec):
            return out + tell("", "The program was closed before it was done. What was copied is not copied again.")
        if row.progress is not None and not row.state.ended and row.progress.name:
            out += tell("now", clip(row.progress.name, width - 10))
        if row.started is not None:
            now = self._cachetui.clock() if row.ended is None else row.ended
            out += tell("took" if row.ended else "since", f"{max(int(now - row.started), 0) // 60} min "
                        f"{max(int(now - row.started), 0) % 60} s")  # fmt: skip
        if row.reason:
            out += tell("why", (row.reason, BAD if row.state is JobState.FAILED else ""))
        if row.advice:
            out += tell("what now", f"→ {row.advice}")
        return out + self._results(row, tell)

    def _results(self, job: Job, tell: partial[list[Content]] | object) -> list[Content]:
        assert callable(tell)
        out: list[Content] = []
        result = job.result or {}
        rows = [r for r in result.get("results", ()) if isinstance(r, dict)]
        for n, r in enumerate(rows[:_SHOWN]):
            done = r.get("done") is not False
            sign: Part = ("✓ done ", "$text-success") if done else ("✗ not done ", BAD)
            freed = r.get("freed", 0)
            more = f"  {self._bytes(freed)} came back" if isinstance(freed, int) and freed else ""
            out += tell("items" if n == 0 else "", sign, str(r.get("target", "")), (more, DIM))
            if r.get("message"):
                out += tell("", (str(r["message"]), DIM if done else BAD))
        if len(rows) > _SHOWN:
            out += tell("", (f"and {len(rows) - _SHOWN} more", DIM))
        for message in result.get("messages", ()):
            out += tell("note", str(message))
        return out

    @property
    def _chosen(self) -> str | None:
        at = self.query_one("#jobs-list", OptionList).highlighted
        ids = list(self._shown)
        return ids[at] if at is not None and at < len(ids) else None

    @on(OptionList.OptionSelected)
    def action_report(self) -> None:
        """What a verification found."""
        row = self._shown.get(self._chosen or "")
        if isinstance(row, Job):
            from cachetui.tui.handlers import verify

            verify.open_report(self._cachetui, row)

    def action_cancel(self) -> None:
        """Stop it; what was copied is used when it is started again. One of last time is discarded, when asked."""
        row = self._shown.get(self._chosen or "")
        if isinstance(row, Spec):
            from cachetui.tui.handlers import jobs

            jobs.discard(self._cachetui, row)
        elif row is not None:
            self._desk.cancel(row.id)
            self.show()

    def action_pause(self) -> None:
        """Hold it, or let it go on."""
        if (id_ := self._chosen) is not None:
            self._desk.pause_or_resume(id_)
            self.show()

    def action_again(self) -> None:
        """Start it once more, or go on with it."""
        if (id_ := self._chosen) is not None:
            from cachetui.tui.handlers import jobs

            jobs.again(self._cachetui, id_)
            self.show()

    def action_clear(self) -> None:
        """Take what has ended out of the list."""
        self._desk.clear()
        self.show()

    def action_leave(self) -> None:
        """Back; the jobs go on."""
        self.dismiss(None)
