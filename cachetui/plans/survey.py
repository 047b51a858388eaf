"""Reading what is about to go: identities, sizes, mounts. Changes nothing and follows no link (I2, I3)."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cachetui.fs import open_below, open_dir
from cachetui.plans.model import Identity
from cachetui.walk import MAX_DEPTH, allocated

Inode = tuple[int, int]


@dataclass
class Measure:
    """What lies at and below one name. Sizes in bytes, each inode once."""

    entries: int = 0
    size: int = 0
    allocated: int = 0
    single: int = 0
    """Allocated bytes that come back with this name: folders, links and files that have no other name."""
    newest_ns: int = 0
    linked: dict[Inode, tuple[int, int, int]] = field(default_factory=dict)
    """Inodes with several names: (names seen here, links, allocated bytes)."""
    foreign: str = ""
    """Path of an entry that another user owns, relative to the name; empty where there is none."""
    locked: str = ""
    """Path of a folder that cannot be written, relative to the name; empty where there is none."""

    def add(self, st: os.stat_result) -> None:
        """Count one entry."""
        self.entries += 1
        self.newest_ns = max(self.newest_ns, st.st_mtime_ns)
        blocks = allocated(st)
        if not stat.S_ISDIR(st.st_mode) and st.st_nlink > 1:
            inode = (st.st_dev, st.st_ino)
            seen, _, _ = self.linked.get(inode, (0, 0, 0))
            self.linked[inode] = (seen + 1, st.st_nlink, blocks)
            if seen:
                return
        else:
            self.single += blocks
        self.allocated += blocks
        if stat.S_ISREG(st.st_mode):
            self.size += st.st_size


def kind_of(st: os.stat_result) -> str:
    """`Identity.type` of a stat result."""
    if stat.S_ISREG(st.st_mode):
        return "file"
    if stat.S_ISDIR(st.st_mode):
        return "dir"
    return "link" if stat.S_ISLNK(st.st_mode) else "other"


def measure(parent: int, name: str) -> tuple[Identity, Measure]:
    """Identity and measure of `name` in the open folder `parent`.

    A folder's identity is its own device and inode with the bytes and the newest mtime of everything below.
    Raises OSError: gone, unreadable below (EACCES), a mount below (EXDEV), nested too deeply (ELOOP).
    """
    st = os.stat(name, dir_fd=parent, follow_symlinks=False)
    found = Measure()
    found.add(st)
    me = os.geteuid()
    if st.st_uid != me:
        found.foreign = name
    if not stat.S_ISDIR(st.st_mode):
        return Identity(st.st_dev, st.st_ino, kind_of(st), st.st_size, st.st_mtime_ns), found
    _measure_below(parent, name, name, st.st_dev, me, found, 0)
    return Identity(st.st_dev, st.st_ino, "dir", found.size, found.newest_ns), found


def _measure_below(parent: int, name: str, path: str, dev: int, me: int, found: Measure, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise OSError(errno.ELOOP, "folders are nested too deeply", path)
    fd = open_dir(name, parent)
    try:
        if os.fstat(fd).st_dev != dev:
            raise OSError(errno.EXDEV, "another file system is mounted inside", path)
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True):
            found.locked = found.locked or path
        folders: list[str] = []
        with os.scandir(fd) as entries:
            for entry in entries:
                st = entry.stat(follow_symlinks=False)
                found.add(st)
                if st.st_uid != me and not found.foreign:
                    found.foreign = f"{path}/{entry.name}"
                if stat.S_ISDIR(st.st_mode):
                    folders.append(entry.name)
        for folder in folders:
            _measure_below(fd, folder, f"{path}/{folder}", dev, me, found, depth + 1)
    finally:
        os.close(fd)


def mount_id(fd: int) -> int:
    """Which mount an open folder is on; bind mounts have an equal st_dev but another id. -1 where unknown."""
    try:
        for line in Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines():
            if line.startswith("mnt_id:"):
                return int(line.split(":")[1])
    except (OSError, ValueError):
        pass
    return -1


def same_mount(a: int, b: int) -> bool:
    """Whether a rename between two open folders can work, as far as reading tells."""
    return os.fstat(a).st_dev == os.fstat(b).st_dev and mount_id(a) == mount_id(b)


def mount_points() -> tuple[str, ...]:
    """Absolute paths on which something is mounted."""
    if sys.platform.startswith("linux"):
        try:
            lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
            return tuple(_unescape(line.split(b" ")[4]) for line in lines)
        except (OSError, IndexError):
            pass
    import psutil  # late: `ls` looks for unfinished work at every start and needs it nowhere else

    return tuple(p.mountpoint for p in psutil.disk_partitions(all=True))


def _unescape(path: bytes) -> str:
    for octal, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        path = path.replace(octal, char)
    return os.fsdecode(path)


def mounted_below(path: str, points: tuple[str, ...]) -> str:
    """A mount point at or below an absolute path, or empty."""
    inside = path.rstrip("/") + "/"
    return next((p for p in points if p == path or p.startswith(inside)), "")


@contextmanager
def parent_of(root: int, path: str) -> Iterator[tuple[int, str]]:
    """(descriptor of the folder, last name) of a path below the open root, which must be on the root's mount (I3).

    Raises OSError; EXDEV where another file system is mounted in between.
    """
    folder, _, name = path.rpartition("/")
    if name in ("", ".", ".."):
        raise OSError(errno.EINVAL, "not a path inside the root", path)
    fd = open_below(root, folder)
    try:
        if not same_mount(root, fd):
            raise OSError(errno.EXDEV, "another file system is mounted there", path)
        yield fd, name
    finally:
        os.close(fd)


def lstat_below(root: int, path: str) -> os.stat_result | None:
    """lstat of a path below the open root, or None where it is not there (or a folder above it is not)."""
    try:
        with parent_of(root, path) as (parent, name):
            return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_there(folder: int, name: str) -> bool:
    """Whether a name exists in an open folder, whatever it is."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def reason(error: OSError) -> str:
    """An OSError as a short reason for people, without the paths."""
    return (error.strerror or str(error)).lower()
