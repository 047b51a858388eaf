"""Cleaning up quantized models: what is old, stale or damaged goes the way of every deletion, with plan and undo."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cachetui.model import Item
from cachetui.quant_items import STORE
from cachetui.store import Selection
from cachetui.tui import background
from cachetui.tui.handlers import delete, operation, view
from cachetui.tui.text import line, words

if TYPE_CHECKING:
    from cachetui.quantized_entries.managing import Spoilt
    from cachetui.tui.screens.main import MainScreen

_SHOWN = 4


def ask(main: MainScreen) -> None:
    """Say what there is of each kind, and ask which is meant."""
    if not operation.is_free(main):
        return
    scan = main.shelf.scan
    items = [i for i in scan.items if i.store == STORE] if scan is not None else []
    if not items:
        main.tell("There are no quantized models here.")
        return
    from cachetui.quantized_entries import managing
    from cachetui.tui.screens.choice import Answer, ChoiceScreen

    old = managing.old(items, managing.MAX_AGE, time.time())
    stale = managing.stale(items)
    lines = [
        line((_counted(main, items), "bold"), " are kept."),
        words(""),
        line((_counted(main, old), "bold"), f" neither made nor used for {managing.MAX_AGE} days"),
        line((_counted(main, stale), "bold"), " of a commit that the model has left behind"),
        words("Which are damaged is known when every byte of them was read."),
    ]
    ways = [Answer("old", "o", "Old")] if old else []
    ways += [Answer("stale", "s", "Stale")] if stale else []
    ways.append(Answer("damaged", "d", "Look for damaged"))

    def answer(choice: str | None) -> None:
        if choice == "damaged":
            _look(main, items)
        elif choice is not None:
            delete.plan(main, [Selection(i) for i in (old if choice == "old" else stale)])

    main.app.push_screen(ChoiceScreen("Clean up quantized models", lines, ways, "Nothing"), answer)


def _counted(main: MainScreen, items: Sequence[Item]) -> str:
    count = "1 entry" if len(items) == 1 else f"{len(items)} entries"
    return f"{count}, {operation.size(main, sum(i.size for i in items))}"


def _look(main: MainScreen, items: Sequence[Item]) -> None:
    """Read them beside the UI, then plan."""
    steps = background.Steps(main)

    def work() -> list[Spoilt]:
        from cachetui.quantized_entries.managing import spoilt

        return spoilt(items, progress=steps.advance)

    def found(bad: list[Spoilt]) -> None:
        main.running = None
        view.show_state(main)
        if not bad:
            main.tell("Every quantized model is as it was written.")
            return
        told = "\n".join(f"{s.item.name}: {s.reason}" for s in bad[:_SHOWN])
        main.tell(told, title=f"{len(bad)} damaged", severity="warning")
        delete.plan(main, [Selection(s.item) for s in bad])

    def failed(error: Exception) -> None:
        main.running = None
        view.show_state(main)
        main.tell(f"They could not be read: {error}", severity="error")

    main.running = ("reading quantized models", None)
    view.show_state(main)
    background.start(main, work, found, failed, "clean")
