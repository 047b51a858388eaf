"""The real worker with the small trained model that names colours: asked, saved, asked again, tested with others."""

from __future__ import annotations

from pathlib import Path

import pytest
from needs import needs
from prompt_world import COLOUR_VLM, add_colour_vlm, ask, on_prompt, open_prompt, png
from textual.pilot import Pilot
from textual.widgets import Input
from tui_world import main_of, select, settle, toasts, until

from cachetui.config import Where
from cachetui.demo.builders import Hub
from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.smoke import SmokeScreen

needs("torch")
needs("transformers")
pytestmark = pytest.mark.models

_LONG = 120.0


@pytest.fixture
def colours(home: Path) -> CachetuiApp:
    """A home with that model, one without weights, and two pictures."""
    add_colour_vlm(home)
    files = {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"\x08\0\0\0\0\0\0\0{}      "}
    Hub(home / ".cache/huggingface/hub").repo("tests/empty").revision(files)
    png(home / "red.png", (220, 20, 20))
    png(home / "blue.png", (20, 20, 220), (400, 300))
    return CachetuiApp(Where.current())


async def test_colours_are_named_saved_and_tested(colours: CachetuiApp) -> None:
    async with colours.run_test(size=(120, 40), notifications=True) as pilot:
        screen = await open_prompt(pilot, COLOUR_VLM)
        path = screen.query_one("#picture-path", Input)
        path.value = "red.png"
        text = await ask(pilot, screen, "what colour is this picture ?", _LONG)
        assert "model  the picture is red ." in text and "loaded in" in text and "no saved state used" in text
        path.value = "blue.png"
        await until(pilot, lambda: screen.shown is not None and screen.shown.spec.endswith("blue.png"))
        screen.query_one("#lower", Input).value = "30k"
        text = await ask(pilot, screen, "what colour is this picture ?", _LONG)
        assert text.count("the picture is blue .") == 1 and text.count("loaded in") == 1
        await pilot.press("ctrl+s")
        await until(pilot, lambda: any("Saved" in t for t in toasts(pilot)), _LONG)
        text = await ask(pilot, screen, "what colour is it ?", _LONG)
        assert text.count("the picture is blue .") == 2 and "from a saved" in text
        path.value = "red.png"
        text = await ask(pilot, screen, "what colour is it ?", _LONG)
        assert text.count("the picture is red .") == 2 and text.count("from a saved") == 1
        assert colours.warm.sessions()[0].memory > 50_000_000
        await pilot.press("escape")
        main = await settle(pilot)
        state = next(i for i in (main.shelf.scan.items if main.shelf.scan else ()) if i.store == "state")
        select(main, COLOUR_VLM)
        await pilot.press("l")
        select(main, state.name)
        await pilot.press("p")
        screen = await on_prompt(pilot)
        assert screen.runnable.name == COLOUR_VLM
        await until(pilot, lambda: screen.query_one("#lower", Input).value == "30000")
        text = await ask(pilot, screen, "what colour is it ?", _LONG)
        assert text.count("the picture is blue .") == 3 and text.count("from a saved") == 2
        await pilot.press("escape")
        await settle(pilot)
        await _test_marked(pilot)
        assert [w.name for w in colours.warm.sessions()] == [COLOUR_VLM]
    colours.warm.close()


async def _test_marked(pilot: Pilot[None]) -> None:
    """The smoke test; what was in memory before stays there."""
    for name in (COLOUR_VLM, "tests/empty"):
        select(main_of(pilot), name)
        await pilot.press("space")
    await pilot.press("p")
    await until(pilot, lambda: isinstance(pilot.app.screen, SmokeScreen))
    smoke = pilot.app.screen
    assert isinstance(smoke, SmokeScreen)
    await pilot.press("enter")
    await until(pilot, lambda: smoke._smoke.begun and not smoke._smoke.running, _LONG)
    rows = {r.name: r for r in smoke._smoke.rows}
    assert rows[COLOUR_VLM].outcome.value == "works" and "the picture is" in rows[COLOUR_VLM].answer
    assert rows[COLOUR_VLM].rate > 0 and rows[COLOUR_VLM].memory > 0
    assert rows["tests/empty"].outcome.value == "failed" and rows["tests/empty"].reason
