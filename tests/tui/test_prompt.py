"""Asking a model, key by key, with real child processes that answer without one (prompt_worker.py)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from processes import alive, wait_for
from prompt_world import QWEN, answered, ask, line_about_jobs, on_prompt, open_prompt, png, said, scripted
from textual.pilot import Pilot
from textual.widgets import Button, Input, OptionList
from tui_world import main_of, select, settle, toasts, until

from cachetui.config import Where
from cachetui.runnable import Runnable
from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.choice import ChoiceScreen
from cachetui.tui.screens.main import MainScreen
from cachetui.tui.screens.pick import PickScreen
from cachetui.tui.screens.prompt import PromptScreen
from cachetui.tui.screens.warm import WarmScreen
from cachetui.tui.screens.which import WhichScreen
from cachetui.tui.widgets.fields import QuestionArea

PHI = "microsoft/phi-2"


@pytest.fixture
def talking(app: CachetuiApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The app on the demo, with workers that answer by script; none is left running."""
    monkeypatch.setenv("CACHETUI_TEST_GO", str(tmp_path / "go"))
    yield scripted(app)
    app.warm.close()


def _text(app: CachetuiApp, selector: str) -> str:
    return str(app.screen.query_one(selector).render())  # type: ignore[attr-defined]


async def _picture(pilot: Pilot[None], typed: str) -> None:
    pilot.app.screen.query_one("#picture-path").focus()
    await pilot.press(*typed)


async def test_asking_twice_and_coming_back(talking: CachetuiApp) -> None:
    async with talking.run_test(size=(120, 36)) as pilot:
        screen = await open_prompt(pilot, QWEN)
        assert screen.focused is screen.query_one("#question")
        first = await ask(pilot, screen, "what is it")
        assert "you    what is it" in first and "model  A red boat lies on calm water." in first
        assert "2. a low sun" in first and "21.4 tokens/s" in first and "loaded in 3.2 s" in first
        assert "loaded in" in await ask(pilot, screen, "and the second") and said(screen).count("loaded in") == 1
        await pilot.press("up")
        question = screen.query_one("#question", QuestionArea)
        assert question.text == "and the second"
        await pilot.press("up")
        assert question.text == "what is it"
        await pilot.press("down", "down")
        assert question.text == ""
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(talking.screen, MainScreen))
        await pilot.press("p")
        again = await on_prompt(pilot)
        assert "and the second" in said(again)
        await pilot.press("ctrl+l")
        await pilot.pause()
        assert "and the second" not in said(again)


async def test_a_question_of_several_lines_holds_nothing_a_terminal_acts_on(talking: CachetuiApp) -> None:
    async with talking.run_test(size=(120, 36)) as pilot:
        screen = await open_prompt(pilot, QWEN)
        await pilot.press(*"one", "ctrl+j", *"two")
        question = screen.query_one("#question", QuestionArea)
        question.insert("\x1b]0;pwned\x07\u202e three")
        await pilot.press("enter")
        await until(pilot, lambda: answered(screen))
        assert talking.talks[screen.runnable.key].turns[0].text == "one\ntwo]0;pwned three"


async def test_a_picture_is_completed_shown_counted_and_lowered(talking: CachetuiApp) -> None:
    pytest.importorskip("PIL")
    png(Path.cwd() / "boat.png", (200, 40, 30), (640, 480))
    async with talking.run_test(size=(120, 36)) as pilot:
        screen = await open_prompt(pilot, QWEN)
        await _picture(pilot, "bo")
        path = screen.query_one("#picture-path", Input)
        await until(pilot, lambda: path._suggestion == "boat.png")
        await pilot.press("tab")
        assert path.value == "boat.png"
        await until(pilot, lambda: "640 × 480" in _text(talking, "#picture-about"))
        assert "300 tokens" in _text(talking, "#picture-about")
        shown = screen.shown
        assert shown is not None and shown.rgb[:3] == bytes((200, 40, 30))
        assert shown.width <= screen.query_one("#picture").size.width
        screen.query_one("#lower").focus()
        await pilot.press(*"100k")
        await until(pilot, lambda: "lowered to 365 × 273" in _text(talking, "#picture-about"))
        assert "99 tokens" in _text(talking, "#picture-about")
        await ask(pilot, screen, "what is it")
        assert "picture boat.png" in said(screen)
        screen.query_one("#lower", Input).value = "nonsense"
        await until(pilot, lambda: "640x480" in _text(talking, "#prompt-status"))
        await ask(pilot, screen, "asked with a wrong field")
        assert "asked with a wrong field" not in said(screen)


async def test_a_picture_that_cannot_be_shown_says_why(talking: CachetuiApp) -> None:
    pytest.importorskip("PIL")
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    async with talking.run_test(size=(120, 36)) as pilot:
        await open_prompt(pilot, QWEN)
        await _picture(pilot, "broken.png")
        await until(pilot, lambda: "broken.png: the picture is damaged" in _text(talking, "#picture-about"))
        talking.screen.query_one("#picture-path", Input).value = "nowhere.png"
        await until(pilot, lambda: "no such file" in _text(talking, "#picture-about"))


