"""The journal of a partial: only what was made durable is believed, whatever else lies there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachetui.download.partial import JOURNAL, SUFFIX, Partial, peek
from cachetui.download.ranges import Ranges
from cachetui.fs import DISK, open_dir

SIZE = 1000
pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=25)


@given(pairs)
def test_ranges_are_sets_of_bytes(added: list[tuple[int, int]]) -> None:
    found, wanted = Ranges(added), {n for a, b in added for n in range(a, b)}
    assert {n for a, b in found for n in range(a, b)} == wanted and found.total == len(wanted)
    assert found.front() == next(n for n in range(62) if n not in wanted)
    assert {n for a, b in found.gaps(60) for n in range(a, b)} == set(range(60)) - wanted


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = open_dir(str(tmp_path))
    yield fd
    os.close(fd)


def opened(folder: int, content: str = "x", size: int = SIZE) -> Partial:
    return Partial(DISK, folder, "x", size, content)


def test_what_is_durable_is_there_again(folder: int, tmp_path: Path) -> None:
    first = opened(folder)
    first.write(memoryview(b"a" * 100), 0)
    first.write(memoryview(b"b" * 100), 500)
    first.commit(0, 100)
    first.remember('"tag"')
    first.close()
    assert peek(str(tmp_path), "x", SIZE) == 100, "what was only written is not believed"
    again = opened(folder)
    assert list(again.durable) == [(0, 100)] and again.tag == '"tag"'
    again.close()


@pytest.mark.parametrize("how", ["content", "size", "data cut", "journal cut", "journal garbage", "link", "hard link"])
def test_what_does_not_fit_is_started_over(folder: int, tmp_path: Path, how: str) -> None:
    first = opened(folder)
    first.write(memoryview(b"a" * 100), 0)
    first.commit(0, 100)
    first.close()
    data, journal = tmp_path / f"x{SUFFIX}", tmp_path / f"x{JOURNAL}"
    content, size, expected = "x", SIZE, 0
    if how == "content":
        content = "y"
    elif how == "size":
        size = 999
    elif how == "data cut":
        os.truncate(data, 50)
    elif how == "journal cut":
        journal.write_bytes(journal.read_bytes()[:-3])
    elif how == "journal garbage":
        journal.write_bytes(b"\0" * 500)
    elif how == "link":
        data.rename(tmp_path / "other")
        data.symlink_to(tmp_path / "other")
    else:
        os.link(data, tmp_path / "second")
    again = opened(folder, content, size)
    assert again.durable.total == expected
    again.close()
    if how in ("link", "hard link"):
        assert (tmp_path / ("other" if how == "link" else "second")).read_bytes()[:100] == b"a" * 100


def test_a_disk_that_fails_wakes_who_waits(folder: int) -> None:
    partial = opened(folder)
    os.close(partial.fd)
    partial.fd = os.open("/dev/null", os.O_WRONLY)
    partial._fs = Failing()
    with pytest.raises(OSError, match="gone"):
        for n in range(20):
            partial.commit(n, n + 1, before=(n - 1, n) if n else None)


class Failing(type(DISK)):  # type: ignore[misc]
    def fsync(self, fd: int) -> None:
        raise OSError(5, "gone")
