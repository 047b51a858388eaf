"""The sweep of exchanges with real processes: one is gone in a call, the next starts and puts things right."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from plans_world import World
from swap_world import SWAPS, Stage, Swap, content, probes_of, state, undo
from test_process_sweep import Ending, _in_child, _show

from cachetui.plans import trash
from cachetui.plans.recovery import recover


def _ends(stage: Stage, swap: Swap, way: str, at: int, late: bool) -> tuple[str, bool]:
    """Which state it is after a kill at a call and one start, and whether the process came to its end."""
    world = stage.fresh(swap, done=way == "undo")
    held, probes = content(world), probes_of(world, swap)
    fs = Ending(at, after=late)
    finished = _in_child(lambda: undo(world, fs) if way == "undo" else swap.do(world, swap.targets, way == "freed", fs))
    assert all(p.exists() for p in probes), (swap.name, way, at, late)
    assert _in_child(lambda: recover(world.roots()))
    assert recover(world.roots()) == () and all(p.exists() for p in probes)
    assert content(world) == held, (swap.name, way, at, late)
    for entry in trash.entries(world.roots()):
        assert trash.check(entry) == ({}, ())
    now, everything = state(world), frozenset(swap.targets)
    ends = {"before": frozenset[str](), "after": everything}
    for name, targets in ends.items():
        if now == stage.state(swap, everything - targets if way == "undo" else targets, way == "freed"):
            return name, finished
    raise AssertionError((swap.name, way, at, late))


def _sweep(stage: Stage, swap: Swap, way: str, step: int) -> Counter[str]:
    ends: Counter[str] = Counter()
    for at in range(1, 1000, step):
        for late in (False, True):
            end, finished = _ends(stage, swap, way, at, late)
            ends[end] += 1
        if finished:
            return ends
    raise AssertionError("the sweep has no end")


@pytest.mark.parametrize(("name", "way"), [("archive", "freed"), ("restore", "undo"), ("move", "freed")])
def test_a_sample_of_calls(
    world: World, name: str, way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every eleventh call, killed before and after."""
    swap = next(s for s in SWAPS if s.name == name)
    _show(capsys, f"{swap.name} {way}", _sweep(Stage(world, tmp_path / "plain"), swap, way, 11))


@pytest.mark.sweep
@pytest.mark.parametrize("way", ["freed", "kept", "undo"])
@pytest.mark.parametrize("swap", SWAPS, ids=lambda s: s.name)
def test_every_call(world: World, swap: Swap, way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every call, killed before and after."""
    _show(capsys, f"{swap.name} {way}", _sweep(Stage(world, tmp_path / "plain"), swap, way, 1))
