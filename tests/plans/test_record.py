"""The journal's file: torn writes, remains of earlier use, strangers' content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachetui.fs import DISK
from cachetui.plans.model import Identity, TrashedItem
from cachetui.plans.record import RESERVED, Act, Intent, Move, Record, State, reserve

NAME = os.fsdecode(b"bad\xff\n\x1b name")


def intent(operation: str = "one", moves: int = 3) -> Intent:
    was = Identity(1, 2, "dir", 3, 4)
    return Intent(
        operation=operation,
        act=Act.DELETE,
        root="/root",
        relative="..",
        store="hf",
        when=1.5,
        by="me@here",
        items=(TrashedItem(0, "hf:a", NAME, 1, 2, 3), TrashedItem(1, "hf:b", "b", 1, 2, 3)),
        homes=("", ""),
        moves=tuple(Move(n % 2, f"{NAME}/{n}", str(n), was, 1, False, (0,) if n else ()) for n in range(moves)),
    )


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """A reserved record file."""
    made = os.open(tmp_path / "record", os.O_RDWR | os.O_CREAT)
    reserve(DISK, made)
    yield made
    os.close(made)


def test_what_is_written_is_read(fd: int) -> None:
    assert os.fstat(fd).st_blocks * 512 >= RESERVED and Record.read(fd).state is State.FREE
    record = Record.read(fd)
    record.begin(DISK, intent())
    assert Record.read(fd).state is State.DELETING and Record.read(fd).intent == intent()
    record.append(DISK, "done", (0, 1))
    record.append(DISK, "restore", (1,), ["a"], ["0"])
    now = Record.read(fd)
    assert (now.state, now.present, now.pending) == (State.RESTORING, {0, 1}, {1})
    assert (now.folders, now.linked) == (("a",), ("0",))
    record.append(DISK, "restored", (1,))
    assert (Record.read(fd).state, Record.read(fd).present) == (State.TRASHED, {0})
    assert os.fstat(fd).st_size == RESERVED


def test_a_long_record_grows(fd: int) -> None:
    record = Record.read(fd)
    record.begin(DISK, intent(moves=2000))
    record.append(DISK, "done", (0, 1))
    assert Record.read(fd).state is State.TRASHED and len(Record.read(fd).intent.moves) == 2000  # type: ignore[union-attr]


def test_lines_of_an_earlier_use_are_not_taken(fd: int) -> None:
    """Both operations have records of equal length, so that an old line stands exactly where a new one would."""
    first = Record.read(fd)
    first.begin(DISK, intent("one", moves=60))
    first.append(DISK, "done", (0, 1))
    first.clear(DISK)
    assert Record.read(fd).state is State.FREE
    second = Record.read(fd)
    second.begin(DISK, intent("two", moves=60))
    assert Record.read(fd).state is State.DELETING


def test_a_line_that_could_not_be_synced_can_be_voided(fd: int) -> None:
    record = Record.read(fd)
    record.begin(DISK, intent())
    end, count = record._end, record._count
    record.append(DISK, "done", (0, 1))
    record._end, record._count = end, count  # what a failed fsync leaves in memory
    record.append(DISK, "undone")
    assert Record.read(fd).state is State.DELETING and Record.read(fd).present == {0, 1}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_damage_ends_the_record_and_raises_nothing(data: st.DataObject) -> None:
    """Whatever a torn write leaves, what is read is a beginning of what was written."""
    with TemporaryDirectory() as folder:
        made = os.open(Path(folder, "record"), os.O_RDWR | os.O_CREAT)
        try:
            record = Record.read(made)
            record.begin(DISK, intent())
            record.append(DISK, "done", (0, 1))
            whole = os.pread(made, 1 << 16, 0)
            at = data.draw(st.integers(0, len(whole) - 1))
            junk = data.draw(st.binary(max_size=40))
            os.pwrite(made, junk, at)
            if data.draw(st.booleans()):
                os.ftruncate(made, at + len(junk))
            found = Record.read(made)
            assert found.state in (State.FREE, State.DELETING, State.TRASHED)
            assert found.intent in (None, intent())
        finally:
            os.close(made)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_content_is_read_without_raising(raw: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "record")
        path.write_bytes(raw)
        made = os.open(path, os.O_RDONLY)
        try:
            assert Record.read(made).state is State.FREE
        finally:
            os.close(made)
