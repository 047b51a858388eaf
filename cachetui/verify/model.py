"""What verifying says: a verdict for each item, with what was found and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

INTACT, DAMAGED, INCOMPLETE, CANNOT_TELL = "intact", "damaged", "incomplete", "cannot-tell"
OUTCOMES = (DAMAGED, INCOMPLETE, CANNOT_TELL, INTACT)
"""Worst first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it ought to be, or cannot be told."""

    path: str
    """Absolute path it is about."""
    code: str
    """Stable kebab-case name: hash, size, missing, unreadable-data, structure, no-hash, changed ..."""
    message: str
    """What was found, in words; may hold outside strings."""
    offer: str = ""
    """What can be done about it, in words: a command, or what --repair would take. May hold outside strings."""
    outcome: str = CANNOT_TELL
    """What it makes of the item: damaged, incomplete or cannot-tell."""
    name: str = ""
    """What programs call the file, where it is one."""
    copy: str = ""
    """Absolute path of other content that ought to be the same, from which it can be repaired; empty for none."""
    algorithm: str = ""
    digest: str = ""
    """The hash it ought to have, where that is what it was judged by."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one item. Sizes in bytes."""

    target: str
    """`Item.id`."""
    root: str
    outcome: str
    """intact, damaged, incomplete or cannot-tell."""
    findings: tuple[Finding, ...] = ()
    read: int = 0
    """Bytes read for it in this run; what several items share is counted with the first."""
    remembered: int = 0
    """Bytes whose hash was known from an earlier run, and that have not changed since."""
    files: int = 0
    """Files that were compared with a hash."""
    partly: bool = False
    """Cancelled before the end: what was found so far, for it is damaged anyway."""


class Progress(Protocol):
    """Who listens. Called from several threads, one at a time, at most some twenty times a second."""

    def advance(self, phase: str, done: int, total: int, name: str) -> None:
        """`phase` is look (items) or verify (bytes); `name` is an outside string."""
