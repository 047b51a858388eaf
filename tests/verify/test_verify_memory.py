"""What was read is remembered, and only as long as it is surely the same."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from verify_world import CONFIG, Reads, Told, World, codes, flip, weights

from cachetui import paths, verify
from cachetui.demo.builders import HubRepo
from cachetui.verify import CANNOT_TELL, DAMAGED, INTACT

ITEM = "hf:org/name"
FILES = {"config.json": CONFIG, "a.safetensors": weights("a", 80_000), "b.safetensors": weights("b", 90_000)}
TOTAL = sum(map(len, FILES.values()))


@pytest.fixture
def made(world: World) -> HubRepo:
    repo = world.hub.repo("org/name")
    repo.revision(FILES)
    return repo


def largest(made: HubRepo) -> Path:
    return max((made.path / "blobs").iterdir(), key=lambda p: p.stat().st_size)


def test_the_second_run_reads_nothing(world: World, made: HubRepo) -> None:
    reads = Reads()
    first = world.one(ITEM, read_into=reads)
    assert (reads.bytes, first.read, first.remembered) == (TOTAL, TOTAL, 0)
    again = Reads()
    second = world.one(ITEM, read_into=again)
    assert (again.bytes, second.read, second.remembered, second.outcome) == (0, 0, TOTAL, INTACT)


def test_a_touched_file_is_read_again_and_no_other(world: World, made: HubRepo) -> None:
    world.one(ITEM)
    os.utime(largest(made))
    reads = Reads()
    assert world.one(ITEM, read_into=reads).remembered == TOTAL - len(FILES["b.safetensors"])
    assert reads.bytes == len(FILES["b.safetensors"])


def test_a_flipped_bit_with_the_old_mtime_is_found_by_ctime(world: World, made: HubRepo) -> None:
    world.one(ITEM)
    flip(largest(made))
    assert world.one(ITEM).outcome == DAMAGED
    again = Reads()
    assert world.one(ITEM, read_into=again).outcome == DAMAGED  # what is damaged is remembered too
    assert again.bytes == 0


def test_full_reads_everything_also_what_changed_without_any_trace(world: World, made: HubRepo) -> None:
    world.one(ITEM)
    path = largest(made)
    flip(path)
    with sqlite3.connect(paths.verified_file()) as db:  # as if the drive had lost it: not even ctime knows
        db.execute("UPDATE hashed SET ctime_ns=? WHERE ino=?", (path.stat().st_ctime_ns, path.stat().st_ino))
    assert world.one(ITEM).outcome == INTACT
    reads = Reads()
    assert world.one(ITEM, full=True, read_into=reads).outcome == DAMAGED
    assert reads.bytes == TOTAL
    assert world.one(ITEM).outcome == DAMAGED  # and the memory knows now


def test_after_a_year_it_is_read_again(world: World, made: HubRepo) -> None:
    world.one(ITEM)
    with sqlite3.connect(paths.verified_file()) as db:
        db.execute("UPDATE hashed SET at = at - 366*86400")
    reads = Reads()
    world.one(ITEM, read_into=reads)
    assert reads.bytes == TOTAL


def test_hard_links_and_shared_layers_are_read_once(world: World, made: HubRepo) -> None:
    other = world.hub.repo("org/twin")
    other.revision(FILES)
    for path in (other.path / "blobs").iterdir():
        path.unlink()
        os.link(made.path / "blobs" / path.name, path)
    reads = Reads()
    found = world.check(read_into=reads)
    assert {v.outcome for v in found.values()} == {INTACT}
    assert reads.bytes == TOTAL
    assert sorted(v.read for v in found.values()) == [0, TOTAL]


@pytest.mark.parametrize("damage", [b"", b"not a database at all" * 500, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_memory_is_said_and_started_anew(world: World, made: HubRepo, damage: bytes) -> None:
    world.one(ITEM)
    paths.verified_file().write_bytes(damage)
    notes: list[str] = []
    reads = Reads()
    assert world.one(ITEM, read_into=reads, note=notes.append).outcome == INTACT
    assert reads.bytes == TOTAL
    assert bool(notes) is bool(damage)
    assert world.one(ITEM).read == 0


def test_a_locked_memory_is_said_and_nothing_waits_for_it(
    world: World, made: HubRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachetui.verify.memory._WAIT", 0.05)
    world.one(ITEM)
    db = sqlite3.connect(paths.verified_file(), isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    notes: list[str] = []
    assert world.one(ITEM, note=notes.append).outcome == INTACT
    assert "locked" in notes[0]
    db.execute("ROLLBACK")
    assert world.one(ITEM).read == 0


def test_a_memory_of_another_shape_is_started_anew(world: World, made: HubRepo) -> None:
    file = paths.verified_file()
    file.parent.mkdir(parents=True)
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE hashed (something TEXT)")
    notes: list[str] = []
    assert world.one(ITEM, note=notes.append).outcome == INTACT
    assert notes


def test_nobody_else_may_read_the_memory(world: World, made: HubRepo) -> None:
    world.one(ITEM)
    assert paths.verified_file().stat().st_mode & 0o077 == 0


def test_progress_counts_bytes_to_the_end(world: World, made: HubRepo) -> None:
    told = Told()
    world.one(ITEM, progress=told)
    bytes_ = [(done, total) for phase, done, total, _ in told.calls if phase == "verify"]
    assert bytes_[-1] == (TOTAL, TOTAL)
    assert bytes_ == sorted(bytes_)
    assert told.calls[0][0] == "look"


def test_cancelling_keeps_what_was_read(world: World, made: HubRepo) -> None:
    for n in range(6):
        world.hub.repo(f"org/r{n}").revision({"m.safetensors": weights(f"r{n}", 3_000_000)})
    reads = Reads()
    verdicts = {}
    scan = world.scan()
    for verdict in verify.check(scan, scan.items, read_into=reads, cancelled=lambda: reads.bytes > 9_000_000):
        verdicts[verdict.target] = verdict
    assert 0 < len(verdicts) < 7
    assert {v.outcome for v in verdicts.values()} == {INTACT}
    rest = Reads()
    assert len(world.check(read_into=rest)) == 7
    assert rest.bytes < 18_000_000 + TOTAL
    assert rest.bytes <= 18_000_000 + TOTAL - sum(v.read for v in verdicts.values()) + 1000


def test_what_is_bad_already_is_told_when_cancelled(
    world: World, made: HubRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachetui.verify.disks.readers", lambda: 2)
    bad = largest(made)
    flip(bad)
    made.revision({**FILES, "z.safetensors": weights("z", 8_000_000)}, commit="f" * 40)
    told, slow, ino = threading.Event(), threading.Event(), bad.stat().st_ino

    def read_into(fd: int, buffers: Sequence[memoryview], offset: int, /) -> int:
        if os.fstat(fd).st_size > 1_000_000 and offset:
            told.wait(20)  # the large file is not at its end before the bad one is
            time.sleep(0.05)
            slow.set()
        count = os.preadv(fd, buffers, offset)
        if os.fstat(fd).st_ino == ino:
            told.set()
        return count

    scan = world.scan()
    mine = [i for i in scan.items if i.id == ITEM]
    (verdict,) = verify.check(scan, mine, read_into=read_into, cancelled=slow.is_set)
    assert (codes(verdict), verdict.partly, verdict.outcome) == (["hash"], True, DAMAGED)


def test_closing_early_stops_the_readers(world: World, made: HubRepo) -> None:
    for n in range(4):
        world.hub.repo(f"org/r{n}").revision({"m.safetensors": weights(f"r{n}", 4_000_000)})
    reads = Reads()
    scan = world.scan()
    run = verify.check(scan, scan.items, read_into=reads)
    next(run)
    run.close()  # type: ignore[attr-defined]
    before = reads.bytes
    assert not [t for t in threading.enumerate() if t.name == "verify"]
    assert reads.bytes == before


def test_without_permission_it_cannot_be_told(world: World, made: HubRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:

        def denied(path: str) -> int:
            raise PermissionError(errno.EACCES, "Permission denied", path)

        monkeypatch.setattr("cachetui.verify.reading.open_regular", denied)  # root may read everything
    else:
        largest(made).chmod(0)
    verdict = world.one(ITEM)
    assert verdict.outcome == CANNOT_TELL
    assert set(codes(verdict)) == {"no-permission"}
