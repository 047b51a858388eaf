"""I4: whatever call of whatever verb is killed or fails, after the next start all is as before or as after.

Every file-changing call goes through `Fs._call`; the N-th is killed before, killed after, or fails, for N = 1.. until a
run is clean. Judged in the same step by the hash of everything in the stores, and of everything anywhere.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from plans_world import FAULTS, FaultyFs, Killed, World, blobs

from cachetui.fs import DISK, Fs
from cachetui.plans import places, trash
from cachetui.plans.model import Outcome, Recovery
from cachetui.plans.recovery import recover
from cachetui.plans.vault import peek

TARGETS = ("hf:acme/one@main", "hf:acme/left", "hf:acme/right")
State = dict[str, tuple[object, ...]]


def _undo(world: World, targets: Sequence[str], fs: Fs) -> Outcome:
    entry = trash.entries(world.roots())[0]
    ids = [i for t in targets for i in entry.items if i.target.startswith(t.replace("@main", "@"))]
    return trash.restore(entry, frozenset(i.number for i in ids), fs=fs)


@dataclass
class Case:
    """A verb, and what has to be there before it."""

    name: str
    verb: Callable[[World, Sequence[str], Fs], Outcome]
    prepared: bool = False
    may_lose: bool = False
    no_trash: bool = False
    """There is no place for a trash: permanent deletion happens in place, with its journal elsewhere."""


CASES = [
    Case("rm", lambda w, t, fs: w.remove(*t, fs=fs)),
    Case("undo", _undo, prepared=True),
    Case("empty", lambda w, t, fs: trash.empty(trash.entries(w.roots()), fs=fs), prepared=True, may_lose=True),
    Case("permanent", lambda w, t, fs: w.remove(*t, permanent=True, fs=fs), may_lose=True),
    Case("in place", lambda w, t, fs: w.remove(*t, permanent=True, fs=fs), may_lose=True, no_trash=True),
]


class Stage:
    """Fresh copies of one world, always at the same paths."""

    def __init__(self, world: World, plain: Path) -> None:
        self.world = world
        self.plain = plain
        shutil.copytree(world.home, plain, symlinks=True)
        self._states: dict[tuple[str, frozenset[str]], State] = {}

    def fresh(self, with_trash: bool) -> World:
        """The world as it was, or with TARGETS in the trash."""
        shutil.rmtree(self.world.home)
        shutil.copytree(self.plain, self.world.home, symlinks=True)
        if with_trash:
            assert self.world.remove(*TARGETS).ok
        return self.world

    def state(self, case: Case, targets: frozenset[str]) -> State:
        """What the stores look like when the verb was done for exactly these targets."""
        if (case.name, targets) not in self._states:
            world = self.fresh(case.prepared)
            chosen = [t for t in TARGETS if t in targets]
            if chosen:
                assert case.verb(world, chosen, DISK).ok
            self._states[case.name, targets] = _state(world)
        return self._states[case.name, targets]


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


@pytest.mark.parametrize("fault", [*FAULTS, pytest.param("ENOSPC", marks=pytest.mark.sweep)])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_every_call(
    case: Case, fault: str, stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if case.no_trash:
        monkeypatch.setattr(places, "candidates", lambda root: iter(()))
    ends: Counter[str] = Counter()
    for at in itertools.count(1):
        fs = FaultyFs(at, fault)
        ends[_attempt(stage, case, fs)] += 1
        if not fs.hit:
            break
    with capsys.disabled():
        print(f"\n  {case.name:10} {fault:8} {sum(ends.values()) - 1:4} calls: {dict(ends)}", end="")


def _state(world: World) -> State:
    """Everything in the stores, and what the trash says that it holds."""
    held = [i.target for e in trash.entries(world.roots()) for i in e.items]
    return {**world.stores(), "trash": tuple(sorted(held))}


def _attempt(stage: Stage, case: Case, fs: FaultyFs) -> str:
    everything = frozenset(TARGETS)
    stage.state(case, everything)
    world = stage.fresh(case.prepared)
    held = blobs(world.home)
    done = None
    try:
        outcome = case.verb(world, TARGETS, fs)
        done = frozenset(t for t, r in zip(TARGETS, outcome.results, strict=True) if r.done)
    except Killed:
        pass
    what = f"{case.name}: {fs.fault} at call {fs.at} ({fs.hit})"
    reported = recover(world.roots())
    now = _state(world)
    _check_held(world, held, case, now)
    _check_litter(world, what)
    if done is None or (reported and not done):
        wanted = {"before": frozenset[str](), "after": everything}
    else:
        wanted = {f"{len(done)} of {len(TARGETS)}": done}
    return _judge(stage, case, now, wanted, reported, what)


def _judge(
    stage: Stage,
    case: Case,
    now: State,
    wanted: dict[str, frozenset[str]],
    reported: Sequence[Recovery],
    what: str,
) -> str:
    """Which of the wanted states this is."""
    assert all(r.action in ("finished", "reverted") for r in reported), (what, reported)
    for name, targets in wanted.items():
        if now == stage.state(case, targets):
            return f"{name}{' (recovered)' if reported else ''}"
    gaps = {name: _difference(now, stage.state(case, targets)) for name, targets in wanted.items()}
    raise AssertionError((what, gaps, reported))


def _check_held(world: World, held: set[str], case: Case, now: State) -> None:
    """Nothing is lost: every byte is in the store or in the trash, unless losing it was the user's wish."""
    if not case.may_lose:
        assert blobs(world.home) == held