async def test_picking_a_picture(talking: CachetuiApp) -> None:
    pytest.importorskip("PIL")
    home = Path.cwd()
    (home / "Pictures").mkdir()
    png(home / "Pictures" / "boat.png", (200, 40, 30))
    odd = home / "Pictures" / os.fsdecode(b"z\xff\x1b]0;pwned.png")
    png(odd, (0, 40, 200))
    (home / "Pictures" / "notes.txt").write_text("no picture")
    async with talking.run_test(size=(120, 36)) as pilot:
        screen = await open_prompt(pilot, QWEN)
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(talking.screen, PickScreen))
        options = talking.screen.query_one("#pick-list", OptionList)
        await until(pilot, lambda: options.option_count == 3)
        names = [str(options.get_option_at_index(n).prompt) for n in range(3)]
        assert names == ["../", "boat.png", r"z\xff\x1b]0;pwned.png"]
        await until(pilot, lambda: "64 × 48" in _text(talking, "#pick-about"))
        await pilot.press("left")
        await until(pilot, lambda: options.option_count > 3)
        assert "Pictures/" in str(options.get_option_at_index(options.highlighted or 0).prompt)
        await pilot.press("enter")
        await until(pilot, lambda: options.option_count == 3)
        await pilot.press("j", "enter")
        await until(pilot, lambda: talking.screen is screen)
        assert screen.query_one("#prompt-left").picture == str(odd)  # type: ignore[attr-defined]
        await until(pilot, lambda: screen.shown is not None)
        assert screen.query_one("#picture-path", Input).value == r"~/Pictures/z\xff\x1b]0;pwned.png"
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(talking.screen, PickScreen))
        await settle(pilot)
        await pilot.press("n")
        await until(pilot, lambda: talking.screen is screen)
        await until(pilot, lambda: "448 × 448" in _text(talking, "#picture-about"))


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_stopping_keeps_what_came(talking: CachetuiApp, key: str) -> None:
    async with talking.run_test(size=(120, 36)) as pilot:
        screen = await open_prompt(pilot, QWEN)
        await pilot.press(*"wait for it", "enter")
        await until(pilot, lambda: "A red boat lies" in said(screen))
        assert "stop" in _text(talking, "KeyLine") and "answering" in _text(talking, "#prompt-status")
        await pilot.press(*"next", "enter")
        assert said(screen).count("you ") == 1
        await pilot.press(key)
        await until(pilot, lambda: answered(screen))
        assert "stopped" in said(screen) and "A red boat lies" in said(screen) and "calm water" not in said(screen)
        assert talking.screen is screen and screen.query_one("#question", QuestionArea).text == "next"


async def test_a_failure_says_why_and_what_to_do(talking: CachetuiApp) -> None:
    async with talking.run_test(size=(120, 36)) as pilot:
        screen = await open_prompt(pilot, QWEN)
        text = await ask(pilot, screen, "fail please")
        assert "✗      out of memory" in text and "→    lower the picture: 500k pixels" in text
        assert "was killed" in await ask(pilot, screen, "die") or "ended without a word" in said(screen)
        assert "A red boat" in await ask(pilot, screen, "what is it")
        await pilot.press("escape")
        other = await open_prompt(pilot, PHI)
        text = await ask(pilot, other, "hello")
        assert "it needs 5.6 GB" in text and "load it with 4 bits" in text


