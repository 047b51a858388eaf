"""Reading folders: nothing is followed, nothing blocks, everything is counted once, as du counts it."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from cachetui import walk


def du(path: Path) -> int:
    return int(
        subprocess.run(["du", "-s", "-B1", str(path)], capture_output=True, text=True, check=True).stdout.split()[0]
    )


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    base = tmp_path / "messy"
    (base / "a/b/c").mkdir(parents=True)
    (base / "a/one").write_bytes(b"x" * 5000)
    os.link(base / "a/one", base / "a/b/two")
    (base / "a/b/long").symlink_to("../" * 30 + "nowhere")
    (base / "a/b/c/loop").symlink_to("../../..")
    os.mkfifo(base / "a/fifo")
    (base / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"y")
    with (base / "sparse").open("wb") as f:
        f.truncate(1 << 30)
    return base


@pytest.mark.parametrize("descriptors", [True, False])
def test_adds_up_to_du(messy: Path, descriptors: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "HAS_SCANDIR_FD", descriptors)
    tally = walk.tree(str(messy))
    assert tally.overhead + sum({(b.dev, b.ino): b.allocated for b in tally.files}.values()) == du(messy)
    assert sorted(b.path for b in tally.files) == sorted(["a/one", "a/b/two", "sparse", os.fsdecode(b"not-utf8-\xff")])
    assert dict(tally.links)["a/b/c/loop"] == "../../.."
    assert tally.problems == []


def test_another_root_inside_is_left_alone(messy: Path) -> None:
    inner = (messy / "a/b").stat()
    tally = walk.tree(str(messy), nested=frozenset([(inner.st_dev, inner.st_ino)]))
    assert tally.nested == ["a/b"]
    assert not [b for b in tally.files if b.path.startswith("a/b")]


def test_unreadable_and_missing_are_problems(tmp_path: Path) -> None:
    assert walk.tree(str(tmp_path / "gone")).problems[0].code == "unreadable"
    (tmp_path / "link").symlink_to(tmp_path)
    assert walk.tree(str(tmp_path / "link")).blind == [""]


def test_cancelling_stops(messy: Path) -> None:
    assert walk.tree(str(messy), cancelled=lambda: True).files == []


def test_depth_is_bounded(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(walk.MAX_DEPTH + 5):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    tally = walk.tree(str(tmp_path))
    assert [p.code for p in tally.problems] == ["too-deep"]


def test_small_files_are_read_without_following_blocking_or_touching(messy: Path) -> None:
    os.utime(messy / "a/one", (1000, 1000))
    assert walk.read_small(str(messy / "a/one"), 10) == b"x" * 10
    assert (messy / "a/one").stat().st_atime == 1000
    for odd in ("a/fifo", "a/b/long", "a"):
        with pytest.raises(OSError):
            walk.read_small(str(messy / odd))
    assert stat.S_ISFIFO((messy / "a/fifo").stat().st_mode)
