"""Who has the selected item open: asked beside the UI once the cursor has come to rest."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from cachetui.model import Item
from cachetui.tui import background
from cachetui.tui.handlers import view
from cachetui.tui.rows import ITEM

if TYPE_CHECKING:
    from cachetui.inuse import User
    from cachetui.tui.screens.main import MainScreen

_REST = 0.4
"""Seconds that the cursor must stay."""
_FRESH = 5.0
"""Seconds that an answer holds."""
_MOST = 50_000
"""Files of an item up to which it is asked without being asked to."""


def begin(main: MainScreen) -> None:
    """The cursor moved: ask about the row when it stays there."""
    row = main.models.row
    if row is None or row.kind != ITEM:
        return
    key = (row.key[1], row.key[2])
    asked = main.users.get(key)
    if asked is None or time.monotonic() - asked[0] > _FRESH:
        main.set_timer(_REST, partial(_ask, main, key))


def known(main: MainScreen, item: Item) -> tuple[User, ...]:
    """Who was found to have it open; empty also where nothing was asked yet."""
    asked = main.users.get(item.key)
    return asked[1] if asked is not None else ()


def _ask(main: MainScreen, key: tuple[str, str]) -> None:
    row, item = main.models.row, main.shelf.item(key)
    if row is None or row.key != (ITEM, *key) or item is None or item.file_count > _MOST:
        return

    def work() -> tuple[User, ...]:
        from cachetui.inuse import users

        return users([item]).get(key, ())

    background.start(main, work, partial(_answered, main, key), lambda e: None, "in-use")


def _answered(main: MainScreen, key: tuple[str, str], users: tuple[User, ...]) -> None:
    now = time.monotonic()
    before = main.users.get(key, (0.0, ()))[1]
    main.users = {k: v for k, v in main.users.items() if now - v[0] <= _FRESH} | {key: (now, users)}
    row = main.models.row
    if users != before and row is not None and row.key == (ITEM, *key):
        view.show_details(main, keep_place=True)
