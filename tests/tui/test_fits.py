"""Whether models go in, key by key: the details, the card, everything against one card."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hostile
import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList
from tui_world import NOW, main_of, select, settle, toasts, until

from cachetui import paths
from cachetui.config import Where, load
from cachetui.demo.builders import Hub
from cachetui.memory.model import Device
from cachetui.tui import fits
from cachetui.tui.app import CachetuiApp
from cachetui.tui.describe import Page
from cachetui.tui.fits import Against, Fits, Known
from cachetui.tui.screens.card import CardScreen
from cachetui.tui.screens.pull import PullScreen
from cachetui.tui.screens.runs import RunsScreen

sys.path.append(str(Path(__file__).parents[1] / "memory"))
from memory_world import LLAMA, only_headers, repo

BIG = LLAMA | {"hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8}
BIG |= {"intermediate_size": 12288, "vocab_size": 151936, "max_position_embeddings": 32768}


@pytest.fixture
def app(home: Path) -> Iterator[CachetuiApp]:
    """A hub cache with a small model, and the headers of a big one."""
    hub = Hub(Path(os.environ["HF_HOME"]) / "hub")
    repo(hub, "org/small", LLAMA)
    hub.repo("org/big").revision({"config.json": json.dumps(BIG).encode(), "model.safetensors": only_headers(BIG)})
    hub.repo("org/bare").revision({"config.json": b"{}", "model.safetensors": b"\xff" * 64})
    found = CachetuiApp(Where.current(), clock=lambda: NOW)
    yield found
    found.desk.close()


def details(app: CachetuiApp) -> str:
    return str(app.main.details._body.render())


def text_of(app: CachetuiApp, id_: str) -> str:
    return str(app.screen.query_one(id_).render())


async def to_card(pilot: Pilot[None], words: str) -> None:
    await pilot.press("m")
    await until(pilot, lambda: isinstance(pilot.app.screen, CardScreen))
    await pilot.press(*("space" if c == " " else c for c in words))


async def test_the_details_say_what_fits_and_the_card_is_remembered(app: CachetuiApp) -> None:
    async with app.run_test(size=(140, 44)) as pilot:
        main = await settle(pilot)
        select(main, "org/big")
        await until(pilot, lambda: "train QLoRA" in details(app))
        assert "RAM" in details(app) and "with 4,096 tokens" in details(app)
        await to_card(pilot, "rtx 2080")
        await pilot.press("enter")
        await until(pilot, lambda: "RTX 2080, 8.6 GB" in details(app))
        shown = details(app)
        lines = {line.split("  ")[0].strip(): line for line in shown.splitlines()}
        assert "✗ no" in lines["as stored"] and "✗ no" in lines["int8"]
        assert "✓ fits" in lines["nf4 double"] or "~ tight" in lines["nf4"]
        assert "take" in shown and "exact" in shown and "estimated" in shown
        await settle(pilot)
    assert load().card == "RTX 2080"
    assert CachetuiApp(Where.current()).where.config.card == "RTX 2080"


async def test_a_longer_context_and_typed_memory(app: CachetuiApp) -> None:
    async with app.run_test(size=(140, 44)) as pilot:
        main = await settle(pilot)
        select(main, "org/small")
        await until(pilot, lambda: "train QLoRA" in details(app))
        await to_card(pilot, "3GB")
        await pilot.press("tab", *"1k")
        await pilot.press("enter")
        await until(pilot, lambda: "a card with 3.0 GB" in details(app) and "with 1,024 tokens" in details(app))
        assert main.fits.against == Against("3GB", 1024)
        await settle(pilot)
        assert (load().card, load().context) == ("3GB", "1024")
        await pilot.press("m", "tab", *"lots", "enter")
        await until(pilot, lambda: "no number of tokens" in text_of(app, "#card-state"))
        await pilot.press("escape")
        await settle(pilot)


async def test_what_no_header_tells_is_said_and_headers_are_read_once(
    app: CachetuiApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    examine = fits.examine
    monkeypatch.setattr(fits, "examine", lambda item, context: read.append(item.name) or examine(item, context))
    async with app.run_test(size=(140, 44)) as pilot:
        main = await settle(pilot)
        select(main, "org/bare")
        await until(pilot, lambda: "cannot be told" in details(app))
        select(main, "org/small")
        await until(pilot, lambda: "train QLoRA" in details(app))
        select(main, "org/bare")
        await pilot.pause()
        assert "cannot be told" in details(app)
        assert sorted(read) == sorted(set(read))
        await settle(pilot)


async def test_looking_is_no_use_of_a_model(app: CachetuiApp) -> None:
    hub = Path(os.environ["HF_HOME"]) / "hub"
    blobs = [p for p in hub.rglob("blobs/*") if p.is_file()]
    for p in blobs:
        os.utime(p, (1_500_000_000, 1_600_000_000))
    async with app.run_test(size=(140, 44)) as pilot:
        main = await settle(pilot)
        select(main, "org/big")
        await until(pilot, lambda: "train QLoRA" in details(app))
    assert {p.stat().st_atime for p in blobs} == {1_500_000_000.0}


async def to_runs(pilot: Pilot[None]) -> RunsScreen:
    await pilot.press("f")
    await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
    screen = pilot.app.screen
    assert isinstance(screen, RunsScreen)
    await until(pilot, lambda: bool(screen._runs))
    return screen


async def test_everything_against_one_card(app: CachetuiApp) -> None:
    async with app.run_test(size=(200, 50)) as pilot:
        main = await settle(pilot)
        main.fits.turn_to(Against("RTX 2080", 0))
        screen = await to_runs(pilot)
        assert "RTX 2080" in text_of(app, "#runs-state") and "1 without headers" in text_of(app, "#runs-state")
        names = [r.estimate.name for r in screen._runs]
        assert names[0] == "org/small" and {"org/big", "microsoft/phi-2", "Qwen/Qwen3-235B-A22B"} <= set(names)
        options = screen.query_one(OptionList)
        rows = {n: str(options.get_option_at_index(i).prompt) for i, n in enumerate(names)}
        assert "disk" in rows["org/big"] and "disk" not in rows["microsoft/phi-2"]
        assert "no" in rows["mistralai/Mistral-7B-v0.1"].split() and "nf4" in rows["mistralai/Mistral-7B-v0.1"]
        await pilot.press("end")
        assert "a hosted API, such as Alibaba Cloud" in text_of(app, "#runs-text")
        assert "computed" in text_of(app, "#runs-text")
        await pilot.press("u")
        assert "good for: learning" in text_of(app, "#runs-state")
        assert all("learning" in r.uses for r in screen._runs)
        await pilot.press("u", "u", "u")
        assert screen._runs and all("inference only" in r.uses for r in screen._runs)
        await pilot.press("c")
        assert "235B MoE" in text_of(app, "#runs-text")
        await pilot.press("u", "c", "escape")
        await until(pilot, lambda: app.screen is main_of(pilot))


async def test_enter_goes_to_the_row_or_to_the_download(app: CachetuiApp, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        main = await settle(pilot)
        screen = await to_runs(pilot)
        await pilot.press("enter")  # the smallest lies here
        await until(pilot, lambda: app.screen is main)
        assert main.models.row is not None and main.models.row.title == "org/small"
        screen = await to_runs(pilot)
        while screen._chosen is None or screen._chosen.estimate.name != "microsoft/phi-2":
            await pilot.press("j")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PullScreen))
        await until(pilot, lambda: "HF_HUB_OFFLINE" in text_of(app, "#pull-summary"))
        await pilot.press("escape")
        await settle(pilot)


async def test_another_card_from_there(app: CachetuiApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        screen = await to_runs(pilot)
        await to_card(pilot, "h100")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is screen and "H100" in text_of(app, "#runs-state"))
        assert next(r for r in screen._runs if r.estimate.name == "Qwen/Qwen3-32B").take is not None
        await pilot.press("tab")  # there is only one device
        assert "H100" in text_of(app, "#runs-state")
        await pilot.press("escape")
        await settle(pilot)


async def test_a_card_that_is_none_is_told(home: Path) -> None:
    paths.config_file().parent.mkdir(parents=True, exist_ok=True)
    paths.config_file().write_text('card = "RTX 1"\ncontext = "2048"\n')
    app = CachetuiApp(Where.current(), clock=lambda: NOW)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        main = await settle(pilot)
        assert any("RTX 1 is not in the table" in t for t in toasts(pilot))
        assert main.fits.against == Against("", 2048)
    app.desk.close()


async def test_hostile_names_stay_words(home: Path) -> None:
    hostile.build(home / ".cache/huggingface/hub", home / ".ollama/models", home / "models")
    app = CachetuiApp(Where.current(), clock=lambda: NOW)
    seen: list[str] = []

    async def look(pilot: Pilot[None]) -> None:
        await pilot.pause()
        seen.append("\n".join(strip.text for strip in app.screen._compositor.render_strips()))

    async with app.run_test(size=(200, 50), notifications=True, tooltips=True) as pilot:
        await settle(pilot)
        screen = await to_runs(pilot)
        assert len(screen._runs) > len(hostile.NAMES)
        for _ in range(2 * len(hostile.NAMES)):
            await look(pilot)
            await pilot.press("j")
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, CardScreen))
        app.screen.query_one("#card-words", Input).value = hostile.NAMES[0] + hostile.NAMES[2]
        await look(pilot)
        await pilot.press("escape", "escape")
        await settle(pilot)
    app.desk.close()
    assert not [bad for text in seen for bad in hostile.offences(text)]


@pytest.mark.parametrize("width", [34, 40, 46, 60, 90])
def test_several_devices_stand_beside_each_other(width: int) -> None:
    from cachetui.memory import catalogue, estimate
    from cachetui.tui.fit_page import fit_lines

    gpu = Device("NVIDIA GeForce RTX 4090", "gpu", 24 * 10**9, 21 * 10**9, "free now")
    store = Fits(devices=(gpu, Device("RAM", "ram", 64 * 10**9, 40 * 10**9, "free now")), ram=64 * 10**9)
    found = Known(None, 0, estimate(catalogue.facts("Qwen/Qwen3-14B")))  # type: ignore[arg-type]
    shown = [one.plain for one in fit_lines(found, store, Page(width, NOW, False, ""))]
    assert all(len(one) <= width for one in shown)
    rows = {one[:12].strip(): one.split() for one in shown}
    assert [w for w in rows["as stored"] if w in ("fits", "tight", "no")] == ["no", "fits"]
    assert [w for w in rows["nf4"] if w in ("fits", "tight", "no")] == ["fits", "fits"]
    assert any("nf4 on RTX 4090" in one for one in shown) and any("as stored on RAM" in one for one in shown)


def test_contexts_as_people_type_them() -> None:
    assert [fits.context_of(t) for t in ("", "8192", "8,192", "8k", "8K ")] == [0, 8192, 8192, 8192, 8192]
    for wrong in ("x", "-1", "0", "k", "9999999999"):
        with pytest.raises(ValueError):
            fits.context_of(wrong)


def test_cards_to_choose_from() -> None:
    assert [kept for kept, _ in fits.cards("3090")] == ["RTX 3090", "RTX 3090 Ti"]
    assert fits.cards("12")[0][1].total == fits.cards("12 GB")[0][1].total == 12 * 10**9
    assert fits.cards("no such card") == ()
    assert len(fits.cards("")) > 50
