"""What a file's own header promises, where no hash is known: cut short, overwritten, no such format at all.

Nothing is unpickled and no tensor is read: safetensors by its header, GGUF by its list of tensors, the zip files of
PyTorch by their directory. What passes is whole, as far as that tells; it may still hold a flipped byte.
"""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Callable

from cachetui.gguf import Broken
from cachetui.gguf_tensors import tensors_end
from cachetui.verify.reading import open_regular

_MAX_HEADER = 64 << 20
_MAX_DIRECTORY_TAIL = (1 << 16) + 22
_ZIPS = (".bin", ".pt", ".pth", ".ckpt", ".npz", ".keras")

Read = Callable[[int, int], bytes]
"""(length, offset) -> bytes, fewer at the end."""


def fault(name: str, path: str) -> str | None:
    """What is wrong with the structure of a file, by the format its name tells.

    Empty where it is sound, None where this format says nothing or the file cannot be read.
    """
    check = _check_for(name)
    if check is None:
        return None
    try:
        fd = open_regular(path)
    except OSError:
        return None
    try:
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            return None
        return check(lambda length, offset: _read(fd, length, offset), st.st_size)
    except OSError:
        return None
    finally:
        os.close(fd)


def _read(fd: int, length: int, offset: int) -> bytes:
    chunks: list[bytes] = []
    while length > 0 and (chunk := os.pread(fd, length, offset)):
        chunks.append(chunk)
        length -= len(chunk)
        offset += len(chunk)
    return b"".join(chunks)


def _check_for(name: str) -> Callable[[Read, int], str | None] | None:
    lower = name.lower()
    if lower.endswith(".safetensors"):
        return _safetensors
    if lower.endswith(".gguf"):
        return _gguf
    return _zip if lower.endswith(_ZIPS) else None


def _safetensors(read: Read, size: int) -> str | None:
    if size < 8:
        return f"it has {size} bytes, too few for a safetensors header"
    (length,) = struct.unpack("<Q", read(8, 0))
    if length > size - 8:
        return f"its header would be {length} bytes long, it has {size} in all: cut short or overwritten"
    if length > _MAX_HEADER:
        return None
    try:
        header = json.loads(read(length, 8))
        ends = [row["data_offsets"][1] for name, row in header.items() if name != "__metadata__"]
        end = max(ends, default=0)
        wanted = 8 + length + end
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return "its safetensors header is no such header: overwritten"
    if not isinstance(end, int) or wanted == size:
        return ""
    if wanted > size:
        return f"cut short: its header asks for {wanted} bytes, it has {size}"
    return f"it has {size - wanted} bytes more than its header knows of"


def _gguf(read: Read, size: int) -> str | None:
    head = read(4, 0)
    if head != b"GGUF":
        return "it does not start as a GGUF file does: overwritten, or no GGUF"
    length = 1 << 20
    while True:
        try:
            wanted = tensors_end(read(length, 0))
        except Broken:
            if length >= size:
                return "its GGUF header is damaged, or cut short inside of it"
            if length >= _MAX_HEADER:
                return None
            length *= 4
            continue
        return f"cut short: its header asks for {wanted} bytes, it has {size}" if wanted > size else ""


def _zip(read: Read, size: int) -> str | None:
    """The end record points to a directory that starts with an entry (APPNOTE 4.3.12 to 4.3.16)."""
    if read(4, 0) != b"PK\x03\x04":
        return None  # an older pickle, or nothing of this kind
    start = max(0, size - _MAX_DIRECTORY_TAIL)
    tail = read(size - start, start)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        return "cut short: the directory at its end is missing"
    entries, length, offset = struct.unpack("<HII", tail[at + 10 : at + 20])
    if 0xFFFF in (entries,) or 0xFFFFFFFF in (length, offset):
        found = _zip64(read, tail, at)
        if found is None:
            return "its directory is damaged"
        entries, length, offset = found
    if offset + length > size or (entries and read(4, offset) != b"PK\x01\x02"):
        return "its directory does not point into it: cut short or damaged"
    return ""


def _zip64(read: Read, tail: bytes, at: int) -> tuple[int, int, int] | None:
    locator = tail[at - 20 : at] if at >= 20 else b""
    if locator[:4] != b"PK\x06\x07":
        return None
    (offset,) = struct.unpack("<Q", locator[8:16])
    record = read(56, offset) if offset < 1 << 62 else b""
    if len(record) < 56 or record[:4] != b"PK\x06\x06":
        return None
    entries, length, start = struct.unpack("<QQQ", record[32:56])
    return entries, length, start
