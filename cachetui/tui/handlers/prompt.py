"""Asking a model, testing several, and what stays in memory of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cachetui.runnable import NotRunnable, Options, Runnable, runnable_of
from cachetui.state_models import model_of
from cachetui.store import Selection
from cachetui.tui import background
from cachetui.tui.handlers import jobs, marks, pull, scanning
from cachetui.tui.smoke import Outcome, Row
from cachetui.tui.text import line, words
from cachetui.tui.under import is_state

if TYPE_CHECKING:
    from cachetui.config import Where
    from cachetui.model import Item
    from cachetui.states import Identity
    from cachetui.tui.screens.main import MainScreen
    from cachetui.tui.screens.prompt import PromptScreen


def ask(main: MainScreen) -> None:
    """Prompt the selected model; with several marked, offer the smoke test."""
    chosen = marks.selected(main)
    if not chosen:
        main.tell("Select a model to prompt, or mark several for a smoke test.", severity="warning")
    elif len(chosen) > 1:
        _smoke(main, chosen)
    else:
        one(main, chosen[0])


def one(main: MainScreen, selection: Selection, options: Options | None = None, state: Item | None = None) -> None:
    """Look what runs it, in a thread; then open the pane, or say why not. `state`: of it, to go on from."""

    def found(told: tuple[Runnable, Identity | None]) -> None:
        from cachetui.tui.screens.prompt import PromptScreen

        runnable, who = told
        screen = PromptScreen(runnable, main.cachetui)
        main.app.push_screen(screen, lambda _: look_at_memory(main))
        if who is not None:
            screen.call_after_refresh(lambda: _like(main, screen, who))

    def failed(error: Exception) -> None:
        if not isinstance(error, NotRunnable):
            main.tell(str(error), title="Cannot be prompted", severity="error")
        elif (model := _model_of(main, selection.item)) is not None:
            one(main, Selection(model), state=selection.item)
        elif error.code == "choose-file" and (files := _gguf_files(selection)):
            _choose(main, selection, files)
        else:
            _refuse(main, selection, error)

    def look() -> tuple[Runnable, Identity | None]:
        from cachetui.tui.widgets import graphics

        graphics.prepare()
        return runnable_of(selection, options, main.cachetui.where), _identity(state)

    background.start(main, look, found, failed, "runnable")


def _identity(state: Item | None) -> Identity | None:
    """What a saved state is of; None where it cannot be read."""
    from cachetui.state_items import info_of
    from cachetui.states import StateError

    if state is None:
        return None
    try:
        return info_of(f"{state.root}/{state.path}").identity
    except StateError:
        return None


def _like(main: MainScreen, screen: PromptScreen, who: Identity) -> None:
    """Set the fields to what a state is of: then it is found and gone on from."""
    from cachetui.tui.widgets.prompt_pane import PromptPane

    pictures = [i.name for i in who.images]
    there = len(pictures) < 2 and all(os.path.isfile(name) for name in pictures)
    screen.query_one(PromptPane).set_like(who, pictures[0] if pictures and there else "")
    if there:
        main.tell("Picture and system prompt are those of the saved state: answers start from it.")
    else:
        why = "it has several pictures" if len(pictures) > 1 else "its picture is no longer where it was"
        main.tell(f"From this state only the command line asks, for {why}: cachetui prompt TEXT --state FILE")


def _model_of(main: MainScreen, item: Item) -> Item | None:
    """The model that a saved state belongs to, where it is here."""
    scan = main.shelf.scan
    if scan is None or not is_state(item):
        return None
    target = model_of(item)
    return next((i for i in scan.items if i.id == target), None)


def _gguf_files(selection: Selection) -> list[str]:
    """Models in it of which each is one file, or a first part."""
    names = dict.fromkeys(n for r in selection.item.revisions for n in r.names)
    found = [n for n in names if n.endswith(".gguf") and "mmproj" not in n.rpartition("/")[2].lower()]
    return sorted(n for n in found if "-of-" not in n or "-00001-of-" in n)


def _choose(main: MainScreen, selection: Selection, files: list[str]) -> None:
    from cachetui.tui.screens.which import WhichScreen

    def answer(at: int | None) -> None:
        if at is not None:
            one(main, Selection(selection.item, selection.revision, files[at]))

    main.app.push_screen(WhichScreen("Which one?", f"{selection.item.name} holds several models:", files), answer)


def _refuse(main: MainScreen, selection: Selection, why: NotRunnable) -> None:
    """Say why, and offer what can be done about it from here."""
    from cachetui.tui.screens.choice import Answer, ChoiceScreen

    item = selection.item
    lines = [line((item.name, "bold")), words(""), words(f"{why.reason[:1].upper()}{why.reason[1:]}.")]
    ways: list[Answer] = []
    if why.code == "remote-code":
        ways.append(Answer("allow", "y", "Allow and load"))
        risk = "That code would run with your rights: allow it only where you trust who wrote it."
        lines.append(words(risk, "$text-warning"))
    elif item.store == "hf" and (why.code == "incomplete" or pull.is_partial(item)):
        ways.append(Answer("pull", "f", "Fetch the rest"))
    if why.advice and not any(w.id == "pull" for w in ways):
        lines += [words(""), line(f"→ {why.advice}")]

    def answer(choice: str | None) -> None:
        if choice == "allow":
            one(main, selection, Options(trust_remote_code=True))
        elif choice == "pull":
            pull.plan(main, item.id, item.root)

    main.app.push_screen(ChoiceScreen("Cannot be prompted", lines, ways, "Back"), answer)


def _smoke(main: MainScreen, chosen: Sequence[Selection]) -> None:
    """A row for each of the marked, with what cannot run told at once."""
    where = main.cachetui.where

    def opened(rows: list[Row]) -> None:
        from cachetui.tui.screens.smoke import SmokeScreen

        main.app.push_screen(SmokeScreen(rows, main.cachetui), lambda _: look_at_memory(main))

    def failed(error: Exception) -> None:
        main.tell(str(error), title="No smoke test", severity="error")

    background.start(main, lambda: [_row(s, where) for s in chosen], opened, failed, "runnable")


def _row(selection: Selection, where: Where) -> Row:
    try:
        runnable = runnable_of(selection, None, where)
    except NotRunnable as e:
        return Row(selection.item.name, None, Outcome.CANNOT, reason=e.reason, advice=e.advice)
    return Row(runnable.name, runnable)


def open_memory(main: MainScreen) -> None:
    """What is in memory, and the key to let it go."""
    from cachetui.tui.screens.warm import WarmScreen

    main.app.push_screen(WarmScreen(main.cachetui), lambda _: look_at_memory(main))


def look_at_memory(main: MainScreen) -> None:
    """The main screen says what is in memory; asked in a thread."""
    warm = main.cachetui.warm
    if not warm.used or warm.looking:
        return

    def came(_: object) -> None:
        jobs.show(main)

    background.start(main, warm.sessions, came, lambda e: None, "memory")


def state_saved(main: MainScreen, path: str) -> None:
    """Read the folder again that it was saved in; one that is new is found by reading everything."""
    scan, folder = main.shelf.scan, os.path.dirname(path)
    if scan is None:
        return
    roots = [r.root.path for r in scan.roots if os.path.realpath(folder) == os.path.realpath(r.root.path)]
    if roots:
        scanning.reread(main, [], roots)
    else:
        scanning.rescan(main)
