"""What archiving and restoring have in common: plan in a thread, show the plan, then a job."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from cachetui.jobs.model import Spec
from cachetui.store import Selection
from cachetui.tui import background
from cachetui.tui.handlers import jobs, marks, operation, view

if TYPE_CHECKING:
    from cachetui.transfer.model import TransferPlan
    from cachetui.tui.screens.main import MainScreen

Target = tuple[str, str]


def chosen(main: MainScreen, verb: str) -> list[Selection]:
    """What to act on; says what to do where there is nothing."""
    if not operation.is_free(main):
        return []
    found = marks.selected(main)
    if not found:
        main.tell(f"Select a model to {verb}. Space marks several.", severity="warning")
    return found


def plan(
    main: MainScreen, make: Callable[[], TransferPlan], spec: Callable[[TransferPlan, frozenset[str]], Spec]
) -> None:
    """Make the plan beside the UI, show it, and when it is confirmed start the job that `spec` describes."""

    def confirmed(made: TransferPlan, accept: frozenset[str]) -> None:
        jobs.start(main, spec(made, accept))
        marks.clear(main)

    show_plan(main, make, confirmed)


def show_plan(
    main: MainScreen, make: Callable[[], TransferPlan], confirmed: Callable[[TransferPlan, frozenset[str]], None]
) -> None:
    """Make a plan beside the UI, and show it."""

    def show(made: TransferPlan) -> None:
        from cachetui.tui.screens.transfer import TransferScreen

        done_planning(main)

        def answer(accept: frozenset[str] | None) -> None:
            if accept is not None:
                confirmed(made, accept)

        main.app.push_screen(TransferScreen(made, main.cachetui), answer)

    main.running = ("planning", None)
    view.show_state(main)
    background.start(main, make, show, partial(failed, main), "plan")


def targets(made: TransferPlan, accept: frozenset[str]) -> list[Target]:
    """(root, target) of what will be acted on."""
    return [(i.root, i.target) for i in made.accepted if {c.code for c in i.cautions} <= accept]


def digest(made: TransferPlan, accept: frozenset[str]) -> str:
    """Of the plan, where all of it will be done: then the worker can compare it with what it finds."""
    return made.digest if len(targets(made, accept)) == len(made.items) else ""


def done_planning(main: MainScreen) -> None:
    """Nothing runs any more."""
    main.running = None
    view.show_state(main)


def failed(main: MainScreen, error: Exception) -> None:
    """No plan came of it."""
    done_planning(main)
    main.tell(f"No plan could be made: {error}. R reads everything again.", severity="error")
