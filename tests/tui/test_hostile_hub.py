"""A Hub that lists names which try everything on a terminal and on markup: the picker and what comes before a job."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import hostile
import pytest
from test_hostile import _drive, _screen_text
from textual.widgets import Input
from tui_world import NOW, settle, toasts, until

from cachetui.config import Where
from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.pull import PullScreen
from cachetui.tui.screens.search import SearchScreen

sys.path.append(str(Path(__file__).parents[1] / "download"))
from server import HubServer, Repo


def _fill(hub: HubServer) -> None:
    """Repos with such names, tasks, licences, files and quantizations."""
    names = [n.encode("utf-8", "replace").decode().replace("/", "") for n in hostile.NAMES]
    content = {f"{n[:60]}.json".replace("\\", ""): b"{}" for n in names}
    for text in names:
        tags = [f"license:{text}", "gguf", "base_model:quantized:acme/evil"]
        card = {"license": text}
        info = {"tags": tags, "cardData": card, "pipeline_tag": text, "lastModified": text, "downloads": 1}
        hub.add(f"o/{text}", Repo({}, info=info))
    info = {"cardData": {"license": hostile.NAMES[0] + hostile.NAMES[4]}, "tags": [hostile.NAMES[6]]}
    hub.add("acme/evil", Repo({**content, "m.safetensors": b"12345678"}, gated=False, info=info))
    quants = {f"{n[:60]}.gguf".replace("\\", ""): b"GGUF" for n in names}
    hub.add("acme/evil-GGUF", Repo(quants, info=info))


def test_no_escape_of_a_hub_s_names_reaches_a_real_terminal(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with HubServer() as hub:
        _fill(hub)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        keys = ["D:most downloaded first", "\x1b[B", *"jjjj", "\r:Close (Esc)", "\x1b:download"]
        keys += ["D:most downloaded first", "\x1b[B", "v:made from", "\x1b:download"]
        keys += ["D:most downloaded first", *"acme/evil", "\x1b[B:comes", "\r:More (o)", "o:only files like"]
        keys += ["\x1b:download", "D:most downloaded first", *"acme/evil-GGUF", "\x1b[B:one of", "\r:quantizations"]
        keys += ["j", "\x1b:download", "q"]
        output, code = _drive(keys)
    assert code == 0
    assert hostile.offences(output) == []
    assert r"\x1b]52;c;" in re.sub(r"\x1b\[[0-9;]*m", "", output)


async def test_the_picker_and_the_preflight_survive_hostile_names(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub that lists such names, tasks, licences, files, revisions and words of refusal."""
    from huggingface_hub import constants

    app = CachetuiApp(Where.current(), clock=lambda: NOW)
    seen: list[str] = []
    with HubServer() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        _fill(hub)
        async with app.run_test(size=(120, 45), notifications=True) as pilot:
            await settle(pilot)

            async def look() -> None:
                await pilot.pause()
                seen.append(_screen_text(app))

            await pilot.press("D")
            count = len(hostile.NAMES) + 2
            await until(pilot, lambda: isinstance(app.screen, SearchScreen) and len(app.screen._hits) == count)
            await look()
            await pilot.press("down")
            for _ in hostile.NAMES:
                await pilot.press("j")
                await look()
            await pilot.pause(0.4)
            await settle(pilot)
            await look()
            app.screen.query_one("#search-words", Input).value = "[@click=app.quit]quit"
            await settle(pilot)
            await look()
            for name in ("acme/evil", "acme/evil-GGUF"):
                if not isinstance(app.screen, SearchScreen):
                    await pilot.press("D")
                    await until(pilot, lambda: isinstance(app.screen, SearchScreen))
                app.screen.query_one("#search-words", Input).value = name
                app.screen.query_one("#search-words").focus()
                await until(pilot, lambda name=name: bool(app.screen._hits) and app.screen._hits[0].repo == name)  # type: ignore[misc]
                await until(pilot, lambda name=name: name in app.screen._known)  # type: ignore[misc]
                await look()
                await pilot.press("enter")
                await until(pilot, lambda: isinstance(app.screen, PullScreen) and app.screen._plan is not None)
                await look()
                await pilot.press("escape")
            everything = "\n".join(seen + toasts(pilot))
            assert app.is_running and app.return_code is None
            assert hostile.offences(everything) == []
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", everything)
            assert "[@click=app.quit]quit me[" in everything and r"\x1b]52;c;" in everything
    app.desk.close()
