"""What the user and we remember about items: pins, and when a model was last seen in use.

Pins are promises: a pins file that cannot be read never means "nothing is pinned"; until it is mended, everything
is. The usage log is a help: what cannot be read of it is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from cachetui import paths
from cachetui.fs import DISK, Fs
from cachetui.ledger import Scan
from cachetui.model import PINNED, Item
from cachetui.ownfile import OwnFile

Key = tuple[str, str]


class MarksError(Exception):
    """The pins cannot be read or written; the message names the file and what to do."""


@dataclass(frozen=True)
class Marks:
    """Pins and usage log, as they were when loaded. Keys are (root, id)."""

    pins: frozenset[Key] = frozenset()
    used: dict[Key, float] = field(default_factory=dict)
    """When each was last seen in use, POSIX seconds."""
    unknown: str = ""
    """Why the pins could not be read, and what to do; outside strings in it."""

    @classmethod
    def load(cls) -> Marks:
        """Of this user. Raises MarksError when the pins file is there and cannot be used."""
        return cls(frozenset(_read_pins(paths.pins_file())), _read_usage(paths.usage_file()))

    @classmethod
    def cautious(cls) -> Marks:
        """Of this user, to look at things with: when the pins cannot be read, `unknown` says so and all are pinned."""
        try:
            return cls.load()
        except MarksError as e:
            return cls(used=_read_usage(paths.usage_file()), unknown=str(e))

    def apply(self, item: Item) -> Item:
        """The item with state PINNED if it is, and `last_used` the newer of its atime and our log."""
        if self.unknown or item.key in self.pins:
            item = item.with_states(PINNED)
        used = self.used.get(item.key)
        if used is not None and (item.last_used is None or used > item.last_used):
            item = replace(item, last_used=used)
        return item

    def apply_scan(self, scan: Scan) -> Scan:
        """The scan with every item marked."""
        if not self.pins and not self.used and not self.unknown:
            return scan
        return replace(scan, roots=tuple(replace(r, items=tuple(self.apply(i) for i in r.items)) for r in scan.roots))


def pin(items: Iterable[Item], *, fs: Fs = DISK) -> Marks:
    """Protect items from bulk actions; the marks as they are now. Raises MarksError."""
    return _change_pins({i.key for i in items}, set(), fs)


def unpin(items: Iterable[Item], *, fs: Fs = DISK) -> Marks:
    """Take the protection away; the marks as they are now. Raises MarksError."""
    return _change_pins(set(), {i.key for i in items}, fs)


def record_use(items: Iterable[Item], when: float, *, fs: Fs = DISK) -> None:
    """Remember that these were seen in use. Raises OSError; callers for whom it is a side matter let it pass."""
    file = paths.usage_file()
    with OwnFile(file, fs) as folder:
        used = _read_usage(file)
        for item in items:
            used[item.key] = max(when, used.get(item.key, when))
        lines = [json.dumps({"root": root, "id": id_, "when": at}) + "\n" for (root, id_), at in used.items()]
        folder.write("".join(lines))


def _change_pins(add: set[Key], remove: set[Key], fs: Fs) -> Marks:
    file = paths.pins_file()
    try:
        with OwnFile(file, fs) as folder:
            before = _read_pins(file)
            pins = [key for key in before if key not in remove]
            pins += sorted(add - set(before))
            if pins != before:
                rows = [{"root": root, "id": id_} for root, id_ in pins]
                folder.write(json.dumps(rows, indent=1) + "\n")
    except OSError as e:
        raise MarksError(f"{file}: pins cannot be saved: {e.strerror or e}") from e
    return Marks(frozenset(pins), _read_usage(paths.usage_file()))


def _read_pins(file: Path) -> list[Key]:
    try:
        rows = json.loads(file.read_bytes())
        if not isinstance(rows, list):
            raise TypeError(f"a list was expected, not {type(rows).__name__}")
        return list(dict.fromkeys((_text(row["root"]), _text(row["id"])) for row in rows))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as e:
        raise MarksError(
            f"{file}: the list of pins cannot be read ({type(e).__name__}: {e}), so what you protected is not known; "
            "correct the file, or move it away to start without pins"
        ) from e


def _read_usage(file: Path) -> dict[Key, float]:
    used: dict[Key, float] = {}
    try:
        lines = file.read_bytes().splitlines()
    except OSError:
        return used
    for line in lines:
        try:
            row = json.loads(line)
            key, when = (_text(row["root"]), _text(row["id"])), float(row["when"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        used[key] = max(when, used.get(key, when))
    return used


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a string was expected, not {value!r}")
    return value
