"""Every call that changes a disk fails or kills, while archiving, restoring, adopting: judged after one restart.

What is counted: content that is nowhere any more, items that are said to be done and are not, moments at which a path
that a program loads from does not resolve. All three must be zero.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from plans_world import FaultyFs, Killed
from second import second
from test_restoring import loadable
from transfer_world import World, content

from cachetui import paths
from cachetui.config import Where
from cachetui.fs import DISK, Fs
from cachetui.plans.model import Outcome
from cachetui.plans.recovery import recover

T = TypeVar("T")
FAULTS = ("before", "after", "EIO", "ENOSPC", "ENOSPC+", "EACCES", "EROFS+", "EXDEV", "short")
CI_STEP = 17
"""CI tries every call once, with one fault after the other, in this stride."""


@dataclass
class WatchedFs(FaultyFs):
    """A disk that fails as told, and looks after every call whether everything still resolves."""

    watched: tuple[Path, ...] = ()
    gone: list[str] = field(default_factory=list)

    def _call(self, operation: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        if self.fault == "short" and self.count + 1 == self.at and operation in ("pwrite", "append"):
            self.count += 1
            self.hit = operation
            args = tuple(a[: max(1, len(a) // 2)] if isinstance(a, bytes | memoryview) else a for a in args)
            return function(*args, **kwargs)
        try:
            return super()._call(operation, function, *args, **kwargs)
        finally:
            self.gone += [f"{operation}: {p}" for p in self.watched if not p.exists()]


class SweptWorld(World):
    """A small world: a repo with shared payloads, a folder, a tag."""

    targets = ("hf:acme/left", "ollama:tiny:latest")

    def build(self) -> None:
        for name in ("left", "right"):
            files = {"config.json": name.encode(), "model.safetensors": content("payload"), "own.bin": content(name)}
            self.hub.repo(f"acme/{name}").revision(files, shared=("model.safetensors",), tree=False)
        self.ollama.model("tiny:latest", {"model": content("weights")})

    def all(self) -> list[str]:
        return [*self.targets, f"dir:{self.home / 'models/loose'}"]

    def watched(self) -> tuple[Path, ...]:
        return tuple(self.home / p for p in loadable(self))

    def is_linked(self) -> list[bool]:
        hub = self.home / ".cache/huggingface/hub/models--acme--left"
        blobs = list((self.home / ".ollama/models/blobs").iterdir())
        return [hub.is_symlink(), all(b.is_symlink() for b in blobs)]


Act = Callable[[SweptWorld, Fs], Outcome]


def archive(world: SweptWorld, fs: Fs) -> Outcome:
    return world.do_archive(*world.targets, fs=fs)


def restore(world: SweptWorld, fs: Fs) -> Outcome:
    return world.do_restore(*world.targets, fs=fs)


def adopt(world: SweptWorld, fs: Fs) -> Outcome:
    return world.do_adopt(world.archive, fs=fs)


def archived(world: SweptWorld) -> None:
    assert archive(world, DISK).ok


def moved(world: SweptWorld) -> None:
    archived(world)
    elsewhere = world.drive.with_name(world.drive.name + "-elsewhere")
    world.drive.rename(elsewhere)
    world.drive = elsewhere


def nothing(world: SweptWorld) -> None:
    """As it is."""


VERBS: dict[str, tuple[Callable[[SweptWorld], None], Act, bool]] = {
    "archive": (nothing, archive, True),
    "restore": (archived, restore, False),
    "adopt": (moved, adopt, True),
}


@dataclass
class Bench:
    """Makes worlds, one after the other, and judges what became of them."""

    tmp: Path
    drive: Path
    number: int = 0

    def world(self) -> SweptWorld:
        self.number += 1
        home = self.tmp / f"w{self.number}" / "home"
        env = {
            "HF_HOME": str(home / ".cache/huggingface"),
            "OLLAMA_MODELS": str(home / ".ollama/models"),
            "OLLAMA_HOST": "127.0.0.1:9",
            "CACHETUI_ONLY_BELOW": str(self.tmp),
            "CACHETUI_AND_BELOW": str(self.drive),
        }
        drive = self.drive / f"d{self.number}"
        drive.mkdir()
        paths.archives_file().unlink(missing_ok=True)
        made = SweptWorld(home, Where(env, str(home), str(self.tmp)), drive)
        made.build()
        return made

    def drop(self, world: SweptWorld) -> None:
        shutil.rmtree(world.home.parent)
        shutil.rmtree(world.drive)

    def run(self, verb: str, at: int, fault: str, again: tuple[int, int] = (0, 0)) -> tuple[bool, str]:
        """Whether the fault was met, and what went wrong. `again`: killed there too, in recovery and doing it again."""
        before_it, act, linked = VERBS[verb]
        world = self.world()
        try:
            before = loadable(world)
            before_it(world)
            watched = world.watched() if verb != "adopt" else ()
            fs = WatchedFs(at, fault, watched=watched)
            outcome: Outcome | None = None
            try:
                outcome = act(world, fs)
            except Killed:
                pass
            if not fs.hit and fs.count < at:
                return False, ""
            return True, self.judge(world, verb, fs, outcome, before, act, linked, again)
        finally:
            self.drop(world)

    def judge(
        self, world: SweptWorld, verb: str, fs: WatchedFs, outcome: Outcome | None, before: dict[str, str],
        act: Act, linked: bool, more: tuple[int, int],
    ) -> str:  # fmt: skip
        where = f"{verb} {fs.at} {fs.fault} ({fs.hit})"
        if fs.gone:
            return f"unresolved: {where}: {fs.gone[0]}"
        if outcome is not None and verb != "adopt":
            for result, now in zip(outcome.results, world.is_linked(), strict=True):
                if result.done and now is not linked:
                    return f"false done: {where}: {result}"
        if verb != "adopt" and loadable(world) != before:
            return f"lost: {where}: before the restart"
        if more[0]:
            self.kill(world, more, act)
        world.restart()
        if verb != "adopt" and loadable(world) != before:
            return f"lost: {where}: after the restart"
        again = act(world, DISK)
        after = loadable(world)
        if after != before:
            return f"lost: {where}: after doing it again: {again}"
        if world.is_linked() != [linked, linked]:
            return f"unfinished: {where}: {again}"
        return self.litter(world, verb, where)

    def kill(self, world: SweptWorld, at: tuple[int, int], act: Act) -> None:
        """Kill recovery, recover, kill the same command at another call."""
        with suppress(Killed):
            recover(world.roots(), fs=FaultyFs(at[0], "after"))
        world.restart()
        with suppress(Killed):
            act(world, FaultyFs(at[1], "before"))

    def litter(self, world: SweptWorld, verb: str, where: str) -> str:
        left = [*world.archive.rglob("tree"), *world.home.rglob("incoming/*/tree")]
        return f"litter: {where}: {left[0]}" if left else ""


@pytest.fixture
def bench(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    # Other processes of this machine change nothing here; looking at all of them a thousand times takes minutes.
    monkeypatch.setattr("cachetui.inuse.users", lambda items: {})
    monkeypatch.setattr("psutil.process_iter", lambda *_: iter(()))
    paths.archives_file().parent.mkdir(parents=True)
    with second(tmp_path, size="512m") as drive:
        yield Bench(tmp_path, drive)


def total(bench: Bench, verb: str) -> int:
    fs = WatchedFs(0, "")
    before_it, act, _ = VERBS[verb]
    world = bench.world()
    before_it(world)
    assert act(world, fs).ok
    bench.drop(world)
    return fs.count


def sweep(bench: Bench, verb: str, chosen: Iterator[tuple[int, str]], capsys: pytest.CaptureFixture[str]) -> None:
    found: list[str] = []
    count: Counter[str] = Counter()
    for at, fault in chosen:
        met, wrong = bench.run(verb, at, fault)
        if met:
            count[fault] += 1
        if wrong:
            found.append(wrong)
            if len(found) > 20:
                break
    with capsys.disabled():
        kinds = Counter(f.split(":")[0] for f in found)
        print(f"\n{verb}: {sum(count.values())} faults ({dict(count)}); wrong: {dict(kinds) or 0}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("verb", VERBS)
def test_a_sample_of_faults_loses_nothing(bench: Bench, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    calls = total(bench, verb)
    sweep(bench, verb, ((n, FAULTS[i % len(FAULTS)]) for i, n in enumerate(range(1, calls + 1, CI_STEP))), capsys)


def killed_again(bench: Bench, verb: str, count: int) -> list[str]:
    calls = total(bench, verb)
    chance = random.Random(verb)
    found = []
    for _ in range(count):
        again = (chance.randint(1, 12), chance.randint(1, calls))
        wrong = bench.run(verb, chance.randint(1, calls), "after", again)[1]
        found += [f"{wrong} then {again}"] if wrong else []
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_killed_again_and_again_nothing_is_lost(bench: Bench, verb: str) -> None:
    assert killed_again(bench, verb, 4) == []


@pytest.mark.sweep
@pytest.mark.parametrize("verb", VERBS)
def test_killed_many_times_nothing_is_lost(bench: Bench, verb: str) -> None:
    assert killed_again(bench, verb, 200) == []


@pytest.mark.sweep
@pytest.mark.parametrize("verb", VERBS)
def test_no_fault_loses_anything(bench: Bench, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    calls = total(bench, verb)
    sweep(bench, verb, ((n, f) for n in range(1, calls + 2) for f in FAULTS), capsys)
