"""Deleting: a plan, a confirmation, the trash."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from cachetui.model import Item
from cachetui.tui import background
from cachetui.tui.handlers import marks, operation, scanning, view

if TYPE_CHECKING:
    from cachetui.plans.model import Outcome, Plan
    from cachetui.tui.screens.main import MainScreen


def ask(main: MainScreen) -> None:
    """Plan moving the marked (or selected) to the trash."""
    _plan(main, permanent=False)


def ask_permanent(main: MainScreen) -> None:
    """Plan deleting it for good."""
    _plan(main, permanent=True)


def _plan(main: MainScreen, *, permanent: bool) -> None:
    if not operation.is_free(main):
        return
    chosen = marks.selected(main)
    if not chosen:
        main.tell("Select something to delete: a model, a revision or a file. Space marks several.", severity="warning")
        return
    scan = main.shelf.scan
    assert scan is not None

    def work() -> Plan:
        from cachetui.plans.removal import prepare

        return prepare(scan, chosen, permanent=permanent, bulk=len(chosen) > 1)

    def failed(error: Exception) -> None:
        main.running = None
        view.show_state(main)
        main.tell(f"No plan could be made: {error}. R reads everything again.", severity="error")

    main.running = ("planning", None)
    view.show_state(main)
    background.start(main, work, partial(_show, main), failed, "plan")


def _show(main: MainScreen, plan: Plan) -> None:
    from cachetui.tui.screens.plan import PlanScreen

    main.running = None
    view.show_state(main)

    def answer(accept: frozenset[str] | None) -> None:
        if accept is not None:
            _execute(main, plan, accept)

    main.app.push_screen(PlanScreen(plan, main.cachetui), answer)


def _execute(main: MainScreen, plan: Plan, accept: frozenset[str]) -> None:
    from cachetui.plans.executor import execute

    title = "deleting for good" if plan.permanent else "moving to the trash"
    operation.run(
        main,
        title,
        lambda progress: [execute(plan, accept=accept, progress=progress)],
        lambda outcomes: _done(main, plan, outcomes[0]),
    )


def _done(main: MainScreen, plan: Plan, outcome: Outcome) -> None:
    done = [i for i, r in zip(plan.items, outcome.results, strict=True) if r.done]
    if done:
        what = operation.named([i.target for i in done])
        if plan.permanent:
            main.tell(f"{what} deleted for good: {operation.size(main, outcome.freed)} came back.")
        else:
            frees = operation.size(main, sum(i.frees for i in done))
            main.tell(f"{what} moved to the trash. u brings it back; emptying the trash (T) frees {frees}.")
    items = [i.selection.item for i in plan.items]
    scanning.reread(main, [*items, *_sharers(main, items)])


def _sharers(main: MainScreen, items: Sequence[Item]) -> list[Item]:
    """Items elsewhere that held bytes of these: their link counts changed."""
    scan = main.shelf.scan
    if scan is None:
        return []
    return [h.item for i in items for h in scan.ledger.shared_with(i)]
