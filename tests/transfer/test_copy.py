"""A copy is its original in every respect, is proven, and goes on where an earlier run stopped."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest
from copy_world import HEADER, KEY, CountingFs, awkward, grow, run, value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plans_world import Killed

from cachetui.fs import DISK
from cachetui.plans.lock import HeldError
from cachetui.transfer import checking, copying, medium, reading
from cachetui.transfer.copying import CancelledError, CopyError, changed, copy
from cachetui.transfer.pieces import Kind, survey
from cachetui.transfer.staging import leftovers, open_staging


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """One of everything."""
    return awkward(tmp_path / "source")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Reads of 64 kB, so that small files have many."""
    size = 1 << 16
    monkeypatch.setattr(reading, "CHUNK", size)
    monkeypatch.setattr(copying, "CHUNK", size)
    monkeypatch.setattr(copying, "_BEGIN", 2 * size)
    return size


def test_everything_is_kept(source: Path, tmp_path: Path) -> None:
    before = value(source)
    copied = run(source, tmp_path / "target")
    assert value(tmp_path / "target/out/item") == before == value(source)
    assert {f.path for f in copied.files} == {p for p, v in before.items() if v[0] != "dir"}
    hashes = {p: v[4] for p, v in before.items() if v[0] == "file"}
    assert {f.path: f.sha256 for f in copied.files if not f.link} == hashes
    assert os.listdir(tmp_path / "target/incoming") == []
    if "user.origin" in os.listxattr(source / "a.bin"):
        assert os.getxattr(tmp_path / "target/out/item/a.bin", "user.origin") == b"there"


def test_holes_stay_holes(source: Path, tmp_path: Path) -> None:
    if (source / "sub/holes").stat().st_blocks * 512 > 200_000:
        pytest.skip("this file system keeps no holes")
    run(source, tmp_path / "target")
    copy_of = tmp_path / "target/out/item/sub/holes"
    assert copy_of.stat().st_blocks == (source / "sub/holes").stat().st_blocks


