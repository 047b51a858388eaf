"""Reading the disk: take in what the scanning thread found, stop it, start it again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from cachetui.ledger import Scan
from cachetui.marks import Marks
from cachetui.model import Item
from cachetui.tui import background
from cachetui.tui.feed import Batch, Feed, disks_of, figures_of
from cachetui.tui.handlers import view
from cachetui.tui.text import Severity

if TYPE_CHECKING:
    from cachetui.plans.model import Recovery
    from cachetui.tui.screens.main import MainScreen

_SETTLE = 0.8
"""Seconds between two sortings while sizes stream in: calm for the eye, and cheap."""


def tick(main: MainScreen) -> None:
    """Some ten times a second."""
    if main.shelf.reading:
        take(main)


def take(main: MainScreen) -> None:
    """Take in what came since the last look."""
    batch = main.feed.take()
    if not batch:
        return
    _tell_recovered(main, batch.recovered)
    changed = main.shelf.apply(batch)
    main.rows_stale = main.rows_stale or bool(batch.sized)
    if batch.scan is not None or batch.named:
        _rebuild(main)
        if batch.scan is not None:
            _complete(main)
    elif (changed or main.rows_stale) and time.monotonic() - main.rows_built > _SETTLE:
        _rebuild(main)
    else:
        main.models.refresh()
        view.show_state(main)


def _rebuild(main: MainScreen) -> None:
    main.rebuild()
    view.show_details(main, keep_place=True)


def _complete(main: MainScreen) -> None:
    """Everything is read: marks of what is gone go, and what the others free can be counted."""
    from cachetui.tui.handlers import filtering, marks

    main.could_go = view.could_go(main)
    filtering.refresh(main)
    marks.prune(main)
    for problem in main.shelf.problems:
        main.tell(f"{problem.message}\n{problem.hint}".strip(), severity="warning")
    if main.card_refused:
        main.tell(main.card_refused, severity="warning")
        main.card_refused = ""
    if not main.looked_back:
        from cachetui.tui.handlers import jobs

        main.looked_back = True
        jobs.offer_unfinished(main)


def stop(main: MainScreen) -> None:
    """Stop reading; what was read stays."""
    main.feed.cancel()


def rescan(main: MainScreen) -> None:
    """Read everything again; rows, marks and cursor stay as they are meanwhile."""
    if main.shelf.reading:
        main.tell("Still reading. Esc stops.")
        return
    main.feed = Feed()
    main.feed.painted()
    main.shelf.begin_again()
    main.feed.start(main.cachetui.where)
    view.show_state(main)


def reread(main: MainScreen, changed: Sequence[Item], roots: Sequence[str] = ()) -> None:
    """After an action: read again only what it touched, in a thread."""
    from cachetui.scan import rescan as rescan_items

    before = main.shelf.scan
    known = {r.root.path for r in before.roots} if before is not None else set()
    if before is None or not known.issuperset(roots):  # a root that came back, or that the scan does not have
        rescan(main)
        return
    mine = [i for i in changed if i.root in known]

    def work() -> Batch:
        after = Marks.cautious().apply_scan(rescan_items(before, mine, roots))
        allocated = {r.root.path: r.allocated for r in after.roots}
        return Batch(scan=after, figures=figures_of(after), disks=disks_of([r.root for r in after.roots], allocated))

    background.start(main, work, partial(_reread_done, main, before), partial(_failed, main), "reread")


def _reread_done(main: MainScreen, before: Scan, batch: Batch) -> None:
    if main.shelf.scan is not before:  # something newer is there, or being read
        if not main.shelf.reading:
            rescan(main)
        return
    main.shelf.apply(batch)
    _rebuild(main)
    _complete(main)


def _failed(main: MainScreen, error: Exception) -> None:
    main.tell(f"Reading again failed: {error}. R reads everything.", severity="error")


def _tell_recovered(main: MainScreen, found: Sequence[Recovery]) -> None:
    severities: dict[str, Severity] = {"failed": "error", "pending": "warning"}
    for recovery in found:
        severity = severities.get(recovery.action, "information")
        main.tell(recovery.message, title=f"From an earlier run: {recovery.action}", severity=severity)