async def test_a_state_is_offered_saved_and_used(talking: CachetuiApp, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    png(Path.cwd() / "boat.png", (200, 40, 30))
    async with talking.run_test(size=(120, 36), notifications=True) as pilot:
        screen = await open_prompt(pilot, QWEN)
        await pilot.press("ctrl+s")
        assert any("after a question with a picture" in t for t in toasts(pilot))
        await _picture(pilot, "boat.png")
        text = await ask(pilot, screen, "what is it")
        assert "Ctrl+S keeps what the model made of this picture" in text and "14 times sooner" in text
        await pilot.press("ctrl+s")
        await until(pilot, lambda: any("Saved (12.0 MB)" in t for t in toasts(pilot)))
        assert "Ctrl+S" not in said(screen)
        text = await ask(pilot, screen, "again")
        assert "from a saved" in text and "(read in 2 ms)" in text and "first after 80 ms" in text
        await pilot.press("ctrl+y")
        assert talking.clipboard.startswith("A red boat lies on calm water.\n\nBehind it:")


async def test_models_in_memory_are_shown_and_let_go(talking: CachetuiApp) -> None:
    async with talking.run_test(size=(120, 36)) as pilot:
        main = await settle(pilot)
        assert not main.job_line.display
        screen = await open_prompt(pilot, QWEN)
        await ask(pilot, screen, "what is it")
        pid = talking.warm.sessions()[0].pid
        await until(pilot, lambda: "1 model in memory" in _text(talking, "#prompt-head"))
        await pilot.press("escape")
        await until(pilot, lambda: "1 model in memory" in line_about_jobs(main))
        await pilot.press("w")
        await until(pilot, lambda: isinstance(talking.screen, WarmScreen))
        options = talking.screen.query_one(OptionList)
        await until(pilot, lambda: options.option_count == 1)
        row = str(options.get_option_at_index(0).prompt)
        assert QWEN in row and "cpu · bfloat16" in row and "idle for" in row
        assert alive(pid)
        await pilot.press("x")
        await until(pilot, lambda: options.option_count == 0)
        wait_for(lambda: not alive(pid))
        await pilot.press("escape")
        await until(pilot, lambda: not main.job_line.display)


async def test_what_a_model_needs_is_held_against_what_is_free(
    talking: CachetuiApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachetui.jobs.warm.free_memory", lambda device: 1000)
    sizes = {0: 17_500_000_000, 8: 9_000_000_000, 4: 500}
    monkeypatch.setattr(Runnable, "memory", property(lambda self: sizes[self.wanted.bits]))
    async with talking.run_test(size=(120, 36)) as pilot:
        await open_prompt(pilot, QWEN)
        await until(pilot, lambda: "about 17.5 GB of memory" in _text(talking, "#welcome"))
        await until(pilot, lambda: "1.0 kB are free" in _text(talking, "#welcome"))
        assert "→ load it with fewer bits" in _text(talking, "#welcome")
        await pilot.click("#bits")
        await pilot.press("space")
        await until(pilot, lambda: "about 500 B of memory" in _text(talking, "#welcome"))
        assert "fewer bits" not in _text(talking, "#welcome")


async def test_nothing_stays_after_closing(talking: CachetuiApp) -> None:
    async with talking.run_test(size=(120, 36)) as pilot:
        screen = await open_prompt(pilot, QWEN)
        await pilot.press(*"wait for it", "enter")
        await until(pilot, lambda: "A red boat" in said(screen))
        pid = talking.warm.sessions()[0].pid
        talking.warm.close()
        wait_for(lambda: not alive(pid))


async def test_what_cannot_be_prompted_says_why(talking: CachetuiApp) -> None:
    async with talking.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        select(main, "HuggingFaceFW/fineweb-edu-sample")
        await pilot.press("p")
        await until(pilot, lambda: isinstance(talking.screen, ChoiceScreen))
        assert "a dataset, not a model" in _text(talking, "#ask-body Static")
        await pilot.press("escape")
        select(main, "google/gemma-3-4b-it")
        await pilot.press("p")
        await until(pilot, lambda: isinstance(talking.screen, ChoiceScreen))
        assert "Fetch the rest" in str(talking.screen.query(Button).first().label)


async def test_one_of_several_files_is_chosen(talking: CachetuiApp) -> None:
    async with talking.run_test(size=(120, 36)) as pilot:
        main = await settle(pilot)
        select(main, "bartowski/Qwen2.5-1.5B-Instruct-GGUF")
        await pilot.press("p")
        await until(pilot, lambda: isinstance(talking.screen, WhichScreen))
        await pilot.press("j", "enter")
        screen = await on_prompt(pilot)
        assert screen.runnable.engine == "gguf" and screen.runnable.file.endswith("Q5_K_M.gguf")
        assert not screen.query_one("#bits").display and not screen.query_one("#lower").size
        assert "A red boat" in await ask(pilot, screen, "what is it")


async def test_code_of_a_repo_runs_only_where_that_was_allowed(
    world: Where, monkeypatch: pytest.MonkeyPatch, talking: CachetuiApp
) -> None:
    config = next(Path(world.env["HF_HOME"]).glob("hub/models--microsoft--phi-2/snapshots/*/config.json"))
    body = config.read_text().replace('"model_type": "phi"', '"model_type": "phi3_v"')
    config.resolve().write_text(body)
    async with talking.run_test(size=(120, 36)) as pilot:
        main = await settle(pilot)
        select(main, PHI)
        await pilot.press("p")
        await until(pilot, lambda: isinstance(talking.screen, ChoiceScreen))
        assert "would run with your rights" in _text(talking, "#ask-body Static")
        await pilot.press("escape")
        assert main_of(pilot) is talking.screen
        await pilot.press("p")
        await until(pilot, lambda: isinstance(talking.screen, ChoiceScreen))
        await pilot.press("y")
        screen = await on_prompt(pilot)
        assert screen.runnable.wanted.trust_remote_code


async def test_fields_by_mouse_and_in_a_small_terminal(talking: CachetuiApp) -> None:
    async with talking.run_test(size=(80, 24)) as pilot:
        screen = await open_prompt(pilot, QWEN)
        await pilot.click("#device")
        await pilot.click("#bits")
        await pilot.press("space")
        screen.query_one("#system").focus()
        await pilot.press(*"be brief", "enter")
        assert screen.focused is screen.query_one("#question")
        await ask(pilot, screen, "hi")
        options = talking.talks[screen.runnable.key].turns[0].options
        assert (options.device, options.bits, options.system) == ("cpu", 4, "be brief")
        await pilot.click("KeyLine", offset=(14, 0))
        await until(pilot, lambda: not isinstance(talking.screen, PromptScreen))
