"""Undo: the newest deletion comes back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from cachetui.tui import background
from cachetui.tui.handlers import operation, scanning

if TYPE_CHECKING:
    from cachetui.plans.model import Outcome, TrashEntry
    from cachetui.tui.screens.main import MainScreen

Checked = tuple[list["TrashEntry"], list[str], list[str]]
"""Entries, what cannot come back and why, files that would be missing."""


def undo(main: MainScreen) -> None:
    """Bring back everything that the newest operation deleted, in every root."""
    if not operation.is_free(main):
        return
    roots = list(main.shelf.roots.values())

    def work() -> Checked | None:
        from cachetui.plans.trash import entries

        found = entries(roots)
        return checked([e for e in found if e.id == found[0].id]) if found else None

    def found(result: Checked | None) -> None:
        if result is None:
            main.tell("The trash is empty: there is nothing to undo.")
        else:
            restore(main, result)

    background.start(main, work, found, partial(failed, main), "undo")


def checked(entries: list[TrashEntry]) -> Checked:
    """What bringing these back would meet. Reads the disk."""
    from cachetui.plans.trash import check

    refused: list[str] = []
    missing: list[str] = []
    for entry in entries:
        why, lost = check(entry)
        refused += [f"{i.target}: {why[i.number]}" for i in entry.items if i.number in why]
        missing += lost
    return entries, refused, missing


def failed(main: MainScreen, error: Exception) -> None:
    """The trash could not be read."""
    main.tell(f"The trash cannot be read: {error}", severity="error")


def restore(main: MainScreen, found: Checked) -> None:
    """Bring back; when something would be missing, only after asking."""
    entries, refused, missing = found
    if not missing:
        _restore(main, entries)
        return
    from cachetui.tui.screens.ask import AskScreen

    lines = [f"{len(missing)} files are not in the trash and would still be missing:", *missing[:8], *refused[:4]]

    def answer(yes: bool | None) -> None:
        if yes:
            _restore(main, entries)

    main.app.push_screen(AskScreen("Bring back what is left?", lines, "Bring back"), answer)


def _restore(main: MainScreen, entries: Sequence[TrashEntry]) -> None:
    from cachetui.plans.trash import restore as restore_entry

    operation.run(
        main,
        "bringing back",
        lambda progress: [restore_entry(e, progress=progress) for e in entries],
        lambda outcomes: _done(main, entries, outcomes),
    )


def _done(main: MainScreen, entries: Sequence[TrashEntry], outcomes: Sequence[Outcome]) -> None:
    back = [r.target for o in outcomes for r in o.results if r.done]
    if back:
        main.tell(f"{operation.named(back)} is back." if len(back) == 1 else f"{len(back)} items are back.")
    scan = main.shelf.scan
    keys = [(e.root, i.target) for e in entries for i in e.items]
    touched = [i for i in scan.items if any(r == i.root and t.startswith(i.id) for r, t in keys)] if scan else []
    scanning.reread(main, touched, [e.root for e in entries])
