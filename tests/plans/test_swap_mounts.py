"""Exchanges on real mounts: a full disk, a drive that is unmounted, a mount that is the root itself. Needs root."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
from pathlib import Path

import pytest
from plans_world import FaultyFs, Killed, World, tree
from swap_world import LEFT, archive_hub, drive, fill_drive, move_root, root, state, undo
from test_mounts import _fill, _mount, full_disk, pytestmark, unmounted

from cachetui.config import Where
from cachetui.fs import DISK
from cachetui.plans import trash
from cachetui.plans.executor import execute
from cachetui.plans.recovery import recover
from cachetui.plans.swap import whole_root

__all__ = ["full_disk", "pytestmark", "unmounted"]
BOTH = ("hf:acme/left", "hf:acme/right")


@pytest.mark.parametrize("inodes", [False, True])
@pytest.mark.parametrize("permanent", [False, True])
def test_archiving_on_a_full_ext4(permanent: bool, inodes: bool, full_disk: Path, home: Path, where: Where) -> None:
    """Its links are longer than 59 bytes, so each needs a block, and there is none: a spare entry of the trash goes."""
    world = World(home, where)
    world.build()
    fill_drive(world)
    assert len(str(drive(world) / "hub" / LEFT)) > 59
    assert world.remove("hf:acme/one@~orphan").ok  # the first use makes the reserve
    if inodes:
        _use_up_inodes(full_disk)
    _fill(full_disk)
    before = state(world)
    with pytest.raises(OSError):
        (world.hub.path / "link").symlink_to("x" * 60)
    outcome = execute(archive_hub(world, BOTH, permanent))
    assert outcome.ok, outcome
    assert os.readlink(world.hub.path / LEFT) == str(drive(world) / "hub" / LEFT)
    assert all(p.exists() for p in (world.hub.path / LEFT / "snapshots").glob("*/*"))
    if permanent:
        assert outcome.freed > 0 and os.statvfs(full_disk).f_bavail > 0
        return
    assert all(o.ok for o in undo(world, DISK))
    assert state(world) == before


def _use_up_inodes(folder: Path) -> None:
    (folder / "filler").touch()  # which is filled afterwards
    with pytest.raises(OSError) as stopped:
        for n in range(5000):
            (folder / f"empty{n}").touch()
    assert stopped.value.errno == errno.ENOSPC and os.statvfs(folder).f_ffree == 0


@pytest.mark.parametrize("permanent", [False, True])
def test_a_drive_that_is_unmounted_in_the_middle(
    permanent: bool, home: Path, where: Where, world: World, unmounted: None
) -> None:
    """Killed after the exchanges, and the drive is pulled: all is back until it comes again."""
    image = _drive(world)
    before = tree(world.hub.path)
    for at in itertools.count(1):
        with pytest.raises(Killed):
            execute(archive_hub(world, BOTH, permanent), fs=FaultyFs(at, "before"))
        if (world.hub.path / LEFT).is_symlink():
            break
        recover(world.roots())
    subprocess.run(["umount", str(drive(world))], check=True)
    (found,) = recover(world.roots())
    assert found.action == "reverted" and found.message == (
        "archiving of hf:acme/left, hf:acme/right; everything is back in its place"
    )
    assert tree(world.hub.path) == before
    _mount("-o", "loop", str(image), str(drive(world)))
    assert execute(archive_hub(world, BOTH, permanent)).ok
    assert all(p.exists() for p in (world.hub.path / LEFT / "snapshots").glob("*/*"))


def _drive(world: World) -> Path:
    """An ext4 with the copies, mounted where the drive is."""
    image = world.home.parent / "image"
    with image.open("wb") as file:
        file.truncate(24 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True, capture_output=True)
    drive(world).mkdir()
    _mount("-o", "loop", str(image), str(drive(world)))
    fill_drive(world)
    return image


def test_a_moved_root_outlives_its_drive(home: Path, where: Where, world: World, unmounted: None) -> None:
    """The link is to the top of the drive's copy; without the drive, undo from the trash works still."""
    _drive(world)
    hub = world.hub.path
    before = tree(hub)
    assert execute(move_root(world, (), False)).ok and hub.is_symlink()
    subprocess.run(["umount", str(drive(world))], check=True)
    assert not hub.exists()
    (entry,) = trash.entries(world.roots())
    assert trash.restore(entry).ok
    assert tree(hub) == before


def test_a_mount_cannot_be_exchanged(home: Path, where: Where, unmounted: None) -> None:
    world = World(home, where)
    world.ollama.path.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "tmpfs", str(world.ollama.path))
    world.build()
    plan = whole_root(root(world, world.ollama.path), str(home / "elsewhere"))
    assert plan.items[0].refused == (
        f"a file system is mounted at {world.ollama.path}: a mount cannot be exchanged with a link"
    )
    assert not execute(plan).ok and world.ollama.path.is_dir()
    above = root(world, world.hub.path)
    (world.hub.path / "inside").mkdir()
    _mount("-t", "tmpfs", "tmpfs", str(world.hub.path / "inside"))
    assert "mounted at" in whole_root(above, str(home / "elsewhere")).items[0].refused


def test_a_file_system_of_an_image_layer_says_that_it_cannot(
    home: Path, where: Where, tmp_path: Path, unmounted: None
) -> None:
    """Overlay file systems refuse to exchange a folder of a lower layer: nothing is changed, and nothing deleted."""
    layers = tmp_path / "layers"
    layers.mkdir()
    _mount("-t", "tmpfs", "tmpfs", str(layers))
    (layers / "lower").mkdir()
    World(layers / "lower", where).build()
    for name in ("upper", "work"):
        (layers / name).mkdir()
    options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work,redirect_dir=off"
    _mount("-t", "overlay", "overlay", "-o", options, str(home))
    world = World(home, where)
    fill_drive(world)
    before = state(world)
    for permanent in (False, True):
        outcome = execute(archive_hub(world, BOTH, permanent))
        assert not outcome.ok and "cannot put something else in its place" in outcome.results[0].message, outcome
        assert state(world) == before and recover(world.roots()) == ()
