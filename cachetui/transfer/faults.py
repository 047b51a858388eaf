"""What can go wrong while copying, in words: which file, why, and what to do."""

from __future__ import annotations

import errno
import os

from cachetui.text import safe

AGAIN = "run the same command again: it goes on where it stopped"
GONE = frozenset((errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTCONN, errno.ESHUTDOWN, errno.EHOSTDOWN))
NOT_KEPT = frozenset((errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL))
"""What a file system says that has no owners, modes, links or attributes."""

_TARGET: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the drive is full", f"make room on it, then {AGAIN}"),
    errno.EDQUOT: ("the quota on the drive is used up", f"make room there, then {AGAIN}"),
    errno.EROFS: ("the drive is read-only now", f"see why (dmesg), make it writable, then {AGAIN}"),
    errno.EIO: ("the drive reports an error", f"check its cable and its health before trusting it, then {AGAIN}"),
    errno.EFBIG: ("the file is too large for that file system", "take a drive with another one, e.g. ext4 or exFAT"),
    errno.EACCES: ("you may not write there", f"see who owns that folder, then {AGAIN}"),
    errno.EPERM: ("the system does not allow that there", f"see how the drive is mounted, then {AGAIN}"),
    errno.ENAMETOOLONG: ("that file system does not take so long a name", "take a drive with another file system"),
    errno.EILSEQ: ("that file system does not take such a name", "take a drive with another file system"),
    errno.EINVAL: ("that file system does not take such a name or call", "take a drive with another file system"),
}
_SOURCE: dict[int, tuple[str, str]] = {
    errno.ENOENT: ("it vanished while it was copied", "look again at what is there, then try again"),
    errno.EIO: ("it cannot be read: the drive it lies on reports an error", "verify the item to see what is damaged"),
    errno.EACCES: ("you may not read it", "see who owns it"),
    errno.EPERM: ("you may not read it", "see who owns it"),
}
_GONE = ("the drive is not there any more", f"plug it in again, then {AGAIN}")


class CancelledError(Exception):
    """The user cancelled. What was copied so far stays in the staging folder, and a later run goes on there."""


class CopyError(OSError):
    """A copy stopped. Nothing was published, nothing of the source was touched; `str` is the whole sentence."""

    def __init__(self, code: int, why: str, path: str, advice: str) -> None:
        super().__init__(code, why, path)
        self.why = why
        self.path = path
        """Of the file, as it was surveyed or within the copy."""
        self.advice = advice

    def __str__(self) -> str:
        return f"{safe(self.path)}: {self.why}; {self.advice}"


def at_target(error: OSError, path: str) -> CopyError:
    """An error of the drive that is written to."""
    return _explain(error, path, _TARGET)


def at_source(error: OSError, path: str) -> CopyError:
    """An error of what is read."""
    return _explain(error, path, _SOURCE)


def changed(path: str, how: str = "it changed while it was copied") -> CopyError:
    """A source that is not any more what was surveyed."""
    return CopyError(errno.EBUSY, how, path, "wait until nothing writes to it, then try again")


def gone(path: str) -> CopyError:
    """The drive that was written to is no longer at its place."""
    return CopyError(errno.ENODEV, _GONE[0], path, _GONE[1])


def _explain(error: OSError, path: str, table: dict[int, tuple[str, str]]) -> CopyError:
    if isinstance(error, CopyError):
        return error
    code = error.errno or errno.EIO
    said = (error.strerror or os.strerror(code)).lower()
    why, advice = _GONE if code in GONE else table.get(code, (said, AGAIN))
    return CopyError(code, why, path, advice)
