"""What a file system can do that block counts do not show."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_SHARING = frozenset((b"btrfs", b"xfs", b"bcachefs", b"zfs", b"ocfs2", b"apfs"))
"""File systems on which `cp --reflink` (clonefile) makes two files share their extents."""


def shares_extents(dev: int) -> bool:
    """Whether files on this device may share extents, so that what a deletion frees is an upper bound."""
    if sys.platform == "darwin":
        return True
    wanted = b"%d:%d" % (os.major(dev), os.minor(dev)) if hasattr(os, "major") else b""
    try:
        with _MOUNTS.open("rb") as info:
            for line in info:
                fields, _, rest = line.partition(b" - ")
                if fields.split()[2] == wanted:
                    return rest.split()[0] in _SHARING
    except (OSError, IndexError):
        return False
    return _anonymous(wanted)


def _anonymous(device: bytes) -> bool:
    """Btrfs gives each subvolume a device number of its own, major 0, that the mount table does not list."""
    if not device.startswith(b"0:"):
        return False
    try:
        with _MOUNTS.open("rb") as info:
            return any(line.partition(b" - ")[2].startswith(b"btrfs ") for line in info)
    except OSError:
        return False
