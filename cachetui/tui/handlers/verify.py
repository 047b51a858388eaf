"""Verifying: a job, and what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachetui.jobs.model import Job
from cachetui.model import Item
from cachetui.tui.handlers import jobs, marks, view
from cachetui.tui.rows import GROUP, ROOT

if TYPE_CHECKING:
    from cachetui.tui.app import CachetuiApp
    from cachetui.tui.screens.main import MainScreen


def start(main: MainScreen) -> None:
    """Verify the marked (or selected) items; on a heading everything below it."""
    items = _items(main)
    if not items:
        main.tell("Select a model to verify, or a heading for everything below it.", severity="warning")
        return
    from cachetui.jobs import requests

    targets = [i.key for i in items]
    jobs.start(main, requests.verify(main.cachetui.where, targets))
    marks.clear(main)


def _items(main: MainScreen) -> list[Item]:
    row = main.models.row
    if not main.marked and row is not None and row.kind in (GROUP, ROOT):
        keys = marks.below(main.models.rows, row.key)
        found = [main.shelf.item((k[1], k[2])) for k in keys]
        return [i for i in found if i is not None]
    return list({s.item.key: s.item for s in marks.selected(main)}.values())


def remember(main: MainScreen, job: Job) -> None:
    """Keep what it said of each item, for the details."""
    for verdict in (job.result or {}).get("verdicts", ()):
        key = (str(verdict.get("root", "")), str(verdict.get("target", "")))
        main.verdicts[key] = (job.ended or 0.0, verdict)
    view.show_details(main, keep_place=True)


def open_report(app: CachetuiApp, job: Job) -> None:
    """What a verification found, item by item; nothing for other jobs."""
    if job.spec.kind != "verify" or not (job.result or {}).get("verdicts"):
        return
    from cachetui.tui.screens.report import ReportScreen

    app.push_screen(ReportScreen(job, app))
