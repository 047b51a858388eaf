"""Reasons to ask again before an item goes (I8): in use, locked, being written."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from cachetui import inuse
from cachetui.fs import open_below, open_dir
from cachetui.model import PARTIALS, Item
from cachetui.plans.model import IN_USE, LOCKED, UNCHECKED, YOUNG, Caution

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FRESH_SECONDS = 3600
_LOCK_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)

Users = Mapping[tuple[str, str], tuple[inuse.User, ...]]


def of(item: Item, users: Users) -> tuple[Caution, ...]:
    """What to ask about one item."""
    found: list[Caution] = []
    who = users.get(item.key, ())
    known = [u for u in who if u != inuse.Unchecked]
    if known:
        names = ", ".join(f"{u.name} ({u.pid}, {u.how})" if u.pid else u.name for u in known)
        found.append(Caution(IN_USE, f"in use by {names}"))
    elif who:
        found.append(Caution(UNCHECKED, "whether another user's program has it open could not be checked"))
    if item.store == "hf" and is_locked(item):
        found.append(Caution(LOCKED, "a download of it is running: its lock is held"))
    if is_young(item):
        found.append(Caution(YOUNG, "a partial download in it was written less than an hour ago"))
    return tuple(found)


def is_young(item: Item, now: float | None = None) -> bool:
    """Whether a partial download of the item may still be running."""
    now = time.time() if now is None else now
    content = item.content
    partial = {i for part in item.parts if part.commit == PARTIALS for i in part.index if i >= 0}
    if item.kind == "partial":
        partial = set(range(len(content)))
    return any(content[i].mtime > now - FRESH_SECONDS for i in partial)


def is_locked(item: Item) -> bool:
    """Whether a process holds a lock that huggingface_hub (file_download.py) takes for a file of this repo."""
    if fcntl is None:
        return False
    try:
        root = open_dir(item.root)
    except OSError:
        return False
    try:
        folder = open_below(root, f".locks/{item.path}")
    except OSError:
        return False
    finally:
        os.close(root)
    try:
        return any(_held(folder, name) for name in os.listdir(folder) if name.endswith(".lock"))
    except OSError:
        return False
    finally:
        os.close(folder)


def _held(folder: int, name: str) -> bool:
    with suppress(OSError):
        fd = os.open(name, _LOCK_READ, dir_fd=folder)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
    return False


def unchecked(cautions: Sequence[Caution]) -> bool:
    """Whether one of them says that it could not be checked who uses the item."""
    return any(c.code == UNCHECKED for c in cautions)
