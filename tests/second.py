"""Second file systems for real: tmpfs mounts below tmp_path (root only), else a folder of /dev/shm."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOT_ROOT = "mounting needs root"


def mount(point: Path, *, size: str = "64m", more: str = "") -> None:
    """Mount an empty tmpfs; skips the test where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip(NOT_ROOT)
    point.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}{more}", "cachetui-test", point], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


def unmount(point: Path) -> None:
    """Unplug at once, even while files are open (umount -l)."""
    subprocess.run(["umount", "-l", point], capture_output=True, check=False)


def move(point: Path, other: Path) -> None:
    """Plug the same drive in elsewhere: its content stays."""
    other.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", point, other], check=True)
    unmount(point)


@contextmanager
def mounted(point: Path, *, size: str = "64m") -> Iterator[Path]:
    """A drive of its own at `point`, unmounted afterwards."""
    mount(point, size=size)
    try:
        yield point
    finally:
        unmount(point)


@contextmanager
def second(tmp_path: Path, *, size: str = "64m") -> Iterator[Path]:
    """A folder on another file system than tmp_path: a mount, or /dev/shm where this user may not mount."""
    if os.geteuid() == 0:
        with mounted(tmp_path / "drive", size=size) as drive:
            yield drive
        return
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system that this user may write to")
    folder = Path(tempfile.mkdtemp(dir=shm))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
