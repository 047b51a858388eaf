"""What the picker and what comes before a download look like, beside a Hub of the tests' own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_pictures import _run, same_everywhere
from textual.pilot import Pilot
from tui_world import NOW, settle, until

from cachetui.config import Where
from cachetui.tui import finding
from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.pull import PullScreen
from cachetui.tui.screens.search import SearchScreen

sys.path.append(str(Path(__file__).parents[1] / "download"))
from hub_world import noise
from server import HubServer, Repo

__all__ = ["same_everywhere"]
Compare = Callable[..., bool]


@pytest.fixture
def app(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CachetuiApp]:
    from huggingface_hub import constants

    (Path(os.environ["HF_HOME"]) / "hub/models--acme--other/snapshots").mkdir(parents=True)
    with HubServer() as hub:
        for name, value in (("ENDPOINT", hub.endpoint), ("HF_HUB_OFFLINE", False)):
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(finding, "ready", lambda: "https://huggingface.co")
        monkeypatch.setattr("cachetui.download.preflight.room", lambda path, files: (812 * 10**9, 50 * 10**6))
        files = {"config.json": b"{}", "tokenizer.json": noise(90_000), "README.md": b"hi"}
        weights = {"model.safetensors": noise(700_000), "pytorch_model.bin": noise(710_000, 2)}
        info = {"tags": ["license:apache-2.0"], "usedStorage": 1_500_000, "pipeline_tag": "text-generation"}
        hub.add(
            "acme/chat-1B", Repo(files | weights, frozenset(weights), info={**info, "downloads": 4321, "likes": 17})
        )
        quants = {f"chat-1B-{q}.gguf": noise(n, n) for q, n in (("Q4_K_M", 200_000), ("Q8_0", 400_000))}
        made = {"tags": ["gguf", "base_model:quantized:acme/chat-1B"], "usedStorage": 600_000, "downloads": 900}
        hub.add("other/chat-1B-GGUF", Repo(quants, frozenset(quants), info=made))
        hub.add("acme/chat-secret", Repo({"model.safetensors": noise(10)}, gated=True, info={"usedStorage": 9_000_000}))
        found = CachetuiApp(Where.current(), clock=lambda: NOW)
        yield found
        found.desk.close()


async def _to_picker(pilot: Pilot[None], main: object) -> None:
    await pilot.press("D")
    await until(pilot, lambda: isinstance(pilot.app.screen, SearchScreen) and len(pilot.app.screen._hits) == 3)
    await pilot.press("down", "j", "k")
    await until(pilot, lambda: "acme/chat-1B" in pilot.app.screen._known)  # type: ignore[attr-defined]


def _to_plan(*keys: str) -> Callable[[Pilot[None], object], object]:
    async def step(pilot: Pilot[None], main: object) -> None:
        await _to_picker(pilot, main)
        await pilot.press("/", *keys, "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, PullScreen) and pilot.app.screen._plan is not None)
        await settle(pilot)

    return step


def test_the_picker(app: CachetuiApp, snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=(100, 30), run_before=_run(_to_picker))


def test_before_a_download(app: CachetuiApp, snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=(100, 36), run_before=_run(_to_plan(*"acme/chat-1B"), "o", "tab"))


def test_which_quantization(app: CachetuiApp, snap_compare: Compare) -> None:
    assert snap_compare(app, terminal_size=(80, 24), run_before=_run(_to_plan(*"other/chat-1B-GGUF"), "j"))
