"""Reading: streamed, capped, polite, and honest about what goes wrong meanwhile."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import threading
from pathlib import Path

import pytest
from verify_world import Reads, weights

from cachetui.transfer import medium
from cachetui.verify import reading
from cachetui.verify.reading import BLOCK, WINDOW, Reader, Reading, Stopped, stamp

SIZE = 3 * BLOCK + 123


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    return path


def read(path: Path, reads: Reads | None = None, **how: object) -> Reading:
    reader = Reader(lambda n: None, lambda: False, read_into=reads or Reads(), **how)  # type: ignore[arg-type]
    return reader.read(str(path), stamp(path.stat()), ("sha256", "git-sha1"))


def test_both_hashes_in_one_pass(file: Path) -> None:
    reads = Reads()
    data = file.read_bytes()
    found = read(file, reads)
    assert found.digests["sha256"] == hashlib.sha256(data).hexdigest()
    assert found.digests["git-sha1"] == hashlib.sha1(b"blob %d\0" % SIZE + data).hexdigest()
    assert reads.bytes == found.read == SIZE


@pytest.mark.parametrize("size", [0, 1, BLOCK, WINDOW, WINDOW + 1])
def test_every_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\7" * size)
    assert read(path).digests["sha256"] == hashlib.sha256(b"\7" * size).hexdigest()


@pytest.mark.parametrize("at", [0, 2 * BLOCK + 8192])
def test_a_part_that_cannot_be_read_is_damaged_there(file: Path, at: int) -> None:
    def broken(fd: int, buffers: list[memoryview], offset: int, /) -> int:
        if offset <= at < offset + len(buffers[0]):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return os.preadv(fd, buffers, offset)

    found = read(file, broken)  # type: ignore[arg-type]
    assert (found.code, found.digests) == ("unreadable-data", {})
    assert f"at byte {at} " in found.message


def test_a_read_that_fails_only_once_is_not_damage(file: Path) -> None:
    failures = iter([True])

    def once(offset: int) -> None:
        if next(failures, False):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    assert read(file, Reads(hook=once)).code == "unreadable"


def test_a_drive_that_goes_is_not_damage(file: Path) -> None:
    def gone(offset: int) -> None:
        file.unlink(missing_ok=True)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    found = read(file, Reads(hook=gone))
    assert found.code == "unreadable"
    assert "not there any more" in found.message


def test_a_file_that_changes_while_it_is_read_is_said(file: Path) -> None:
    def write(offset: int) -> None:
        if offset == BLOCK:
            with file.open("r+b") as f:
                f.write(b"other")

    assert read(file, Reads(hook=write)).code == "changed"


def test_a_file_that_is_cut_while_it_is_read_is_said(file: Path) -> None:
    assert read(file, Reads(hook=lambda offset: os.truncate(file, 100))).code == "changed"


def test_a_file_that_grows_is_read_to_where_it_ended_and_said(file: Path) -> None:
    def grow(offset: int) -> None:
        with file.open("ab") as f:
            f.write(bytes(BLOCK))

    reads = Reads(hook=grow)
    assert read(file, reads).code == "changed"
    assert reads.bytes == SIZE


def test_a_file_that_was_replaced_since_it_was_looked_at_is_said(file: Path) -> None:
    was = stamp(file.stat())
    file.rename(file.with_name("old"))
    file.write_bytes(bytes(SIZE))
    assert Reader(lambda n: None, lambda: False).read(str(file), was, ("sha256",)).code == "changed"


def test_stopping_is_heard_at_the_next_block(file: Path) -> None:
    reads = Reads()
    reader = Reader(lambda n: None, lambda: reads.bytes >= BLOCK, read_into=reads)
    with pytest.raises(Stopped):
        reader.read(str(file), stamp(file.stat()), ("sha256",))
    assert reads.bytes == BLOCK


@pytest.mark.parametrize("kind", ["fifo", "socket", "folder", "link", "nothing"])
def test_what_is_no_file_is_not_read_and_blocks_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/dev/zero")
    was = stamp(os.lstat(path)) if kind != "nothing" else reading.Stamp(0, 0, 0, 0, 0)
    found = Reader(lambda n: None, lambda: False).read(str(path), was, ("sha256",))
    assert found.code == ("missing" if kind == "nothing" else "not-a-file")


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="pages cannot be dropped here")
def test_pages_that_were_not_in_memory_are_dropped_behind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 16) * (WINDOW * 2 // (1 << 16)))
    with path.open("rb+") as f:
        os.fsync(f.fileno())
        if medium.doubt(str(path)):
            pytest.skip(medium.doubt(str(path)))
        medium.drop(f.fileno())
        size = path.stat().st_size
        if medium.resident(f.fileno(), size) > 100:
            pytest.skip("this file system keeps pages in memory")
        read(path)
        assert medium.resident(f.fileno(), size) < 100
        f.read()  # somebody uses it
        read(path)
        assert medium.resident(f.fileno(), size) * medium.PAGE >= size * 0.9


def test_access_times_stay(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(weights("a"))
    os.utime(path, (1_000_000, 2_000_000))
    assert read(path).digests
    assert path.stat().st_atime == 1_000_000


@pytest.mark.parametrize("cold", [True, False])
def test_a_gate_is_held_only_for_what_is_not_in_memory(file: Path, cold: bool) -> None:
    gate = threading.Lock()
    with file.open("rb") as f:
        os.fsync(f.fileno())
        if cold:
            medium.drop(f.fileno())
            if medium.doubt(str(file)) or medium.resident(f.fileno(), SIZE) > 100:
                pytest.skip("pages stay in memory here")
    held: list[bool] = []
    assert read(file, Reads(hook=lambda offset: held.append(gate.locked())), gate=gate).digests
    assert set(held) == {cold}
    assert not gate.locked()
