"""Downloading in the UI, key by key, from a real test server, with the real workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList
from tui_world import NOW, names, select, settle, toasts, until

from cachetui.config import Where
from cachetui.jobs.model import JobState
from cachetui.tui.app import CachetuiApp
from cachetui.tui.handlers import filtering
from cachetui.tui.screens.choice import ChoiceScreen
from cachetui.tui.screens.jobs import JobsScreen
from cachetui.tui.screens.pull import PullScreen
from cachetui.tui.screens.search import SearchScreen
from cachetui.tui.widgets.tick import Tick

sys.path.append(str(Path(__file__).parents[1] / "download"))
from hub_world import model, noise
from server import HubServer, Repo

CHAT = "acme/chat-1B"


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    from huggingface_hub import constants

    with HubServer(token="hf_letmein") as hub:
        for name, value in (("ENDPOINT", hub.endpoint), ("HF_HUB_OFFLINE", False)):
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "no-token"))
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        repo = model(300_000)
        repo.info = {"tags": ["license:mit"], "usedStorage": 500_000, "pipeline_tag": "text-generation"}
        hub.add(CHAT, repo)
        files = {f"chat-1B-{q}.gguf": noise(n, n) for q, n in (("Q4_K_M", 200_000), ("Q8_0", 400_000))}
        info = {"tags": ["gguf", f"base_model:quantized:{CHAT}"], "downloads": 9}
        hub.add("other/chat-1B-GGUF", Repo({**files, "README.md": b"hi"}, frozenset(files), info=info))
        hub.add("acme/secret-chat", Repo({"model.safetensors": noise(1000)}, frozenset(), gated=True))
        yield hub


@pytest.fixture
def hub(home: Path) -> Path:
    """An own hub cache with one small repo."""
    folder = Path(os.environ["HF_HOME"]) / "hub"
    (folder / "models--acme--tiny" / "snapshots" / ("a" * 40)).mkdir(parents=True)
    (folder / "models--acme--tiny" / "snapshots" / ("a" * 40) / "config.json").write_text("{}")
    (folder / "models--acme--tiny" / "refs").mkdir()
    (folder / "models--acme--tiny" / "refs" / "main").write_text("a" * 40)
    return folder


@pytest.fixture
def app(hub: Path, server: HubServer) -> Iterator[CachetuiApp]:
    found = CachetuiApp(Where.current(), clock=lambda: NOW)
    yield found
    found.desk.close()


def text_of(app: CachetuiApp, id_: str) -> str:
    return str(app.screen.query_one(id_).render())


async def to_search(pilot: Pilot[None], words: str) -> SearchScreen:
    await pilot.press("D")
    await until(pilot, lambda: isinstance(pilot.app.screen, SearchScreen))
    screen = pilot.app.screen
    assert isinstance(screen, SearchScreen)
    await pilot.press(*words.replace("/", "~").replace("~", "/"))
    return screen


async def to_plan(pilot: Pilot[None]) -> PullScreen:
    await until(pilot, lambda: isinstance(pilot.app.screen, PullScreen))
    screen = pilot.app.screen
    assert isinstance(screen, PullScreen)
    await until(
        pilot, lambda: screen._plan is not None or "asking" not in str(screen.query_one("#pull-summary").render())
    )
    return screen


async def job_ended(app: CachetuiApp, pilot: Pilot[None], state: JobState) -> None:
    await until(pilot, lambda: bool(app.desk.jobs()) and app.desk.jobs()[-1].state.ended, 60)
    job = app.desk.jobs()[-1]
    assert job.state is state, (job.reason, job.advice, job.result)
    await settle(pilot)


async def test_search_choose_preflight_job_and_the_row_is_there(app: CachetuiApp, hub: Path) -> None:
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        main = await settle(pilot)
        screen = await to_search(pilot, "chat")
        await until(pilot, lambda: "3 models" in text_of(app, "#search-state"))
        options = screen.query_one(OptionList)
        rows = [str(options.get_option_at_index(n).prompt) for n in range(3)]
        assert "500.0 kB · 7 downloads · 3 likes · mit · text-generation" in next(r for r in rows if CHAT in r)
        assert "gated" in next(r for r in rows if "secret" in r)
        await pilot.press("down")
        while screen._chosen is None or screen._chosen.repo != CHAT:
            await pilot.press("j")
        await until(pilot, lambda: "weights 300.0 kB (1)" in text_of(app, "#search-text"))
        assert "other/chat-1B-GGUF" in text_of(app, "#search-text")
        await pilot.press("enter")
        await to_plan(pilot)
        assert "to come" in text_of(app, "#pull-summary") and "free there" in text_of(app, "#pull-summary")
        assert "model.safetensors" in text_of(app, "#pull-text") and "memory" in text_of(app, "#pull-text")
        assert not any(CHAT.replace("/", "--") in p.name for p in hub.iterdir())
        await pilot.press("y")
        await job_ended(app, pilot, JobState.DONE)
        await until(pilot, lambda: CHAT in names(main))
        assert (hub / "models--acme--chat-1B" / "refs" / "main").exists()
        assert any("there and verified" in t for t in toasts(pilot))
        await settle(pilot)


async def test_a_typed_name_goes_straight_on_and_a_quantization_is_picked(app: CachetuiApp, hub: Path) -> None:
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        main = await settle(pilot)
        await to_search(pilot, "other/chat-1B-GGUF")
        await pilot.press("enter")
        screen = await to_plan(pilot)
        quants = screen.query_one("#pull-quants", OptionList)
        assert [str(quants.get_option_at_index(n).prompt).split()[0] for n in range(2)] == ["Q4_K_M", "Q8_0"]
        await pilot.press("down", "enter")
        await until(pilot, lambda: "400.0 kB to come" in text_of(app, "#pull-summary"))
        await pilot.press("enter")
        await job_ended(app, pilot, JobState.DONE)
        await until(pilot, lambda: "other/chat-1B-GGUF" in names(main))
        found = list((hub / "models--other--chat-1B-GGUF" / "snapshots").glob("*/*.gguf"))
        assert [p.name for p in found] == ["chat-1B-Q8_0.gguf"]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_where_to_which_files_and_by_whom(app: CachetuiApp, hub: Path, size: tuple[int, int]) -> None:
    async with app.run_test(size=size, notifications=True) as pilot:
        await settle(pilot)
        await to_search(pilot, CHAT)
        await pilot.press("enter")
        screen = await to_plan(pilot)
        assert not screen.query_one("#pull-more").display
        await pilot.press("o")
        screen.query_one("#pull-files", Input).value = "*.json sub/ !tokenizer*"
        screen.query_one("#pull-files", Input).focus()
        await pilot.press("enter")
        await to_plan(pilot)
        screen.query_one("#pull-local", Tick).focus()
        await pilot.press("space")  # no folder is named yet: that is asked for first
        assert app.focused is not None and app.focused.id == "pull-into"
        screen.query_one("#pull-into", Input).value = str(hub.parent / "plain")
        await pilot.press("enter")
        await to_plan(pilot)
        screen.query_one("#pull-hub", Tick).focus()
        await pilot.press("space")
        await to_plan(pilot)
        plan = screen._plan
        assert plan is not None and (plan.into, plan.request.engine) == (str(hub.parent / "plain"), "hub")
        assert {f.path for f in plan.files} == {"config.json", "sub/deep/notes.txt", "sub/same.txt"}
        assert screen.query_one("#confirm").region.bottom < size[1]  # nothing pushed it out of the screen
        await pilot.press("y")
        await job_ended(app, pilot, JobState.DONE)
        assert (hub.parent / "plain" / "config.json").exists() and not (hub / "models--acme--chat-1B").exists()


async def test_a_failed_download_keeps_its_advice_in_the_jobs(app: CachetuiApp, server: HubServer) -> None:
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settle(pilot)
        await to_search(pilot, CHAT)
        await pilot.press("enter")
        await to_plan(pilot)
        server.repos[CHAT].gated = True  # between the look and the download
        await pilot.press("y")
        await job_ended(app, pilot, JobState.FAILED)
        await pilot.press("J")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen) and "accept" in text_of(app, "#jobs-text"))
        shown = text_of(app, "#jobs-text")
        assert "gated" in shown and "→ open the model's page" in shown and "hf auth login" in shown


async def test_what_is_gated_is_refused_with_advice_before_a_byte(app: CachetuiApp, server: HubServer) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await to_search(pilot, "acme/secret-chat")
        await pilot.press("enter")
        screen = await to_plan(pilot)
        assert "cannot be downloaded" in text_of(app, "#pull-summary")
        assert "accept its licence" in text_of(app, "#pull-text") and not screen._goes
        await pilot.press("y")
        await pilot.press("escape")
        assert not app.desk.jobs() and server.sent() == 0


async def test_offline_is_said_at_once(app: CachetuiApp, server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settle(pilot)
        await to_search(pilot, "chat")
        await until(pilot, lambda: "HF_HUB_OFFLINE is set" in text_of(app, "#search-state"))
        assert "unset it" in text_of(app, "#search-text")
        await pilot.press("/", "x", "enter")
        await to_plan(pilot)
        assert "HF_HUB_OFFLINE" in text_of(app, "#pull-summary")
        await pilot.press("escape", "N")
        await settle(pilot)
        assert not server.requests


async def test_a_hub_that_does_not_answer_is_said(
    app: CachetuiApp, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await to_search(pilot, "chat")
        await until(pilot, lambda: "cannot be reached" in text_of(app, "#search-state"))
        assert "HF_ENDPOINT" in text_of(app, "#search-text")
        await pilot.press("escape")
        assert app.is_running and not isinstance(app.screen, SearchScreen)


async def test_variants_become_the_list_and_a_size_narrows_it(app: CachetuiApp) -> None:
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        screen = await to_search(pilot, "chat")
        await until(pilot, lambda: "3 models" in text_of(app, "#search-state"))
        screen.query_one("#search-size", Input).value = ">400kB"
        await until(pilot, lambda: [h.repo for h in screen._hits] == [CHAT])
        screen.query_one("#search-size", Input).value = "nonsense"
        await until(pilot, lambda: "not a size" in text_of(app, "#search-state"))
        await pilot.press("down", "v")
        await until(pilot, lambda: [h.repo for h in screen._hits] == ["other/chat-1B-GGUF"])


async def test_a_stopped_download_goes_on_from_its_row(app: CachetuiApp, hub: Path, server: HubServer) -> None:
    server.rate = 400_000
    server.repos[CHAT].files["model.safetensors"] = noise(2_000_000)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        main = await settle(pilot)
        await to_search(pilot, CHAT)
        await pilot.press("enter")
        await to_plan(pilot)
        await pilot.press("y")
        blobs = hub / "models--acme--chat-1B" / "blobs"
        await until(pilot, lambda: any(p.stat().st_blocks for p in blobs.glob("*.cachetui-part*")))
        await pilot.pause(0.5)
        app.desk.cancel(app.desk.jobs()[-1].id)
        await job_ended(app, pilot, JobState.CANCELLED)
        await until(pilot, lambda: CHAT in names(main))
        server.rate = 0
        select(main, CHAT)
        await pilot.press("D")
        await until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("c")
        await to_plan(pilot)
        assert CHAT in str(app.screen.query_one("#pull").border_title)
        await pilot.press("y")
        await job_ended(app, pilot, JobState.DONE)
        assert (hub / "models--acme--chat-1B" / "refs" / "main").exists()


async def test_what_is_outdated_says_so_and_is_updated_beside_the_old(
    app: CachetuiApp, hub: Path, server: HubServer
) -> None:
    server.add("acme/tiny", Repo({"config.json": b'{"newer": 1}'}))
    folder = hub / "models--acme--tiny"
    async with app.run_test(size=(160, 30), notifications=True) as pilot:
        main = await settle(pilot)
        assert "press N" in filtering.apply(main, "state=outdated")
        select(main, "acme/tiny")
        await pilot.press("N")
        await settle(pilot)
        assert any("D on the row updates it" in t for t in toasts(pilot))
        assert "outdated" in str(main.details._body.render())
        assert not filtering.apply(main, "state=outdated") and names(main) == ["acme/tiny"]
        assert not filtering.apply(main, "state!=outdated") and "acme/tiny" not in names(main)
        filtering.clear(main)
        select(main, "acme/tiny")
        await pilot.press("D")
        await until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("u")
        await to_plan(pilot)
        await pilot.press("y")
        await job_ended(app, pilot, JobState.DONE)
        await until(pilot, lambda: "outdated" not in str(main.details._body.render()))
        assert len(list((folder / "snapshots").iterdir())) == 2
        assert (folder / "refs" / "main").read_text() != "a" * 40


async def test_ollama_without_a_server_says_how_to_start_one(app: CachetuiApp) -> None:
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settle(pilot)
        await to_search(pilot, "ollama:tiny")
        await until(pilot, lambda: "ollama:tiny:latest" in text_of(app, "#search-state"))
        await pilot.press("enter")
        await until(pilot, lambda: any("no Ollama server" in t and "ollama serve" in t for t in toasts(pilot)))
