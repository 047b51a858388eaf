"""Why a file is no state that can be used."""

from __future__ import annotations

MISSING = "missing"
NOT_A_STATE = "not-a-state"
PICKLE = "pickle"
DAMAGED = "damaged"
VERSION = "version"
UNREADABLE = "unreadable"


class StateError(Exception):
    """`str(error)` is the reason, without the path. Texts may hold outside strings."""

    def __init__(self, code: str, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.code = code
        """One of the constants above."""
        self.reason = reason
        self.advice = advice
        """What to do; with a command where there is one."""
