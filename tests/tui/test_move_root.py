"""Moving a whole root in the UI, key by key, to a second file system, with the real worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from second import mounted
from textual.pilot import Pilot
from textual.widgets import Button, Input, OptionList
from tui_world import select, settle, toasts, until

from cachetui.jobs.model import JobState
from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.archive import MoveScreen
from cachetui.tui.screens.move import MovePlanScreen

LLAMA = "llama3.2:3b"


@pytest.fixture
def drive(app: CachetuiApp) -> Iterator[Path]:
    """A second file system inside what the app may look at."""
    with mounted(Path(app.where.env["HOME"]) / "drive", size="200m") as path:
        yield path
        app.desk.close()


async def _plan(pilot: Pilot[None], to: Path) -> MovePlanScreen:
    await pilot.press("M")
    await until(pilot, lambda: isinstance(pilot.app.screen, MoveScreen))
    assert "Only" not in str(pilot.app.screen.query("Tick"))
    pilot.app.screen.query_one(Input).value = str(to)
    pilot.app.screen.query_one(Input).focus()
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, MovePlanScreen))
    assert isinstance(pilot.app.screen, MovePlanScreen)
    return pilot.app.screen


async def test_an_ollama_store_moves_and_leaves_a_link(app: CachetuiApp, drive: Path) -> None:
    store = Path(app.where.env["OLLAMA_MODELS"])
    before = {p.relative_to(store): p.read_bytes() for p in store.rglob("*") if p.is_file()}
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        main = await settle(pilot)
        position = next(n for n in range(len(main.models.rows)) if main.models.rows[n].title == "Ollama")
        main.models.move_to(position)
        plan = await _plan(pilot, drive)
        text = "\n".join(str(s.render()) for s in plan.query("Static"))
        assert "~/drive/models" in text and "come back once the copy is proven" in text
        assert f"export OLLAMA_MODELS={drive}/models" in text
        for box in plan.query("Tick"):
            box.focus()
            await pilot.press("space")
        await pilot.press("y")
        await until(pilot, lambda: bool(app.desk.jobs()) and app.desk.jobs()[-1].state.ended, 60)
        job = app.desk.jobs()[-1]
        assert job.state is JobState.DONE, (job.reason, job.advice, job.result)
        await settle(pilot)
        assert store.is_symlink() and store.resolve() == drive / "models"
        assert {p.relative_to(store): p.read_bytes() for p in store.rglob("*") if p.is_file()} == before
        assert any("move" in t for t in toasts(pilot))
        select(main, LLAMA)


async def test_a_place_on_the_same_drive_is_refused_with_the_reason(app: CachetuiApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        main = await settle(pilot)
        select(main, "microsoft/phi-2")
        plan = await _plan(pilot, Path(app.where.home) / "elsewhere")
        text = "\n".join(str(s.render()) for s in plan.query("Static"))
        assert "Refused: it is the same file system" in text
        assert [b.id for b in plan.query(Button)] == ["cancel"]
        await pilot.press("y")
        assert app.screen is plan
        await pilot.press("escape")
        assert app.screen is main and not app.desk.jobs()


async def test_drives_are_offered_with_their_room(app: CachetuiApp, drive: Path) -> None:
    async with app.run_test(size=(100, 30)) as pilot:
        main = await settle(pilot)
        select(main, "microsoft/phi-2")
        await pilot.press("M")
        await until(pilot, lambda: isinstance(app.screen, MoveScreen))
        assert [t.id for t in app.screen.query("Tick")] == ["keep-original"]
        # A tmpfs is no drive to keep models on: it has to be named.
        assert not app.screen.query(OptionList)
        await pilot.press("escape")
