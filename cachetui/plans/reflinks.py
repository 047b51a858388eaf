"""Which blocks of a file other files share (reflinks on btrfs, XFS, bcachefs): asked of the kernel with FIEMAP."""

from __future__ import annotations

import os
import struct
from contextlib import suppress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_FS_IOC_FIEMAP = 0xC020660B
_SHARED, _LAST = 0x2000, 0x1
_HEADER = struct.Struct("=QQLLLL")
_EXTENT = struct.Struct("=QQQQQLLLL")
_BATCH = 256


def shared_bytes(path: str) -> int:
    """Bytes of a regular file in extents that other files share too; 0 where the system does not tell."""
    if fcntl is None:
        return 0
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return _shared(fd)
        finally:
            os.close(fd)
    return 0


def _shared(fd: int) -> int:
    total, start = 0, 0
    while True:
        request = bytearray(_HEADER.pack(start, 2**64 - 1 - start, 0, 0, _BATCH, 0) + bytes(_EXTENT.size * _BATCH))
        fcntl.ioctl(fd, _FS_IOC_FIEMAP, request)
        mapped = _HEADER.unpack_from(request)[3]
        flags = _LAST
        for n in range(mapped):
            logical, _, length, _, _, flags, *_ = _EXTENT.unpack_from(request, _HEADER.size + n * _EXTENT.size)
            start = logical + length
            if flags & _SHARED:
                total += length
        if mapped == 0 or flags & _LAST:
            return total
