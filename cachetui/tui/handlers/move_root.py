"""Moving a whole root to another drive: choose the drive, look at the plan, then a job."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cachetui.model import Root
from cachetui.tui import background
from cachetui.tui.handlers import jobs, operation, transfer, view
from cachetui.tui.rows import GROUP, heading

if TYPE_CHECKING:
    from cachetui.transfer.moving import MovePlan
    from cachetui.tui.choices import Choice
    from cachetui.tui.screens.archive import Wish
    from cachetui.tui.screens.main import MainScreen


def ask(main: MainScreen) -> None:
    """Look for drives, then ask where to."""
    if not operation.is_free(main):
        return
    scan, where = main.shelf.scan, main.cachetui.where
    assert scan is not None
    root = _root(main)
    if root is None:
        main.tell("Select the folder that is to move: its heading, or anything in it.", severity="warning")
        return
    roots = [r.root for r in scan.roots]
    size = next((r.size for r in scan.roots if r.root.path == root.path), 0)

    def work() -> tuple[Choice, ...]:
        from cachetui.tui.choices import for_root

        return for_root(where, roots, root, size)

    main.running = ("looking for drives", None)
    view.show_state(main)
    background.start(main, work, partial(_choose, main, root, size), partial(transfer.failed, main), "drives")


def _root(main: MainScreen) -> Root | None:
    """The root under the cursor; of a heading the only one below it."""
    row = main.models.row
    if row is None:
        return None
    if row.kind != GROUP:
        return main.shelf.roots.get(row.key[1])
    titled = [r for r in main.shelf.roots.values() if row.title == heading(r)]
    return titled[0] if len(titled) == 1 else None


def _choose(main: MainScreen, root: Root, size: int, choices: tuple[Choice, ...]) -> None:
    from cachetui.tui.screens.archive import MoveScreen
    from cachetui.tui.widgets.columns import short_path

    transfer.done_planning(main)

    def answer(wish: Wish | None) -> None:
        if wish is not None:
            _plan(main, root, wish)

    what = short_path(root.path, main.cachetui.where.home)
    main.app.push_screen(MoveScreen(what, size, choices, main.cachetui), answer)


def _plan(main: MainScreen, root: Root, wish: Wish) -> None:
    where = main.cachetui.where

    def make() -> MovePlan:
        from cachetui.transfer.moving import prepare

        return prepare(where, root, wish.to, keep_original=wish.keep_original)

    main.running = ("planning", None)
    view.show_state(main)
    background.start(main, make, partial(_show, main), partial(transfer.failed, main), "plan")


def _show(main: MainScreen, plan: MovePlan) -> None:
    from cachetui.tui.screens.move import MovePlanScreen

    transfer.done_planning(main)

    def answer(accept: frozenset[str] | None) -> None:
        if accept is None:
            return
        from cachetui.jobs import requests

        spec = requests.move_root(
            main.cachetui.where,
            plan.root.path,
            plan.place,
            keep_original=plan.keep_original,
            accept=accept,
            digest=plan.digest,
        )
        jobs.start(main, spec)

    main.app.push_screen(MovePlanScreen(plan, main.cachetui), answer)
