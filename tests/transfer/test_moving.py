"""A whole root is moved to another drive and stays where it was, through a link; or nothing happened."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import second
from copy_world import CountingFs, value
from plans_world import ALL, World, content

from cachetui.config import Where
from cachetui.fs import Fs
from cachetui.model import Root
from cachetui.plans import trash
from cachetui.plans.model import IN_USE, LOCKED, YOUNG, Outcome
from cachetui.scan import find_roots, scan
from cachetui.transfer import moving
from cachetui.transfer.copying import CopyProgress
from cachetui.transfer.moving import MovePlan


@pytest.fixture
def world(home: Path, where: Where) -> World:
    """A home with a hub cache and an Ollama store."""
    made = World(home, where)
    made.build()
    return made


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Path]:
    """Another file system."""
    with second.second(tmp_path, size="64m") as folder:
        yield folder


def root(where: Where, path: Path) -> Root:
    return next(r for r in find_roots(where)[0] if r.path == os.path.realpath(path))


def prepare(where: Where, path: Path, to: Path, *, keep_original: bool = False) -> MovePlan:
    return moving.prepare(where, root(where, path), str(to), keep_original=keep_original)


def move(plan: MovePlan, fs: Fs | None = None, progress: CopyProgress | None = None) -> Outcome:
    return moving.execute(plan, accept=ALL | plan.cautions, fs=fs or Fs(), progress=progress)


def items(where: Where) -> set[tuple[str, str, int]]:
    return {(i.store, i.id, i.size) for i in scan(where).items}


LINES = {
    "hub": ".cache/huggingface/hub",
    "home": ".cache/huggingface",
    "ollama": ".ollama/models",
}


@pytest.mark.parametrize("what", LINES)
def test_everything_stays_at_its_path(what: str, world: World, drive: Path) -> None:
    path = world.home / LINES[what]
    before, found = value(path), items(world.where)
    plan = prepare(world.where, path, drive)
    assert not plan.refused and plan.place == str(drive / path.name)
    variable = {"hub": "HF_HUB_CACHE", "home": "HF_HOME", "ollama": "OLLAMA_MODELS"}[what]
    assert plan.line == f"export {variable}={drive / path.name}"
    outcome = move(plan)
    assert outcome.ok, outcome
    assert os.readlink(path) == plan.place
    after = value(Path(plan.place))
    assert after == before
    assert items(world.where) == found
    assert outcome.freed >= plan.bytes
    assert sorted(os.listdir(drive)) == [path.name]
    assert not list(path.parent.glob(".cachetui-trash/entries/*/files/*"))
    assert prepare(world.where, path, drive).refused == "it lies there already"


def test_a_folder_that_is_not_there_is_what_it_becomes(world: World, drive: Path) -> None:
    path = world.home / LINES["hub"]
    plan = prepare(world.where, path, drive / "models here")
    assert plan.place == f"{drive}/models here" and plan.line == f"export HF_HUB_CACHE='{drive}/models here'"
    assert move(plan).ok and (drive / "models here/models--acme--one").is_dir()


def test_a_copy_that_stands_there_is_compared_and_used(world: World, drive: Path) -> None:
    """As after a kill just before the exchange, or made by hand."""
    path = world.home / LINES["hub"]
    for to, place in ((drive, drive / "hub"), (drive / "hub", drive / "hub")):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(path, place, symlinks=True)
        plan = prepare(world.where, path, to)
        assert plan.there and plan.place == str(place)
        file = next(p for p in place.rglob("*") if p.is_file() and not p.is_symlink() and p.stat().st_size == 70_000)
        file.chmod(0o600)
        file.write_bytes(content("something else"))
        outcome = move(plan)
        assert not outcome.ok and f"something else is at {file}" in outcome.results[0].message
        assert not path.is_symlink()
        shutil.rmtree(place)
        shutil.copytree(path, place, symlinks=True)
    assert move(plan).ok and path.is_symlink()


def test_undo_gives_back_the_exact_before(world: World, drive: Path) -> None:
    path = world.home / LINES["hub"]
    before = value(path)
    assert move(prepare(world.where, path, drive, keep_original=True)).ok
    assert path.is_symlink()
    entry = trash.entries(find_roots(world.where)[0])[0]
    assert trash.restore(entry).ok
    assert not path.is_symlink() and value(path) == before


def test_nothing_is_planned_that_cannot_work(world: World, drive: Path, tmp_path: Path) -> None:
    path = world.home / LINES["hub"]
    assert "lies inside" in prepare(world.where, path, path / "below").refused
    same = prepare(world.where, path, tmp_path / "elsewhere").refused
    assert f"mv {path} {tmp_path}/elsewhere && ln -s {tmp_path}/elsewhere {path}" in same
    assert "is the drive plugged in?" in prepare(world.where, path, Path("/nowhere/at/all")).refused
    (drive / "hub").mkdir()
    (drive / "hub/x").touch()
    assert prepare(world.where, path, drive).refused == f"there is something else at {drive}/hub"
    assert (
        "is part of an archive"
        in moving.prepare(world.where, replace(root(world.where, path), archive="x"), str(drive / "y")).refused
    )
    (path / "models--acme--one/out").symlink_to("../../../../models")
    why = prepare(world.where, path, drive / "y").refused
    assert why.startswith("models--acme--one/out leads out of it by a relative path")
    os.mkfifo(path / "pipe")
    assert "socket, pipe or device" in prepare(world.where, path, drive / "y").refused
    assert sorted(os.listdir(drive)) == ["hub"], "nothing is left of looking"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_mounts_and_small_drives_are_told(world: World, tmp_path: Path, drive: Path) -> None:
    path = world.home / LINES["hub"]
    (path / "models--acme--one/big").write_bytes(bytes(2_000_000))
    with second.mounted(tmp_path / "small", size="1m") as small:
        assert "too small" in prepare(world.where, path, small).refused
    moved = world.home / "was"
    path.rename(moved)
    with second.mounted(path, size="8m"):
        shutil.copytree(moved, path, symlinks=True, dirs_exist_ok=True)
        assert "a file system is mounted" in prepare(world.where, path, drive).refused


def test_links_and_tokens_are_told(world: World, drive: Path) -> None:
    path = world.home / LINES["home"]
    (path / "token").write_text("hf_secret")
    (path / "hub/models--acme--one/again").symlink_to(path / "hub/models--acme--left")
    notes = "\n".join(prepare(world.where, path, drive).notes)
    assert f"1 links name {path} itself (hub/models--acme--one/again)" in notes
    assert "the access token in it goes along" in notes and f"with it go {path}/hub" in notes
    assert "hf_secret" not in notes


def test_what_is_in_use_asks(world: World, drive: Path) -> None:
    import fcntl

    path = world.home / LINES["hub"]
    young = path / "models--acme--one/blobs/now.incomplete"
    young.write_bytes(b"x")
    lock = next(path.glob(".locks/*/*.lock"))
    file = next(p for p in path.rglob("*") if p.is_file() and p.stat().st_size == 70_000)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys; f = open(sys.argv[1]); print(1, flush=True); sys.stdin.read()", file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline()
        with lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            plan = prepare(world.where, path, drive)
        assert plan.cautions == {IN_USE, LOCKED, YOUNG}
        before = value(path)
        outcome = moving.execute(plan, accept=frozenset((LOCKED, YOUNG)))
        assert not outcome.ok and "in use by" in outcome.results[0].message
        assert value(path) == before and os.listdir(drive) == []
    finally:
        holder.communicate()


def test_what_changes_meanwhile_is_not_exchanged(world: World, drive: Path) -> None:
    path = world.home / LINES["hub"]
    config = path / "models--acme--one/refs/main"

    class Meddling(CountingFs):
        def _call(self, operation, function, *args, **kwargs):  # type: ignore[no-untyped-def]
            if operation == "rename" and not self.hit:
                self.hit = operation
                config.write_text("0" * 40)
            return function(*args, **kwargs)

    plan = prepare(world.where, path, drive)
    outcome = move(plan, Meddling())
    assert not outcome.ok and f"it changed while it was copied ({config})" in outcome.results[0].message
    assert not path.is_symlink() and config.read_text() == "0" * 40
    again = prepare(world.where, path, drive)
    assert any("begun before" in note for note in again.notes)
    written: list[str] = []

    class Watching(CountingFs):
        def _call(self, operation, function, *args, **kwargs):  # type: ignore[no-untyped-def]
            if operation == "pwrite" and "/tree/" in (name := os.readlink(f"/proc/self/fd/{args[0]}")):
                written.append(name.partition("/tree/")[2])
            return function(*args, **kwargs)

    assert move(again, Watching()).ok and path.is_symlink() and config.read_text() == "0" * 40
    assert written == ["models--acme--one/refs/main"], "what did not change was not written again"
