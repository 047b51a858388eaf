"""I4 and I5 for exchanges: whatever call is killed or fails, all is as before or as after, and every path resolves.

As in test_crash_sweep.py the N-th file-changing call goes wrong, for N = 1.. until a run is clean (the ordinary run
takes every fifth, `-m sweep` all); judged by the hash of everything on the machine and on the drive.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from plans_world import Killed, World
from swap_world import SWAPS, ProbingFs, Stage, State, Swap, content, probes_of, state, undo

from cachetui.fs import Fs
from cachetui.plans import places, trash
from cachetui.plans.model import Recovery
from cachetui.plans.recovery import recover
from cachetui.plans.vault import peek

_ALL = ("before", "EIO", "after", "torn", "short", "ENOSPC", "ENOSPC+", "EACCES", "EROFS+", "EXDEV")
_SAMPLE = 5
FAULTS = (
    pytest.param("before", 1, _SAMPLE, id="before-sample"),
    pytest.param("EIO", 3, _SAMPLE, id="EIO-sample"),
    *(pytest.param(f, 1, 1, marks=pytest.mark.sweep, id=f) for f in _ALL),
)
"""What goes wrong, at which call first, and at every how-manieth: the ordinary run takes samples."""
WAYS = ("freed", pytest.param("kept", marks=pytest.mark.sweep), "undo")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where the system has such a folder: thousands of runs, each with its fsyncs."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="cachetui-", dir=memory if os.access(memory, os.W_OK) else None) as path:
        yield Path(path)


@pytest.fixture
def stage(world: World, tmp_path: Path) -> Stage:
    """A world that can be had again and again."""
    return Stage(world, tmp_path / "plain")


@pytest.mark.parametrize(("fault", "first", "stride"), FAULTS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("swap", SWAPS, ids=lambda s: s.name)
def test_every_call(
    swap: Swap, way: str, fault: str, first: int, stride: int, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    ends: Counter[str] = Counter()
    looks = 0
    for at in itertools.count(first, stride):
        fs = ProbingFs(at, fault)
        ends[_attempt(stage, swap, way, fs)] += 1
        looks += fs.looks
        if not fs.hit:
            break
    with capsys.disabled():
        calls = sum(ends.values()) - 1
        print(f"\n  {swap.name:8} {way:6} {fault:8} {calls:4} calls, {looks} looks: {dict(ends)}", end="")


def _attempt(stage: Stage, swap: Swap, way: str, fs: ProbingFs) -> str:
    world = stage.fresh(swap, done=way == "undo")
    held, fs.probes = content(world), probes_of(world, swap)
    done = _do(world, swap, way, fs)
    what = f"{swap.name} {way}: {fs.fault} at call {fs.at} ({fs.hit})"
    reported = recover(world.roots(), fs=_then(fs))
    assert not fs.unresolved, (what, fs.unresolved[:3])
    everything = frozenset(swap.targets)
    if done is None or (reported and not done):
        wanted = {"before": frozenset[str](), "after": everything}
    else:
        wanted = {f"{len(done)} of {len(everything)}": done}
    return judge(stage, world, swap, way, wanted, held, reported, what)


def _then(fs: ProbingFs) -> ProbingFs:
    """The disk of the next start, which is watched too."""
    return ProbingFs(0, "none", probes=fs.probes, unresolved=fs.unresolved)


def _do(world: World, swap: Swap, way: str, fs: Fs) -> frozenset[str] | None:
    """Which targets are said to be done; None when it was killed."""
    try:
        if way != "undo":
            outcome = swap.do(world, swap.targets, way == "freed", fs)
            return frozenset(t for t, r in zip(swap.targets, outcome.results, strict=True) if r.done)
        results = [r for o in undo(world, fs) for r in o.results if r.done]
        return frozenset(swap.targets[:1] if swap.name == "move" and results else [r.target for r in results])
    except Killed:
        return None


def judge(
    stage: Stage,
    world: World,
    swap: Swap,
    way: str,
    wanted: dict[str, frozenset[str]],
    held: set[str],
    reported: Sequence[Recovery],
    what: str,
) -> str:
    """Which of the wanted states this is; nothing is lost, nothing unfinished, nothing left lying about."""
    assert all(r.action in ("finished", "reverted") for r in reported), (what, reported)
    assert content(world) == held, what
    assert recover(world.roots()) == (), what
    for folder in world.home.rglob(places.NAME):
        used = {name for name, record, kept in peek(str(folder)) if record.present or kept}
        for slot in (folder / "entries").glob("*"):
            if slot.name not in used:
                assert not any((slot / "files").glob("*")) and not any((slot / "kept").glob("*")), what
    for entry in trash.entries(world.roots()):
        assert trash.check(entry) == ({}, ()), what
    now = state(world)
    everything = frozenset(swap.targets)
    for name, targets in wanted.items():
        there = everything - targets if way == "undo" else targets
        if now == stage.state(swap, there, way == "freed"):
            return f"{name}{' (recovered)' if reported else ''}"
    gaps = {
        n: difference(now, stage.state(swap, everything - t if way == "undo" else t, way == "freed"))
        for n, t in wanted.items()
    }
    raise AssertionError((what, gaps, reported))


def difference(now: State, other: State) -> list[str]:
    """What two states disagree about."""
    return sorted(k.rpartition("/home/")[2] for k in {*now, *other} if now.get(k) != other.get(k))[:5]
