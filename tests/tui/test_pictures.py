"""What it looks like, compared with pictures that a person has looked at (`--snapshot-update` makes them anew).

How full the disk of this machine is, who owns the files and how many blocks its file system takes for a folder
are put beside: they differ from machine to machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from tui_world import NOW, select, settle, until

from cachetui import units
from cachetui.ledger import Ledger
from cachetui.tui import describe, feed
from cachetui.tui.app import CachetuiApp
from cachetui.tui.feed import Disk
from cachetui.tui.screens.plan import PlanScreen
from cachetui.tui.screens.trash import TrashScreen

Compare = Callable[..., bool]


@pytest.fixture(autouse=True)
def same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """One disk, one owner, whole blocks of content only."""
    disk = Disk(1, "/", 2_000_000_000_000, 812_000_000_000, 640_000_000_000)
    monkeypatch.setattr(feed, "disks_of", lambda roots, allocated: (disk,))
    monkeypatch.setattr("cachetui.tui.handlers.scanning.disks_of", lambda roots, allocated: (disk,))
    monkeypatch.setattr(describe, "_owner", lambda uid, gid: "me:me")
    monkeypatch.setattr(Ledger, "frees", lambda self, items: sum(i.size for i in items))
    size = units.size
    monkeypatch.setattr(describe.Page, "size", lambda self, n: "…" if n is None else size(n // 10_000 * 10_000))


def _run(*steps: Any) -> Callable[[Pilot[None]], Any]:
    async def before(pilot: Pilot[None]) -> None:
        main = await settle(pilot)
        for step in steps:
            if isinstance(step, str):
                await pilot.press(step)
            else:
                await step(pilot, main)
        await settle(pilot)

    return before


def _to(name: str) -> Any:
    async def step(pilot: Pilot[None], main: Any) -> None:
        select(main, name)
        await pilot.pause()

    return step


def _open(screen: type) -> Any:
    async def step(pilot: Pilot[None], main: Any) -> None:
        await until(pilot, lambda: isinstance(pilot.app.screen, screen))

    return step


def test_the_main_screen(app: CachetuiApp, snap_compare: Compare) -> None:
    steps = _run(_to("microsoft/phi-2"), "space", "k", "l", "j")
    assert snap_compare(app, terminal_size=(150, 42), run_before=steps)


def test_a_narrow_terminal(app: CachetuiApp, snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=(80, 24), run_before=_run("j", "j", "j"))


def test_an_ultrawide_terminal_without_colours(
    world: Any, monkeypatch: pytest.MonkeyPatch, snap_compare: Compare
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = CachetuiApp(world, clock=lambda: NOW)
    assert snap_compare(app, terminal_size=(220, 40), run_before=_run(_to("acme/half-copied")))


def test_the_trash(app: CachetuiApp, snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=(100, 24), run_before=_run("T", _open(TrashScreen)))


def test_help(app: CachetuiApp, snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=(100, 40), run_before=_run("question_mark"))


def test_a_plan_that_refuses(app: CachetuiApp, snap_compare: Compare) -> None:
    async def nothing_but_the_plan(pilot: Pilot[None], main: Any) -> None:
        from cachetui.plans.model import Caution, Plan, PlannedItem, Stay
        from cachetui.store import Selection

        items = {i.name: i for i in main.shelf.scan.items}
        busy = PlannedItem(
            Selection(items["openai/whisper-large-v3-turbo"]),
            "hf:openai/whisper-large-v3-turbo",
            stays=(Stay("blobs/ab/abcdef", 2_200_000, ("hf:acme/support-bot-base",)),),
            cautions=(Caution("in-use", "in use by python (4211, mapped)"),),
        )
        free = PlannedItem(Selection(items["microsoft/phi-2"]), "hf:microsoft/phi-2")
        pinned = PlannedItem(
            Selection(items["meta-llama/Llama-3.2-3B-Instruct"]),
            "hf:meta-llama/Llama-3.2-3B-Instruct",
            refused="pinned: unpin it, or delete it alone",
        )
        pilot.app.push_screen(PlanScreen(Plan("delete", (free, busy, pinned), ()), pilot.app))  # type: ignore[arg-type]

    assert snap_compare(app, terminal_size=(110, 34), run_before=_run(nothing_but_the_plan))
