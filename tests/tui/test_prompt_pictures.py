"""What asking looks like, compared with pictures that a person has looked at. The workers answer by script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from needs import needs
from prompt_world import QWEN, answered, ask, open_prompt, png, scripted
from test_pictures import same_everywhere  # noqa: F401  # its disks, owners and sizes
from textual.pilot import Pilot
from textual.widgets import Input
from tui_world import NOW, select, settle, until

from cachetui.config import Where
from cachetui.jobs.session import Session
from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.pick import PickScreen
from cachetui.tui.screens.prompt import PromptScreen
from cachetui.tui.screens.smoke import SmokeScreen
from cachetui.tui.screens.warm import WarmScreen
from cachetui.tui.widgets.fields import QuestionArea

needs("PIL")
Compare = Callable[..., bool]


@pytest.fixture(autouse=True)
def same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """How much memory there is, and what of it a process takes, differs from machine to machine."""
    monkeypatch.setattr("cachetui.jobs.warm.free_memory", lambda device: 8_200_000_000)
    monkeypatch.setattr(Session, "memory", lambda self: 4_300_000_000 if self.pid else 0)


@pytest.fixture
def talking(world: Where, monkeypatch: pytest.MonkeyPatch) -> Iterator[CachetuiApp]:
    """The app on the demo, with workers that answer by script, and a picture of two colours to look at."""
    png(Path.cwd() / "boat.png", (200, 90, 60), (640, 420))
    app = scripted(CachetuiApp(world, clock=lambda: NOW))
    yield app
    app.warm.close()


async def _asked(pilot: Pilot[None]) -> PromptScreen:
    screen = await open_prompt(pilot, QWEN)
    screen.query_one("#picture-path", Input).value = "boat.png"
    screen.query_one("#lower", Input).value = "100k"
    screen.query_one("#system", Input).value = "Be brief."
    await ask(pilot, screen, "What is in this picture?")
    await ask(pilot, screen, "fail please")
    await ask(pilot, screen, "again")
    await until(pilot, lambda: screen.shown is not None and screen.shown.lowered)
    await until(pilot, lambda: answered(screen) and "in memory" in str(screen.query_one("#prompt-head").render()))
    await _calm(pilot)
    return screen


async def _calm(pilot: Pilot[None]) -> None:
    for screen in pilot.app.screen_stack:
        for question in screen.query(QuestionArea):
            question.cursor_blink = False
    await settle(pilot)
    await pilot.pause(0.5)
    await settle(pilot)


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 50)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_a_conversation(talking: CachetuiApp, size: tuple[int, int], snap_compare: Compare) -> None:
    assert snap_compare(talking, terminal_size=size, run_before=_asked)


def test_a_conversation_without_colours(world: Where, monkeypatch: pytest.MonkeyPatch, snap_compare: Compare) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    png(Path.cwd() / "boat.png", (200, 90, 60), (640, 420))
    app = scripted(CachetuiApp(world, clock=lambda: NOW))
    assert snap_compare(app, terminal_size=(100, 30), run_before=_asked)
    app.warm.close()


def test_a_model_without_pictures_in_light_colours(talking: CachetuiApp, snap_compare: Compare) -> None:
    async def before(pilot: Pilot[None]) -> None:
        talking.theme = "cachetui-light"
        await open_prompt(pilot, "meta-llama/Llama-3.2-3B-Instruct")
        await _calm(pilot)

    assert snap_compare(talking, terminal_size=(100, 30), run_before=before)


def test_picking(talking: CachetuiApp, snap_compare: Compare) -> None:
    async def before(pilot: Pilot[None]) -> None:
        await open_prompt(pilot, QWEN)
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(pilot.app.screen, PickScreen))
        await until(pilot, lambda: "640 × 420" in str(pilot.app.screen.query_one("#pick-about").render()))  # type: ignore[attr-defined]
        await _calm(pilot)

    assert snap_compare(talking, terminal_size=(100, 30), run_before=before)


def test_what_is_in_memory(talking: CachetuiApp, monkeypatch: pytest.MonkeyPatch, snap_compare: Compare) -> None:
    async def before(pilot: Pilot[None]) -> None:
        screen = await open_prompt(pilot, QWEN)
        await ask(pilot, screen, "hi")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(pilot.app.screen, WarmScreen) and bool(pilot.app.screen._shown))
        await _calm(pilot)

    assert snap_compare(talking, terminal_size=(90, 24), run_before=before)


@pytest.mark.parametrize("size", [(80, 24), (120, 34)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_a_smoke_test(talking: CachetuiApp, size: tuple[int, int], snap_compare: Compare) -> None:
    async def before(pilot: Pilot[None]) -> None:
        main = await settle(pilot)
        for name in (QWEN, "microsoft/phi-2", "mistralai/Mixtral-8x7B-Instruct-v0.1"):
            select(main, name)
            await pilot.press("space")
        await pilot.press("p")
        await until(pilot, lambda: isinstance(pilot.app.screen, SmokeScreen))
        smoke: Any = pilot.app.screen
        await pilot.press("enter")
        await until(pilot, lambda: smoke._smoke.begun and not smoke._smoke.running)
        await pilot.press("j")
        await _calm(pilot)

    assert snap_compare(talking, terminal_size=size, run_before=before)
