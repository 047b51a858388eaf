"""The crash sweep with real processes: one is gone in the middle of a call, the next starts and puts things right."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from plans_world import World, blobs

from cachetui.fs import DISK, Fs
from cachetui.plans import trash
from cachetui.plans.recovery import recover

T = TypeVar("T")
TARGETS = ("hf:acme/one@main", "hf:acme/left", "hf:acme/right")
VERBS: dict[str, Callable[[World, Fs], object]] = {
    "rm": lambda world, fs: world.remove(*TARGETS, fs=fs),
    "undo": lambda world, fs: world.undo(fs),
    "empty": lambda world, fs: trash.empty(trash.entries(world.roots()), fs=fs),
    "permanent": lambda world, fs: world.remove(*TARGETS, permanent=True, fs=fs),
    "recovery": lambda world, fs: recover(world.roots(), fs=fs),
}


@dataclass
class Ending(Fs):
    """Ends the process before or after its `at`-th change, as SIGKILL would: no handler runs, no buffer is flushed."""

    at: int
    after: bool
    count: int = 0

    def _call(self, operation: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        self.count += 1
        if self.count == self.at and not self.after:
            os._exit(9)
        result = function(*args, **kwargs)
        if self.count == self.at:
            os._exit(9)
        return result


def _in_child(work: Callable[[], object]) -> bool:
    """Whether the child came to its end by itself."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 9), "the child failed"
    return status == 0


def _prepare(world: World, verb: str, plain: Path) -> None:
    shutil.rmtree(world.home)
    shutil.copytree(plain, world.home, symlinks=True)
    if verb in ("undo", "empty"):
        assert world.remove(*TARGETS).ok
    if verb == "recovery":
        assert not _in_child(lambda: world.remove(*TARGETS, fs=Ending(50, after=False)))


def _sweep(world: World, verb: str, plain: Path, step: int) -> Counter[str]:
    _prepare(world, verb, plain)
    before = world.stores()
    if verb == "recovery":
        shutil.rmtree(world.home)
        shutil.copytree(plain, world.home, symlinks=True)
        before = world.stores()
    VERBS["rm" if verb == "recovery" else verb](world, DISK)
    after = world.stores()
    ends: Counter[str] = Counter()
    for at in range(1, 1000, step):
        for late in (False, True):
            _prepare(world, verb, plain)
            held = blobs(world.home)
            finished = _in_child(lambda at=at, late=late: VERBS[verb](world, Ending(at, after=late)))
            assert _in_child(lambda: recover(world.roots()))
            assert recover(world.roots()) == ()
            now = world.stores()
            assert now in (before, after), (verb, at, late)
            if verb not in ("empty", "permanent"):
                assert blobs(world.home) == held, (verb, at, late)
            for entry in trash.entries(world.roots()):
                assert trash.check(entry) == ({}, ()), (verb, at, late)
            ends["before" if now == before else "after"] += 1
        if finished:
            return ends
    raise AssertionError("the sweep has no end")


def _show(capsys: pytest.CaptureFixture[str], verb: str, ends: Counter[str]) -> None:
    with capsys.disabled():
        print(f"\n  process    {verb:10} {sum(ends.values()):4} kills: {dict(ends)}", end="")


@pytest.mark.parametrize("verb", VERBS)
def test_a_sample_of_calls(world: World, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every eleventh call, killed before and after."""
    shutil.copytree(world.home, tmp_path / "plain", symlinks=True)
    _show(capsys, verb, _sweep(world, verb, tmp_path / "plain", 11))


@pytest.mark.sweep
@pytest.mark.parametrize("verb", VERBS)
def test_every_call(world: World, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every call, killed before and after."""
    shutil.copytree(world.home, tmp_path / "plain", symlinks=True)
    _show(capsys, verb, _sweep(world, verb, tmp_path / "plain", 1))
