"""kill -9 at any point, two programs at once, a full disk: it goes on, and what was durable is not fetched again."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hub_world import FAST, MB, World, model, noise, tree, unfinished
from server import Repo

from cachetui.download import errors
from cachetui.download.errors import PullError
from cachetui.fs import Fs

CHUNK = 1 << 19
CONNECTIONS = 3
SETTINGS = FAST | {"chunk": CHUNK, "connections": CONNECTIONS, "patience": 20.0}
PULL = """
import json, sys
from cachetui.download import pulling
pulling.pull(json.loads(sys.argv[1]), tell=lambda *_: None, cancelled=lambda: False)
"""
THEIRS = """
import sys
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], cache_dir=sys.argv[2])
"""


def environment(world: World) -> dict[str, str]:
    return dict(os.environ) | {"HF_ENDPOINT": world.server.endpoint, "HF_HUB_DISABLE_XET": "1"}


def start(world: World, **more: Any) -> subprocess.Popen[bytes]:
    job = world.plan(**more).job() | {"settings": SETTINGS}
    return subprocess.Popen([sys.executable, "-c", PULL, json.dumps(job)], env=environment(world))


def kill_after(world: World, process: subprocess.Popen[bytes], bytes_: int) -> bool:
    """Kill it once so many bytes went out in all; False where it ended before."""
    while process.poll() is None:
        if world.server.sent() >= bytes_:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.002)
    assert process.returncode == 0
    return False


def killed_everywhere(world: World, points: list[int], files: dict[str, bytes]) -> None:
    world.server.add("acme/m", Repo(files, frozenset(p for p in files if p.endswith(".safetensors"))))
    world.server.rate = 4e6  # so that little more is on its way than the client has seen
    size, kills = sum(len(c) for c in files.values()), 0
    for point in points:
        kills += kill_after(world, start(world), point)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cachetui.plans.moves.remove_tree", None)  # looking changes nothing
            world.plan()
    world.server.rate = 0
    process = start(world)
    assert process.wait(60) == 0
    assert kills == len(points), "each kill hit a running download"
    # What a socket holds that nobody read is counted by the server too.
    on_its_way = 1 << 17
    assert world.server.sent() <= size + kills * CONNECTIONS * (CHUNK + on_its_way)
    assert tree(world.cache) == tree(world.theirs())
    assert not unfinished(world.cache)


def test_killed_at_some_points(world: World) -> None:
    files = {"config.json": b"{}", "a.safetensors": noise(5 * MB), "b.safetensors": noise(3 * MB, 2)}
    killed_everywhere(world, [100_000, 2 * MB, 4 * MB, 6 * MB], files)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(12))
def test_killed_at_many_points(world: World, seed: int) -> None:
    files = {f"{n}.json": noise(30_000, n) for n in range(20)}
    files |= {"a.safetensors": noise(9 * MB), "b.safetensors": noise(8 * MB, 2)}
    points = sorted(random.Random(seed).randrange(1, 15 * MB) for _ in range(6))
    killed_everywhere(world, [p for n, p in enumerate(points) if n == 0 or p - points[n - 1] > MB], files)


class Killed(BaseException):
    """The process died here."""


class Mortal(Fs):
    """A disk whose program dies at the n-th change, before or after it; with `code`, the change fails instead."""

    def __init__(self, at: int, *, before: bool = True, code: int = 0) -> None:
        self.at, self.before, self.code, self.count = at, before, code, 0

    def _call(self, operation: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        if self.count < self.at or (self.code and self.count > self.at):
            return function(*args, **kwargs)
        if self.code:
            raise OSError(self.code, os.strerror(self.code))
        if not self.before and self.count == self.at:
            function(*args, **kwargs)
        raise Killed  # and nothing happens any more


@pytest.mark.parametrize("how", ["before", "after", "EIO", "ENOSPC"])
def test_every_change_may_be_the_last(world: World, how: str) -> None:
    """In CI every 7th change; all of them with the sweep marker's run (see the next test)."""
    sweep(world, how, step=7)


@pytest.mark.sweep
@pytest.mark.parametrize("how", ["before", "after", "EIO", "ENOSPC"])
def test_every_single_change_may_be_the_last(world: World, how: str) -> None:
    sweep(world, how, step=1)


def sweep(world: World, how: str, step: int) -> None:
    world.server.add(
        "acme/m", Repo({"config.json": b"{}", "w.safetensors": noise(400_000)}, frozenset(["w.safetensors"]))
    )
    theirs = tree(world.theirs())
    settings = {"connections": 1, "chunk": 1 << 17}
    code = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC}.get(how, 0)
    at = 1
    while True:
        world.tmp.joinpath("ours").rename(world.tmp / f"old{at}") if world.cache.exists() else None
        fs = Mortal(at, before=how != "after", code=code)
        try:
            world.pull(fs=fs, settings=settings)
        except (Killed, OSError, PullError):
            pass
        else:
            if fs.count < at:
                return
        world.pull(settings=settings)
        assert tree(world.cache) == theirs, f"after {how} at change {at}"
        at += step


def test_two_downloads_at_once_one_of_them_the_library(world: World) -> None:
    world.server.add("acme/m", model(4 * MB))
    world.server.rate = 4e6
    first = start(world)
    theirs = subprocess.Popen(
        [sys.executable, "-c", THEIRS, "acme/m", str(world.cache)], env=environment(world), stderr=subprocess.DEVNULL
    )
    second = start(world)
    assert [first.wait(60), theirs.wait(60), second.wait(60)] == [0, 0, 0]
    world.server.rate = 0
    assert tree(world.cache) == tree(world.theirs())
    sent = sum(r.sent for r in world.server.requests if r.host == "cdn")
    assert sent <= 2 * 4 * MB, "the weights came once here, and once for the comparison"


@pytest.mark.root
def test_a_disk_that_fills_up_in_the_middle(world: World) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from second import mounted

    repo = world.server.add("acme/m", model(6 * MB))
    world.cache.mkdir()
    with mounted(world.cache, size="8m"):
        job = world.plan().job() | {"settings": FAST}
        filler = world.cache / "filler"
        filler.write_bytes(bytes(4 * MB))
        from cachetui.download import pulling

        with pytest.raises(PullError) as found:
            pulling.pull(job, tell=lambda *_: None, cancelled=lambda: False, client=world.client())
        assert found.value.code == errors.NO_ROOM and "goes on where it stopped" in found.value.advice
        assert unfinished(world.cache) and not list(world.cache.rglob("snapshots/*/model.safetensors"))
        have = next(f for f in world.plan().files if f.path == "model.safetensors").have
        assert have > 0
        filler.unlink()
        before = world.server.sent("/content/")
        pulling.pull(job, tell=lambda *_: None, cancelled=lambda: False, client=world.client())
        assert world.server.sent("/content/") - before == len(repo.files["model.safetensors"]) - have
        assert tree(world.cache) == tree(world.theirs())
