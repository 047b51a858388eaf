"""Verifying in the UI, with the real worker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from tui_world import select, settle, toasts, until

from cachetui.jobs.model import JobState
from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.jobs import JobsScreen
from cachetui.tui.screens.plan import PlanScreen
from cachetui.tui.screens.repair import RepairScreen
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


def _weights(app: CachetuiApp) -> Path:
    hub = Path(app.where.env["HF_HOME"]) / "hub"
    return next((hub / "models--microsoft--phi-2" / "snapshots").glob("*/model.safetensors")).resolve()


async def _report(pilot: Pilot[None], key: str) -> ReportScreen:
    """Verify the model with `key` and open the report."""
    app = pilot.app
    assert isinstance(app, CachetuiApp)
    main = await settle(pilot)
    app.desk.clear()
    select(main, PHI)
    await pilot.press(key)
    await until(pilot, lambda: [j.state for j in app.desk.jobs()] == [JobState.DONE])
    await settle(pilot)
    await pilot.press("J")
    await until(pilot, lambda: isinstance(app.screen, JobsScreen))
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(app.screen, ReportScreen))
    assert isinstance(app.screen, ReportScreen)
    return app.screen


async def test_what_is_damaged_is_repaired_from_an_equal_copy_and_that_is_undone(working: CachetuiApp) -> None:
    app = working
    weights = _weights(app)
    good = weights.read_bytes()
    project = Path(app.where.home) / "projects" / "latent-lens" / "model_cache" / "models--microsoft--phi-2"
    shutil.copytree(weights.parent.parent, project, symlinks=True)
    bad = good[:-1] + bytes((good[-1] ^ 1,))
    weights.write_bytes(bad)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await _report(pilot, "v")
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, RepairScreen))
        text = " ".join(str(s.render()) for s in app.screen.query("Static"))
        assert "An equal copy takes the place" in text and "frees" in text
        await pilot.press("y")
        await until(pilot, lambda: weights.read_bytes() == good)
        main = await settle(pilot)
        assert app.screen is main and any("repaired from an equal copy" in t for t in toasts(pilot))
        await pilot.press("u")
        await until(pilot, lambda: weights.read_bytes() == bad)
        await settle(pilot)


async def test_what_is_damaged_goes_to_the_trash(working: CachetuiApp) -> None:
    app = working
    weights = _weights(app)
    weights.write_bytes(b"x" + weights.read_bytes()[1:])
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await _report(pilot, "v")
        await pilot.press("x")
        await until(pilot, lambda: type(app.screen) is PlanScreen)
        await pilot.press("y")
        await until(pilot, lambda: not weights.exists())
        await settle(pilot)


async def test_in_full_also_reads_what_did_not_change(working: CachetuiApp) -> None:
    app = working
    async with app.run_test(size=(120, 40)) as pilot:
        for key, remembered in (("v", False), ("v", True), ("V", False)):
            report = await _report(pilot, key)
            verdict = (app.desk.jobs()[-1].result or {})["verdicts"][0]
            assert bool(verdict["remembered"]) is remembered, key
            assert "f repairs" not in str(report.query_one("#report").border_subtitle)
            await pilot.press("f", "escape", "escape")
            await until(pilot, lambda: len(app.screen_stack) == 1)
