"""Running something that changes the disk: one at a time, in a thread, with its progress in the status line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cachetui import units
from cachetui.tui import background
from cachetui.tui.background import Steps
from cachetui.tui.handlers import view

if TYPE_CHECKING:
    from cachetui.plans.model import Outcome, Progress
    from cachetui.tui.screens.main import MainScreen

_PATIENCE = 10.0
"""Seconds that the first operation waits while the trash folders are being made."""
_SHOWN = 4
"""Failures named in one toast."""


def is_free(main: MainScreen) -> bool:
    """Whether nothing runs and everything is read; says so when not."""
    if main.running is not None:
        main.tell(f"Still busy: {main.running[0]}. Wait until it is done.", severity="warning")
    elif main.shelf.scan is None:
        main.tell("Still reading: who shares what is known when it is done. Esc stops it.", severity="warning")
    else:
        return True
    return False


def run(
    main: MainScreen,
    title: str,
    work: Callable[[Progress], Sequence[Outcome]],
    then: Callable[[Sequence[Outcome]], None],
) -> None:
    """Do it; `then` gets what became of it. What failed is told here."""

    def finished(outcomes: Sequence[Outcome]) -> None:
        _over(main)
        tell_failures(main, outcomes)
        then(outcomes)

    def failed(error: Exception) -> None:
        _over(main)
        main.tell(f"{error}\nR reads everything again.", title=f"{title} failed", severity="error")

    main.running = (title, None)
    view.show_state(main)
    reserved = main.feed.reserved

    def begin() -> Sequence[Outcome]:
        reserved.wait(_PATIENCE)
        return work(Steps(main))

    background.start(main, begin, finished, failed, "operation")


def _over(main: MainScreen) -> None:
    main.running = None
    view.show_state(main)


def tell_failures(main: MainScreen, outcomes: Sequence[Outcome]) -> None:
    """What was not done, and why; and what else there is to say."""
    results = [r for o in outcomes for r in o.results if not r.done]
    if results:
        lines = [f"{r.target}: {r.message}" for r in results[:_SHOWN]]
        if len(results) > _SHOWN:
            lines.append(f"and {len(results) - _SHOWN} more")
        main.tell("\n".join(lines), title="Not done", severity="error")
    for outcome in outcomes:
        for message in outcome.messages:
            main.tell(message, severity="warning")


def size(main: MainScreen, count: int) -> str:
    """Bytes for people."""
    return units.size(count, binary=main.cachetui.binary)


def named(targets: Sequence[str]) -> str:
    """One target, or how many."""
    return targets[0] if len(targets) == 1 else f"{len(targets)} items"
