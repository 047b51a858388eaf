"""Pins: what they protect no bulk action deletes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cachetui import marks as store_of_pins
from cachetui.marks import MarksError
from cachetui.model import PINNED, Item
from cachetui.tui import background
from cachetui.tui.handlers import marks, scanning

if TYPE_CHECKING:
    from cachetui.tui.screens.main import MainScreen


def toggle(main: MainScreen) -> None:
    """Pin the marked (or selected) items; when all are pinned, unpin them."""
    items = list({s.item.key: s.item for s in marks.selected(main)}.values())
    if not items:
        main.tell("Select a model first: a heading cannot be pinned.", severity="warning")
        return
    pinned = all(PINNED in i.states for i in items)
    change = store_of_pins.unpin if pinned else store_of_pins.pin
    background.start(
        main, lambda: change(items), lambda _: _done(main, items, was_pinned=pinned), partial(_failed, main), "pin"
    )


def _done(main: MainScreen, items: list[Item], *, was_pinned: bool) -> None:
    name = items[0].name if len(items) == 1 else f"{len(items)} items"
    main.tell(f"Unpinned {name}" if was_pinned else f"Pinned {name}: no bulk deletion takes it. P unpins.")
    scanning.reread(main, items)


def _failed(main: MainScreen, error: Exception) -> None:
    hint = "" if isinstance(error, MarksError) else "\nNothing was changed."
    main.tell(f"{error}{hint}", title="Pins", severity="error")
