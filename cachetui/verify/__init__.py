"""Verifying: is the content what it ought to be? Offline, remembering what it read, at the disk's speed."""

from cachetui.verify.checking import check
from cachetui.verify.model import (
    CANNOT_TELL,
    DAMAGED,
    INCOMPLETE,
    INTACT,
    OUTCOMES,
    Finding,
    Progress,
    Verdict,
)

__all__ = [
    "CANNOT_TELL",
    "DAMAGED",
    "INCOMPLETE",
    "INTACT",
    "OUTCOMES",
    "Finding",
    "Progress",
    "Verdict",
    "check",
]
