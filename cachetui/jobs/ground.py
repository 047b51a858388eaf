"""What one writer at a time may write to: the drives that paths are on now, however they are spelled."""

from __future__ import annotations

import os
from collections.abc import Iterable

from cachetui import afar, filesystem


def drive_of(path: str) -> str:
    """The mount point that a path, which need not exist yet, is on."""
    found = filesystem.mount_of(os.path.realpath(path))
    return found.point if found is not None else os.sep


def of(paths: Iterable[str]) -> frozenset[str]:
    """Mount points and devices that these absolute paths, which need not exist yet, are on. Never raises.

    Both, for one drive may be mounted at two places, and one mount may show several devices (btrfs).
    """
    found: set[str] = set()
    for path in paths:
        if afar.is_silent(path):
            found.add(path)
            continue
        real = os.path.realpath(path)
        found.add(drive_of(real))
        device = _device(real)
        found |= {device} if device else set()
    return frozenset(found)


def _device(path: str) -> str:
    """`dev:N` of the nearest folder that exists; empty where none can be asked."""
    while True:
        try:
            return f"dev:{os.stat(path).st_dev}"
        except (FileNotFoundError, NotADirectoryError):
            above = os.path.dirname(path)
            if above == path:
                return ""
            path = above
        except (OSError, ValueError):
            return ""
