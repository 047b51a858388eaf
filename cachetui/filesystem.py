"""What is mounted where, and what a file system can do that block counts do not show."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_MOUNTS = Path("/proc/self/mountinfo")
_DISKS = Path("/dev/disk")
_SHARING = frozenset((b"btrfs", b"xfs", b"bcachefs", b"zfs", b"ocfs2", b"apfs"))
"""File systems on which `cp --reflink` (clonefile) makes two files share their extents."""
_NETWORK = frozenset(("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "ncpfs"))
_LOCAL_FUSE = frozenset(("fuseblk", "fuse.ntfs-3g", "fuse.exfat", "fuse.lowntfs-3g", "fuse.mergerfs"))
_NO_FILES = frozenset(
    (
        "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
        "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "ramfs", "rpc_pipefs", "securityfs", "squashfs",
        "sysfs", "tracefs",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the mount table."""

    point: str
    type: str
    source: str
    dev: int
    """`st_dev` of what lies on it (0 where the table does not tell)."""
    read_only: bool

    @property
    def network(self) -> bool:
        """Its bytes lie on another machine, or behind a program that may ask one."""
        return self.type in _NETWORK or (self.type.startswith("fuse.") and self.type not in _LOCAL_FUSE)

    @property
    def holds_files(self) -> bool:
        """Not one of the kernel's own tables."""
        return self.type not in _NO_FILES


def mounts() -> tuple[Mount, ...]:
    """The mount table, in its order: of two on one point the later lies on top."""
    if sys.platform.startswith("linux"):
        try:
            return tuple(_parse(line) for line in _MOUNTS.read_bytes().splitlines())
        except (OSError, IndexError, ValueError):
            pass
    import psutil  # late: only where there is no /proc

    return tuple(
        Mount(p.mountpoint, p.fstype, p.device, 0, "ro" in p.opts.split(",")) for p in psutil.disk_partitions(all=True)
    )


def _parse(line: bytes) -> Mount:
    left, _, right = line.partition(b" - ")
    fields, rest = left.split(b" "), right.split(b" ")
    major, minor = fields[2].split(b":")
    read_only = b"ro" in fields[5].split(b",") or b"ro" in rest[2].split(b",")
    dev = os.makedev(int(major), int(minor))
    return Mount(unescape(fields[4]), os.fsdecode(rest[0]), unescape(rest[1]), dev, read_only)


def unescape(text: bytes) -> str:
    """A field of the mount table: blanks and backslashes are written in octal."""
    for octal, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        text = text.replace(octal, char)
    return os.fsdecode(text)


def mount_of(path: str, table: Sequence[Mount] | None = None) -> Mount | None:
    """The mount that an absolute path lies on; None where unknown. Touches nothing but the mount table."""
    best: Mount | None = None
    for mount in mounts() if table is None else table:
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def is_network(path: str, table: Sequence[Mount] | None = None) -> bool:
    """Whether a path lies on a mount that may hang when a server is away."""
    mount = mount_of(path, table)
    return mount is not None and mount.network


def identity(path: str) -> tuple[str, str]:
    """(label, id) of the file system a path lies on, only for people: id is the UUID, else the type; "" unknown."""
    mount = mount_of(os.path.realpath(path))
    if mount is None:
        return "", ""
    return _disk_name("by-label", mount), _disk_name("by-uuid", mount) or mount.type


def _disk_name(folder: str, mount: Mount) -> str:
    """The name udev gives a block device in /dev/disk, e.g. its label; blanks are `\\x20` there."""
    try:
        wanted = {mount.dev, os.stat(mount.source).st_rdev if mount.source.startswith("/dev/") else mount.dev}
        for entry in (_DISKS / folder).iterdir():
            if entry.stat().st_rdev in wanted:
                return entry.name.replace("\\x20", " ")
    except OSError:
        pass
    return ""


def within(seconds: float, ask: Callable[[], T], otherwise: T) -> T:
    """The answer of something that may hang (a mount whose server is away), or `otherwise` when it takes longer."""
    answers: list[T] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else otherwise


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
