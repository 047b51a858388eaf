"""Why a download cannot go on, in words for people."""

from __future__ import annotations

import errno

# Values of `PullError.code`.
OFFLINE, UNREACHABLE, NO_REPO, NO_REVISION, NO_FILE, GATED, DENIED, BUSY, SERVER = (
    "offline", "unreachable", "no-repo", "no-revision", "no-file", "gated", "denied", "busy", "server",
)  # fmt: skip
CONTENT, NO_ROOM, NO_RANGES, STALLED, USAGE = "content", "no-room", "no-ranges", "stalled", "usage"


class PullError(Exception):
    """It cannot be done: why, and what to do about it. Both may hold outside strings; neither ever holds a token."""

    def __init__(self, code: str, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.advice = advice


class PullCancelled(Exception):
    """It stopped because it was asked to; what came so far stays and is used next time."""


def no_room(error: OSError) -> Exception:
    """A full disk in words for people; other errors as they are."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return PullError(
        NO_ROOM,
        "the disk is full",
        "make room (cachetui shows what could go) and start it again: it goes on where it stopped",
    )
