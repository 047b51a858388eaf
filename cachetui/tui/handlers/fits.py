"""Whether models go in: the table of the details pane, what it compares with, and everything against one card."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from cachetui.model import Item
from cachetui.tui import background, fits
from cachetui.tui.fits import Against, Known
from cachetui.tui.handlers import view
from cachetui.tui.rows import ITEM

if TYPE_CHECKING:
    from cachetui.memory.model import Device
    from cachetui.tui.screens.main import MainScreen

T = TypeVar("T")


def known(main: MainScreen, item: Item) -> Known | None:
    """What is known of an item; where nothing is, a thread finds it out and shows it."""
    if not main.fits.devices:
        _find_devices(main)
    found = main.fits.known(item)
    if found is None and main.fits.asked is None:
        main.fits.asked = item.key
        _start(main, partial(_examine, item, main.fits.against.context), partial(_examined, main), "estimate")
    return found


def _start(main: MainScreen, work: Callable[[], T], then: Callable[[T], None], name: str) -> None:
    def failed(error: Exception) -> None:
        main.fits.asked = None
        main.tell(f"The memory it needs cannot be told: {error}", severity="warning")

    background.start(main, work, then, failed, name)


def _examine(item: Item, context: int) -> Known:
    import cachetui.tui.fit_page  # here, so that the UI does not wait for it  # noqa: F401

    return fits.examine(item, context)


def _examined(main: MainScreen, found: Known) -> None:
    main.fits.asked = None
    main.fits.keep(found)
    _show(main)


def _find_devices(main: MainScreen) -> None:
    against = main.fits.against

    def came(result: tuple[tuple[Device, ...], int]) -> None:
        if main.fits.against == against:
            main.fits.devices, main.fits.ram = result
            _show(main)

    if main.fits.looking != against:
        main.fits.looking = against
        _start(main, partial(fits.look_up, against), came, "devices")


def _show(main: MainScreen) -> None:
    """The row under the cursor again: it is the one that was asked about, or it is asked about now."""
    row = main.models.row
    if row is not None and row.kind == ITEM:
        view.show_details(main, keep_place=True)


def choose(main: MainScreen) -> None:
    """Another card, or another context."""
    from cachetui.tui.screens.card import CardScreen

    def answer(against: Against | None) -> None:
        if against is not None:
            turn_to(main, against)

    main.app.push_screen(CardScreen(main.fits.against, main.cachetui), answer)


def turn_to(main: MainScreen, against: Against) -> None:
    """Compare with this from now on, also after the next start."""
    before = main.fits.against
    main.fits.turn_to(against)
    _show(main)
    if against == before:
        return

    def work() -> None:
        from cachetui.config_edit import save_value

        if against.card != before.card:
            save_value("card", against.card)
        if against.context != before.context:
            save_value("context", str(against.context or ""))

    def failed(error: Exception) -> None:
        main.tell(f"The card is not kept for the next start: {error}", severity="warning")

    background.start(main, work, lambda _: None, failed, "card")


def what_runs(main: MainScreen) -> None:
    """Everything on disk and in the catalogue against one card."""
    from cachetui.tui.screens.runs import RunsScreen

    def answer(target: str | None) -> None:
        if target is not None:
            _go(main, target)

    main.app.push_screen(RunsScreen(main), answer)


def _go(main: MainScreen, target: str) -> None:
    """To the row of what is here; else to its download."""
    rows = main.models.rows
    for n in range(len(rows)):
        if rows[n].kind == ITEM and rows[n].key[2] == target:
            main.models.move_to(n)
            return
    from cachetui.tui.handlers import pull

    if main.shelf.scan is not None and any(i.id == target for i in main.shelf.scan.items):
        main.tell("It is here, but the filter or a closed group hides it.")
        return
    pull.plan(main, target)
