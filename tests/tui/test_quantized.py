"""Quantized models in the tree: shown, deleted and cleaned up like everything, with undo."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from entry_world import IDENTITY, make, spoil_byte
from textual.pilot import Pilot
from tui_world import names, select, settle, toasts, until

from cachetui.quantized_entries import entries
from cachetui.tui.app import CachetuiApp
from cachetui.tui.screens.choice import ChoiceScreen
from cachetui.tui.screens.plan import PlanScreen


@pytest.fixture
def folder(app: CachetuiApp) -> Path:
    """One good, one damaged where only its hash tells, one that is old; none is young."""
    path = Path(app.where.home) / ".cache/qwen_quantized"
    for identity, days in ((0, 2), (4, 3), (8, 40)):
        entry = Path(make(path, rank=identity, when=time.time() - days * 86400).path)
        if identity == 4:
            spoil_byte(entry / "model.safetensors")
        for file in (*entry.rglob("*"), entry):
            os.utime(file, (time.time() - days * 86400, file.stat().st_mtime))
    return path


async def _clean(app: CachetuiApp, pilot: Pilot[None], key: str) -> None:
    await pilot.press("C")
    await until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
    await pilot.press(key)
    await until(pilot, lambda: isinstance(app.screen, PlanScreen))


async def test_in_the_tree_and_cleaned_up(app: CachetuiApp, folder: Path) -> None:
    async with app.run_test(size=(150, 50), notifications=True) as pilot:
        main = await settle(pilot)
        assert names(main).count("org/name nf4") == 3
        select(main, "org/name nf4")
        await settle(pilot)
        shown = str(main.details._body.render())
        for text in ("hf:org/name", "bitsandbytes nf4", "LlamaForCausalLM", "torch 2.13.0"):
            assert text in shown, shown
        await pilot.press("C")
        await until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        told = str(app.screen.query("Static").first().render())
        assert "3 entries" in told and "1 entry" in told and "neither made nor used for 7 days" in told
        await pilot.press("escape")
        await _clean(app, pilot, "o")
        await pilot.press("y")
        await settle(pilot)
        await until(pilot, lambda: len(entries(str(folder))) == 2)
        await _clean(app, pilot, "d")
        assert any("sha256 is another one" in t for t in toasts(pilot))
        await pilot.press("y")
        await settle(pilot)
        await until(pilot, lambda: [os.path.basename(e.path) for e in entries(str(folder))] == [IDENTITY.key])
        await pilot.press("u")
        await until(pilot, lambda: len(entries(str(folder))) == 2)


async def test_nothing_to_clean_is_said(app: CachetuiApp) -> None:
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settle(pilot)
        await pilot.press("C")
        await until(pilot, lambda: any("no quantized models" in t for t in toasts(pilot)))
