"""The file: safetensors whose metadata describes the state and seals it.

    8 bytes      length of the header, little endian
    header       JSON: "__metadata__" (below) and, for each tensor, dtype, shape, data_offsets; padded with spaces
    data         the tensors, each aligned to its element's size, without gaps

`__metadata__` maps names to strings, as safetensors demands: "cachetui.state" the version of this format,
"cachetui.info" what `StateInfo` says as JSON, "cachetui.data.sha256" over the data, "cachetui.header.sha256" over
everything before the data, with that hash itself written as zeros. So any safetensors library reads the tensors, and
no byte can change without being seen. Everything here may come from a stranger: nothing is used before it is checked,
and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachetui.checked import CheckError, mapping
from cachetui.states.errors import DAMAGED, MISSING, NOT_A_STATE, PICKLE, UNREADABLE, VERSION, StateError

FORMAT = "1"
MAX_HEADER = 16 << 20
MAX_TENSORS = 1 << 16
MAX_ELEMENTS = 1 << 50
_MAX_DIMENSIONS = 8
_STATE, _INFO = "cachetui.state", "cachetui.info"
_DATA, _HEADER = "cachetui.data.sha256", "cachetui.header.sha256"
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_BLOCK = 1 << 20
WIDTHS: Mapping[str, int] = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1,
    "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
"""Bytes of an element, by safetensors' name of the dtype."""
_FOREIGN = (
    (b"GGUF", "a GGUF file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"{", "a JSON file"),
)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file: where its bytes lie."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    """Offset in the data; so is `end`."""
    end: int


@dataclass(frozen=True, slots=True)
class Raw:
    """A tensor to be written: little endian, rows one after another."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: memoryview | bytes


@dataclass(frozen=True, slots=True)
class Header:
    """A file's header, checked."""

    tensors: tuple[Tensor, ...]
    """In the order of their bytes."""
    info: Mapping[str, Any]
    data_at: int
    """Offset of the data in the file."""
    data_sha256: str
    size: int
    """Bytes of the whole file."""


def packed(info: Mapping[str, Any], tensors: Sequence[Raw]) -> tuple[bytes, list[Raw]]:
    """(everything before the data, the tensors in the order in which their bytes follow)."""
    ordered = sorted(tensors, key=lambda t: (-WIDTHS[t.dtype], t.name))
    digest = hashlib.sha256()
    table: dict[str, Any] = {}
    at = 0
    for t in ordered:
        length = memoryview(t.data).nbytes
        table[t.name] = {"dtype": t.dtype, "shape": list(t.shape), "data_offsets": [at, at + length]}
        digest.update(t.data)
        at += length
    meta = {_STATE: FORMAT, _INFO: _dumps(info), _DATA: digest.hexdigest(), _HEADER: "0" * 64}
    text = _dumps({"__metadata__": meta, **table}).encode("ascii")
    text += b" " * (-len(text) % 8)
    raw = len(text).to_bytes(8, "little") + text
    sealed = raw.replace(_seal("0" * 64), _seal(hashlib.sha256(raw).hexdigest()), 1)
    return sealed, ordered


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _seal(digest: str) -> bytes:
    return f'"{_HEADER}":"{digest}"'.encode()


def open_state(path: str) -> int:
    """A descriptor of the file. Raises StateError."""
    try:
        fd = os.open(path, _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        raise StateError(MISSING, "there is no such file") from None
    except (OSError, ValueError) as e:
        raise StateError(UNREADABLE, f"it cannot be read: {(getattr(e, 'strerror', '') or str(e)).lower()}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise StateError(NOT_A_STATE, "it is not a regular file")
    return fd


def read_header(fd: int) -> Header:
    """The header of an open file. Raises StateError; the data is not read."""
    size = os.fstat(fd).st_size
    head = read_at(fd, 0, 16)
    length = int.from_bytes(head[:8], "little")
    if len(head) < 10 or head[8:9] != b"{" or length > size - 8:
        raise _foreign(fd, head, length, size)
    if length > MAX_HEADER:
        raise StateError(NOT_A_STATE, f"its header has {length} bytes: no state has one of more than {MAX_HEADER}")
    raw = read_at(fd, 0, 8 + length)
    try:
        body = json.loads(raw[8:], object_pairs_hook=_once)
        if not isinstance(body, dict):
            raise CheckError("it is no object")
        meta = mapping(body.pop("__metadata__", {}), "__metadata__")
    except (ValueError, RecursionError, CheckError) as e:
        raise StateError(DAMAGED, f"its header is damaged: {e}") from None
    _check_seal(meta, raw)
    try:
        info = mapping(json.loads(_string(meta, _INFO), object_pairs_hook=_once), _INFO)
        tensors = _tensors(body, size - 8 - length)
        return Header(tensors, info, 8 + length, _string(meta, _DATA), size)
    except (ValueError, RecursionError, CheckError) as e:
        raise StateError(DAMAGED, f"its header is damaged: {e}") from None


def _check_seal(meta: Mapping[str, Any], raw: bytes) -> None:
    """That this is a state of ours, of a version we know, and as it was written. Raises StateError."""
    version = meta.get(_STATE)
    if version is None:
        raise StateError(
            NOT_A_STATE, "it is a safetensors file, but no saved state (a model's weights?)", "name a state"
        )
    if version != FORMAT:
        shown = version if isinstance(version, str) and len(version) < 20 else "?"
        raise StateError(VERSION, f"it is a state of format {shown}; this program reads {FORMAT}", "save it again")
    digest = meta.get(_HEADER)
    if not isinstance(digest, str) or len(digest) != 64 or raw.count(_seal(digest)) != 1:
        raise StateError(DAMAGED, "its header is damaged: it is not sealed")
    if hashlib.sha256(raw.replace(_seal(digest), _seal("0" * 64))).hexdigest() != digest:
        raise StateError(DAMAGED, "its header is damaged: it is not what was written (sha256)", "save it again")


def _foreign(fd: int, head: bytes, length: int, size: int) -> StateError:
    """What a file is that does not start as safetensors does."""
    if head[:2] == b"PK":
        return StateError(PICKLE, "it is a zip as torch.save writes it (a pickle inside): never unpickled")
    if len(head) > 2 and head[0] == 0x80 and head[1] <= 5 and head[2]:
        return StateError(PICKLE, "it is a Python pickle: never unpickled, for it could run any program")
    for start, name in _FOREIGN:
        if head.startswith(start):
            return StateError(NOT_A_STATE, f"it is {name}, no saved state")
    if head[8:10] == b'{"' and length <= MAX_HEADER:
        return StateError(DAMAGED, f"cut short: its header would be {length} bytes, it has {size} in all")
    return StateError(NOT_A_STATE, "it is no saved state" if size else "it is empty")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CheckError("a name stands in it twice")
    return found


def _string(meta: Mapping[str, Any], key: str) -> str:
    value = meta.get(key)
    if not isinstance(value, str):
        raise CheckError(f"{key} is missing")
    return value


def _tensors(body: Mapping[str, Any], room: int) -> tuple[Tensor, ...]:
    """The table of tensors, which must fill the data exactly. Raises CheckError."""
    if len(body) > MAX_TENSORS:
        raise CheckError(f"it has {len(body)} tensors")
    found = sorted((_tensor(name, row) for name, row in body.items()), key=lambda t: (t.start, t.end))
    at = 0
    for t in found:
        if t.start != at:
            raise CheckError("its tensors overlap or leave a gap")
        at = t.end
    if at > room:
        raise CheckError(f"cut short: its tensors have {at} bytes, there are {room}")
    if at < room:
        raise CheckError(f"it has {room - at} bytes more than it knows of")
    return tuple(found)


def _tensor(name: str, row: object) -> Tensor:
    if not isinstance(row, dict) or row.keys() != {"dtype", "shape", "data_offsets"}:
        raise CheckError("a tensor is not described")
    dtype, shape, span = row["dtype"], row["shape"], row["data_offsets"]
    width = WIDTHS.get(dtype) if isinstance(dtype, str) else None
    if width is None or not isinstance(shape, list) or not isinstance(span, list) or len(span) != 2:
        raise CheckError("a tensor has no known dtype, shape or place")
    if len(shape) > _MAX_DIMENSIONS or any(type(n) is not int or not 0 <= n < MAX_ELEMENTS for n in (*shape, *span)):
        raise CheckError("a tensor has an impossible shape or place")
    count = 1
    for n in shape:
        count *= n
        if count > MAX_ELEMENTS:
            raise CheckError("a tensor has an impossible shape")
    if span[1] - span[0] != count * width:
        raise CheckError("a tensor's shape and its bytes disagree")
    return Tensor(name, dtype, tuple(shape), span[0], span[1])


def read_at(fd: int, offset: int, length: int) -> bytes:
    """Bytes of an open file, fewer at its end. Raises StateError."""
    chunks: list[bytes] = []
    try:
        while length > 0 and (chunk := os.pread(fd, length, offset)):
            chunks.append(chunk)
            length -= len(chunk)
            offset += len(chunk)
    except OSError as e:
        raise StateError(UNREADABLE, f"it cannot be read: {(e.strerror or str(e)).lower()}") from None
    return b"".join(chunks)


def data_digest(fd: int, header: Header) -> str:
    """sha256 of the data as it is on disk. Raises StateError."""
    digest = hashlib.sha256()
    at = header.data_at
    while chunk := read_at(fd, at, _BLOCK):
        digest.update(chunk)
        at += len(chunk)
    return digest.hexdigest()
