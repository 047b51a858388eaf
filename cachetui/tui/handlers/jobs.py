"""Jobs: start them, show them, and read again what one touched when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from cachetui.jobs.model import Job, JobState, Spec
from cachetui.tui import background, job_words, warmdesk
from cachetui.tui.handlers import operation, scanning
from cachetui.tui.text import Severity, toast

if TYPE_CHECKING:
    from cachetui.tui.app import CachetuiApp
    from cachetui.tui.screens.main import MainScreen


def open_jobs(main: MainScreen) -> None:
    """All of them."""
    from cachetui.tui.screens.jobs import JobsScreen

    def closed(_: None) -> None:
        show(main)

    main.app.push_screen(JobsScreen(main.cachetui), closed)


def start(main: MainScreen, spec: Spec) -> None:
    """Put a job into the queue and say so."""
    desk = main.cachetui.desk
    if _try(main.cachetui, lambda: desk.submit(spec)):
        job = desk.job(spec.id)
        waits = job is not None and job.state is JobState.QUEUED
        main.tell(f"{spec.title}: {'waits for its turn' if waits else 'begun'}. J shows the jobs.")
    show(main)


def again(app: CachetuiApp, id_: str) -> None:
    """Start a job once more, or go on with one of an earlier run."""
    _try(app, lambda: app.desk.again(id_))


def discard(app: CachetuiApp, spec: Spec) -> None:
    """Give up a job of an earlier run, when that is really meant: what it copied goes."""
    from cachetui.tui.screens.ask import AskScreen

    main = app.main

    def work() -> tuple[int, str]:
        from cachetui.jobs.discarding import discard

        return discard(spec, app.where)

    def done(result: tuple[int, str]) -> None:
        count, why = result
        if why:
            main.tell(why, title="Not discarded", severity="warning")
        else:
            app.desk.let_go(spec.id)
            main.tell(f"{spec.title}: given up; {count} unfinished copies went.")
        show(main)

    def failed(error: Exception) -> None:
        main.tell(str(error), title="Not discarded", severity="error")

    def answer(yes: bool | None) -> None:
        if yes:
            background.start(main, work, done, failed, "discard")

    lines = [spec.title, "", "What was copied so far is removed. The originals were not touched."]
    app.push_screen(AskScreen("Give up this job?", lines, "Give up"), answer)


def _try(app: CachetuiApp, act: Callable[[], object]) -> bool:
    from cachetui.jobs.unfinished import TakenError

    try:
        act()
    except TakenError as e:
        toast(app, str(e), title="Not started", severity="warning")
        return False
    return True


def offer_unfinished(main: MainScreen) -> None:
    """What an earlier run left can go on: say so, and list it."""

    def work() -> tuple[Spec, ...]:
        from cachetui.jobs.queue import Queue

        return Queue.unfinished()

    def found(left: tuple[Spec, ...]) -> None:
        if not left:
            return
        main.cachetui.desk.take_over(left)
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        main.tell(f"{left[0].title}{more} can go on: J shows it, r there goes on.", title="Not finished last time")
        show(main)

    background.start(main, work, found, lambda e: None, "unfinished")


def moved(main: MainScreen) -> None:
    """Something about the jobs changed: show it, and see to what has ended."""
    desk = main.cachetui.desk
    ended = desk.newly_ended()
    for job in ended:
        _ended(main, job)
    show(main)
    if desk.leaving and not desk.active:
        main.app.exit()


def show(main: MainScreen) -> None:
    """The line in the main screen, and the list where it is open."""
    from cachetui.tui.screens.jobs import JobsScreen

    screen = main.app.screen
    if isinstance(screen, JobsScreen):
        screen.show()
    desk = main.cachetui.desk
    warm = warmdesk.in_words(main.cachetui.warm.seen, partial(operation.size, main))
    main.job_line.show(desk.jobs(), desk.unseen_failures(), len(desk.unfinished), leaving=desk.leaving, warm=warm)


_TOLD: dict[JobState, Severity] = {JobState.FAILED: "error", JobState.CANCELLED: "warning"}


def _ended(main: MainScreen, job: Job) -> None:
    word = job_words.state_word(job)[0]
    said = job_words.summary(job, partial(operation.size, main))
    advice = f"\n{job.advice}" if job.advice else ""
    severity: Severity = "warning" if job_words.undone(job) else _TOLD.get(job.state, "information")
    main.tell(f"{job.spec.title}{': ' if said else ''}{said}{advice}", title=f"Job {word}", severity=severity)
    if job.spec.kind == "verify":
        from cachetui.tui.handlers import verify

        verify.remember(main, job)
    elif job.spec.kind == "pull":
        from cachetui.tui.handlers import pull

        pull.ended(main, job)
    elif job.spec.kind in ("move-root", "adopt", "quantize"):
        scanning.rescan(main)
    else:
        _reread(main, job)


def _reread(main: MainScreen, job: Job) -> None:
    """The rows that the job was about; archives that show up as roots only now are found by reading everything."""
    scan = main.shelf.scan
    if scan is None:
        return
    targets = [(str(t.get("root", "")), str(t.get("target", ""))) for t in job.spec.request.get("targets", ())]
    items = [i for i in scan.items if any(r == i.root and t == i.id for r, t in targets)]
    archives = [r.root.path for r in scan.roots if r.root.archive]
    if not archives and job.state is JobState.DONE:
        scanning.rescan(main)
    else:
        scanning.reread(main, items, [*(r for r, _ in targets), *archives])
