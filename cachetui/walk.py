"""Reading folders: one pass, by descriptor, following no link, opening nothing but folders and small regular files.

What a hostile disk can do is bounded here: FIFOs and devices are never opened, small files are read with
O_NOFOLLOW|O_NONBLOCK and a byte cap (I3, I13), atimes are left alone where the system allows (O_NOATIME).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from cachetui.model import Blob, Problem

MAX_DEPTH = 200
MAX_SMALL = 1 << 20
HAS_SCANDIR_FD = os.scandir in os.supports_fd
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_READ = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | _CLOEXEC | getattr(os, "O_BINARY", 0)
_READ_DIR = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_DIRECTORY", 0) | _CLOEXEC
_NOATIME = getattr(os, "O_NOATIME", 0)


def allocated(st: os.stat_result) -> int:
    """Bytes of disk blocks: st_blocks * 512; where the system does not tell, the size in 4 KiB pages."""
    blocks = getattr(st, "st_blocks", None)
    return int(blocks) * 512 if blocks is not None else -(-st.st_size // 4096) * 4096


def blob(path: str, st: os.stat_result) -> Blob:
    """The record of one file."""
    return Blob(path, st.st_dev, st.st_ino, st.st_size, allocated(st), st.st_nlink, st.st_mtime)


def open_regular(name: str, *, dir_fd: int | None = None) -> int:
    """A descriptor of a regular file, to read: no link is followed, nothing blocks, no atime moves where we may.

    Raises OSError, also for a link, FIFO, device or folder.
    """
    try:
        fd = os.open(name, _READ | _NOATIME, dir_fd=dir_fd)
    except PermissionError:
        if not _NOATIME:
            raise
        fd = os.open(name, _READ, dir_fd=dir_fd)  # O_NOATIME is for the owner only
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", name)
    return fd


def read_small(name: str, cap: int = MAX_SMALL, *, dir_fd: int | None = None) -> bytes:
    """The first `cap` bytes of a regular file, without following a link, blocking, or (where we may) touching atime.

    Raises OSError; a link, FIFO, device or folder is an OSError too. A file longer than `cap` is cut.
    """
    fd = open_regular(name, dir_fd=dir_fd)
    try:
        st = os.fstat(fd)
        chunks: list[bytes] = []
        left = cap
        while left > 0 and (chunk := os.read(fd, min(left, max(st.st_size, 4096)))):
            chunks.append(chunk)
            left -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


@dataclass
class Tally:
    """What lies below a folder. Paths are relative to the root the walk was told of."""

    files: list[Blob] = field(default_factory=list)
    """Regular files."""
    links: list[tuple[str, str]] = field(default_factory=list)
    """Symbolic links: (path, target as written)."""
    overhead: int = 0
    """Allocated bytes of folders, links and special files."""
    last_used: float | None = None
    """Newest atime of a regular file."""
    problems: list[Problem] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    """Folders not entered because they are roots of their own."""
    blind: list[str] = field(default_factory=list)
    """Folders that could not be read."""


def tree(
    base: str,
    path: str = "",
    *,
    nested: frozenset[tuple[int, int]] = frozenset(),
    cancelled: Callable[[], bool] | None = None,
) -> Tally:
    """Everything below `base`/`path` (paths in the result are relative to `base`), each (device, inode) folder once.

    Links are not followed, other file systems are not entered (a Problem names them), folders in `nested` are
    left to whoever scans them. Nothing raises: what cannot be read is a Problem.
    """
    tally = Tally()
    top = os.path.join(base, path) if path else base
    try:
        fd = os.open(top, _READ_DIR)
    except OSError as e:
        tally.problems.append(_unreadable(top, e))
        tally.blind.append(path)
        return tally
    try:
        st = os.fstat(fd)
        tally.overhead += allocated(st)
        _walk(fd, path, base, st.st_dev, nested, tally, cancelled, 0)
    finally:
        os.close(fd)
    return tally


def _walk(
    fd: int,
    path: str,
    base: str,
    dev: int,
    nested: frozenset[tuple[int, int]],
    tally: Tally,
    cancelled: Callable[[], bool] | None,
    depth: int,
) -> None:
    if cancelled is not None and cancelled():
        return
    prefix = path + "/" if path else ""
    folders: list[str] = []
    try:
        with os.scandir(fd if HAS_SCANDIR_FD else f"{base}/{path}") as entries:
            for entry in entries:
                name = prefix + entry.name
                try:
                    # On Windows an entry's own stat knows no inode and no links.
                    st = entry.stat(follow_symlinks=False) if HAS_SCANDIR_FD else os.lstat(entry.path)
                    if stat.S_ISREG(st.st_mode):
                        tally.files.append(blob(name, st))
                        if tally.last_used is None or st.st_atime > tally.last_used:
                            tally.last_used = st.st_atime
                    elif stat.S_ISDIR(st.st_mode):
                        if (st.st_dev, st.st_ino) in nested:
                            tally.nested.append(name)
                        elif st.st_dev != dev:
                            tally.problems.append(_other_device(f"{base}/{name}"))
                        else:
                            tally.overhead += allocated(st)
                            folders.append(entry.name)
                    else:
                        tally.overhead += allocated(st)
                        if stat.S_ISLNK(st.st_mode):
                            tally.links.append(
                                (
                                    name,
                                    os.readlink(entry.name, dir_fd=fd) if HAS_SCANDIR_FD else os.readlink(entry.path),
                                )
                            )
                except OSError as e:
                    tally.problems.append(_unreadable(f"{base}/{name}", e))
    except OSError as e:
        tally.problems.append(_unreadable(f"{base}/{path}", e))
        tally.blind.append(path)
    for folder in folders:
        _enter(fd, folder, prefix + folder, base, dev, nested, tally, cancelled, depth)


def _enter(
    fd: int,
    folder: str,
    path: str,
    base: str,
    dev: int,
    nested: frozenset[tuple[int, int]],
    tally: Tally,
    cancelled: Callable[[], bool] | None,
    depth: int,
) -> None:
    if depth >= MAX_DEPTH:
        tally.problems.append(Problem("too-deep", "folders nested too deeply were not read", f"{base}/{path}"))
        tally.blind.append(path)
        return
    try:
        inner = os.open(folder, _READ_DIR, dir_fd=fd) if HAS_SCANDIR_FD else os.open(f"{base}/{path}", _READ_DIR)
    except OSError as e:
        tally.problems.append(_unreadable(f"{base}/{path}", e))
        tally.blind.append(path)
        return
    try:
        _walk(inner, path, base, dev, nested, tally, cancelled, depth + 1)
    finally:
        os.close(inner)


def _unreadable(path: str, error: OSError) -> Problem:
    return Problem(
        "unreadable", f"cannot be read: {error.strerror or error}", path, "check its permissions and the disk"
    )


def _other_device(path: str) -> Problem:
    return Problem(
        "other-filesystem",
        "another file system is mounted here; it is not counted and nothing in it is touched",
        path,
        "give it as a root of its own with --cache-dir",
    )
