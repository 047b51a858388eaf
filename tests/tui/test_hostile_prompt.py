"""A model that writes what terminals act on, and pictures named so: nothing of it is acted on (I11)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import hostile
import pytest
from prompt_world import QWEN, ask, open_prompt, png, scripted
from test_hostile import _drive, _screen_text
from textual.widgets import OptionList
from tui_world import NOW, select, settle, toasts, until

from cachetui.config import Where
from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.pick import PickScreen
from cachetui.tui.screens.smoke import SmokeScreen
from cachetui.tui.screens.warm import WarmScreen
from cachetui.tui.smoke import as_text

_SAYS = " ".join(hostile.NAMES) + " \x1b[31mred\x1b[0m end of it"
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_RUN = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from prompt_world import scripted
from cachetui.config import Where
from cachetui.tui.app import CachetuiApp
app = scripted(CachetuiApp(Where.current()))
app.run()
app.desk.close()
app.warm.close()
heavy = {{"torch", "transformers", "bitsandbytes", "PIL", "cachetui.engine"}} & set(sys.modules)
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""


@pytest.fixture(autouse=True)
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What every model answers."""
    path = tmp_path / "says"
    path.write_text(_SAYS, "utf-8", "surrogatepass")
    monkeypatch.setenv("CACHETUI_TEST_SAYS", str(path))


def _pictures(folder: Path) -> None:
    for name in hostile.NAMES:
        png(folder / f"{name[:80].replace('/', '')}.png", (200, 40, 30))


async def test_answers_and_pictures_survive_on_every_screen(world: Where, home: Path) -> None:
    _pictures(Path.cwd())
    app = scripted(CachetuiApp(Where.current(), clock=lambda: NOW))
    seen: list[str] = []
    async with app.run_test(size=(120, 40), notifications=True, tooltips=True) as pilot:

        async def look() -> None:
            await pilot.pause()
            seen.append(_screen_text(app))

        screen = await open_prompt(pilot, QWEN)
        await ask(pilot, screen, "hello")
        await look()
        await pilot.press("pageup")
        await look()
        await pilot.press("ctrl+y", "ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, PickScreen))
        options = app.screen.query_one("#pick-list", OptionList)
        await until(pilot, lambda: options.option_count > len(hostile.NAMES))
        for _ in range(options.option_count):
            await pilot.press("j")
            await look()
        await pilot.pause(0.3)
        await settle(pilot)
        await look()
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is screen)
        await settle(pilot)
        await look()
        await ask(pilot, screen, "and this")
        await look()
        await pilot.press("ctrl+g")
        await until(pilot, lambda: isinstance(app.screen, WarmScreen))
        await look()
        await pilot.press("escape", "escape")
        main = await settle(pilot)
        for name in (QWEN, "microsoft/phi-2"):
            select(main, name)
            await pilot.press("space")
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, SmokeScreen))
        smoke = app.screen
        assert isinstance(smoke, SmokeScreen)
        await pilot.press("enter")
        await until(pilot, lambda: smoke._smoke.begun and not smoke._smoke.running)
        await look()
        await pilot.press("y")
        assert as_text(smoke._smoke.rows, str)
        everything = "\n".join([*seen, *toasts(pilot), app.clipboard])
        assert app.is_running and app.return_code is None
        assert hostile.offences(everything) == []
        assert not _CONTROL.search(everything)
        assert "[@click=app.quit]quit me" in everything and r"\x1b]52;c;" in everything
    app.warm.close()


def test_no_escape_of_an_answer_reaches_a_real_terminal(world: Where) -> None:
    keys = [
        "j:Qwen3-VL",
        "p:your question",
        *"hi",
        "\r:end of it",
        "\x1b[5~",
        "\x0f:Choose a picture",
        "\x1b:your question",
    ]
    keys += ["\x13", "\x07:Models in memory", "\x1b:your question", "\x1b:in memory", "q"]
    _pictures(Path.cwd())
    output, code = _drive(keys, run=_RUN)
    assert code == 0
    assert hostile.offences(output) == []
    plain = re.sub(r"\x1b\[[0-9;:]*m", "", output)
    assert r"\x1b]52;c;" in plain and r"\x1b[31mred" in plain


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal's cell size")
def test_pixels_are_sent_to_terminals_that_show_them(world: Where, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("textual_image")
    png(Path.cwd() / "boat.png", (200, 40, 30))
    monkeypatch.setenv("CACHETUI_PICTURES", "kitty")
    keys = ["j:Qwen3-VL", "p:your question", "\x0f:boat.png", "\r:64 × 48", "\x1b:prompt", "q"]
    output, code = _drive(keys, run=_RUN.replace('"PIL", ', ""))
    assert code == 0
    assert "\x1b_G" in output and "\x1b[c" not in output
