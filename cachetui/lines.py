"""Journals: JSON objects a line, each behind the checksum of its text, so that a torn line is told from a whole one."""

from __future__ import annotations

import json
import os
import zlib
from typing import Any

_CHUNK = 1 << 18


def encode(body: dict[str, Any]) -> bytes:
    """One line of a journal, with its newline."""
    text = json.dumps(body, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def decode(line: bytes) -> dict[str, Any] | None:
    """What a line (without its newline) says; None where it is torn or no line of a journal."""
    try:
        if int(line[:8], 16) != zlib.crc32(line[9:]):
            return None
        body = json.loads(line[9:])
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def read(fd: int, cap: int) -> list[bytes]:
    """The whole lines of an open journal, up to `cap` bytes or the first zero (reserved room). Raises OSError."""
    chunks: list[bytes] = []
    offset = 0
    while offset < cap and (chunk := os.pread(fd, _CHUNK, offset)):
        end = chunk.find(b"\0")
        chunks.append(chunk if end < 0 else chunk[:end])
        if end >= 0:
            break
        offset += len(chunk)
    return b"".join(chunks).split(b"\n")[:-1]
