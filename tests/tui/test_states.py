"""Saved states in the tree: under their model, with what they are of, and deleted like everything."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from prompt_world import open_prompt, png
from state_world import SYSTEM, save
from textual.widgets import Input
from tui_world import NOW, names, select, settle, toasts, until

from cachetui import state_folders
from cachetui.config import Where
from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.plan import PlanScreen
from cachetui.tui.widgets.prompt_pane import PromptPane
from cachetui.tui.widgets.tree import ModelTree

QWEN = "Qwen/Qwen3-VL-8B-Instruct"


def _states(world: Where) -> Path:
    """A folder of the user's with a state of a model that is here and one of a model that is not."""
    folder = Path(world.home) / "caches"
    snapshots = Path(world.env["HF_HOME"]) / "hub" / "models--Qwen--Qwen3-VL-8B-Instruct" / "refs" / "main"
    save(folder / "cat_cache.pt", repo=QWEN, commit=snapshots.read_text().strip(), images=("/p/cat.png",), tokens=312)
    save(folder / "else.safetensors", repo="gone/model", images=("dog.png",))
    (folder / "holiday.jpg").write_bytes(b"\xff\xd8\xff")
    state_folders.remember(str(folder))
    return folder


def _line(app: CachetuiApp, title: str) -> str:
    tree = app.screen_stack[0].query_one(ModelTree)
    at = next(n for n in range(len(tree.rows)) if tree.rows[n].title == title)
    return tree.render_line(at - tree.scroll_offset.y).text


async def test_below_its_model_told_deleted_and_brought_back(world: Where) -> None:
    folder = _states(world)
    app = CachetuiApp(world, clock=lambda: NOW)  # reads from here on
    async with app.run_test(size=(150, 50), notifications=True) as pilot:
        main = await settle(pilot)
        await until(pilot, lambda: "else" in names(main) and "cat_cache.pt" not in names(main))
        assert "1 state" in _line(app, QWEN)
        select(main, QWEN)
        await pilot.press("l")
        await until(pilot, lambda: "cat_cache.pt" in names(main))
        at = names(main).index("cat_cache.pt")
        assert names(main)[at - 1] == QWEN and "312 tokens, cat.png 64x48" in _line(app, "cat_cache.pt")
        select(main, "cat_cache.pt")
        await until(pilot, lambda: "belongs to" in str(main.details._body.render()))
        shown = str(main.details._body.render())
        for text in ("belongs to  hf:Qwen/Qwen3-VL-8B-Instruct", "tokens      312", "cat.png 64x48"):
            assert text in shown, shown
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen))
        await pilot.press("y")
        await settle(pilot)
        assert sorted(os.listdir(folder)) == ["else.safetensors", "holiday.jpg"]
        await until(pilot, lambda: "cat_cache.pt" not in names(main))
        await pilot.press("u")
        await until(pilot, lambda: "cat_cache.pt" in names(main))
        assert (folder / "cat_cache.pt").exists()


async def test_a_picture_that_was_read_before_is_known_again(world: Where) -> None:
    """`state save` has a system prompt by default: the pane takes it over, once for each picture."""
    pytest.importorskip("PIL")
    picture = png(Path(world.home) / "boat.png", (200, 40, 30))
    refs = Path(world.env["HF_HOME"]) / "hub" / "models--Qwen--Qwen3-VL-8B-Instruct" / "refs" / "main"
    folder = Path(world.home) / "caches"
    save(folder / "boat.safetensors", repo=QWEN, commit=refs.read_text().strip(), images=("boat.png",),
         sha256=hashlib.sha256(picture.read_bytes()).hexdigest())  # fmt: skip
    state_folders.remember(str(folder))
    app = CachetuiApp(world, clock=lambda: NOW)
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        screen = await open_prompt(pilot, QWEN)
        await until(pilot, lambda: app.main.shelf.scan is not None)
        system = screen.query_one("#system", Input)
        screen.query_one(PromptPane).set_picture(str(picture))
        await until(pilot, lambda: system.value == SYSTEM)
        assert any("saved state of this picture" in t for t in toasts(pilot))
        system.value = ""
        await pilot.pause(1.0)
        assert system.value == ""
