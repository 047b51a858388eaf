"""Which repos have a newer revision upstream: asked when a person asks for it, never by itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cachetui.model import ARCHIVED, FOREIGN, OFFLINE, Item
from cachetui.tui import background
from cachetui.tui.handlers import filtering, marks, operation, view

if TYPE_CHECKING:
    from cachetui.download.updates import Upstream
    from cachetui.tui.screens.main import MainScreen

_REF = "main"


def check(main: MainScreen) -> None:
    """Ask for the marked, or for everything where nothing is marked; what is newer is marked `outdated`."""
    if not operation.is_free(main):
        return
    scan = main.shelf.scan
    assert scan is not None
    items = [s.item for s in marks.selected(main)] if main.marked else list(scan.items)
    wanted = [i for i in items if _can_be_asked(i)]
    if not wanted:
        main.tell("No repo of a hub cache has a main revision here.", severity="warning")
        return

    def work() -> tuple[Upstream, ...]:
        from cachetui.download.client import Client
        from cachetui.download.updates import check

        return tuple(check(Client(10.0, tries=1), wanted, _REF))

    main.tell(f"Asking the Hub about {_repos(len(wanted))}.")
    background.start(main, work, partial(_found, main), partial(_failed, main), "updates")


def _can_be_asked(item: Item) -> bool:
    away = {ARCHIVED, FOREIGN, OFFLINE} & set(item.states)
    return item.store == "hf" and not away and any(_REF in r.refs for r in item.revisions)


def _repos(count: int) -> str:
    return "1 repo" if count == 1 else f"{count} repos"


def _found(main: MainScreen, answers: tuple[Upstream, ...]) -> None:
    for one in answers:
        main.shelf.outdated.pop(one.item.key, None)
        if one.outdated:
            main.shelf.outdated[one.item.key] = one.there
    main.shelf.asked = main.shelf.asked or any(a.there for a in answers)
    filtering.refresh(main)
    main.models.refresh()
    view.show_details(main, keep_place=True)
    old = [a for a in answers if a.outdated]
    silent = [a for a in answers if not a.there]
    if old:
        names = ", ".join(a.item.name for a in old[:4]) + (", …" if len(old) > 4 else "")
        main.tell(f"{names}. D on the row updates it.", title=f"{_repos(len(old))} outdated", severity="warning")
    elif len(silent) < len(answers):
        main.tell(f"{_repos(len(answers) - len(silent))} up to date.")
    if silent:
        told = f"{_repos(len(silent))} cannot be told, e.g. {silent[0].item.name}: {silent[0].reason}"
        main.tell(told, severity="warning")


def _failed(main: MainScreen, error: Exception) -> None:
    advice = getattr(error, "advice", "")
    main.tell(f"{error}\n{advice}".strip(), title="Not asked", severity="error")
