"""Quantizing in the UI, key by key, with the real worker where torch is."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from textual.widgets import Button, OptionList
from tui_world import NOW, select, settle, toasts, until

from cachetui.config import Where
from cachetui.demo.builders import Hub
from cachetui.jobs.model import JobState
from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.quantize import QuantizeScreen

COLOUR = Path(__file__).parents[1] / "data" / "colour_vlm"
NAME = "tests/colours"


@pytest.fixture
def seeing(world: Where) -> Iterator[CachetuiApp]:
    """The demo with a model that can really be quantized; no job is left running."""
    files = {p.name: p.read_bytes() for p in COLOUR.iterdir() if p.is_file()}
    Hub(Path(world.env["HF_HOME"]) / "hub").repo(NAME).revision(files)
    app = CachetuiApp(world, clock=lambda: NOW)
    yield app
    app.desk.close()


def _text(screen: QuantizeScreen) -> str:
    return "\n".join(str(s.render()) for s in screen.query("Static"))


@pytest.mark.models
@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs torch and bitsandbytes (extra models)")
async def test_a_model_is_quantized_and_shows_up(seeing: CachetuiApp) -> None:
    app = seeing
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        main = await settle(pilot)
        select(main, NAME)
        await pilot.press("Q")
        await until(pilot, lambda: isinstance(app.screen, QuantizeScreen))
        screen = app.screen
        assert isinstance(screen, QuantizeScreen)
        assert "360.9 kB" in _text(screen) and "lm_head, model.vision_tower" in _text(screen)
        rows = [str(o.prompt) for o in screen.query_one(OptionList).options]
        assert [r.split()[0] for r in rows] == ["nf4", "nf4-double", "int8"]
        await pilot.press("down", "down")
        assert "228.4 kB" in _text(screen)
        await pilot.press("y")
        await until(pilot, lambda: bool(app.desk.jobs()) and app.desk.jobs()[-1].state.ended, 120)
        job = app.desk.jobs()[-1]
        assert job.state is JobState.DONE, (job.reason, job.advice)
        await settle(pilot)
        assert any("made and kept" in t for t in toasts(pilot))
        assert f"{NAME} int8" in [i.name for i in main.shelf.scan.items]  # type: ignore[union-attr]
        select(main, NAME)
        await pilot.press("Q")
        await until(pilot, lambda: isinstance(app.screen, QuantizeScreen))
        await pilot.press("down", "down")
        assert app.screen.query_one("#confirm", Button).disabled and "kept  " in _text(app.screen)  # type: ignore[arg-type]
        await pilot.press("y", "enter")
        assert isinstance(app.screen, QuantizeScreen) and len(app.desk.jobs()) == 1


async def test_what_cannot_be_quantized_says_why(seeing: CachetuiApp) -> None:
    app = seeing
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        main = await settle(pilot)
        select(main, "llama3.2:3b")
        await pilot.press("Q")
        await until(pilot, lambda: any("only what transformers loads" in t for t in toasts(pilot)))
        assert app.screen is main and not app.desk.jobs()
