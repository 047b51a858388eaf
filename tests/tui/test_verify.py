"""Verifying in the UI, with the real worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tui_world import select, settle, toasts, until

from cachetui.jobs.model import JobState
from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.jobs import JobsScreen
from cachetui.tui.screens.report import ReportScreen

PHI = "microsoft/phi-2"


@pytest.fixture
def working(app: CachetuiApp) -> Iterator[CachetuiApp]:
    """The app; no job is left running."""
    yield app
    app.desk.close()


async def test_a_damaged_model_is_found_and_reported(working: CachetuiApp) -> None:
    app = working
    hub = Path(app.where.env["HF_HOME"]) / "hub"
    weights = next((hub / "models--microsoft--phi-2" / "snapshots").glob("*/model.safetensors")).resolve()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        main = await settle(pilot)
        for name in (PHI, "meta-llama/Llama-3.2-3B-Instruct"):
            select(main, name)
            await pilot.press("space")
        await pilot.press("v")
        assert not main.marked
        await until(pilot, lambda: [j.state for j in app.desk.jobs()] == [JobState.DONE])
        await until(pilot, lambda: any("1 damaged, 1 intact" in t for t in toasts(pilot)))
        select(main, PHI)
        await until(pilot, lambda: "verified    damaged" in str(main.details._body.render()))
        await pilot.press("J")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ReportScreen))
        text = str(app.screen.query_one("Static").render())
        assert "✗ damaged" in text and "✓ intact" in text and "model.safetensors" in text
        assert text.index("✗ damaged") < text.index("✓ intact")
        await pilot.press("escape", "escape")
        assert app.screen is main


async def test_a_heading_stands_for_everything_below_it(working: CachetuiApp) -> None:
    app = working
    async with app.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        position = next(n for n in range(len(main.models.rows)) if main.models.rows[n].title == "Ollama")
        main.models.move_to(position)
        await pilot.press("v")
        await until(pilot, lambda: bool(app.desk.jobs()) and app.desk.jobs()[0].state.ended)
        verdicts = (app.desk.jobs()[0].result or {})["verdicts"]
        assert {v["root"] for v in verdicts} == {app.where.env["OLLAMA_MODELS"]}
        assert len(verdicts) >= 5
