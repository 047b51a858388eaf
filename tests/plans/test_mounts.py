"""Real mounts: where the trash goes, a full disk, a read-only one. Needs root."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from plans_world import ALL, World, blobs

from cachetui.config import Where
from cachetui.plans import trash
from cachetui.plans.executor import execute
from cachetui.plans.recovery import recover

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="needs root and mount(8)"),
]


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting is not possible here: {done.stderr.strip()}")


@pytest.fixture
def unmounted(tmp_path: Path) -> Iterator[None]:
    """Takes away whatever a test mounted."""
    yield
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if (point := line.split()[4]).startswith(f"{tmp_path}/"):
            subprocess.run(["umount", "-l", point], check=False)


@pytest.fixture
def full_disk(tmp_path: Path, home: Path, unmounted: None) -> Path:
    """A small ext4 at ~/.cache."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(24 << 20)
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("needs mkfs.ext4")
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", "2000", str(image)], check=True, capture_output=True)
    target = home / ".cache"
    target.mkdir()
    _mount("-o", "loop", str(image), str(target))
    return target


def _fill(folder: Path) -> None:
    """Until not a byte can be written and no folder made."""
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError as e:
                assert e.errno == errno.ENOSPC
    with pytest.raises(OSError):
        for n in range(5000):
            (folder / f"d{n}").mkdir()


def test_deleting_and_undoing_on_a_full_ext4(full_disk: Path, home: Path, where: Where) -> None:
    """The moment people open this program: nothing can be created, and yet it is a rename and a journal."""
    world = World(home, where)
    world.build()
    assert world.remove("hf:acme/one@~orphan").ok  # the first use makes the reserve
    _fill(full_disk)
    before, held = world.stores(), blobs(home / ".cache/huggingface")
    outcome = world.remove("hf:acme/one", "hf:acme/left")
    assert outcome.ok, outcome
    assert world.stores() != before
    assert world.undo().ok
    assert world.stores() == before and blobs(home / ".cache/huggingface") == held
    assert world.remove("hf:acme/one").ok
    assert trash.empty(trash.entries(world.roots())).ok
    assert os.statvfs(full_disk).f_bavail > 0


def test_on_a_full_disk_without_a_reserve_only_permanent_deletion_is_left(
    full_disk: Path, home: Path, where: Where
) -> None:
    world = World(home, where)
    world.build()
    _fill(full_disk)
    before = world.stores()
    outcome = world.remove("hf:acme/one")
    assert not outcome.ok and "delete permanently" in outcome.results[0].message
    assert world.stores() == before
    free = os.statvfs(full_disk).f_bavail
    gone = world.remove("hf:acme/one", permanent=True)
    assert gone.ok, gone
    assert gone.freed > 0 and os.statvfs(full_disk).f_bavail > free
    assert not (world.hub.path / "models--acme--one").exists()
    assert recover(world.roots()) == ()
    assert world.remove("hf:acme/left").ok and world.undo().ok


def test_a_bind_mounted_cache_keeps_its_trash_inside(home: Path, where: Where, unmounted: None) -> None:
    """Equal st_dev, and still no rename between the two mounts."""
    real = home / "real"
    world = World(home, where)
    real.mkdir()
    _mount("--bind", str(real), str(world.hub.path))
    world.build()
    assert real.stat().st_dev == home.stat().st_dev
    plan = world.plan("hf:acme/one")
    (place,) = plan.places
    assert place.kind == "inside" and place.path.endswith("/.locks/.cachetui-trash") and plan.notes
    before = world.stores()
    assert execute(plan).ok
    assert world.scan().roots[0].complete
    assert world.undo().ok
    assert world.stores() == before


def test_a_mount_of_its_own_has_its_trash_at_the_top(home: Path, where: Where, unmounted: None) -> None:
    """A drive whose top holds the folder above the root is a sibling; one that is the store itself is the top."""
    world = World(home, where)
    world.ollama.path.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "tmpfs", str(world.ollama.path))
    world.build()
    plan = world.plan("ollama:llama3.2:3b")
    assert plan.places[0].kind == "mount-top"
    before = world.stores()
    assert execute(plan).ok and world.undo().ok
    assert world.stores() == before


def test_a_mount_inside_an_item_refuses_it(home: Path, where: Where, world: World, unmounted: None) -> None:
    """Bind-mounted data inside a repo would be emptied with it."""
    precious = home / "precious"
    precious.mkdir()
    (precious / "data").write_text("mine")
    inside = world.hub.path / "models--acme--one/snapshots/mounted"
    inside.mkdir()
    plan = world.plan("hf:acme/left", "hf:acme/one")
    _mount("--bind", str(precious), str(inside))
    assert "mounted inside" in world.plan("hf:acme/one").items[0].refused
    outcome = execute(plan, accept=ALL)
    assert [r.done for r in outcome.results] == [True, False]
    assert (precious / "data").read_text() == "mine"


def test_a_read_only_root_is_refused_before_anything_starts(
    home: Path, where: Where, world: World, unmounted: None
) -> None:
    _mount("--bind", str(world.hub.path), str(world.hub.path))
    _mount("-o", "remount,ro,bind", str(world.hub.path))
    plan = world.plan("hf:acme/one", permanent=True)
    assert "read-only" in plan.items[0].refused
    assert not execute(plan, accept=ALL).ok


def test_a_folder_of_an_image_layer_cannot_be_renamed(
    home: Path, where: Where, tmp_path: Path, unmounted: None
) -> None:
    """Overlay file systems (containers) refuse to rename a folder of a lower layer: the trash cannot take it."""
    layers = tmp_path / "layers"
    _mount("-t", "tmpfs", "tmpfs", _made(layers))
    lower = World(_home(layers / "lower"), where)
    lower.build()
    for name in ("upper", "work"):
        (layers / name).mkdir()
    options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work,redirect_dir=off"
    _mount("-t", "overlay", "overlay", "-o", options, str(home))
    world = World(home, where)
    before = world.stores()
    outcome = world.remove("hf:acme/one", "hf:acme/one@main:config.json")
    assert not outcome.ok and "permanently" in outcome.results[0].message, outcome
    assert world.stores() == before and recover(world.roots()) == ()
    gone = world.remove("hf:acme/one", permanent=True)
    assert gone.ok, gone
    assert not (world.hub.path / "models--acme--one").exists()
    assert recover(world.roots()) == ()


def _made(path: Path) -> str:
    path.mkdir()
    return str(path)


def _home(path: Path) -> Path:
    path.mkdir()
    return path
