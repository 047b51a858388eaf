"""The tensors a file holds, by its header. No length in it is trusted and no weight is read.

safetensors: an 8-byte length, then JSON (safetensors' own limit is 100 MB; a header of 32 MiB would hold 300,000
tensors). GGUF: see gguf.py; the list of tensors stands behind the vocabulary.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping

from cachetui.gguf import Broken, gguf_header
from cachetui.gguf_tensors import tensor_sizes
from cachetui.memory.model import Tensor

MAX_SAFETENSORS = 32 << 20
MAX_GGUF = 64 << 20
_FIRST = 1 << 16
_MAX_SHAPE = 16
_MAX_NUMBER = 1 << 62
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NOATIME = getattr(os, "O_NOATIME", 0)

BITS: Mapping[str, int] = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


class BadHeader(ValueError):
    """The file is not what its name says, or its header is broken; the text says how."""


def _open(path: str) -> tuple[int, int]:
    try:
        fd = os.open(path, _FLAGS | _NOATIME)  # that it was looked at here is no use of it
    except PermissionError:
        if not _NOATIME:
            raise
        fd = os.open(path, _FLAGS)  # O_NOATIME is for the owner only
    st = os.fstat(fd)
    if not stat.S_ISREG(st.st_mode):
        os.close(fd)
        raise BadHeader("not a regular file")
    return fd, st.st_size


def _first(fd: int, cap: int) -> bytes:
    """The first `cap` bytes, or all there are."""
    os.lseek(fd, 0, os.SEEK_SET)
    chunks: list[bytes] = []
    while cap > 0 and (chunk := os.read(fd, cap)):
        chunks.append(chunk)
        cap -= len(chunk)
    return b"".join(chunks)


def safetensors(path: str) -> tuple[Tensor, ...]:
    """Its tensors. Raises OSError, BadHeader."""
    fd, size = _open(path)
    try:
        length = int.from_bytes(_read(fd, 8), "little")
        if not 2 <= length <= size - 8:
            raise BadHeader("the header is longer than the file")
        if length > MAX_SAFETENSORS:
            raise BadHeader(f"a header of {length} bytes is not read")
        raw = _read(fd, length)
    finally:
        os.close(fd)
    return safetensors_header(raw)


def safetensors_header(raw: bytes) -> tuple[Tensor, ...]:
    """The tensors that the JSON behind the length lists. Raises BadHeader."""
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        raise BadHeader("the header is no JSON") from None
    if not isinstance(header, dict):
        raise BadHeader("the header is no JSON object")
    shapes: dict[tuple[object, ...], tuple[int, ...]] = {}
    return tuple([_tensor(name, row, shapes) for name, row in header.items() if name != "__metadata__"])


def _read(fd: int, length: int) -> bytes:
    chunks: list[bytes] = []
    while length > 0:
        chunk = os.read(fd, length)
        if not chunk:
            raise BadHeader("the file ends inside its header")
        chunks.append(chunk)
        length -= len(chunk)
    return b"".join(chunks)


def _tensor(name: str, row: object, shapes: dict[tuple[object, ...], tuple[int, ...]]) -> Tensor:
    """One row of the header. `shapes`: those that were found possible; a model has few."""
    try:
        dtype, shape, (start, end) = row["dtype"], row["shape"], row["data_offsets"]  # type: ignore[index]
        key = tuple(shape)
        known = shapes.get(key)
    except (TypeError, KeyError, ValueError):
        raise BadHeader("a tensor without dtype, shape or place") from None
    if known is None:
        if len(key) > _MAX_SHAPE:
            raise BadHeader("a tensor with too many dimensions")
        known = shapes[key] = tuple([_count(n) for n in key])
    if type(dtype) is not str:
        raise BadHeader("a tensor without dtype, shape or place")
    if type(start) is not int or type(end) is not int or not 0 <= start <= _MAX_NUMBER or not 0 <= end < _MAX_NUMBER:
        raise BadHeader("a tensor with an impossible shape or place")
    return Tensor(name, dtype, known, end - start if end > start else 0)


def _count(number: object) -> int:
    if type(number) is not int or not 0 <= number < _MAX_NUMBER:
        raise BadHeader("a tensor with an impossible shape or place")
    return number


def gguf_values(path: str) -> tuple[dict[str, str | int | float | bool], int]:
    """(single values of the header, bytes of the file), from its first bytes. Raises OSError, BadHeader."""
    fd, size = _open(path)
    try:
        header = None
        for cap in (_FIRST, _FIRST << 4, MAX_GGUF):
            header = gguf_header(_first(fd, cap))
            if header is None:
                raise BadHeader("not a GGUF file")
            prefix = header.architecture
            # Behind the vocabulary nothing follows that is needed; where the numbers stand behind it, read on.
            if header.complete or cap >= size or (prefix and f"{prefix}.block_count" in header.values):
                break
    finally:
        os.close(fd)
    assert header is not None
    return dict(header.values), size


def gguf_tensors(path: str) -> tuple[Tensor, ...]:
    """Its tensors; dtype is ggml's number. Costs more than `gguf_values`: the vocabulary is stepped over.

    Raises OSError, BadHeader.
    """
    fd, size = _open(path)
    try:
        for cap in (1 << 20, 1 << 24, MAX_GGUF):
            try:
                rows = tensor_sizes(_first(fd, cap))
            except Broken:
                if cap >= size:
                    raise BadHeader("the header is broken") from None
                continue
            return tuple(Tensor(n, str(kind), shape, length) for n, kind, shape, length in rows)
    finally:
        os.close(fd)
    raise BadHeader("the header is longer than is read")


__all__ = ["BITS", "BadHeader", "gguf_tensors", "gguf_values", "safetensors", "safetensors_header"]
