"""Driving the UI in tests: wait until it is calm, find rows, read what it told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from textual.pilot import Pilot

from cachetui.tui.screens.main import MainScreen

_LASTING = ("cachetui-job", "cachetui-session", "cachetui-warm")
"""Threads of jobs, and of models that stay in memory."""
NOW = 1_760_000_000.0
"""Long ago, so that what the builders leave young is `now`."""


def main_of(pilot: Pilot[None]) -> MainScreen:
    """The main screen, whatever lies above it."""
    screen = pilot.app.screen_stack[0]
    assert isinstance(screen, MainScreen)
    return screen


async def settle(pilot: Pilot[None]) -> MainScreen:
    """Wait until everything is read and no thread of the UI works any more; jobs may go on."""
    main = main_of(pilot)

    def busy() -> bool:
        names = [t.name for t in threading.enumerate()]
        threads = [n for n in names if n.startswith("cachetui-") and not n.startswith(_LASTING)]
        return bool(threads) or main.shelf.reading or main.running is not None

    await until(pilot, lambda: not busy())
    return main


async def until(pilot: Pilot[None], true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that a thread brings about, and for the screen to show it."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        await pilot.pause(0.02)
    await pilot.pause()
    await pilot.pause()


def select(main: MainScreen, name: str) -> None:
    """Put the cursor on the item of this name."""
    for n in range(len(main.models.rows)):
        row = main.models.rows[n]
        if row.kind == "item" and row.title == name:
            main.models.move_to(n)
            return
    raise AssertionError(f"no row {name}")


def names(main: MainScreen) -> list[str]:
    """Titles of the item rows, in order."""
    rows = main.models.rows
    return [rows[n].title for n in range(len(rows)) if rows[n].kind == "item"]


def toasts(pilot: Pilot[None]) -> list[str]:
    """What was told."""
    return [n.message for n in pilot.app._notifications]
