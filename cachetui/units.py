"""Sizes and times for people. Decimal units as hf and ollama print them, unless asked for binary ones."""

from __future__ import annotations

import datetime as dt
import re
import time

import humanize

_MAX_DIGITS = 40
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15, "e": 10**18}
_BINARY = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50, "e": 2**60}
_SIZE = re.compile(r"([0-9]*\.?[0-9]+)\s*([kmgtpe]?)(i?)b?", re.IGNORECASE)
_AGE = re.compile(r"([0-9]*\.?[0-9]+)\s*([a-z]+)", re.IGNORECASE)
_SECONDS = {
    word: seconds
    for seconds, words in (
        (1, "s sec secs second seconds"),
        (60, "m min mins minute minutes"),
        (3600, "h hour hours"),
        (86400, "d day days"),
        (7 * 86400, "w week weeks"),
        (30 * 86400, "mo month months"),
        (365 * 86400, "y year years"),
    )
    for word in words.split()
}


def size(count: int, *, binary: bool = False) -> str:
    """Bytes for people: `16.4 GB`, or `15.3 GiB` with `binary`. Below 1 kB: `812 B`."""
    if abs(count) < (1024 if binary else 1000):
        return f"{count} B"
    return humanize.naturalsize(count, binary=binary, format="%.1f")


def age(when: float | None, now: float | None = None) -> str:
    """How long ago, short enough for a column: `now`, `5 min`, `3 h`, `12 d`, `7 mo`, `2 y`; `never` for None."""
    if when is None:
        return "never"
    seconds = (time.time() if now is None else now) - when
    for limit, unit, name in (
        (60, 1, ""),
        (3600, 60, "min"),
        (86400, 3600, "h"),
        (60 * 86400, 86400, "d"),
        (730 * 86400, 30 * 86400, "mo"),
    ):
        if seconds < limit:
            return f"{int(seconds // unit)} {name}" if name else "now"
    return f"{int(seconds // (365 * 86400))} y"


def iso(when: float | None) -> str | None:
    """POSIX seconds as ISO 8601 with the local offset, to the second; None stays None."""
    if when is None:
        return None
    return dt.datetime.fromtimestamp(when, dt.UTC).astimezone().isoformat(timespec="seconds")


def parse_size(text: str) -> int:
    """`10GB`, `1.5 GiB`, `300M`, `42` in bytes. Raises ValueError with what is allowed."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or len(text) > _MAX_DIGITS:
        raise ValueError(f"not a size: {text!r}; write it like 10GB, 300M or 1.5GiB")
    number, unit, binary = match.groups()
    return int(float(number) * (_BINARY if binary else _UNITS)[unit.lower()])


def parse_age(text: str) -> float:
    """`6mo`, `30d`, `2w`, `1y`, `12h` in seconds. Raises ValueError with what is allowed."""
    match = _AGE.fullmatch(text.strip())
    seconds = _SECONDS.get(match[2].lower()) if match is not None else None
    if match is None or seconds is None:
        raise ValueError(f"not an age: {text!r}; write it like 12h, 30d, 2w, 6mo or 1y")
    return float(match[1]) * seconds
