"""The move of a root, call by call: whatever is killed or fails, the path resolves, all is as before or moved."""

from __future__ import annotations

import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import second
from copy_world import CountingFs, Tree, value
from plans_world import ALL, Killed, content

from cachetui.config import Where
from cachetui.demo.builders import Hub
from cachetui.plans.recovery import recover
from cachetui.scan import find_roots
from cachetui.transfer import moving
from cachetui.transfer.moving import MovePlan


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where the system has such a folder: thousands of runs, each with its fsyncs."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="cachetui-", dir=memory if os.access(memory, os.W_OK) else None) as path:
        yield Path(path)


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Path]:
    """Another file system."""
    with second.second(tmp_path, size="64m") as folder:
        yield folder


def _prepare(where: Where, path: Path, to: Path) -> MovePlan:
    root = next(r for r in find_roots(where)[0] if r.path == str(path))
    return moving.prepare(where, root, str(to))


@pytest.fixture
def tiny(home: Path, where: Where) -> tuple[Path, Where]:
    """A hub cache with one small repo and its payload in the shared store."""
    hub = Hub(home / ".cache/huggingface/hub")
    files = {"config.json": b"{}", "model.safetensors": content("payload")}
    hub.repo("acme/tiny").revision(files, shared=("model.safetensors",))
    return hub.path, where


FAULTS = ("before", "after", "EIO", "ENOSPC", "ENOSPC+", "EACCES", "EROFS+", "EXDEV")


@pytest.mark.parametrize(
    ("fault", "step"),
    [("before", 4), ("EIO", 9), ("ENOSPC+", 9), *(pytest.param(f, 1, marks=pytest.mark.sweep) for f in FAULTS)],
)
def test_every_call(
    fault: str, step: int, tiny: tuple[Path, Where], drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever call is killed or fails: the path resolves, and after the next start all is as before or moved."""
    path, where = tiny
    before = value(path)
    plain = tmp_path / "plain"
    shutil.copytree(path.parent, plain, symlinks=True)
    ends: Counter[str] = Counter()
    for at in itertools.count(1, step):
        fs = CountingFs(at=at, fault=fault)
        ends[_attempt(path, where, drive, before, fs)] += 1
        _again(path, plain, drive)
        if not fs.hit:
            break
    with capsys.disabled():
        print(f"\n  move {fault:8} {sum(ends.values()) - 1:4} runs: {dict(ends)}", end="")


def _again(path: Path, plain: Path, drive: Path) -> None:
    shutil.rmtree(path.parent)
    shutil.copytree(plain, path.parent, symlinks=True)
    for name in os.listdir(drive):
        shutil.rmtree(drive / name)


def _attempt(path: Path, where: Where, drive: Path, before: Tree, fs: CountingFs) -> str:
    what = f"{fs.fault} at call {fs.at}"
    probe = path / "models--acme--tiny/refs/main"
    plan = _prepare(where, path, drive)
    done: bool | None = None
    try:
        done = moving.execute(plan, accept=ALL, fs=fs).ok
    except Killed:
        pass
    assert probe.exists(), what
    recovered = recover(find_roots(where)[0])
    assert probe.exists() and all(r.action in ("finished", "reverted") for r in recovered), (what, recovered)
    moved = path.is_symlink()
    assert value(path.resolve()) == _times(before, value(path.resolve())), what
    assert done is None or recovered or done == moved, what
    if not moved:
        again = _prepare(where, path, drive)
        assert not again.refused and moving.execute(again, accept=ALL).ok, (what, again)
    assert os.readlink(path) == plan.place and _times(before, value(drive / "hub")) == value(drive / "hub"), what
    assert os.listdir(drive) == ["hub"] or (fs.hit and set(os.listdir(drive)) <= {"hub", ".cachetui-incoming"}), what
    assert not list((drive / ".cachetui-incoming").glob("*")), what
    assert recover(find_roots(where)[0]) == (), what
    end = {None: "killed", True: "done", False: "failed"}[done]
    return f"{end}, {'moved' if moved else 'as before'}"


def _times(before: Tree, now: Tree) -> Tree:
    """The expected tree with the root's own mtime as it is: shutil.copytree between two attempts sets it anew."""
    return {**before, ".": now["."]}
