"""Whether bytes come from the drive or from memory: dropping pages, counting those that stay, file systems that lie."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cachetui.filesystem import mount_of

_MEMORY = frozenset(("tmpfs", "ramfs", "devtmpfs", "rootfs"))
_OWN_CACHE = frozenset(("zfs", "overlay", "bcachefs"))
_BLOCKS = Path("/sys/dev/block")
PAGE = mmap.PAGESIZE
_PROT_READ = 1
_MAP_SHARED = 1
_F_NOCACHE = 48
_WAIT_WRITE_WAIT = 1 | 2 | 4


def doubt(path: str) -> str:
    """Why reading a file below `path` back cannot be proven to come from the medium; empty where it can."""
    if not hasattr(os, "posix_fadvise"):
        return "this system does not say whether bytes come from the drive or from memory"
    mount = mount_of(os.path.realpath(path))
    if mount is None:
        return "what kind of file system it is could not be told"
    if mount.type in _MEMORY:
        return f"{mount.type} is memory, not a drive"
    if mount.network:
        return f"{mount.type}: the other side may have answered from its memory"
    if mount.type in _OWN_CACHE or mount.type.startswith("fuse"):
        return f"{mount.type} keeps a memory of its own, which cannot be emptied from here"
    if _is_loop(f"{os.major(os.stat(path).st_dev)}:{os.minor(os.stat(path).st_dev)}"):
        return "it is a file on another file system (a loop device), whose memory cannot be emptied from here"
    return ""


def _is_loop(device: str) -> bool:
    """Whether a block device is a loop device or stands on one (crypt, LVM, RAID); partitions too."""
    try:
        real = (_BLOCKS / device).resolve(strict=True)
        if any(part.startswith("loop") for part in real.parts):
            return True
        return any(_is_loop((slave / "dev").read_text().strip()) for slave in (real / "slaves").glob("*"))
    except OSError:
        return False


def drop(fd: int, offset: int = 0, length: int = 0) -> None:
    """Drop pages that are clean, and start writing out those that are not; waits for nothing. Length 0: to the end."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)


def wait_written(fd: int, offset: int, length: int) -> None:
    """Wait until these bytes left memory, so that no gigabytes pile up there; proves nothing. Raises OSError.

    Where the system has no such call it returns at once.
    """
    if _sync_file_range is not None and _sync_file_range(fd, offset, length, _WAIT_WRITE_WAIT) != 0:
        code = ctypes.get_errno()
        if code in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise OSError(code, os.strerror(code))


def _find_sync_file_range() -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    function.restype = ctypes.c_int
    return function


_sync_file_range = _find_sync_file_range()


def uncached(fd: int) -> None:
    """Where the system has no call to drop pages (macOS): read past the cache."""
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(fd, _F_NOCACHE, 1)


def resident(fd: int, size: int, offset: int = 0) -> int:
    """Pages of `size` bytes of a file from `offset` (a multiple of PAGE) that are in memory; -1 where unknown."""
    calls = _calls()
    if calls is None or size == 0:
        return 0 if size == 0 else -1
    map_, mincore, unmap = calls
    address = map_(None, size, _PROT_READ, _MAP_SHARED, fd, offset)
    if address in (None, ctypes.c_void_p(-1).value):
        return -1
    try:
        pages = (size + PAGE - 1) // PAGE
        found = (ctypes.c_ubyte * pages)()
        if mincore(address, size, found) != 0:
            return -1
        return bytes(found).translate(_LOWEST_BIT).count(1)
    finally:
        unmap(address, size)


_LOWEST_BIT = bytes(b & 1 for b in range(256))


def _calls() -> tuple[Callable[..., Any], Callable[..., int], Callable[..., int]] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        map_, mincore, unmap = libc.mmap, libc.mincore, libc.munmap
    except (OSError, AttributeError):
        return None
    map_.restype = ctypes.c_void_p
    map_.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    unmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return map_, mincore, unmap


def data_end(fd: int, offset: int, size: int) -> tuple[int, int]:
    """(start, end) of the next stretch of data at or after `offset`; (size, size) where only a hole follows.

    A file system that knows no holes has one stretch. Raises OSError.
    """
    if not hasattr(os, "SEEK_DATA"):
        return offset, size
    try:
        start = os.lseek(fd, offset, os.SEEK_DATA)
        return start, os.lseek(fd, start, os.SEEK_HOLE)
    except OSError as e:
        if e.errno == errno.ENXIO:
            return size, size
        if e.errno in (errno.EINVAL, errno.ENOTSUP):
            return offset, size
        raise


def rotates(path: str) -> bool:
    """Whether it is a disk with a head that reading and writing would fight over, as far as the system tells."""
    try:
        st = os.stat(path)
        device = st.st_dev
        if os.major(device) == 0 and (mount := mount_of(os.path.realpath(path))) is not None:  # btrfs, overlay
            device = os.stat(mount.source).st_rdev
        return _turns(f"{os.major(device)}:{os.minor(device)}")
    except (OSError, AttributeError):
        return False


def _turns(device: str) -> bool:
    """Whether a block device is such a disk, or stands on one (crypt, LVM, RAID). Raises OSError."""
    real = (_BLOCKS / device).resolve(strict=True)
    if below := list((real / "slaves").glob("*")):
        return any(_turns((slave / "dev").read_text().strip()) for slave in below)
    if not any(part.startswith("sd") for part in real.parts):  # virtual disks call themselves rotating
        return False
    folder = real if (real / "queue").is_dir() else real.parent
    return (folder / "queue/rotational").read_text().strip() == "1"
