"""What people do, key by key, on the demo world."""

from __future__ import annotations

import asyncio
from pathlib import Path

from textual.widgets import Button, Input, OptionList
from tui_world import main_of, names, select, settle, toasts, until

from cachetui.model import PINNED
from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.ask import AskScreen
from cachetui.tui.screens.choice import ChoiceScreen
from cachetui.tui.screens.plan import PlanScreen
from cachetui.tui.screens.trash import TrashScreen
from cachetui.tui.widgets.tick import Tick

QWEN = "Qwen/Qwen3-VL-8B-Instruct"
PHI = "microsoft/phi-2"


def _hub(app: CachetuiApp) -> Path:
    return Path(app.where.env["HF_HOME"]) / "hub"


async def test_delete_and_undo(app: CachetuiApp) -> None:
    folder = _hub(app) / "models--microsoft--phi-2"
    before = sorted(p.relative_to(folder) for p in folder.rglob("*"))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        main = await settle(pilot)
        select(main, PHI)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen))
        assert folder.exists()
        await pilot.press("y")
        await settle(pilot)
        assert not folder.exists()
        assert PHI not in names(main)
        assert any("u brings it back" in t for t in toasts(pilot))
        await pilot.press("u")
        await until(pilot, lambda: PHI in names(main))
        await settle(pilot)
        assert sorted(p.relative_to(folder) for p in folder.rglob("*")) == before


async def test_escape_deletes_nothing(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        select(main, PHI)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen))
        await pilot.press("escape")
        await settle(pilot)
        assert PHI in names(main)
        assert (_hub(app) / "models--microsoft--phi-2").exists()


async def test_permanent_deletion_wants_the_word(app: CachetuiApp) -> None:
    folder = _hub(app) / "models--microsoft--phi-2"
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        main = await settle(pilot)
        select(main, PHI)
        await pilot.press("X")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen))
        assert app.screen.query_one("#confirm", Button).disabled
        await pilot.press("enter", *"delet", "enter")
        assert folder.exists()
        await pilot.press("e", "enter")
        await settle(pilot)
        assert not folder.exists()
        await pilot.press("u")
        await settle(pilot)
        assert any("nothing to undo" in t for t in toasts(pilot))
        assert PHI not in names(main)


async def test_deleting_one_revision_of_two(app: CachetuiApp) -> None:
    snapshots = _hub(app) / "models--Qwen--Qwen3-VL-8B-Instruct" / "snapshots"
    async with app.run_test(size=(140, 40)) as pilot:
        main = await settle(pilot)
        select(main, QWEN)
        await pilot.press("l", "l", "space")
        assert [k[0] for k in main.marked] == ["revision"]
        await settle(pilot)
        assert main.marked_frees
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen))
        await pilot.press("y")
        await settle(pilot)
        assert len(list(snapshots.iterdir())) == 1
        assert QWEN in names(main)
        assert not main.marked


