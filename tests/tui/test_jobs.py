"""Jobs in the UI, key by key, with real child processes (ui_worker.py)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList
from tui_world import settle, toasts, until

from cachetui.jobs.model import JobState, Spec
from cachetui.jobs.runner import Settings
from cachetui.tui.app import CachetuiApp
from cachetui.tui.handlers import jobs as handlers
from cachetui.tui.jobdesk import JobDesk
from cachetui.tui.screens.choice import ChoiceScreen
from cachetui.tui.screens.jobs import JobsScreen
from cachetui.tui.screens.main import MainScreen

WORKER = str(Path(__file__).with_name("ui_worker.py"))
SETTINGS = Settings(command=lambda kind: [sys.executable, WORKER], grace=5.0)


@pytest.fixture
def busy(app: CachetuiApp) -> Iterator[CachetuiApp]:
    """The app with the test worker; none is left running."""
    app.desk = JobDesk(app._jobs_moved, SETTINGS)
    yield app
    app.desk.close()


def _spec(tmp_path: Path, name: str, drive: str = "/mnt/big", **request: Any) -> Spec:
    request = {"until": str(tmp_path / f"go-{name}"), **request}
    return Spec(f"test-{name}", "archive", f"archive hf:org/{name} to {drive}", request, (drive,), resumable=True)


def _states(app: CachetuiApp) -> list[JobState]:
    return [j.state for j in app.desk.jobs()]


def _line(main: MainScreen) -> str:
    return main.job_line.render().plain


def _list(app: CachetuiApp) -> list[str]:
    options = app.screen.query_one(OptionList)
    return [str(options.get_option_at_index(n).prompt) for n in range(options.option_count)]


async def _open(pilot: Pilot[None]) -> None:
    await pilot.press("J")
    await until(pilot, lambda: isinstance(pilot.app.screen, JobsScreen))


async def test_a_running_job_stands_in_the_main_screen_until_it_is_done(busy: CachetuiApp, tmp_path: Path) -> None:
    async with busy.run_test(size=(140, 40), notifications=True) as pilot:
        main = await settle(pilot)
        assert not main.job_line.display
        handlers.start(main, _spec(tmp_path, "one"))
        handlers.start(main, _spec(tmp_path, "two"))
        await until(pilot, lambda: "50 %" in _line(main))
        assert main.job_line.display and "archive hf:org/one" in _line(main) and "1 queued" in _line(main)
        (tmp_path / "go-one").touch()
        await until(pilot, lambda: _states(busy) == [JobState.DONE, JobState.RUNNING])
        (tmp_path / "go-two").touch()
        await until(pilot, lambda: not main.job_line.display)
        assert [t for t in toasts(pilot) if "hf:org/two" in t]


async def test_pausing_stopping_and_starting_again(busy: CachetuiApp, tmp_path: Path) -> None:
    async with busy.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        handlers.start(main, _spec(tmp_path, "one"))
        await _open(pilot)
        await until(pilot, lambda: "50 %" in _list(busy)[0])
        await pilot.press("p")
        await until(pilot, lambda: _list(busy)[0].startswith("paused"))
        await pilot.press("p")
        await until(pilot, lambda: _list(busy)[0].startswith("running"))
        await pilot.press("x")
        await until(pilot, lambda: _list(busy)[0].startswith("cancelled"))
        await pilot.press("r")
        await until(pilot, lambda: "50 %" in _list(busy)[0])
        (tmp_path / "go-one").touch()
        await until(pilot, lambda: _list(busy)[0].startswith("done"))
        await pilot.press("c")
        await until(pilot, lambda: not busy.desk.jobs())
        assert "Nothing runs" in str(busy.screen.query_one("#jobs-sum").render())


async def test_a_failure_stays_until_it_was_looked_at(busy: CachetuiApp, tmp_path: Path) -> None:
    async with busy.run_test(size=(140, 40), notifications=True) as pilot:
        main = await settle(pilot)
        (tmp_path / "go-one").touch()
        handlers.start(main, _spec(tmp_path, "one", fail=["the drive was unplugged", "plug it in again"]))
        await until(pilot, lambda: "1 failed: the drive was unplugged" in _line(main))
        assert any("plug it in again" in t for t in toasts(pilot))
        await _open(pilot)
        text = str(busy.screen.query_one("#jobs-text").render())
        assert "the drive was unplugged" in text and "plug it in again" in text
        await pilot.press("escape")
        await until(pilot, lambda: not main.job_line.display)


async def test_what_was_not_done_is_said(busy: CachetuiApp, tmp_path: Path) -> None:
    results = [
        {"target": "hf:a/a", "done": True, "freed": 5},
        {"target": "hf:b/b", "done": False, "message": "changed"},
    ]
    async with busy.run_test(size=(140, 40), notifications=True) as pilot:
        main = await settle(pilot)
        (tmp_path / "go-one").touch()
        handlers.start(main, _spec(tmp_path, "one", result={"results": results}))
        await until(pilot, lambda: _states(busy) == [JobState.DONE])
        await _open(pilot)
        await until(pilot, lambda: _list(busy)[0].startswith("partly done"))
        text = str(busy.screen.query_one("#jobs-text").render())
        assert "✓ done hf:a/a" in text and "✗ not done hf:b/b" in text and "changed" in text


async def test_leaving_asks_and_can_wait(busy: CachetuiApp, tmp_path: Path) -> None:
    async with busy.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        handlers.start(main, _spec(tmp_path, "one"))
        await pilot.press("q")
        await until(pilot, lambda: isinstance(busy.screen, ChoiceScreen))
        await pilot.press("escape")
        await until(pilot, lambda: busy.screen is main)
        await pilot.press("q")
        await until(pilot, lambda: isinstance(busy.screen, ChoiceScreen))
        await pilot.press("w")
        await until(pilot, lambda: "leaving when done" in _line(main))
        assert busy.is_running
        (tmp_path / "go-one").touch()
        await until(pilot, lambda: not busy.is_running or busy._exit)
    assert _states(busy) == [JobState.DONE]


async def test_what_is_stopped_by_leaving_is_offered_next_time(
    busy: CachetuiApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with busy.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        handlers.start(main, _spec(tmp_path, "one"))
        await until(pilot, lambda: _states(busy) == [JobState.RUNNING])
        await pilot.press("ctrl+q")
        await until(pilot, lambda: isinstance(busy.screen, ChoiceScreen))
        await pilot.press("s")
        await until(pilot, lambda: busy._exit)
    monkeypatch.setattr("cachetui.jobs.unfinished._is_ours", lambda row: False)
    monkeypatch.setattr("cachetui.jobs.unfinished._alive", lambda owner: False)
    later = CachetuiApp(busy.where, clock=busy.clock)
    later.desk = JobDesk(later._jobs_moved, SETTINGS)
    async with later.run_test(size=(120, 40), notifications=True) as pilot:
        main = await settle(pilot)
        await until(pilot, lambda: "1 of last time not finished" in _line(main))
        assert any("can go on" in t for t in toasts(pilot))
        await _open(pilot)
        assert _list(later)[0].startswith("not finished  archive hf:org/one")
        (tmp_path / "go-one").touch()
        await pilot.press("r")
        await until(pilot, lambda: _states(later) == [JobState.DONE])
        assert not later.desk.unfinished
    later.desk.close()


async def test_the_mouse_opens_the_jobs_and_presses_their_keys(busy: CachetuiApp, tmp_path: Path) -> None:
    async with busy.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        handlers.start(main, _spec(tmp_path, "one"))
        await until(pilot, lambda: "50 %" in _line(main))
        await pilot.click(main.job_line)
        await until(pilot, lambda: isinstance(busy.screen, JobsScreen))
        await pilot.click(busy.screen.query_one("KeyLine"), offset=(3, 0))
        await until(pilot, lambda: _states(busy) == [JobState.CANCELLED])


async def test_it_all_fits_in_eighty_columns(busy: CachetuiApp, tmp_path: Path) -> None:
    async with busy.run_test(size=(80, 24)) as pilot:
        main = await settle(pilot)
        for n in range(7):
            handlers.start(main, _spec(tmp_path, f"a-model-with-quite-a-long-name-{n}"))
        await until(pilot, lambda: "50 %" in _line(main))
        assert len(_line(main)) <= 80
        await _open(pilot)
        await pilot.pause()
        keys = busy.screen.query_one("KeyLine").region
        assert 0 < keys.bottom <= 24 and busy.screen.query_one("#jobs").region.bottom <= 24
