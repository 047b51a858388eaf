"""cachetui adopt, move-root, info: drives that come back elsewhere, archives of others, whole caches."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive_world import DONE, MOVE, TRANSFER, begin, content, held_when, load
from cli_shape import fits
from cli_world import Run, World
from second import NOT_ROOT, mount, mounted, move, unmount

from cachetui import paths

PLAIN, SHARED, TAG = "hf:org/plain", "hf:org/shared-a", "ollama:llama3.2:3b"

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason=NOT_ROOT)]


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A drive; nothing outside the test is looked at."""
    monkeypatch.setenv("CACHETUI_ONLY_BELOW", str(tmp_path))
    with mounted(tmp_path / "drive", size="400m") as found:
        yield found


def states(run: Run, target: str, root: Path) -> list[str]:
    [found] = [i["states"] for i in run("ls", "--json").data["items"] if (i["id"], i["root"]) == (target, str(root))]
    assert isinstance(found, list)
    return found


def known(run: Run) -> list[dict[str, Any]]:
    found = run("info", "--json").data["archives"]
    assert isinstance(found, list)
    return found


def test_plugged_in_elsewhere(world: World, spawn: Run, drive: Path, tmp_path: Path) -> None:
    loads = load("org/plain", "org/shared-a")
    spawn("archive", PLAIN, SHARED, TAG, "--to", str(drive / "m"), "-y")
    [archive] = known(spawn)
    assert (archive["path"], archive["reachable"], archive["known"], archive["items"]) == (
        str(drive / "m"), True, True, 3,
    )  # fmt: skip
    other = tmp_path / "usb"
    move(drive, other)
    try:
        assert states(spawn, PLAIN, world.hub.path) == ["offline"]
        assert load("org/shared-b")  # what does not lie there works on
        data = spawn("adopt", "--dry-run", "--json").data
        fits(data, {**DONE, "plan": TRANSFER})
        assert {i["target"] for i in data["plan"]["items"]} == {PLAIN, SHARED, TAG}
        assert spawn("adopt", "-y").out.count("Adopted: ") == 1
        assert states(spawn, PLAIN, world.hub.path) == ["archived"]
        assert load("org/plain", "org/shared-a") == loads
        assert "nothing to adopt" in spawn("adopt", "-y", code=1).err
        spawn("restore", PLAIN, "-y")
        assert load("org/plain", "org/shared-a") == loads
    finally:
        unmount(other)
    [archive] = known(spawn)
    assert (archive["reachable"], archive["items"]) == (False, 2)
    assert "not there" in spawn("info").out


def test_one_item_is_led_to_where_its_drive_is(world: World, spawn: Run, drive: Path, tmp_path: Path) -> None:
    spawn("archive", PLAIN, SHARED, "--to", str(drive / "m"), "-y")
    move(drive, tmp_path / "usb")
    try:
        spawn("adopt", PLAIN, "--root", str(world.hub.path), "-y")
        assert states(spawn, PLAIN, world.hub.path) == ["archived"]
        assert states(spawn, SHARED, world.hub.path) == ["offline"]
    finally:
        unmount(tmp_path / "usb")


def test_an_archive_of_another_machine(world: World, spawn: Run, drive: Path, home: Path) -> None:
    """Its repos are linked into the cache here, where nothing stands."""
    spawn("archive", PLAIN, "--to", str(drive / "m"), "-y")
    (world.hub.path / "models--org--plain").unlink()  # as if this were a machine that never had it
    paths.archives_file().unlink()
    [archive] = known(spawn)
    assert archive["known"] is False
    assert "foreign" in spawn("info").out
    answer = spawn("adopt", str(drive / "m"), "-y")
    assert f"Adopted: {PLAIN}" in answer.out
    assert (world.hub.path / "models--org--plain").is_symlink()
    assert load("org/plain")


def test_moved_by_hand(world: World, spawn: Run, drive: Path) -> None:
    """mv and ln -s, the usual recipe, of a repo whose payload lies in the shared store: it breaks, and is mended."""
    loads = load("org/shared-a", "org/shared-b")
    folder = world.hub.path / "models--org--shared-a"
    (drive / "mine").mkdir()
    shutil.move(folder, drive / "mine/models--org--shared-a")
    folder.symlink_to(drive / "mine/models--org--shared-a")
    answer = spawn("adopt", SHARED, "--root", str(world.hub.path), "-y")
    assert f"Adopted: {SHARED}" in answer.out, answer
    assert load("org/shared-a", "org/shared-b") == loads
    assert states(spawn, SHARED, world.hub.path) == ["archived"]