async def test_trash_lists_restores_and_empties(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        main = await settle(pilot)
        for name in (PHI, QWEN):
            select(main, name)
            await pilot.press("d")
            await until(pilot, lambda: isinstance(app.screen, PlanScreen))
            await pilot.press("y")
            await settle(pilot)
        await pilot.press("T")
        await until(pilot, lambda: isinstance(app.screen, TrashScreen))
        assert app.screen.query_one(OptionList).option_count == 2
        await pilot.press("j", "enter")
        await settle(pilot)
        await until(pilot, lambda: PHI in names(main))
        assert QWEN not in names(main)
        await pilot.press("T")
        await until(pilot, lambda: isinstance(app.screen, TrashScreen))
        await pilot.press("X")
        await until(pilot, lambda: isinstance(app.screen, AskScreen))
        await pilot.press("y")
        await settle(pilot)
        assert any("came back" in t for t in toasts(pilot))
        await pilot.press("T")
        await until(pilot, lambda: isinstance(app.screen, TrashScreen))
        assert not app.screen.query(OptionList)


async def test_filter_narrows_live_and_escape_clears(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        everything = len(names(main))
        await pilot.press("slash", *"quant=Q4_K_M")
        assert names(main)
        assert set(names(main)) >= {"llama3.2:3b", "qwen2.5vl:3b"}
        assert QWEN not in names(main)
        await pilot.press("enter", "escape")
        assert len(names(main)) == everything
        assert main.focused is main.models


async def test_a_filter_that_cannot_be_read_says_why_and_keeps_the_list(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        await pilot.press("slash")
        main.query_one(Input).value = "sise>1"
        await pilot.pause()
        assert "unknown key" in str(main.query_one("#filter-error").render())
        assert len(names(main)) > 5
        main.query_one(Input).value = "phi"
        await pilot.pause()
        assert names(main) == [PHI]


async def test_sorting_and_grouping(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 60)) as pilot:
        main = await settle(pilot)
        hub = [n for n in names(main) if "/" in n][:3]
        assert hub[0] == QWEN
        await pilot.press("s", "s")
        assert main.view.sort == "last used"
        assert names(main)[0] == "TheBloke/Mistral-7B-Instruct-v0.2-GPTQ"
        await pilot.press("s")
        hub_names = names(main)[:5]
        assert hub_names == sorted(hub_names, key=str.lower)
        await pilot.press("S")
        assert names(main)[0].lower() > names(main)[1].lower()
        await pilot.press("b")
        groups = {main.models.rows[n].title for n in range(len(main.models.rows)) if main.models.rows[n].level == 0}
        assert {"model", "dataset"} <= groups


async def test_files_open_below_revisions_and_the_cursor_stays(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        select(main, PHI)
        await pilot.press("enter", "j", "enter", "j")
        row = main.models.row
        assert row is not None and row.kind == "file"
        key = row.key
        await pilot.press("s")
        assert main.models.row is not None and main.models.row.key == key
        await pilot.press("h", "h", "h")
        assert main.models.row is not None and main.models.row.title == PHI


async def test_marks_add_up_and_a_heading_marks_all_below(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        await pilot.press("space")
        in_hub = len(main.marked)
        assert in_hub > 5
        await settle(pilot)
        scan = main.shelf.scan
        assert scan is not None
        marked = [main.shelf.item((k[1], k[2])) for k in main.marked]
        items = [i for i in marked if i is not None and PINNED not in i.states]
        assert main.marked_frees == scan.ledger.frees(items)
        await pilot.press("asterisk")
        assert len(main.marked) == len(names(main)) - 1 > in_hub
        assert any("1 in archives are not marked" in t for t in toasts(pilot))
        await pilot.press("c")
        assert not main.marked


async def test_a_pinned_item_is_refused_among_many(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        main = await settle(pilot)
        select(main, PHI)
        await pilot.press("P")
        await settle(pilot)
        await until(pilot, lambda: any(PINNED in i.states for i in main.shelf.scan.items if i.name == PHI))  # type: ignore[union-attr]
        await pilot.press("asterisk", "d")
        await until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("l")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen))
        assert isinstance(app.screen, PlanScreen)
        assert any(PHI in i.target for i in app.screen.plan.refused)


async def test_a_narrow_terminal_shows_details_on_demand(app: CachetuiApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        main = await settle(pilot)
        assert not main.details.display
        await pilot.press("i")
        assert main.details.display
        assert main.details.region.y > main.models.region.y
        await pilot.press("i")
        assert not main.details.display


async def test_moving(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 20)) as pilot:
        main = await settle(pilot)
        await pilot.press("G")
        last = len(main.models.rows) - 1
        assert main.models.cursor == last
        assert main.models.scroll_offset.y > 0
        await pilot.press("ctrl+u", "k", "g")
        assert main.models.cursor == 0
        assert main.models.scroll_offset.y == 0
        await pilot.press("j", "down", "pagedown")
        assert main.models.cursor > 3


async def test_the_mouse_selects_opens_and_marks(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        rows = len(main.models.rows)
        await pilot.click(main.models, offset=(20, 2))
        assert main.models.cursor == 2
        assert len(main.models.rows) == rows
        await pilot.click(main.models, offset=(5, 2))
        assert len(main.models.rows) > rows
        await pilot.click(main.models, offset=(1, 2))
        assert len(main.marked) == 1
        await pilot.click(main.head, offset=(4, 0))
        assert main.view.sort == "name"


async def test_the_details_say_who_has_it_open(app: CachetuiApp) -> None:
    from subprocess import PIPE, Popen

    weights = next((_hub(app) / "models--microsoft--phi-2" / "blobs").iterdir())
    reader = Popen(["sleep", "60"], stdin=weights.open("rb"), stdout=PIPE)
    try:
        async with app.run_test(size=(150, 40)) as pilot:
            main = await settle(pilot)
            select(main, PHI)
            await until(pilot, lambda: f"open now in sleep ({reader.pid})" in str(main.details._body.render()))
    finally:
        reader.kill()
        reader.communicate()


async def test_the_chosen_theme_is_there_the_next_time(app: CachetuiApp) -> None:
    from cachetui.config import Where

    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("t")
        await pilot.pause(0.3)
        await pilot.press(*"cachetui-clear")
        await pilot.pause(0.5)
        await pilot.press("enter")
        await until(pilot, lambda: app.theme == "cachetui-clear")
        await settle(pilot)
    assert CachetuiApp(Where.current()).theme == "cachetui-clear"
    assert "search_roots" in (Path(app.where.home) / ".config/cachetui/config.toml").read_text()


async def test_the_trash_is_made_before_the_disk_is_full(app: CachetuiApp) -> None:
    from huggingface_hub import scan_cache_dir

    hub = _hub(app)
    warnings = {str(w) for w in scan_cache_dir(hub).warnings}
    async with app.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        assert len(list((hub.parent / ".cachetui-trash/entries").iterdir())) == 2
        assert not list(Path(app.where.home, "projects").rglob(".cachetui-trash"))
        await pilot.press("R")
        await settle(pilot)
        scan = main.shelf.scan
        assert scan is not None
        for root in scan.roots:
            if root.root.path == str(hub.parent):
                du = sum(_blocks(p) for p in (hub.parent, *hub.parent.rglob("*")) if hub not in (p, *p.parents))
                assert root.allocated == du
    assert {str(w) for w in scan_cache_dir(hub).warnings} == warnings


def _blocks(path: Path) -> int:
    return path.lstat().st_blocks * 512


async def test_an_empty_machine_tells_what_to_do(home: Path) -> None:
    from cachetui.config import Where

    app = CachetuiApp(Where.current())
    async with app.run_test(size=(110, 30)) as pilot:
        main = await settle(pilot)
        text = str(main.details._body.render())
        assert "cachetui demo" in text and "--cache-dir" in text
        await pilot.press("d", "space", "u", "T", "y", "o", "enter", "l", "h", "G", "s", "b")
        await asyncio.sleep(0.2)


async def test_the_palette_runs_a_command(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        await pilot.press("ctrl+p")
        await pilot.pause(0.3)
        await pilot.press(*"group by")
        await pilot.pause(0.5)
        await pilot.press("enter")
        await until(pilot, lambda: main.view.grouping == "kind")


async def test_copying_a_path(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        main = await settle(pilot)
        select(main, PHI)
        await pilot.press("y")
        assert app.clipboard == str(_hub(app) / "models--microsoft--phi-2")
        await pilot.press("o")
        assert any("No desktop" in t for t in toasts(pilot))


async def test_cancelling_keeps_what_was_read(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        main = main_of(pilot)
        app._feed.cancel()
        await settle(pilot)
        assert len(names(main)) > 5
        assert main.shelf.scan is not None and not main.shelf.scan.complete
        await pilot.press("R")
        await until(pilot, lambda: main.shelf.scan is not None and main.shelf.scan.complete)


async def test_quitting_while_something_runs_asks(app: CachetuiApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        main = await settle(pilot)
        main.running = ("moving to the trash", None)
        await pilot.press("q")
        assert isinstance(app.screen, AskScreen)
        await pilot.press("n")
        assert app.screen is main
        await pilot.press("ctrl+q")
        assert isinstance(app.screen, AskScreen)
        await pilot.press("n")
        main.running = None
        await pilot.press("q")
    assert app.return_code == 0


async def test_what_is_in_use_goes_only_when_ticked(app: CachetuiApp) -> None:
    folder = _hub(app) / "models--microsoft--phi-2"
    weights = next((folder / "blobs").iterdir())
    with weights.open("rb"):
        async with app.run_test(size=(120, 40), notifications=True) as pilot:
            main = await settle(pilot)
            select(main, PHI)
            await pilot.press("d")
            await until(pilot, lambda: isinstance(app.screen, PlanScreen))
            assert app.screen.query_one("#confirm", Button).disabled
            assert "in use" in str(app.screen.query_one(Tick).label)
            await pilot.press("y")
            assert folder.exists() and isinstance(app.screen, PlanScreen)
            await pilot.press("space", "y")
            await settle(pilot)
            assert not folder.exists()
