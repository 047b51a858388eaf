"""Archiving: choose the drive, look at the plan, then a job."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from cachetui.jobs.model import Spec
from cachetui.store import Selection
from cachetui.tui import background
from cachetui.tui.handlers import transfer, view

if TYPE_CHECKING:
    from cachetui.transfer.model import TransferPlan
    from cachetui.tui.choices import Choice
    from cachetui.tui.screens.archive import Wish
    from cachetui.tui.screens.main import MainScreen


def ask(main: MainScreen) -> None:
    """Look for drives, then ask where to."""
    selections = transfer.chosen(main, "archive")
    scan = main.shelf.scan
    if not selections or scan is None:
        return
    where, roots = main.cachetui.where, [r.root for r in scan.roots]
    sources = frozenset(s.item.root for s in selections)
    size = sum({s.item.key: s.item.size - s.item.away for s in selections}.values())

    def work() -> tuple[Choice, ...]:
        from cachetui.tui.choices import gather

        return gather(where, roots, sources, size)

    main.running = ("looking for drives", None)
    view.show_state(main)
    background.start(main, work, partial(_choose, main, selections, size), partial(transfer.failed, main), "drives")


def _choose(main: MainScreen, selections: Sequence[Selection], size: int, choices: tuple[Choice, ...]) -> None:
    from cachetui.tui.screens.archive import ArchiveScreen

    transfer.done_planning(main)
    what = selections[0].item.name if len(selections) == 1 else f"{len(selections)} items"

    def answer(wish: Wish | None) -> None:
        if wish is not None:
            _plan(main, selections, wish)

    main.app.push_screen(ArchiveScreen(what, size, choices, main.cachetui), answer)


def _plan(main: MainScreen, selections: Sequence[Selection], wish: Wish) -> None:
    scan = main.shelf.scan
    if scan is None:
        main.tell("Everything is being read again: try once more when that is done.", severity="warning")
        return

    def make() -> TransferPlan:
        from cachetui.transfer.archiving import prepare

        return prepare(
            scan, selections, wish.to, keep=wish.keep, keep_original=wish.keep_original, bulk=len(selections) > 1
        )

    def spec(plan: TransferPlan, accept: frozenset[str]) -> Spec:
        from cachetui.jobs import requests

        return requests.archive(
            main.cachetui.where,
            transfer.targets(plan, accept),
            plan.directory,
            keep=plan.keep,
            keep_original=plan.keep_original,
            bulk=len(selections) > 1,
            accept=accept,
            digest=transfer.digest(plan, accept),
        )

    transfer.plan(main, make, spec)
