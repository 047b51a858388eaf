"""Drives for real: one that gets full, read-only, or is unplugged in the middle, and one that is memory. Needs root."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import second
from copy_world import CountingFs, awkward, run, value

from cachetui.transfer import copying, medium, reading
from cachetui.transfer.copying import CancelledError, CopyError

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="needs root and mount(8)"),
]


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Path]:
    """A drive of 8 MB."""
    with second.mounted(tmp_path / "drive", size="8m") as point:
        yield point


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of everything and 6 MB, read in pieces of 64 kB."""
    monkeypatch.setattr(reading, "CHUNK", 1 << 16)
    monkeypatch.setattr(copying, "CHUNK", 1 << 16)
    monkeypatch.setattr(copying, "_BEGIN", 1 << 17)
    monkeypatch.setattr(copying, "_SETTLE_BYTES", 1 << 20)
    monkeypatch.setattr(copying, "_WAIT", 0.0)
    source = awkward(tmp_path / "source")
    for n in range(6):
        (source / f"z{n}").write_bytes(os.urandom(1_000_000))
    return source


class Meddler:
    """Does something to the drive when so many bytes are copied."""

    def __init__(self, when: int, act: Callable[[], object]) -> None:
        self.when = when
        self.act: Callable[[], object] | None = act

    def advance(self, phase: str, done: int, total: int, name: str) -> None:
        if done >= self.when and self.act is not None:
            act, self.act = self.act, None
            act()


def test_a_drive_that_gets_full(source: Path, drive: Path) -> None:
    before = value(source)
    with (drive / "other").open("wb") as file:
        file.write(bytes(4_000_000))
    with pytest.raises(CopyError, match=r"z\d: the drive is full; make room on it") as caught:
        run(source, drive)
    assert caught.value.errno == errno.ENOSPC and value(source) == before
    assert not (drive / "out").exists()
    (drive / "other").unlink()
    copied = run(source, drive)
    assert value(drive / "out/item") == before
    assert copied.written < 4_000_000, "what was whole on the full drive stayed"


def test_a_drive_that_becomes_read_only(source: Path, drive: Path) -> None:
    """Between two runs: the kernel refuses it while a file is open for writing (the sweep has that case)."""
    before = value(source)
    fs = CountingFs()
    with pytest.raises(CancelledError):
        run(source, drive, fs=fs, cancelled=lambda: fs.bytes > 3_500_000)
    subprocess.run(["mount", "-o", "remount,ro", str(drive)], check=True)
    with pytest.raises(OSError) as caught:
        run(source, drive)
    assert caught.value.errno == errno.EROFS and value(source) == before
    subprocess.run(["mount", "-o", "remount,rw", str(drive)], check=True)
    copied = run(source, drive)
    assert value(drive / "out/item") == before and copied.written < 4_000_000


@pytest.mark.parametrize("when", [0, 3_000_000, 5_900_000])
def test_a_drive_that_is_unplugged(source: Path, drive: Path, tmp_path: Path, when: int) -> None:
    """Nothing lands in the empty folder below, and plugged in again the copy goes on."""
    before = value(source)
    other = tmp_path / "elsewhere"
    with pytest.raises(CopyError, match="the drive is not there any more; plug it in again") as caught:
        run(source, drive, progress=Meddler(when, lambda: second.move(drive, other)))
    assert caught.value.errno == errno.ENODEV
    assert list(drive.iterdir()) == [] and value(source) == before
    try:
        assert not (other / "out").exists()
        copied = run(source, other)
        assert value(other / "out/item") == before
        assert copied.written <= sum(p.size for p in copied.files) - when + 2_000_000
    finally:
        second.unmount(other)


def test_memory_is_no_medium(source: Path, drive: Path) -> None:
    copied = run(source, drive)
    assert not copied.proven and "tmpfs is memory" in copied.note


def test_a_loop_device_is_told(source: Path, tmp_path: Path) -> None:
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("needs mkfs.ext4")
    image, point = tmp_path / "image", tmp_path / "point"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    point.mkdir()
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    done = subprocess.run(["mount", "-o", "loop", str(image), str(point)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("loop devices are not allowed here")
    try:
        copied = run(source, point)
        assert value(point / "out/item") == value(source)
        assert not copied.proven and "loop device" in copied.note
        assert (point / "out/item/sub/holes").stat().st_blocks * 512 < 100_000
    finally:
        subprocess.run(["umount", "-l", str(point)], check=False)


def test_the_drive_of_the_tests_is_no_loop(tmp_path: Path) -> None:
    assert "loop" not in medium.doubt(str(tmp_path))
