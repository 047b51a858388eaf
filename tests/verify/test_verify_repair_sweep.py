"""I1, I4 for repairs: whatever call is killed or fails, the file is as before or repaired, and nothing is lost."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "plans"))

from plans_world import FaultyFs, Killed, blobs
from verify_world import World, flip, weights

from cachetui import verify
from cachetui.demo.builders import sha256
from cachetui.plans.recovery import recover
from cachetui.scan import find_roots
from cachetui.verify import repair

WEIGHTS = weights("a", 70_000)
EVERY = ("before", "after", "EIO", "torn", "short", "ENOSPC", "ENOSPC+", "EACCES", "EROFS+", "EXDEV")
USUAL = (("before", False), ("EIO", True))
RUNS = [
    pytest.param(fault, missing, marks=() if (fault, missing) in USUAL else pytest.mark.sweep)
    for fault in EVERY
    for missing in (False, True)
]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where the system has such a folder: hundreds of runs, each with its fsyncs."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="cachetui-", dir=memory if memory.is_dir() else None) as path:
        yield Path(path)


@pytest.mark.parametrize(("fault", "missing"), RUNS)
def test_every_call(
    world: World, tmp_path: Path, fault: str, missing: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    made = world.hub.repo("org/name")
    made.revision({"model.safetensors": WEIGHTS, "b.safetensors": weights("b", 70_000)})
    world.ollama.model("m:a", {"model": WEIGHTS})
    path = made.path / "blobs" / sha256(WEIGHTS)
    flip(path)
    bad = path.read_bytes()
    if missing:
        path.unlink()
    plain = tmp_path / "plain"
    shutil.copytree(world.home, plain, symlinks=True)
    ends: Counter[str] = Counter()
    for at in itertools.count(1):
        shutil.rmtree(world.home)
        shutil.copytree(plain, world.home, symlinks=True)
        fs = FaultyFs(at, fault)
        held = blobs(world.home)
        scan = world.scan()
        repairs = repair.prepare(scan, list(verify.check(scan, scan.items)))
        assert len(repairs.repairs) == 1
        outcome = None
        try:
            outcome = repair.carry_out(repairs, fs=fs)
        except Killed:
            pass
        recover(find_roots(world.where)[0])
        what = (fault, at, fs.hit, outcome)
        now = path.read_bytes() if path.exists() else b""
        assert now in (WEIGHTS, b"" if missing else bad), what
        assert held - {_memory(world)} <= blobs(world.home) | {_memory(world)}, what
        if outcome is not None and outcome.ok:
            assert now == WEIGHTS, what
        if outcome is not None and not outcome.ok and fault != "ENOSPC+":
            assert now != WEIGHTS or "interrupted" in outcome.results[0].message, what
        ends["repaired" if now == WEIGHTS else "as before"] += 1
        again = repair.carry_out(repair.prepare(scan := world.scan(), list(verify.check(scan, scan.items))))
        assert again.ok or now == WEIGHTS, (what, again)
        assert path.read_bytes() == WEIGHTS, (what, again)
        if not fs.hit:
            break
    kind = "missing" if missing else "flipped"
    with capsys.disabled():
        print(f"\n  repair {kind} {fault:8} {sum(ends.values()) - 1:4} calls: {dict(ends)}", end="")


def _memory(world: World) -> str:
    """The hash of the memory of what was verified, which changes."""
    file = world.home / ".cache/cachetui/verified.sqlite"
    return sha256(file.read_bytes()) if file.exists() else ""
