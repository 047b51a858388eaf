"""Downloading: find a model (or go on with one that is here in part, or outdated), look at the plan, then a job."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cachetui.jobs.model import Job
from cachetui.model import ARCHIVED, FOREIGN, OFFLINE, PARTIAL, PARTIALS, Item
from cachetui.tui import background
from cachetui.tui.handlers import jobs, operation, scanning
from cachetui.tui.rows import selection_of
from cachetui.tui.text import line, words

if TYPE_CHECKING:
    from cachetui.download.ollama import OllamaPlan
    from cachetui.download.planning import PullPlan
    from cachetui.tui.screens.main import MainScreen

_HUB_KINDS = ("model", "dataset", "space", "kernel")
_SOON = 0.5
"""Seconds until it is asked again whether everything is read."""


def ask(main: MainScreen) -> None:
    """Search; on a row that is here in part or outdated, offer that one first."""
    item = _under_cursor(main)
    newer = "" if item is None else main.shelf.newer(item)
    if item is None or not (newer or is_partial(item)):
        search(main)
        return
    from cachetui.tui.screens.choice import Answer, ChoiceScreen

    if newer:
        told = f"Upstream main is at {newer[:7]}. The revision that is here stays until you delete it."
        ways = [Answer("this", "u", "Update it")]
    else:
        told = "A download of it stopped. What came is used; only the rest is fetched."
        ways = [Answer("this", "c", "Go on with it")]

    def answer(choice: str | None) -> None:
        if choice == "this":
            plan(main, item.id + _ref(item), item.root)
        elif choice == "search":
            search(main)

    lines = [line((item.name, "bold"), f"  {operation.size(main, item.size)} here"), words(""), words(told)]
    ways.append(Answer("search", "s", "Another model"))
    main.app.push_screen(ChoiceScreen("Download", lines, ways, "Neither"), answer)


def search(main: MainScreen) -> None:
    """Open the picker."""
    from cachetui.tui.screens.search import SearchScreen

    scan = main.shelf.scan
    here = frozenset(i.name for i in scan.items if i.store == "hf" and i.kind == "model") if scan is not None else ()

    def answer(target: str | None) -> None:
        if target is not None:
            plan(main, target)

    main.app.push_screen(SearchScreen(here, main.cachetui), answer)


def plan(main: MainScreen, target: str, cache: str = "") -> None:
    """Show what downloading it would do; `cache`: a hub cache other than the usual one."""
    if target.startswith("ollama:"):
        _ask_server(main, target)
        return
    from cachetui.download.planning import Request
    from cachetui.jobs import requests
    from cachetui.tui.screens.pull import PullScreen

    def answer(made: PullPlan | None) -> None:
        if made is not None:
            jobs.start(main, requests.pull(made.job(), made.into))

    main.app.push_screen(PullScreen(Request(target, cache_dir=cache), main.shelf.scan, main.cachetui), answer)


def ended(main: MainScreen, job: Job) -> None:
    """Read the folder again that it wrote into; one that is new is found by reading everything."""
    if main.shelf.reading:  # what is being read now may have passed that folder already
        main.set_timer(_SOON, lambda: ended(main, job))
        return
    request, scan = job.spec.request, main.shelf.scan
    into = str(request.get("local_dir") or request.get("cache") or "")
    roots = [] if scan is None or not into else [r.root.path for r in scan.roots if _same(r.root.path, into)]
    if scan is None or not roots:
        scanning.rescan(main)
        return
    name = str(request.get("target", "")).partition("@")[0]
    items = [i for i in scan.items if i.root in roots and (i.id == name or i.id == name.rpartition(":")[0])]
    scanning.reread(main, items, roots)


def _same(root: str, into: str) -> bool:
    return root == into or os.path.realpath(into) == root


def _under_cursor(main: MainScreen) -> Item | None:
    """The repo of a hub cache that the row is, or belongs to."""
    row = main.models.row
    selection = selection_of(row.key, main.shelf) if row is not None else None
    if selection is None or selection.item.store != "hf" or selection.item.kind not in _HUB_KINDS:
        return None
    return None if {ARCHIVED, FOREIGN, OFFLINE} & set(selection.item.states) else selection.item


def is_partial(item: Item) -> bool:
    """Whether a download of it stopped."""
    return PARTIAL in item.states or any(p.commit == PARTIALS for p in item.parts)


def _ref(item: Item) -> str:
    """The revision to go on with: main, unless only another one is here."""
    refs = [ref for r in item.revisions for ref in r.refs]
    return f"@{refs[0]}" if len(refs) == 1 and refs[0] != "main" else ""


def _ask_server(main: MainScreen, target: str) -> None:
    """Ollama's server decides what comes: only whether it is there and has it can be told before."""
    where = main.cachetui.where

    def work() -> OllamaPlan:
        from cachetui.download import ollama

        return ollama.prepare(where, target)

    def show(made: OllamaPlan) -> None:
        from cachetui.jobs import requests
        from cachetui.tui.screens.ask import AskScreen

        def answer(yes: bool | None) -> None:
            if yes:
                jobs.start(main, requests.pull(made.job(), ""))

        lines = [
            f"{made.target}: the Ollama server {made.version} at {made.url} pulls it.",
            "It has it already: only what changed will come." if made.here else "",
            "How much comes is known once it has asked its registry.",
        ]
        main.app.push_screen(AskScreen("Download through Ollama?", [n for n in lines if n], "Pull"), answer)

    def failed(error: Exception) -> None:
        advice = getattr(error, "advice", "")
        main.tell(f"{error}\n{advice}".strip(), title="Not downloaded", severity="error")

    background.start(main, work, show, failed, "server")