def test_adopting_what_is_no_archive(world: World, spawn: Run, drive: Path) -> None:
    (drive / "empty").mkdir()
    assert "Refused" in spawn("adopt", str(drive / "empty"), "-y", code=1).out
    assert "nothing to adopt" in spawn("adopt", code=1).err
    assert "no-such" in spawn("adopt", "hf:no-such/thing", "-y", code=1).err


@pytest.mark.parametrize("store", ["hub", "ollama", "hf-home"])
def test_a_whole_root_moves_and_everything_loads(world: World, spawn: Run, drive: Path, home: Path, store: str) -> None:
    root = {"hub": world.hub.path, "ollama": world.ollama.path, "hf-home": home / ".cache/huggingface"}[store]
    before, loads = content(root), load("org/plain", "org/shared-a", "org/two")
    listed = spawn("ls", "-q").out
    data = spawn("move-root", str(root), "--to", str(drive), "--dry-run", "--json").data
    fits(data, {**DONE, "plan": MOVE})
    assert content(root) == before and list(drive.iterdir()) == []
    answer = spawn("move-root", str(root), "--to", str(drive / "moved"), "-y", "--print-env")
    assert root.is_symlink() and os.readlink(root) == str(drive / "moved")
    assert content(drive / "moved") == before
    assert load("org/plain", "org/shared-a", "org/two") == loads
    assert spawn("ls", "-q").out == listed
    if store != "hub":
        variable = {"ollama": "OLLAMA_MODELS", "hf-home": "HF_HOME"}[store]
        assert answer.out.splitlines()[-1] == f"export {variable}={drive}/moved"


def test_a_moved_root_comes_back_with_undo(world: World, spawn: Run, drive: Path) -> None:
    before = content(world.hub.path)
    spawn("move-root", str(world.hub.path), "--to", str(drive / "hub"), "--keep-original", "-y")
    assert world.hub.path.is_symlink()
    spawn("undo", "-y")
    assert not world.hub.path.is_symlink() and content(world.hub.path) == before


def test_an_interrupted_move_goes_on(world: World, spawn: Run, drive: Path) -> None:
    world.hub.repo("org/big").revision({"model.bin": os.urandom(1 << 20) * 120})
    world.age()
    before = content(world.hub.path)
    process = begin("move-root", str(world.hub.path), "--to", str(drive / "hub"), "-y")
    held_when(process, lambda: list(drive.glob(".cachetui-incoming/*/tree/models--org--big/blobs/*")))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert not world.hub.path.is_symlink() and content(world.hub.path) == before
    assert "interrupted: move" in spawn("ls").err
    spawn("move-root", str(world.hub.path), "--to", str(drive / "hub"), "-y")
    assert world.hub.path.is_symlink() and content(world.hub.path) == before
    assert "interrupted" not in spawn("ls").err


def test_an_interrupted_move_is_discarded(world: World, spawn: Run, drive: Path) -> None:
    world.hub.repo("org/big").revision({"model.bin": os.urandom(1 << 20) * 120})
    world.age()
    before = content(world.hub.path)
    process = begin("move-root", str(world.hub.path), "--to", str(drive / "hub"), "-y")
    held_when(process, lambda: list(drive.glob(".cachetui-incoming/*/tree/models--org--big/blobs/*")))
    process.kill()
    process.communicate()
    assert "1 unfinished copies discarded" in spawn("jobs", "forget", "move", "-y").out
    assert content(world.hub.path) == before
    assert sum(p.stat().st_size for p in drive.rglob("*") if p.is_file()) < 100_000
    assert "interrupted" not in spawn("ls").err


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [(["HUB", "--to", "DRIVE"], 2, "add -y"), (["HUB", "-y"], 2, "--to"),
     (["/nowhere", "--to", "DRIVE", "-y"], 1, "no root"),
     (["HUB", "--to", "HOME/x", "-y"], 1, "same file system"), (["HUB", "--to", "HUB/x", "-y"], 1, "Refused")],
)  # fmt: skip
def test_refusals_of_a_move(
    world: World, spawn: Run, drive: Path, home: Path, args: list[str], code: int, says: str
) -> None:
    before = content(home)
    names = {"HUB": str(world.hub.path), "DRIVE": str(drive), "HOME": str(home)}
    for word, path in names.items():
        args = [a.replace(word, path) for a in args]
    answer = spawn("move-root", *args, code=code)
    assert says in answer.out + answer.err
    assert {k: v for k, v in content(home).items() if not k.startswith(".local")} == before


def test_a_read_only_drive_is_said_before(world: World, spawn: Run, drive: Path, tmp_path: Path) -> None:
    mount(tmp_path / "ro", more=",ro")
    try:
        for verb in (["archive", PLAIN], ["move-root", str(world.hub.path)]):
            assert "read-only" in spawn(*verb, "--to", str(tmp_path / "ro/m"), "-y", code=1).out
    finally:
        unmount(tmp_path / "ro")
