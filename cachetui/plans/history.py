"""history.jsonl: what this program did, one operation and root a line.

Best effort: it is for people; undo needs none of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass

from cachetui import paths
from cachetui.fs import Fs
from cachetui.plans.model import Result


@dataclass(frozen=True, slots=True)
class Record:
    """One operation on one root."""

    when: float
    """POSIX seconds."""
    verb: str
    operation: str
    targets: tuple[str, ...]
    root: str
    moved: int
    """Blocks that went to the trash, in bytes."""
    freed: int
    """Blocks that came back, in bytes."""
    ok: bool
    """True when everything asked for was done."""


def note(fs: Fs, when: float, verb: str, operation: str, results: Iterable[Result]) -> None:
    """Add what an operation did. Never raises: an operation does not fail because its note cannot be written."""
    by_root: dict[str, list[Result]] = {}
    for result in results:
        by_root.setdefault(result.root, []).append(result)
    for root, mine in by_root.items():
        done = [r for r in mine if r.done]
        if not done:
            continue
        record = Record(
            when,
            verb,
            operation,
            tuple(r.target for r in done),
            root,
            sum(r.moved for r in done),
            sum(r.freed for r in done),
            len(done) == len(mine),
        )
        with suppress(OSError):
            file = paths.history_file()
            fs.make_path(str(file.parent))
            fs.append(str(file), json.dumps(asdict(record)).encode("ascii") + b"\n")


def records() -> list[Record]:
    """What was done, newest first. Lines that make no sense are left out."""
    found: list[Record] = []
    try:
        lines = paths.history_file().read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            body = json.loads(line)
            found.append(Record(**{**body, "targets": tuple(body["targets"])}))
        except (ValueError, TypeError, KeyError):
            continue
    return found[::-1]
