"""What a start finds after an exchange was interrupted: killed again, without the call for it, without the drive."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from plans_world import FaultyFs, Killed, World
from swap_world import SWAPS, ProbingFs, Stage, Swap, content, drive, probes_of, state, undo
from test_swap_sweep import judge

from cachetui.fs import DISK, Fs
from cachetui.plans import trash
from cachetui.plans.halves import halves, let_go
from cachetui.plans.model import Recovery
from cachetui.plans.recovery import recover

BY_NAME = {s.name: s for s in SWAPS}
MORE = pytest.mark.sweep
IN_CI = ("archive", "restore", "move")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where the system has such a folder."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="cachetui-", dir=memory if os.access(memory, os.W_OK) else None) as path:
        yield Path(path)


@pytest.fixture
def stage(world: World, tmp_path: Path) -> Stage:
    """A world that can be had again and again."""
    return Stage(world, tmp_path / "plain")


def _calls(stage: Stage, swap: Swap, way: str) -> int:
    counting = FaultyFs(0, "none")
    _run(stage.fresh(swap, done=way == "undo"), swap, way, counting)
    return counting.count


def _run(world: World, swap: Swap, way: str, fs: Fs) -> None:
    if way == "undo":
        undo(world, fs)
    else:
        swap.do(world, swap.targets, way == "freed", fs)


def _killed(stage: Stage, swap: Swap, way: str, at: int) -> World:
    world = stage.fresh(swap, done=way == "undo")
    with pytest.raises(Killed):
        _run(world, swap, way, FaultyFs(at, "before"))
    return world


@pytest.mark.parametrize("fault", ["before", *(pytest.param(f, marks=MORE) for f in ("after", "EIO", "ENOSPC+"))])
@pytest.mark.parametrize("way", ["freed", pytest.param("kept", marks=MORE), "undo"])
@pytest.mark.parametrize("swap", [s if s.name in IN_CI else pytest.param(s, marks=MORE) for s in SWAPS], ids=str)
def test_recovery_is_killed_too(
    swap: Swap, way: str, fault: str, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first kill in the middle of it, the second at every call of the recovery."""
    total = 0
    calls = _calls(stage, swap, way)
    for part in (2, 3):
        for at in itertools.count(1):
            first = stage.fresh(swap, done=way == "undo")
            held, probes = content(first), probes_of(first, swap)
            with pytest.raises(Killed):
                _run(first, swap, way, FaultyFs(calls * part // 4, "before"))
            fs = ProbingFs(at, fault, probes=probes)
            try:
                recover(first.roots(), fs=fs)
            except Killed:
                pass
            what = f"{swap.name} {way} killed at {calls * part // 4}, its recovery: {fault} at call {at} ({fs.hit})"
            reported = recover(first.roots(), fs=ProbingFs(0, "none", probes=probes, unresolved=fs.unresolved))
            assert not fs.unresolved, (what, fs.unresolved[:3])
            wanted = {"before": frozenset[str](), "after": frozenset(swap.targets)}
            judge(stage, first, swap, way, wanted, held, reported, what)
            total += 1
            if not fs.hit:
                break
    with capsys.disabled():
        print(f"\n  recovery of {swap.name:8} {way:6} {fault:8} {total:4} runs", end="")


class NoExchange(FaultyFs):
    """A file system that cannot exchange two names, as NFS and many FUSE ones."""

    def exchange(self, a_fd: int, a: str, b_fd: int, b: str) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


@pytest.mark.parametrize("fault", ["before", "EIO", *(pytest.param(f, marks=MORE) for f in ("after", "EROFS+"))])
@pytest.mark.parametrize("way", [pytest.param("freed", marks=MORE), pytest.param("kept", marks=MORE), "undo"])
@pytest.mark.parametrize("name", ["restore", pytest.param("archive", marks=MORE), "move"])
def test_without_the_call_the_window_is_recovered(
    name: str, way: str, fault: str, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three renames instead of one: for a moment nothing is there, but it never stays so."""
    swap = BY_NAME[name]
    everything = frozenset(swap.targets)
    ends: Counter[str] = Counter()
    windows = 0
    for at in itertools.count(1):
        world = stage.fresh(swap, done=way == "undo")
        held, probes = content(world), probes_of(world, swap)
        fs = NoExchange(at, fault)
        try:
            _run(world, swap, way, fs)
        except Killed:
            windows += not all(p.exists() for p in probes)
        reported = recover(world.roots(), fs=NoExchange(0, "none"))
        assert all(p.exists() for p in probes), at
        parts = [frozenset(c) for n in range(len(everything) + 1) for c in itertools.combinations(swap.targets, n)]
        wanted = {f"{len(p)} of {len(everything)}, {n}": p for n, p in enumerate(parts)}
        ends[judge(stage, world, swap, way, wanted, held, reported, f"{name} {way} {fault} at {at} ({fs.hit})")] += 1
        if not fs.hit:
            break
    if fault == "before":
        assert windows > 0
    with capsys.disabled():
        print(
            f"\n  {name:8} {way:6} {fault:8} no exchange: {sum(ends.values()) - 1:4} calls, {windows} windows", end=""
        )


@pytest.mark.parametrize("name", ["archive", "move"])
@pytest.mark.parametrize("way", ["freed", "kept"])
def test_with_the_drive_gone_it_is_taken_back(name: str, way: str, stage: Stage) -> None:
    """Killed at every call, and then the drive is not there: all is as before, or after as far as it was committed."""
    swap = BY_NAME[name]
    everything = frozenset(swap.targets)
    ends: Counter[str] = Counter()
    for at in range(1, _calls(stage, swap, way) + 1, 3):
        world = _killed(stage, swap, way, at)
        away = drive(world).with_name("unplugged")
        held = content(world)
        drive(world).rename(away)
        first = recover(world.roots())
        away.rename(drive(world))
        assert content(world) == held
        assert all(r.action in ("reverted", "failed") for r in first), first
        waiting = [r for r in first if r.action == "failed"]
        assert all("its drive is not there" in r.message for r in waiting)
        again = recover(world.roots())
        assert [r.action for r in again] == ["finished"] * len(waiting)
        now = state(world)
        before, after = (stage.state(swap, t, way == "freed") for t in (frozenset[str](), everything))
        assert now in (before, after), (at, first, again)
        if waiting:
            assert now == after
        ends["waited" if waiting else "before" if now == before else "after"] += 1
    assert ends["before"] and ends["after"] and (ends["waited"] or way == "kept"), ends


@pytest.mark.parametrize("name", ["archive", "move"])
def test_a_drive_that_never_comes_back_can_be_given_up(name: str, stage: Stage) -> None:
    swap = BY_NAME[name]
    ended = 0
    for at in range(1, _calls(stage, swap, "freed") + 1, 3):
        world = _killed(stage, swap, "freed", at)
        drive(world).rename(drive(world).with_name(f"gone-{at}"))
        waiting = [r for r in recover(world.roots()) if r.action == "failed"]
        for found in waiting:
            assert f"cachetui trash empty {found.operation} --include offline" in found.message
            outcome = let_go(halves(world.roots(), found.operation))
            assert outcome.ok and outcome.results and outcome.operation == found.operation
            ended += 1
        assert recover(world.roots()) == ()
    assert ended


def test_the_command_that_gives_a_drive_up(stage: Stage) -> None:
    swap = BY_NAME["archive"]
    waiting: list[Recovery] = []
    for at in reversed(range(1, _calls(stage, swap, "freed") + 1)):
        world = _killed(stage, swap, "freed", at)
        drive(world).rename(drive(world).with_name(f"gone-{at}"))
        if waiting := [r for r in recover(world.roots()) if r.action == "failed"]:
            break
    (found,) = waiting

    def empty(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cachetui", "trash", "empty", found.operation, "-y", *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    said = empty()
    assert said.returncode == 1 and "--include offline" in said.stderr and recover(world.roots())
    assert empty("--include", "offline", "--dry-run").returncode == 0 and recover(world.roots())
    done = empty("--include", "offline")
    assert done.returncode == 0, done.stderr
    assert recover(world.roots()) == ()


def test_a_moved_root_is_found_without_its_drive(stage: Stage) -> None:
    """Its link leads nowhere; without any root to ask, what this machine noted leads to its trash."""
    swap = BY_NAME["move"]
    hub = stage.world.hub.path
    for at in itertools.count(1):
        world = _killed(stage, swap, "freed", at)
        if hub.is_symlink():
            break
    drive(world).rename(drive(world).with_name("unplugged"))
    (found,) = recover(())
    assert found.action == "reverted" and found.message.startswith("move of root:"), found
    assert hub.is_dir() and not hub.is_symlink()


def test_a_dry_run_and_a_live_holder_change_nothing(stage: Stage) -> None:
    swap = BY_NAME["archive"]
    world = _killed(stage, swap, "kept", 24)
    before = {p: os.lstat(p).st_mtime_ns for p in world.home.rglob("*")}
    (found,) = recover(world.roots(), dry_run=True)
    assert found.action == "pending" and found.message == "unfinished archiving of hf:acme/left, hf:acme/right"
    with trash.open_vault(DISK, found.trash):
        (held,) = recover(world.roots())
    assert held.action == "pending" and "working on this folder" in held.message
    lock = f"{found.trash}/lock"
    assert before == {p: os.lstat(p).st_mtime_ns for p in world.home.rglob("*") if str(p) != lock} | {
        Path(lock): before[Path(lock)]
    }
    (done,) = recover(world.roots())
    assert done.action == "reverted"


def test_what_is_staged_is_not_touched(stage: Stage) -> None:
    """A restore goes on where it was: what it copied belongs to it."""
    swap = BY_NAME["restore"]
    for way in ("freed", "kept"):
        for at in range(1, 30, 4):
            world = _killed(stage, swap, way, at)
            (log,) = world.home.rglob("incoming/job/log")
            recover(world.roots())
            assert log.read_text() == "what was copied"
