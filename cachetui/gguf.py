"""The header of a GGUF file, without trusting a length in it and without reading its tensors.

Follows ggml's docs/gguf.md and llama.cpp's include/llama.h (llama_ftype). A vocabulary of 100,000 tokens lies in
the same header: whoever calls gives only the first bytes, and what lies beyond them is simply not known.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

MAX_HEADER = 1 << 20
"""More than this is never worth reading: what describes the model stands before or right behind the vocabulary."""
_MAX_KEYS = 4096
_MAX_KEY = 512
_MAX_TEXT = 4096
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

FILE_TYPES: Mapping[int, str] = dict(
    enumerate((
        "F32", "F16", "Q4_0", "Q4_1", "Q4_1_F16", "Q4_2", "Q4_3", "Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S", "Q3_K_M",
        "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ2_XXS", "IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS",
        "IQ1_S", "IQ4_NL", "IQ3_S", "IQ3_M", "IQ2_S", "IQ2_M", "IQ4_XS", "IQ1_M", "BF16", "Q4_0_4_4", "Q4_0_4_8",
        "Q4_0_8_8", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4", "Q1_0", "Q2_0",
    ))
)  # fmt: skip
"""llama_ftype, the number in `general.file_type`; 1024 (guessed) is left out on purpose."""

_NAME_TYPE = re.compile(
    r"(?<![A-Za-z0-9])(UD-)?(I?Q[1-8](?:_[0-9KSMLXN]{1,3}){0,3}|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4|BF16|F16|F32)(?![A-Za-z0-9])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the first bytes of a GGUF file tell."""

    version: int
    tensors: int
    """As the file claims."""
    values: Mapping[str, str | int | float | bool]
    """Single values; arrays are skipped."""
    complete: bool
    """False where the bytes ended, or were broken, before the last key."""

    @property
    def architecture(self) -> str:
        """general.architecture, or empty."""
        return self._text("general.architecture")

    @property
    def parameters(self) -> str:
        """general.size_label, e.g. `8B`, or empty."""
        return self._text("general.size_label")

    @property
    def quantization(self) -> str:
        """general.file_type by name, e.g. `Q4_K_M`; empty where it is not there or has no name."""
        number = self.values.get("general.file_type")
        return FILE_TYPES.get(number, "") if isinstance(number, int) else ""

    def _text(self, key: str) -> str:
        value = self.values.get(key)
        return value if isinstance(value, str) else ""


class Broken(Exception):
    """The bytes end here, or are no GGUF from here on."""


class HeaderReader:
    """Steps through a header. Its methods raise Broken."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 4
        self.order = "<"
        self.wide = True
        self.version = 0

    def begin(self) -> tuple[int, int]:
        """Numbers of tensors and of keys, as the file claims; first of all."""
        self.version = int(self.number("I"))
        if self.version & 0xFFFF == 0:  # written on a big-endian machine
            self.order, self.at = ">", 4
            self.version = int(self.number("I"))
        self.wide = self.version > 1
        return self.count(), self.count()

    def number(self, code: str) -> int | float | bool:
        """One value of a `struct` code."""
        shape = self.order + code
        end = self.at + struct.calcsize(shape)
        if end > len(self.data):
            raise Broken
        (value,) = struct.unpack_from(shape, self.data, self.at)
        self.at = end
        return value  # type: ignore[no-any-return]

    def count(self) -> int:
        """A length."""
        return int(self.number("Q" if self.wide else "I"))

    def skip(self, length: int) -> None:
        """Step over bytes."""
        if length > len(self.data) - self.at:
            raise Broken
        self.at += length

    def text(self, cap: int) -> str:
        """A string, at most the first `cap` bytes of it."""
        length = self.count()
        start = self.at
        self.skip(length)
        return self.data[start : start + min(length, cap)].decode("utf-8", "replace")

    def _skip_array(self) -> None:
        kind, length = int(self.number("I")), self.count()
        if kind == _STRING:
            for _ in range(length):
                self.skip(self.count())
        elif kind in _SCALARS:
            self.skip(length * struct.calcsize("<" + _SCALARS[kind]))
        else:
            raise Broken  # an array of arrays occurs in no known file

    def value(self) -> str | int | float | bool | None:
        """A value of a key; None for an array, which is stepped over."""
        kind = int(self.number("I"))
        if kind == _STRING:
            return self.text(_MAX_TEXT)
        if kind == _ARRAY:
            self._skip_array()
            return None
        if kind not in _SCALARS:
            raise Broken
        return self.number(_SCALARS[kind])


def gguf_header(data: bytes) -> GgufHeader | None:
    """What the first bytes of a file tell, as far as they go; None where it is no GGUF. Never raises."""
    if data[:4] != b"GGUF":
        return None
    reader = HeaderReader(data)
    values: dict[str, str | int | float | bool] = {}
    try:
        tensors, keys = reader.begin()
    except Broken:
        return None
    try:
        for _ in range(min(keys, _MAX_KEYS)):
            key = reader.text(_MAX_KEY)
            value = reader.value()
            if value is not None:
                values[key] = value
    except Broken:
        return GgufHeader(reader.version, tensors, values, complete=False)
    return GgufHeader(reader.version, tensors, values, complete=keys <= _MAX_KEYS)


def type_in_name(name: str) -> str:
    """The quantization a file name tells, e.g. `Q4_K_M` of `x-UD-Q4_K_M-00001-of-00002.gguf`; empty if none."""
    found = _NAME_TYPE.findall(name)
    return (found[-1][0] + found[-1][1]).upper() if found else ""
