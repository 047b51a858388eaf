"""The live filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachetui.filters import FilterError, compile_filter
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.tui.screens.main import MainScreen


def open_filter(main: MainScreen) -> None:
    """Show the line to type in; it is made when first used."""
    from cachetui.tui.widgets.filter_line import FilterLine

    found = main.query(FilterLine)
    if found:
        found.first().open()
    else:
        main.query_one("#models").mount(FilterLine(main.filter_text), before=0)


def apply(main: MainScreen, text: str) -> str:
    """Filter by this text; returns what is wrong with it, and then the list stays as it was."""
    scan = main.shelf.scan
    try:
        ledger = scan.ledger if scan is not None else None
        known = main.shelf.is_outdated if main.shelf.asked else None
        test = compile_filter(text, ledger, outdated=known, ask="press N") if text.strip() else None
    except FilterError as e:
        return safe(str(e))
    main.filter_text = text.strip()
    main.view.test = test
    main.view.words = tuple(text.lower().split())
    main.rebuild()
    return ""


def refresh(main: MainScreen) -> None:
    """The same filter on a newer scan: `frees` and `shared` are counted in it."""
    if main.filter_text:
        apply(main, main.filter_text)


def clear(main: MainScreen) -> None:
    """Show everything again."""
    from cachetui.tui.widgets.filter_line import FilterLine

    for line in main.query(FilterLine):
        line.remove()
    apply(main, "")
    main.models.focus()