def _check_litter(world: World, what: str) -> None:
    """Nothing is unfinished, and nothing lies in the trash but what an entry speaks of and could bring back."""
    assert recover(world.roots()) == (), what
    for folder in world.home.rglob(".cachetui-trash"):
        used = {name for name, _, _ in peek(str(folder))}
        for slot in (folder / "entries").glob("*"):
            if slot.name not in used:
                assert not any((slot / "files").glob("*")) and not any((slot / "kept").glob("*")), what
    for entry in trash.entries(world.roots()):
        assert trash.check(entry) == ({}, ()), what


def _difference(now: State, other: State) -> list[str]:
    return sorted(k.rpartition("/home/")[2] for k in {*now, *other} if now.get(k) != other.get(k))[:5]


@pytest.mark.parametrize("fault", ["before", "after", "EIO", "ENOSPC+"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_recovery_is_killed_too(
    case: Case, fault: str, stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first kill in the middle of the verb, the second at every call of the recovery."""
    if case.no_trash:
        monkeypatch.setattr(places, "candidates", lambda root: iter(()))
    total = 0
    counting = FaultyFs(0, "none")
    case.verb(stage.fresh(case.prepared), TARGETS, counting)
    for part in (2, 3):
        for at in itertools.count(1):
            world = stage.fresh(case.prepared)
            held = blobs(world.home)
            first = FaultyFs(counting.count * part // 4, "before")
            with pytest.raises(Killed):
                case.verb(world, TARGETS, first)
            fs = FaultyFs(at, fault)
            try:
                recover(world.roots(), fs=fs)
            except Killed:
                pass
            what = f"{case.name} killed at {first.at}, its recovery: {fault} at call {at} ({fs.hit})"
            reported = recover(world.roots())
            now = _state(world)
            _check_held(world, held, case, now)
            _check_litter(world, what)
            _judge(stage, case, now, {"before": frozenset(), "after": frozenset(TARGETS)}, reported, what)
            total += 1
            if not fs.hit:
                break
    with capsys.disabled():
        print(f"\n  recovery of {case.name:10} {fault:8} {total:4} runs", end="")


def test_the_sweep_would_see_a_lost_byte(stage: Stage) -> None:
    """The judge itself: a file that is gone is neither before nor after."""
    case = CASES[0]
    world = stage.fresh(False)
    held = blobs(world.home)
    next(world.hub.path.glob("models--acme--one/blobs/*")).unlink()
    now = _state(world)
    with pytest.raises(AssertionError):
        _check_held(world, held, case, now)
    with pytest.raises(AssertionError):
        _judge(stage, case, now, {"before": frozenset(), "after": frozenset(TARGETS)}, (), "")
