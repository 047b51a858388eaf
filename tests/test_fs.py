"""The disk calls: never over something, never through a link, all through one point."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cachetui import fs


@pytest.fixture
def folder(tmp_path: Path) -> int:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("x")
    (tmp_path / "link").symlink_to("full")
    return fs.open_dir(str(tmp_path))


@pytest.mark.parametrize("renameat2", [True, False])
def test_rename_never_replaces(folder: int, tmp_path: Path, renameat2: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not renameat2:
        monkeypatch.setattr(fs, "_renameat2", None)
    with pytest.raises(FileExistsError):
        fs.DISK.rename(folder, "a", folder, "b")
    assert (tmp_path / "b").read_text() == "b"
    fs.DISK.rename(folder, "a", folder, "c")
    assert (tmp_path / "c").read_text() == "a"


def test_exchange_swaps_a_folder_and_a_link(folder: int, tmp_path: Path) -> None:
    fs.DISK.exchange(folder, "full", folder, "link")
    assert (tmp_path / "full").is_symlink()
    assert (tmp_path / "link/x").read_text() == "x"


def test_exchange_is_refused_where_the_system_cannot(folder: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fs, "_renameat2", None)
    with pytest.raises(OSError, match="cannot exchange"):
        fs.DISK.exchange(folder, "a", folder, "b")


@pytest.mark.parametrize("path", ["link", "link/x", "../x", "full/../link", "missing"])
def test_nothing_is_opened_through_a_link_or_upwards(folder: int, path: str) -> None:
    with pytest.raises(OSError):
        fs.open_below(folder, path)


def test_open_below_reaches_real_folders(folder: int) -> None:
    fd = fs.open_below(folder, "full")
    assert os.listdir(fd) == ["x"]
    os.close(fd)
    os.close(fs.open_below(folder, ""))


def test_a_link_is_linked_not_followed(folder: int, tmp_path: Path) -> None:
    fs.DISK.link(folder, "link", folder, "second")
    assert (tmp_path / "second").is_symlink()


def test_short_writes_are_continued_and_every_call_passes_one_point(folder: int, tmp_path: Path) -> None:
    seen: list[str] = []

    class Short(fs.Fs):
        def _call(self, operation: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            seen.append(operation)
            if operation == "pwrite":
                args = (args[0], args[1][:3], args[2])
            return function(*args, **kwargs)

    disk = Short()
    fd = disk.create(folder, "new")
    disk.write_at(fd, b"0123456789", 2)
    disk.truncate(fd, 11)
    disk.chmod(fd, 0o640)
    disk.fsync(fd)
    os.close(fd)
    disk.symlink("x", folder, "s")
    disk.mkdir(folder, "d")
    disk.rmdir(folder, "d")
    disk.unlink(folder, "s")
    disk.replace(folder, "new", folder, "a")
    assert (tmp_path / "a").read_bytes() == b"\0\0" + b"012345678"
    assert seen == [
        "create",
        *["pwrite"] * 4,
        "ftruncate",
        "fchmod",
        "fsync",
        "symlink",
        "mkdir",
        "rmdir",
        "unlink",
        "replace",
    ]


def test_a_nameless_file_appears_whole(folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        fd = fs.DISK.create_nameless(folder)
    except OSError as e:
        assert e.errno in fs.UNABLE
        pytest.skip("this file system has no files without a name")
    before = sorted(os.listdir(tmp_path))
    fs.DISK.write_at(fd, b"all of it", 0)
    assert sorted(os.listdir(tmp_path)) == before
    with pytest.raises(FileExistsError):
        fs.DISK.give_name(fd, folder, "a")
    fs.DISK.give_name(fd, folder, "new")
    os.close(fd)
    assert (tmp_path / "new").read_bytes() == b"all of it"
    monkeypatch.delattr(os, "O_TMPFILE")
    with pytest.raises(OSError) as caught:
        fs.DISK.create_nameless(folder)
    assert caught.value.errno in fs.UNABLE
