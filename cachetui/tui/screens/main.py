"""The main screen: it holds the state and the widgets; what the commands do is in handlers/."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen

from cachetui.ledger import Scan
from cachetui.model import Item
from cachetui.tui import commands, rows
from cachetui.tui.facts import Facts
from cachetui.tui.feed import Feed
from cachetui.tui.fits import Fits, against_of
from cachetui.tui.handlers import program, scanning, view, watching
from cachetui.tui.messages import Finished, JobsMoved, Moved, Named
from cachetui.tui.rows import Key, View
from cachetui.tui.shelf import Shelf
from cachetui.tui.text import Part, Severity, toast, words
from cachetui.tui.widgets.details import Details
from cachetui.tui.widgets.job_line import JobLine
from cachetui.tui.widgets.lines import DiskStrip, KeyLine, StatusLine
from cachetui.tui.widgets.tree import ModelTree, TreeHead

if TYPE_CHECKING:
    from cachetui.inuse import User
    from cachetui.tui.app import CachetuiApp

_TICK = 0.1
_MEMORY = 5.0
"""Seconds between two looks at which models are in memory."""


class MainScreen(Screen[None]):
    """The tree, the details, the lines around them."""

    BINDINGS: ClassVar[list[BindingType]] = list(commands.bindings())
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide"), (180, "-ultrawide")]
    AUTO_FOCUS = "ModelTree"

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self.feed = feed
        self.shelf = Shelf()
        self.view = View()
        self.marked: dict[Key, None] = {}
        """Keys of marked rows, in the order they were marked."""
        self.marked_frees: int | None = None
        """What they free together; None while it is counted."""
        self.marks_version = 0
        """Counts changes of the marks, so that a late answer is known as one."""
        self.could_go: list[Part] = []
        """What stands in the status line while nothing is marked."""
        self.running: tuple[str, Moved | None] | None = None
        """The operation that runs, and how far it is."""
        self.counted: dict[tuple[str, str], tuple[Item, Scan | None, Facts]] = {}
        """Facts of the last big item that a thread counted."""
        against, self.card_refused = against_of(self.cachetui.where.config)
        """Why the card of the configuration cannot be used, until it was told."""
        self.fits = Fits(against)
        """Whether models go in."""
        self.rows_stale = False
        self.rows_built = 0.0
        self.filter_text = ""
        self.looked_back = False
        """Whether jobs of an earlier run were looked for."""
        self.saved_theme = self.cachetui.theme
        """Name of the theme that the next start would have."""
        self.users: dict[tuple[str, str], tuple[float, tuple[User, ...]]] = {}
        """Who has the files of the last looked at items open, and when that was asked (monotonic seconds)."""
        self.models = ModelTree(self.shelf, self.marked, self.cachetui.where.home, binary=self.cachetui.binary)
        self.head = TreeHead()
        self.details = Details(self.cachetui)
        self.strip = DiskStrip(self.cachetui.where.home, binary=self.cachetui.binary)
        self.status = StatusLine()
        self.job_line = JobLine(binary=self.cachetui.binary)
        self.verdicts: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}
        """What the last verification of this run said of an item (as JSON), and when: POSIX seconds."""

    @property
    def cachetui(self) -> CachetuiApp:
        """The app."""
        return cast("CachetuiApp", self.app)

    def compose(self) -> ComposeResult:
        """The strip, two panes, status, keys."""
        yield self.strip
        with Horizontal(id="panes"):
            with Vertical(id="models"):
                yield self.head
                yield self.models
            yield self.details
        yield self.job_line
        yield self.status
        yield KeyLine(commands.footer_keys(), always=2)

    def on_mount(self) -> None:
        """Names that are there already stand on the first picture."""
        self.feed.names.wait(0.05)
        scanning.take(self)
        self.call_after_refresh(self.feed.painted)
        self.app.theme_changed_signal.subscribe(self, lambda theme: program.keep_theme(self, theme))
        self.set_interval(_TICK, lambda: scanning.tick(self))
        self.set_interval(_MEMORY, self._look_at_memory)

    def _look_at_memory(self) -> None:
        if self.cachetui.warm.used:
            from cachetui.tui.handlers import prompt

            prompt.look_at_memory(self)

    def action_command(self, id_: str) -> None:
        """A key was pressed."""
        commands.command_named(id_).run(self)

    def rebuild(self) -> None:
        """Make the rows anew: the order, the filter or what is open changed."""
        self.models.now = self.cachetui.clock()
        self.models.show_rows(rows.build(self.shelf, self.view))
        self.head.show(self.view.sort, self.view.reverse)
        pane = self.query_one("#models")
        pane.border_title = words(f"Models · by {self.view.sort}, {self.view.grouping}")
        pane.border_subtitle = words(f"filter: {self.filter_text}") if self.filter_text else None
        self.rows_stale = False
        self.rows_built = time.monotonic()
        view.show_state(self)

    def tell(self, message: str, *, title: str = "", severity: Severity = "information") -> None:
        """A toast; the message may hold outside strings."""
        toast(self.cachetui, message, title=title, severity=severity)

    @on(Named)
    def _names_came(self) -> None:
        scanning.take(self)
        self.call_after_refresh(self.feed.painted)

    @on(Finished)
    def _work_finished(self, message: Finished) -> None:
        message.then()

    @on(Moved)
    def _operation_moved(self, message: Moved) -> None:
        if self.running is not None:
            self.running = (self.running[0], message)
            view.show_state(self)

    @on(JobsMoved)
    def _jobs_moved(self) -> None:
        from cachetui.tui.handlers import jobs

        jobs.moved(self)

    @on(JobLine.Pressed)
    def _jobs_clicked(self, message: JobLine.Pressed) -> None:
        self.action_command(message.command)

    @on(ModelTree.Highlighted)
    def _cursor_moved(self) -> None:
        view.show_details(self)
        watching.begin(self)

    @on(ModelTree.Toggle)
    def _row_clicked(self, message: ModelTree.Toggle) -> None:
        view.toggle(self, message.key)

    @on(ModelTree.MarkClicked)
    def _mark_clicked(self, message: ModelTree.MarkClicked) -> None:
        from cachetui.tui.handlers import marks

        marks.toggle_key(self, message.key)

    @on(TreeHead.Sort)
    def _head_clicked(self, message: TreeHead.Sort) -> None:
        view.sort_by(self, message.by)

    @on(KeyLine.Pressed)
    def _key_clicked(self, message: KeyLine.Pressed) -> None:
        self.action_command(message.command)
