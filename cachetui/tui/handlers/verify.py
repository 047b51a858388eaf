"""Verifying: a job, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from cachetui.jobs.model import Job
from cachetui.model import Item
from cachetui.tui import background
from cachetui.tui.handlers import jobs, marks, operation, scanning, transfer, view
from cachetui.tui.rows import GROUP, ROOT

if TYPE_CHECKING:
    from cachetui.plans.model import Outcome, Plan, Progress
    from cachetui.tui.app import CachetuiApp
    from cachetui.tui.screens.main import MainScreen
    from cachetui.verify.repair import Repairs

QUARANTINE = "quarantine"


def start(main: MainScreen, full: str = "") -> None:
    """Verify the marked (or selected) items; on a heading everything below it. `full`: also what did not change."""
    items = _items(main)
    if not items:
        main.tell("Select a model to verify, or a heading for everything below it.", severity="warning")
        return
    from cachetui.jobs import requests

    targets = [i.key for i in items]
    jobs.start(main, requests.verify(main.cachetui.where, targets, full=bool(full)))
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

    def answer(way: str | None) -> None:
        if way is None:
            return
        if app.screen is not app.main:
            app.screen.dismiss(None)  # the list of jobs: what follows is told by the main screen
        _repair(app.main, job, way)

    app.push_screen(ReportScreen(job, app), answer)


def _repair(main: MainScreen, job: Job, way: str) -> None:
    """Plan what `way` (repair or quarantine) does about what is damaged, and show it."""
    if not operation.is_free(main):
        return
    scan = main.shelf.scan
    assert scan is not None

    def make() -> tuple[Plan, Repairs | None]:
        from cachetui.verify import repair
        from cachetui.verify.report import verdict_of

        verdicts = [verdict_of(v) for v in (job.result or {})["verdicts"]]
        if way == QUARANTINE:
            return repair.quarantine(scan, verdicts), None
        repairs = repair.prepare(scan, verdicts)
        return repairs.plan, repairs

    main.running = ("planning", None)
    view.show_state(main)
    background.start(main, make, partial(_show_repair, main), partial(transfer.failed, main), "plan")


def _show_repair(main: MainScreen, made: tuple[Plan, Repairs | None]) -> None:
    from cachetui.tui.screens.plan import PlanScreen
    from cachetui.tui.screens.repair import RepairScreen

    transfer.done_planning(main)
    plan, repairs = made

    def work(accept: frozenset[str], progress: Progress) -> list[Outcome]:
        from cachetui.plans.executor import execute
        from cachetui.verify.repair import carry_out

        if repairs is None:
            return [execute(plan, accept=accept, progress=progress)]
        return [carry_out(repairs, accept=accept, progress=progress)]

    def answer(accept: frozenset[str] | None) -> None:
        if accept is not None:
            title = "moving to the trash" if repairs is None else "repairing"
            operation.run(main, title, partial(work, accept), partial(_repaired, main, plan, repairs is not None))

    screen = PlanScreen(plan, main.cachetui) if repairs is None else RepairScreen(plan, main.cachetui)
    main.app.push_screen(screen, answer)


def _repaired(main: MainScreen, plan: Plan, replaced: bool, outcomes: Sequence[Outcome]) -> None:
    done = [r.target for o in outcomes for r in o.results if r.done]
    if done:
        what = operation.named(done)
        then = "repaired from an equal copy" if replaced else "moved to the trash, so that it is downloaded again"
        main.tell(f"{what}: {then}. u undoes it.")
    items = {i.selection.item.key: i.selection.item for i in plan.items}
    for key in items:
        main.verdicts.pop(key, None)
    scanning.reread(main, list(items.values()))
