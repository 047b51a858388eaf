"""Sizes and times: decimal as hf and ollama print them, and read back as people write them."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachetui import units

GB, GIB, DAY = 10**9, 2**30, 86400


@pytest.mark.parametrize(
    ("count", "decimal", "binary"),
    [
        (0, "0 B", "0 B"),
        (999, "999 B", "999 B"),
        (1000, "1.0 kB", "1000 B"),
        (1024, "1.0 kB", "1.0 KiB"),
        (16_400_000_000, "16.4 GB", "15.3 GiB"),
        (1_280_000_000_000, "1.3 TB", "1.2 TiB"),
        (-5, "-5 B", "-5 B"),
    ],
)
def test_sizes_for_people(count: int, decimal: str, binary: str) -> None:
    assert units.size(count) == decimal
    assert units.size(count, binary=True) == binary


@pytest.mark.parametrize(
    ("text", "count"),
    [("10GB", 10 * GB), ("10 gb", 10 * GB), ("1.5GiB", GIB * 3 // 2), ("300M", 3 * 10**8), ("42", 42), ("42 B", 42),
     ("1k", 1000), ("1KiB", 1024), (".5T", 5 * 10**11), ("2PB", 2 * 10**15)],
)  # fmt: skip
def test_sizes_as_people_write_them(text: str, count: int) -> None:
    assert units.parse_size(text) == count


@pytest.mark.parametrize(
    "text", ["", "GB", "ten GB", "1XB", "-1GB", "1..2GB", "1 GB 2", "1e400GB", "9" * 500 + "GB", "\x1b[2J"]
)
def test_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        units.parse_size(text)


@given(st.integers(0, 10**18), st.booleans())
def test_a_printed_size_reads_back_within_its_rounding(count: int, binary: bool) -> None:
    shown = units.size(count, binary=binary)
    assert units.parse_size(shown) == pytest.approx(count, rel=0.06)


@pytest.mark.parametrize(
    ("ago", "shown"),
    [(0, "now"), (59, "now"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (DAY, "1 d"), (59 * DAY, "59 d"),
     (60 * DAY, "2 mo"), (729 * DAY, "24 mo"), (730 * DAY, "2 y"), (-3600, "now")],
)  # fmt: skip
def test_ages_for_a_column(ago: float, shown: str) -> None:
    assert units.age(1_700_000_000 - ago, 1_700_000_000) == shown


def test_no_time_is_never_and_null() -> None:
    assert units.age(None) == "never"
    assert units.iso(None) is None


@given(st.floats(0, 4e9))
def test_times_are_iso_with_offset_and_read_back(when: float) -> None:
    text = units.iso(when)
    assert text is not None
    back = dt.datetime.fromisoformat(text)
    assert back.tzinfo is not None
    assert back.timestamp() == pytest.approx(when, abs=1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 30 * DAY), ("6mo", 180 * DAY), ("2w", 14 * DAY), ("1y", 365 * DAY), ("12h", 12 * 3600), ("5min", 300),
     ("5m", 300), ("90s", 90), ("1.5 d", 1.5 * DAY), ("3 days", 3 * DAY), ("2 months", 60 * DAY), ("1 year", 365 * DAY),
     ("10 sec", 10), ("6 minutes", 360), ("2 weeks", 14 * DAY)],
)  # fmt: skip
def test_ages_as_people_write_them(text: str, seconds: float) -> None:
    assert units.parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "six months", "-1d", "1q", "1d2", "6moo", "1dog"])
def test_no_age(text: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        units.parse_age(text)
