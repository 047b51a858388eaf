"""Deleting: a plan, a confirmation, the trash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from textual.content import Content

from cachetui.model import ARCHIVED, Item
from cachetui.store import Selection
from cachetui.tui import background
from cachetui.tui.handlers import marks, operation, scanning, view
from cachetui.tui.text import line, words

if TYPE_CHECKING:
    from cachetui.plans.model import Outcome, Plan, Progress
    from cachetui.tui.screens.main import MainScreen

_SHOWN = 8
"""Archived items named in a question."""


def ask(main: MainScreen) -> None:
    """Plan moving the marked (or selected) to the trash."""
    _plan(main, permanent=False)


def ask_permanent(main: MainScreen) -> None:
    """Plan deleting it for good."""
    _plan(main, permanent=True)


def plan(main: MainScreen, chosen: Sequence[Selection]) -> None:
    """Plan moving these to the trash, whatever is marked."""
    _make(main, chosen, permanent=False)


def _plan(main: MainScreen, *, permanent: bool) -> None:
    if not operation.is_free(main):
        return
    chosen = marks.selected(main)
    if not chosen:
        main.tell("Select something to delete: a model, a revision or a file. Space marks several.", severity="warning")
        return
    if any({ARCHIVED} & set(s.item.states) and s.is_whole for s in chosen):
        _ask_link(main, chosen, permanent=permanent)
    else:
        _make(main, chosen, permanent=permanent)


def _ask_link(main: MainScreen, chosen: Sequence[Selection], *, permanent: bool) -> None:
    """Of what is archived: only the link, or the archive's copy too."""
    from cachetui.tui.screens.choice import Answer, ChoiceScreen

    archived = [s.item for s in chosen if ARCHIVED in s.item.states]
    lines = [line((i.name, "bold"), f"  {operation.size(main, i.away)} in the archive") for i in archived[:_SHOWN]]
    if len(archived) > _SHOWN:
        lines.append(words(f"and {len(archived) - _SHOWN} more"))
    lines += [
        Content(""),
        words("The link takes no room here. Without it the files stay in the archive, and A links them again."),
    ]

    def answer(choice: str | None) -> None:
        if choice is not None:
            _make(main, chosen, permanent=permanent, with_archive=choice == "both")

    ways = [Answer("link", "l", "Only the link"), Answer("both", "c", "The copy there too")]
    main.app.push_screen(ChoiceScreen("It lies in an archive", lines, ways, "Neither"), answer)


def _make(main: MainScreen, chosen: Sequence[Selection], *, permanent: bool, with_archive: bool = False) -> None:
    scan = main.shelf.scan
    if scan is None:
        main.tell("Everything is being read again: try once more when that is done.", severity="warning")
        return

    def work() -> Plan:
        from cachetui.plans.removal import prepare

        return prepare(scan, chosen, permanent=permanent, bulk=len(chosen) > 1, with_archive=with_archive)

    def failed(error: Exception) -> None:
        main.running = None
        view.show_state(main)
        main.tell(f"No plan could be made: {error}. R reads everything again.", severity="error")

    main.running = ("planning", None)
    view.show_state(main)
    background.start(main, work, partial(_show, main), failed, "plan")


def _show(main: MainScreen, plan: Plan) -> None:
    from cachetui.tui.screens.plan import PlanScreen

    main.running = None
    view.show_state(main)

    def answer(accept: frozenset[str] | None) -> None:
        if accept is not None:
            _execute(main, plan, accept)

    main.app.push_screen(PlanScreen(plan, main.cachetui), answer)


def _execute(main: MainScreen, plan: Plan, accept: frozenset[str]) -> None:
    from cachetui.plans.executor import execute
    from cachetui.transfer.dropping import drop_deleted

    def work(progress: Progress) -> list[Outcome]:
        outcome = execute(plan, accept=accept, progress=progress)
        return [replace(outcome, messages=(*outcome.messages, *drop_deleted(plan, outcome)))]

    title = "deleting for good" if plan.permanent else "moving to the trash"
    operation.run(
        main,
        title,
        work,
        lambda outcomes: _done(main, plan, outcomes[0]),
    )


def _done(main: MainScreen, plan: Plan, outcome: Outcome) -> None:
    done = [i for i, r in zip(plan.items, outcome.results, strict=True) if r.done]
    if done:
        what = operation.named([i.target for i in done])
        if plan.permanent:
            main.tell(f"{what} deleted for good: {operation.size(main, outcome.freed)} came back.")
        else:
            frees = operation.size(main, sum(i.frees for i in done))
            main.tell(f"{what} moved to the trash. u brings it back; emptying the trash (T) frees {frees}.")
    items = [i.selection.item for i in plan.items]
    scanning.reread(main, [*items, *_sharers(main, items)])


def _sharers(main: MainScreen, items: Sequence[Item]) -> list[Item]:
    """Items elsewhere that held bytes of these: their link counts changed."""
    scan = main.shelf.scan
    if scan is None:
        return []
    return [h.item for i in items for h in scan.ledger.shared_with(i)]