def test_reading_leaves_atimes(source: Path, tmp_path: Path) -> None:
    before = {p: p.lstat().st_atime_ns for p in source.rglob("*") if _is_plain(p)}
    run(source, tmp_path / "target")
    assert {p: p.lstat().st_atime_ns for p in source.rglob("*") if _is_plain(p)} == before
    assert (tmp_path / "target/out/item/a.bin").stat().st_atime_ns == before[source / "a.bin"]


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**9))
def test_any_tree(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("any")
    source = grow(base / "source", seed)
    run(source, base / "target")
    assert value(base / "target/out/item") == value(source)


def test_one_file(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"x" * 100_000)
    copied = run(tmp_path / "blob", tmp_path / "target")
    assert (tmp_path / "target/out/item").read_bytes() == b"x" * 100_000
    assert [(f.path, f.size) for f in copied.files] == [("", 100_000)]


def test_payloads_are_written_where_links_led_to_them(tmp_path: Path) -> None:
    payload = tmp_path / "blobs/ab/payload"
    payload.parent.mkdir(parents=True)
    payload.write_bytes(b"weights" * 1000)
    repo = tmp_path / "models--a--b"
    (repo / "blobs").mkdir(parents=True)
    (repo / "snapshots/c").mkdir(parents=True)
    (repo / "blobs/etag").symlink_to("../../blobs/ab/payload")
    (repo / "blobs/same").symlink_to("../../blobs/ab/payload")
    (repo / "snapshots/c/model.bin").symlink_to("../../blobs/etag")

    def behind(path: str, text: str) -> str | None:
        return str(payload) if path.startswith("blobs/") else None

    pieces = survey(str(repo), behind)
    with open_staging(DISK, str(tmp_path / "t/incoming"), KEY, HEADER) as staging:
        copied = copy(pieces, staging)
        place = Path(staging.publish(str(tmp_path / "t/hub"), repo.name))
    assert not (place / "blobs/etag").is_symlink()
    assert os.readlink(place / "snapshots/c/model.bin") == "../../blobs/etag"
    assert (place / "snapshots/c/model.bin").read_bytes() == payload.read_bytes()
    assert copied.bytes == 2 * 7000 and (place / "blobs/same").stat().st_nlink == 2
    assert changed(pieces) == ()
    payload.write_bytes(b"other!!" * 1000)
    assert str(repo / "blobs/etag") in changed(pieces)


def test_a_target_without_links_gets_real_files(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    (repo / "blobs").mkdir(parents=True)
    for commit in ("c1", "c2"):
        (repo / "snapshots" / commit).mkdir(parents=True)
        (repo / "snapshots" / commit / "w").symlink_to("../../blobs/used")
    (repo / "snapshots/c1/missing").symlink_to("../../blobs/never")
    (repo / "blobs/used").write_bytes(b"12345")
    (repo / "blobs/orphan").write_bytes(b"o")
    pieces = survey(str(repo), links=False)
    with open_staging(DISK, str(tmp_path / "t"), KEY, HEADER) as staging:
        copied = copy(pieces, staging)
        tree = Path(staging.tree)
        names = sorted(str(p.relative_to(tree)) for p in tree.rglob("*") if not p.is_dir())
        assert names == ["blobs/orphan", "snapshots/c1/w", "snapshots/c2/w"]
        assert not any(p.is_symlink() for p in tree.rglob("*"))
        assert (tree / "snapshots/c2/w").read_bytes() == b"12345"
    assert "2 files stand in their place, 5 B of it more than once" in copied.note
    assert "1 links that lead nowhere were left out" in copied.note
    assert changed(pieces) == ()
    (repo / "snapshots/c1/outside").symlink_to(tmp_path)
    with pytest.raises(OSError, match="link to a folder or to outside"):
        survey(str(repo), links=False)


def test_what_cannot_be_copied_is_refused(source: Path, tmp_path: Path) -> None:
    os.mkfifo(source / "sub/pipe")
    with pytest.raises(OSError, match="socket, pipe or device") as caught:
        survey(str(source))
    assert caught.value.filename == f"{source}/sub/pipe"
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(OSError, match="not a folder or a regular file"):
        survey(str(tmp_path / "link"))


@pytest.mark.parametrize("how", ["content", "new", "gone", "link", "type"])
def test_changed_sees_every_change(source: Path, how: str) -> None:
    pieces = survey(str(source))
    assert changed(pieces) == ()
    path = {"content": "sub/b.bin", "new": "sub/new", "gone": "nothing", "link": "link", "type": "empty"}[how]
    if how == "type":
        (source / path).rmdir()
    elif how != "new" and how != "content":
        (source / path).unlink()
    if how == "link":
        (source / path).symlink_to("elsewhere")
    elif how != "gone":
        (source / path).write_bytes(b"other")
    assert changed(pieces) == (f"{source}/{path}",)


def test_a_finished_file_is_not_written_again(source: Path, tmp_path: Path, small_chunks: int) -> None:
    """Killed half-way through the second of two large files: what is read again is what must be."""
    for name, letter in (("m1", b"1"), ("m2", b"2")):
        (source / name).write_bytes(letter * (40 * small_chunks))
    whole = CountingFs()
    run(source, tmp_path / "whole", fs=whole)
    at, first = whole.count // 3, CountingFs()
    while first.bytes < whole.bytes * 3 // 4:
        at += 1
        first = CountingFs(at=at, fault="before")
        with pytest.raises(Killed):
            run(source, tmp_path / f"target{at}", fs=first)
    copied = run(source, tmp_path / f"target{at}")
    assert value(tmp_path / f"target{at}/out/item") == value(source)
    assert 0 < copied.written < 25 * small_chunks  # of 83


def test_a_stopped_copy_goes_on(source: Path, tmp_path: Path, small_chunks: int) -> None:
    """Cancelled in the middle of the last file: the files before are only read back, that one is continued."""
    (source / "z1").write_bytes(os.urandom(20 * small_chunks))
    (source / "z2").write_bytes(os.urandom(20 * small_chunks))
    os.utime(source / "sub", ns=(1, 1))
    limit = sum(p.lstat().st_size for p in source.iterdir() if p.is_file() and not p.is_symlink()) - 5 * small_chunks
    fs = CountingFs()
    with pytest.raises(CancelledError):
        run(source, tmp_path / "t", fs=fs, cancelled=lambda: fs.bytes > limit)
    assert [key for key, _ in leftovers(str(tmp_path / "t/incoming"))] == [KEY]
    assert not (tmp_path / "t/out").exists()
    copied = run(source, tmp_path / "t")
    assert value(tmp_path / "t/out/item") == value(source)
    below = sum(p.lstat().st_size for p in (source / "sub").rglob("*") if p.is_file() and p.stat().st_nlink == 1)
    assert copied.written <= below + 7 * small_chunks


def test_a_changed_source_is_copied_again(source: Path, tmp_path: Path, small_chunks: int) -> None:
    (source / "z").write_bytes(b"1" * (10 * small_chunks))
    fs = CountingFs()
    with pytest.raises(CancelledError):
        run(source, tmp_path / "t", fs=fs, cancelled=lambda: fs.bytes > 8 * small_chunks)
    (source / "z").write_bytes(b"2" * (10 * small_chunks))
    (source / "a.bin").chmod(0o600)
    (source / "a.bin").write_bytes(b"new")
    (source / "nothing").unlink()
    run(source, tmp_path / "t")
    assert value(tmp_path / "t/out/item") == value(source)


def test_bytes_that_an_earlier_run_left_wrong_are_found(source: Path, tmp_path: Path) -> None:
    """As after a power failure: the log calls it whole, the drive holds something else."""
    run(source, tmp_path / "t", publish=False)
    wrong = tmp_path / f"t/incoming/{KEY}/tree/sub/b.bin"
    wrong.write_bytes(bytes(reversed(wrong.read_bytes())))
    copied = run(source, tmp_path / "t")
    assert value(tmp_path / "t/out/item") == value(source)
    assert copied.written == 256 * 300


def test_bytes_that_come_back_different_are_an_error(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drive that lies: what was written and fsynced reads otherwise."""
    preadv = os.preadv

    def lying(fd: int, buffers: list[memoryview], offset: int) -> int:
        got = preadv(fd, buffers, offset)
        if got and "incoming" in os.readlink(f"/proc/self/fd/{fd}"):
            buffers[0][0] ^= 1
        return got

    monkeypatch.setattr(checking.os, "preadv", lying)
    with pytest.raises(CopyError, match="what was read back is not what was written") as caught:
        run(source, tmp_path / "t")
    assert caught.value.errno == errno.EIO and not (tmp_path / "t/out").exists()


def test_another_header_starts_over(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "t", publish=False)
    with open_staging(DISK, str(tmp_path / "t/incoming"), KEY, {"of": "something else"}) as staging:
        assert not Path(staging.tree).exists() and staging.log.files == {}


def test_one_at_a_time(source: Path, tmp_path: Path) -> None:
    incoming = str(tmp_path / "incoming")
    with open_staging(DISK, incoming, KEY, HEADER):
        assert leftovers(incoming) == ()
        with pytest.raises(HeldError), open_staging(DISK, incoming, KEY, HEADER):
            pass
    assert leftovers(incoming) == ((KEY, HEADER),)


def test_a_torn_log_ends_where_it_is_torn(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "t", publish=False)
    log = tmp_path / f"t/incoming/{KEY}/log"
    lines = log.read_bytes().rstrip(b"\0").split(b"\n")[:-1]
    log.write_bytes(b"\n".join(lines[:3]) + b"\n" + lines[3][:-5] + b"}\n" + b"\n".join(lines[4:]))
    with open_staging(DISK, str(tmp_path / "t/incoming"), KEY, HEADER) as staging:
        assert len(staging.log.files) == 2
    copied = run(source, tmp_path / "t")
    assert value(tmp_path / "t/out/item") == value(source) and copied.written > 0


def test_what_was_published_can_be_copied_again(source: Path, tmp_path: Path) -> None:
    """Killed after the rename and before anybody else knew of it."""
    with open_staging(DISK, str(tmp_path / "t/incoming"), KEY, HEADER) as staging:
        copy(survey(str(source)), staging)
        staging.publish(str(tmp_path / "t/out"), "item")
    assert run(source, tmp_path / "t").written == 0
    assert value(tmp_path / "t/out/item") == value(source)


def test_publishing_never_overwrites(source: Path, tmp_path: Path) -> None:
    (tmp_path / "t/out/item").mkdir(parents=True)
    with pytest.raises(FileExistsError):
        run(source, tmp_path / "t")
    assert list((tmp_path / "t/out/item").iterdir()) == []


@pytest.mark.parametrize("what", ["replaced", "written", "shorter", "gone"])
def test_a_source_that_changes_while_it_is_read(
    source: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = source / "sub/b.bin"
    preadv = os.preadv
    done = threading.Event()

    def meddling(fd: int, buffers: list[memoryview], offset: int) -> int:
        if os.readlink(f"/proc/self/fd/{fd}") == str(source / "a.bin") and not done.is_set():
            done.set()
            if what in ("replaced", "gone"):
                path.unlink()
            if what != "gone":
                path.write_bytes(b"x" * (10 if what == "shorter" else 256 * 300))
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(reading.os, "preadv", meddling)
    with pytest.raises(CopyError) as caught:
        run(source, tmp_path / "t")
    words = {"gone": ("it vanished",)}.get(what, ("it changed", "it was replaced"))  # an inode number is used again
    assert any(w in str(caught.value) for w in words) and caught.value.path == str(path)
    assert not (tmp_path / "t/out").exists()


def test_progress_ends_at_the_total(source: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int, str]] = []

    class Listener:
        def advance(self, phase: str, done: int, total: int, name: str) -> None:
            seen.append((phase, done, total, name))

    run(source, tmp_path / "t", progress=Listener())
    phases = [p for p, *_ in seen]
    assert (
        phases == sorted(phases, reverse=True) == [*["copy"] * phases.count("copy"), *["check"] * phases.count("check")]
    )
    assert seen[-1][1] == seen[-1][2] == sum(p.size for p in survey(str(source)) if p.kind is Kind.FILE)


def test_pages_are_really_dropped(tmp_path: Path) -> None:
    """mincore sees what fadvise did; on a file system in memory nothing can be dropped, and that is said."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 20))
    fd = os.open(path, os.O_RDWR)
    try:
        assert medium.resident(fd, 1 << 20) > 0
        os.fsync(fd)
        medium.drop(fd)
        doubt = medium.doubt(str(tmp_path))
        assert (medium.resident(fd, 1 << 20) == 0) or "memory" in doubt
        assert hashlib.sha256(os.pread(fd, 1 << 20, 0)).digest() == hashlib.sha256(path.read_bytes()).digest()
    finally:
        os.close(fd)
