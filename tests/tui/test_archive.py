"""Archiving in the UI, key by key, to a second file system, with the real workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from second import mounted, unmount
from textual.pilot import Pilot
from textual.widgets import Button, Input, OptionList, Static
from tui_world import main_of, names, select, settle, until

from cachetui.config import Where
from cachetui.jobs.model import JobState
from cachetui.model import ARCHIVED, OFFLINE
from cachetui.plans import trash
from cachetui.scan import scan
from cachetui.targets import resolve
from cachetui.transfer import archiving
from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.archive import ArchiveScreen
from cachetui.tui.screens.ask import AskScreen
from cachetui.tui.screens.choice import ChoiceScreen
from cachetui.tui.screens.plan import PlanScreen
from cachetui.tui.screens.transfer import TransferScreen
from cachetui.tui.screens.trash import TrashScreen

PHI = "microsoft/phi-2"


@pytest.fixture
def drive(app: CachetuiApp) -> Iterator[Path]:
    """A second file system inside what the app may look at."""
    with mounted(Path(app.where.env["HOME"]) / "drive", size="200m") as path:
        yield path
        app.desk.close()


def _folder(app: CachetuiApp) -> Path:
    return Path(app.where.env["HF_HOME"]) / "hub" / "models--microsoft--phi-2"


def _states(app: CachetuiApp, name: str) -> tuple[str, ...]:
    main = app.screen_stack[0]
    return next(i.states for i in main.shelf.scan.items if i.name == name and "hub" in i.root)  # type: ignore[attr-defined]


async def _to_the_plan(pilot: Pilot[None], to: Path) -> TransferScreen:
    await pilot.press("a")
    await until(pilot, lambda: isinstance(pilot.app.screen, ArchiveScreen))
    pilot.app.screen.query_one(Input).value = str(to)
    pilot.app.screen.query_one(Input).focus()
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, TransferScreen))
    assert isinstance(pilot.app.screen, TransferScreen)
    return pilot.app.screen


async def _job_done(pilot: Pilot[None], count: int) -> None:
    app = pilot.app
    assert isinstance(app, CachetuiApp)
    await until(pilot, lambda: len(app.desk.jobs()) == count and app.desk.jobs()[-1].state.ended, 60)
    job = app.desk.jobs()[-1]
    assert job.state is JobState.DONE, (job.reason, job.advice, job.result)
    await settle(pilot)


async def test_archive_load_unplug_and_restore(app: CachetuiApp, drive: Path) -> None:
    before = {p.name: p.read_bytes() for p in (_folder(app) / "blobs").iterdir()}
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        main = await settle(pilot)
        select(main, PHI)
        plan = await _to_the_plan(pilot, drive / "models")
        text = "\n".join(str(s.render()) for s in plan.query("Static"))
        assert "in 8 files" in text and "come back once the copy is proven" in text and "→ ~/drive/models" in text
        await pilot.press("y")
        await _job_done(pilot, 1)
        assert _folder(app).is_symlink()
        assert {p.name: p.read_bytes() for p in (_folder(app) / "blobs").iterdir()} == before
        await until(pilot, lambda: ARCHIVED in _states(app, PHI))
        row = main.models.row
        assert row is not None and row.title == PHI
        await until(pilot, lambda: "r brings it back" in str(main.details._body.render()))

        unmount(drive)
        await pilot.press("R")
        await settle(pilot)
        await until(pilot, lambda: OFFLINE in _states(app, PHI))
        assert "plug" in str(main.details._body.render())


async def test_restore_brings_it_back(app: CachetuiApp, drive: Path) -> None:
    before = {p.name: p.read_bytes() for p in (_folder(app) / "blobs").iterdir()}
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        main = await settle(pilot)
        select(main, PHI)
        await _to_the_plan(pilot, drive / "models")
        await pilot.press("y")
        await _job_done(pilot, 1)
        await until(pilot, lambda: ARCHIVED in _states(app, PHI))
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, TransferScreen))
        await pilot.press("y")
        await _job_done(pilot, 2)
        assert not _folder(app).is_symlink()
        assert {p.name: p.read_bytes() for p in (_folder(app) / "blobs").iterdir()} == before
        await until(pilot, lambda: ARCHIVED not in _states(app, PHI))
        assert main.models.row is not None and main.models.row.title == PHI


async def test_a_full_drive_is_said_before_anything_starts(app: CachetuiApp, drive: Path) -> None:
    (drive / "full").write_bytes(bytes(199 * 2**20))
    async with app.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        select(main, PHI)
        plan = await _to_the_plan(pilot, drive / "models")
        assert "too small" in str(plan.query_one("#plan-summary").render())
        assert not plan.query("#confirm")
        await pilot.press("escape")
        assert not app.desk.jobs() and not _folder(app).is_symlink()


async def test_the_same_file_system_is_refused(app: CachetuiApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        main = await settle(pilot)
        select(main, PHI)
        plan = await _to_the_plan(pilot, Path(app.where.env["HOME"]) / "elsewhere")
        assert "same file system" in str(plan.query_one("#plan-summary").render())
        assert [b.id for b in plan.query(Button)] == ["cancel"]


async def test_the_buttons_are_there_in_a_small_terminal(app: CachetuiApp) -> None:
    weights = next((_folder(app) / "blobs").iterdir())
    with weights.open("rb"):
        async with app.run_test(size=(80, 24)) as pilot:
            main = await settle(pilot)
            select(main, PHI)
            await pilot.press("space", "d")
            await until(pilot, lambda: isinstance(app.screen, PlanScreen))
            await pilot.pause()
            assert 0 < app.screen.query_one("#confirm").region.bottom <= 24
            await pilot.press("escape", "c")
            for name in ("google/gemma-3-4b-it", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", PHI, "acme/half-copied"):
                select(main, name)
                await pilot.press("space")
            await pilot.press("d")
            await until(pilot, lambda: isinstance(app.screen, PlanScreen))
            await pilot.pause()
            assert 0 < app.screen.query_one("#confirm").region.bottom <= 24


async def test_nothing_outside_of_the_demo_is_written_to(app: CachetuiApp, tmp_path: Path) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        select(main, PHI)
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, ArchiveScreen))
        app.screen.query_one(Input).value = str(tmp_path / "outside")
        app.screen.query_one(Input).focus()
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, ArchiveScreen)
        assert "outside" in str(app.screen.query_one("#archive-error").render())


async def test_what_is_not_archived_cannot_be_restored(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        main = await settle(pilot)
        select(main, PHI)
        await pilot.press("r")
        await pilot.pause()
        assert app.screen is main_of(pilot)


FLAN = "google/flan-t5-large"
MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"


def _hub(app: CachetuiApp) -> Path:
    return Path(app.where.env["HF_HOME"]) / "hub"


async def _delete_archived(pilot: Pilot[None], key: str) -> None:
    main = await settle(pilot)
    select(main, FLAN)
    await pilot.press("d")
    await until(pilot, lambda: isinstance(pilot.app.screen, ChoiceScreen))
    await pilot.press(key)
    await until(pilot, lambda: isinstance(pilot.app.screen, PlanScreen))


async def test_deleting_an_archived_model_can_leave_its_copy(app: CachetuiApp) -> None:
    copy = Path(app.where.env["CACHETUI_AND_BELOW"]) / "hub/models--google--flan-t5-large"
    async with app.run_test(size=(120, 40)) as pilot:
        await _delete_archived(pilot, "l")
        assert len(app.screen.plan.accepted) == 1  # type: ignore[attr-defined]
        await pilot.press("y")
        await settle(pilot)
        assert not os.path.lexists(_hub(app) / "models--google--flan-t5-large")
        assert copy.is_dir()
        await pilot.press("u")
        await settle(pilot)
        assert (_hub(app) / "models--google--flan-t5-large").is_symlink()


async def test_deleting_an_archived_model_with_its_copy(app: CachetuiApp) -> None:
    copy = Path(app.where.env["CACHETUI_AND_BELOW"]) / "hub/models--google--flan-t5-large"
    async with app.run_test(size=(120, 40)) as pilot:
        await _delete_archived(pilot, "c")
        assert len(app.screen.plan.accepted) == 2  # type: ignore[attr-defined]
        await pilot.press("y")
        main = await settle(pilot)
        assert not os.path.lexists(_hub(app) / "models--google--flan-t5-large") and not copy.exists()
        assert FLAN not in names(main)


async def test_a_question_about_an_archived_model_can_be_left(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        select(main, FLAN)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("escape")
        await settle(pilot)
        assert app.screen is main and FLAN in names(main)


async def test_what_is_away_says_where_it_is(app: CachetuiApp) -> None:
    async with app.run_test(size=(140, 40)) as pilot:
        main = await settle(pilot)
        select(main, MIXTRAL)
        await pilot.pause()
        text = str(main.details._body.render())
        assert "offline" in text and "drives/big" in "".join(text.split()) and "plug" in text
        assert app.where.home not in "".join(text.split()) and "liesat~/" in "".join(text.split())
        assert "big offline" in main.strip.render().plain
        hub = main.models.rows[0]
        scan = main.shelf.scan
        assert scan is not None
        assert hub.size == next(r.size for r in scan.roots if r.root.path == str(_hub(app)))


async def test_a_drive_that_is_elsewhere_now_is_adopted(app: CachetuiApp) -> None:
    attic = Path(app.where.env["CACHETUI_AND_BELOW"])
    moved = attic.with_name("other-place")
    attic.rename(moved)
    config = Path(app.where.env["HOME"]) / ".config/cachetui/config.toml"
    config.write_text(f'{config.read_text()}archives = ["{moved}"]\n')
    again = CachetuiApp(Where.current(), clock=app.clock)
    async with again.run_test(size=(120, 40), notifications=True) as pilot:
        main = await settle(pilot)
        select(main, FLAN)
        assert OFFLINE in _states(again, FLAN)
        await pilot.press("A")
        await until(pilot, lambda: isinstance(again.screen, TransferScreen))
        await pilot.press("y")
        await _job_done(pilot, 1)
        assert os.readlink(_hub(app) / "models--google--flan-t5-large").startswith(str(moved))
        await until(pilot, lambda: ARCHIVED in _states(again, FLAN))
    again.desk.close()


async def test_two_archives_to_one_drive_wait_for_each_other(app: CachetuiApp, drive: Path) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        for name in (PHI, "openai/whisper-large-v3-turbo"):
            select(main, name)
            await _to_the_plan(pilot, drive / "models")
            await pilot.press("y")
        together = 0
        while app.desk.active:
            together = max(together, sum(j.state is JobState.RUNNING for j in app.desk.jobs()))
            await pilot.pause(0.02)
        assert together == 1
        assert [j.state for j in app.desk.jobs()] == [JobState.DONE] * 2, [j.reason for j in app.desk.jobs()]
        await settle(pilot)
        await until(pilot, lambda: ARCHIVED in _states(app, "openai/whisper-large-v3-turbo"))


def _asks(app: CachetuiApp, what: str) -> bool:
    return isinstance(app.screen, AskScreen) and what in "\n".join(str(s.render()) for s in app.screen.query(Static))


async def test_emptying_originals_whose_copy_is_away_asks_again(app: CachetuiApp, drive: Path) -> None:
    found = scan(app.where)
    plan = archiving.prepare(found, resolve(found, f"hf:{PHI}"), str(drive / "models"), keep_original=True)
    assert archiving.execute(plan, accept=plan.cautions).ok
    unmount(drive)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        main = await settle(pilot)
        roots = list(main.shelf.roots.values())
        for answer, left in (("n", 1), ("y", 0)):
            await pilot.press("T")
            await until(pilot, lambda: isinstance(app.screen, TrashScreen))
            mine = next(n for n, e in enumerate(trash.entries(roots)) if e.verb == "archive")
            app.screen.query_one(OptionList).highlighted = mine
            await pilot.press("x")
            await until(pilot, lambda: _asks(app, "Gone for good"))
            await pilot.press("y")
            await until(pilot, lambda: _asks(app, "is not there now"))
            await pilot.press(answer)
            await settle(pilot)
            assert sum(e.verb == "archive" for e in trash.entries(roots)) == left
