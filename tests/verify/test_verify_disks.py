"""Stepping aside for others, and knowing a disk that likes one reader from one that likes several."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cachetui.transfer import medium
from cachetui.verify import disks

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="priorities of threads are Linux's")
_WORK = """
import os, psutil, threading
from cachetui.verify.disks import step_aside
def inner():
    me = psutil.Process(threading.get_native_id())
    print(os.getpriority(os.PRIO_PROCESS, 0), int(me.ionice().ioclass), me.ionice().value)
def work():
    step_aside()
    thread = threading.Thread(target=inner)
    thread.start()
    thread.join()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(os.getpriority(os.PRIO_PROCESS, 0))
"""


@LINUX
def test_a_thread_and_those_it_starts_step_aside_and_no_other() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    done = subprocess.run([sys.executable, "-c", _WORK], capture_output=True, text=True, check=True)
    threads, main = done.stdout.splitlines()
    assert threads == f"{max(before, 10)} 2 7"  # best effort, the lowest
    assert main == str(before)


def test_readers_are_few() -> None:
    assert 1 <= disks.readers() <= disks.MOST_READERS


def _device(tmp_path: Path, number: str, place: str, rotational: str, slaves: tuple[str, ...] = ()) -> None:
    """A block device as sysfs shows it."""
    real = tmp_path / "devices" / place
    (real / "slaves").mkdir(parents=True)
    (real / "dev").write_text(number + "\n")
    (real / "queue").mkdir()
    (real / "queue/rotational").write_text(rotational + "\n")
    for name in slaves:
        (real / "slaves" / Path(name).name).symlink_to(tmp_path / "devices" / name)
    (tmp_path / "block").mkdir(exist_ok=True)
    (tmp_path / "block" / number).symlink_to(real)


@LINUX
@pytest.mark.parametrize(
    ("place", "rotational", "turns"),
    [("pci0/sda", "1", True), ("pci0/sda", "0", False), ("pci0/nvme0n1", "0", False), ("virtio0/vda", "1", False)],
)
@pytest.mark.parametrize("stacked", [False, True])
def test_disks_that_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, rotational: str, turns: bool, stacked: bool
) -> None:
    st = os.stat(tmp_path)
    mine = f"{os.major(st.st_dev)}:{os.minor(st.st_dev)}"
    if os.major(st.st_dev) == 0:
        pytest.skip("this file system lies on no block device")
    if stacked:
        _device(tmp_path, "8:7", place, rotational)
        _device(tmp_path, mine, "virtual/dm-0", "1", (place,))
    else:
        _device(tmp_path, mine, place, rotational)
    monkeypatch.setattr(medium, "_BLOCKS", tmp_path / "block")
    assert medium.rotates(str(tmp_path)) is turns


def test_a_device_nobody_knows_does_not_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(medium, "_BLOCKS", tmp_path)
    assert not medium.rotates(str(tmp_path))
    assert not medium.rotates(str(tmp_path / "nothing"))
