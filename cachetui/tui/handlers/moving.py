"""Moving the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachetui.tui.handlers import view

if TYPE_CHECKING:
    from cachetui.tui.screens.main import MainScreen


def by(main: MainScreen, rows: int) -> None:
    """So many rows down."""
    main.models.move_to(main.models.cursor + rows)


def by_page(main: MainScreen, direction: int) -> None:
    """Half a page."""
    by(main, direction * max(main.models.size.height // 2, 1))


def to_top(main: MainScreen) -> None:
    """First row."""
    main.models.move_to(0)


def to_bottom(main: MainScreen) -> None:
    """Last row."""
    main.models.move_to(len(main.models.rows) - 1)


def toggle_row(main: MainScreen) -> None:
    """Open or close."""
    row = main.models.row
    if row is not None and row.open is not None:
        view.toggle(main, row.key)


def open_row(main: MainScreen) -> None:
    """Open; when it is open, to its first child."""
    row = main.models.row
    if row is None or row.open is None:
        return
    if not row.open:
        view.toggle(main, row.key)
    elif main.models.cursor + 1 < len(main.models.rows) and main.models.rows[main.models.cursor + 1].level > row.level:
        by(main, 1)


def close_row(main: MainScreen) -> None:
    """Close; when it is closed or cannot be, to its parent."""
    row = main.models.row
    if row is None:
        return
    if row.open:
        view.toggle(main, row.key)
        return
    position = main.models.cursor - 1
    while position >= 0 and main.models.rows[position].level >= row.level:
        position -= 1
    main.models.move_to(position)
