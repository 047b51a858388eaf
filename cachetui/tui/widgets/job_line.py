"""What runs, in one line of the main screen. A click opens the jobs."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from cachetui import units
from cachetui.jobs import words as telling
from cachetui.jobs.model import Job, JobState
from cachetui.tui import job_words
from cachetui.tui.text import Part, clip, line
from cachetui.tui.widgets.columns import bar

_BAR = 16
_LEAST_TITLE = 18


class JobLine(Widget):
    """Hidden while there is nothing to tell."""

    class Pressed(Message):
        """It was clicked: the command to run."""

        def __init__(self, command: str) -> None:
            super().__init__()
            self.command = command

    def __init__(self, *, binary: bool = False) -> None:
        super().__init__(classes="-idle")
        self._binary = binary
        self._jobs: tuple[Job, ...] = ()
        self._failed: tuple[Job, ...] = ()
        self._left = 0
        self._leaving = False
        self._warm = ""

    def show(self, jobs: Sequence[Job], failed: Sequence[Job], left: int, *, leaving: bool, warm: str = "") -> None:
        """`failed`: those that nobody looked at yet; `left`: how many of an earlier run can go on.

        `warm`: what models are in memory, in words.
        """
        self._jobs = tuple(j for j in jobs if not j.state.ended)
        self._failed, self._left, self._leaving, self._warm = tuple(failed), left, leaving, warm
        self.set_class(not (self._jobs or failed or left or warm), "-idle")
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Open the jobs, or where there are none what is in memory."""
        self.post_message(self.Pressed("jobs" if self._jobs or self._failed or self._left else "memory"))

    def render(self) -> Content:
        """The first running job, then how many wait, then what failed; the title gives way first."""
        running = [j for j in self._jobs if j.state is not JobState.QUEUED]
        queued = len(self._jobs) - len(running)
        tail: list[Part] = []
        if len(running) > 1:
            tail.append((f"   +{len(running) - 1} running", job_words.DIM))
        if queued:
            tail.append((f"   {queued} queued", job_words.DIM))
        if self._left:
            tail.append((f"   {self._left} of last time not finished", job_words.WARN))
        if self._failed:
            tail.append((f"   {len(self._failed)} failed", job_words.BAD))
            if not running:
                tail.append((f": {self._failed[0].reason}", job_words.BAD))
        if self._leaving:
            tail.append(("   leaving when done", job_words.ACCENT))
        if self._warm:
            tail.append((f"   {self._warm}: w frees", job_words.DIM))
        if self._jobs or self._failed or self._left:
            tail.append(("   J jobs", job_words.DIM))
        width = self.size.width - 1
        end = line(*tail)
        shown = running[0] if running else self._jobs[0] if self._jobs else None
        if shown is None:
            style = job_words.BAD if self._failed else job_words.WARN if self._left else job_words.DIM
            return line(" ", (clip(end.plain.strip(), width), style))
        return Content.assemble(" ", self._job(shown, max(width - end.cell_length, 0)), end).truncate(width + 1)

    def _job(self, job: Job, width: int) -> Content:
        word, style = job_words.state_word(job)
        size = self._bytes
        figures: list[Part] = []
        p = job.progress
        if p is not None and job.state is not JobState.QUEUED:
            words = [telling.phase(p), telling.percent(p)]
            moving = [telling.rate(p, size), telling.left(p)] if not p.stalled else [telling.stands_still(p)]
            figures = [("  " + " · ".join(w for w in words + moving if w), "$foreground")]
        drawn: list[Part] = []
        part = job_words.part_done(p) if p is not None else None
        fixed = len(word) + 2 + line(*figures).cell_length
        if part is not None and width - fixed - _BAR - 2 >= _LEAST_TITLE:
            full = bar(part, _BAR)
            drawn = [("  " + full, "$primary"), ("░" * (_BAR - len(full)), "$foreground-disabled")]
            fixed += _BAR + 2
        title = clip(job.spec.title, max(width - fixed, _LEAST_TITLE))
        return line((word + "  ", style), (title, "$foreground"), *drawn, *figures)

    def _bytes(self, count: int) -> str:
        return units.size(count, binary=self._binary)
