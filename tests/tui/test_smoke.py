"""The smoke test of marked models, key by key, with workers that answer by script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from processes import alive, wait_for
from prompt_world import QWEN, ask, open_prompt, scripted
from textual.pilot import Pilot
from textual.widgets import OptionList
from tui_world import select, settle, until

from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.main import MainScreen
from cachetui.tui.screens.smoke import SmokeScreen
from cachetui.tui.smoke import Outcome

MARKED = (QWEN, "microsoft/phi-2", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "mistralai/Mixtral-8x7B-Instruct-v0.1")


@pytest.fixture
def talking(app: CachetuiApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The app on the demo, with workers that answer by script; none is left running."""
    monkeypatch.setenv("CACHETUI_TEST_GO", str(tmp_path / "go"))
    yield scripted(app)
    app.warm.close()


async def _mark(pilot: Pilot[None]) -> SmokeScreen:
    main = await settle(pilot)
    for name in MARKED:
        select(main, name)
        await pilot.press("space")
    await pilot.press("p")
    await until(pilot, lambda: isinstance(pilot.app.screen, SmokeScreen))
    screen = pilot.app.screen
    assert isinstance(screen, SmokeScreen)
    return screen


def _rows(screen: SmokeScreen) -> list[str]:
    options = screen.query_one(OptionList)
    return [str(options.get_option_at_index(n).prompt) for n in range(options.option_count)]


def _outcomes(screen: SmokeScreen) -> list[str]:
    return [r.outcome.value for r in screen._smoke.rows]


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_a_row_for_each_model(talking: CachetuiApp, size: tuple[int, int]) -> None:
    async with talking.run_test(size=size, notifications=True) as pilot:
        screen = await _mark(pilot)
        assert "3 models, one after the other" in str(screen.query_one("#smoke-sum").render())
        assert _outcomes(screen) == ["waiting", "waiting", "waiting", "cannot run"]
        assert "which is not there now" in _rows(screen)[3] and not screen._smoke.begun
        await pilot.press("enter")
        await until(pilot, lambda: screen._smoke.begun and not screen._smoke.running)
        await until(pilot, lambda: "✓ works" in _rows(screen)[2])
        assert _outcomes(screen) == ["works", "failed", "works", "cannot run"]
        rows = _rows(screen)
        assert "3.2 s" in rows[0] and "21.4" in rows[0] and "A red boat lies" in rows[0]
        assert "it needs 5.6 GB" in rows[1]
        assert all(r.memory > 0 for r in screen._smoke.rows if r.outcome is Outcome.WORKS)
        assert talking.warm.sessions() == ()
        await pilot.press("j")
        more = str(screen.query_one("#smoke-text").render())
        assert "→ load it with 4 bits" in more
        await pilot.press("y")
        assert "tokens/s  first words or why" in talking.clipboard.splitlines()[0]
        await pilot.press("Y")
        told = json.loads(talking.clipboard)["models"]
        assert [m["outcome"] for m in told] == ["works", "failed", "works", "cannot run"]
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(talking.screen, MainScreen))


async def test_one_is_skipped_and_the_rest_stopped(
    talking: CachetuiApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachetui.tui.smoke.ABOUT_A_PICTURE", "wait")
    monkeypatch.setattr("cachetui.tui.smoke.WITHOUT_PICTURE", "wait")
    async with talking.run_test(size=(120, 36)) as pilot:
        screen = await _mark(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "A red boat lies" in _rows(screen)[0])
        pid = talking.warm.sessions()[0].pid
        await pilot.press("n")
        await until(pilot, lambda: "■ stopped" in _rows(screen)[0])
        wait_for(lambda: not alive(pid))
        await until(pilot, lambda: "A red boat lies" in _rows(screen)[2])
        await pilot.press("escape")
        await until(pilot, lambda: not screen._smoke.running)
        assert _outcomes(screen) == ["stopped", "failed", "stopped", "cannot run"]
        assert talking.warm.sessions() == ()


async def test_what_was_in_memory_before_stays(talking: CachetuiApp) -> None:
    async with talking.run_test(size=(120, 36)) as pilot:
        prompt = await open_prompt(pilot, QWEN)
        await ask(pilot, prompt, "what is it")
        await pilot.press("escape")
        screen = await _mark(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: screen._smoke.begun and not screen._smoke.running)
        assert [w.name for w in talking.warm.sessions()] == [QWEN]
        assert screen._smoke.rows[0].load_seconds == 0
