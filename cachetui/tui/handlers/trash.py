"""The trash: list, restore, empty."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from cachetui.tui import background
from cachetui.tui.handlers import operation, scanning, undo

if TYPE_CHECKING:
    from cachetui.plans.model import Outcome, TrashEntry
    from cachetui.tui.screens.main import MainScreen
    from cachetui.tui.screens.trash import Wish


def open_trash(main: MainScreen) -> None:
    """Read what is in the trash, then show it."""
    if not operation.is_free(main):
        return
    roots = list(main.shelf.roots.values())

    def work() -> tuple[TrashEntry, ...]:
        from cachetui.plans.trash import entries

        return entries(roots)

    background.start(main, work, partial(_show, main), partial(undo.failed, main), "trash")


def _show(main: MainScreen, entries: tuple[TrashEntry, ...]) -> None:
    from cachetui.tui.screens.trash import TrashScreen

    def answer(wish: Wish | None) -> None:
        if wish is None:
            return
        if wish.restore:
            chosen = list(wish.entries)
            then = partial(undo.restore, main)
            background.start(main, lambda: undo.checked(chosen), then, partial(undo.failed, main), "check")
        else:
            _empty(main, wish.entries)

    main.app.push_screen(TrashScreen(entries, main.cachetui), answer)


def _empty(main: MainScreen, entries: Sequence[TrashEntry]) -> None:
    """Only after a question of its own where content would be left only on a drive that is away."""
    from cachetui.transfer.emptying import offline

    def looked(absent: dict[TrashEntry, str]) -> None:
        if not absent:
            _emptying(main, entries)
            return
        from cachetui.tui.screens.ask import AskScreen

        def answer(yes: bool | None) -> None:
            chosen = entries if yes else [e for e in entries if e not in absent]
            if chosen:
                _emptying(main, chosen)

        lines = [*list(absent.values())[:8], "", "No leaves these in the trash."]
        main.app.push_screen(AskScreen("Originals whose copy is away", lines, "Empty these too", loud=True), answer)

    background.start(main, lambda: offline(entries), looked, partial(undo.failed, main), "look")


def _emptying(main: MainScreen, entries: Sequence[TrashEntry]) -> None:
    from cachetui.transfer.emptying import empty

    operation.run(
        main, "emptying the trash", lambda progress: [empty(entries, progress=progress)], partial(_emptied, main)
    )


def _emptied(main: MainScreen, outcomes: Sequence[Outcome]) -> None:
    freed = operation.size(main, sum(o.freed for o in outcomes))
    if any(r.done for o in outcomes for r in o.results):
        main.tell(f"The space is free: {freed} came back.")
    for trouble in [m for o in outcomes for m in o.messages]:
        main.tell(trouble, severity="warning")
    scanning.reread(main, [], list(dict.fromkeys(x.root for o in outcomes for x in o.results)))
