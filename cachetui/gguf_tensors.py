"""How long a GGUF file ought to be, by the list of tensors in its header (ggml's docs/gguf.md, ggml.h's types)."""

from __future__ import annotations

from cachetui.gguf import Broken, HeaderReader

_ALIGNMENT = 32
_MAX_DIMENSIONS = 16
_MAX_TENSORS = 1 << 20
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip
"""ggml_type: (weights in a block, bytes of a block). Tensors of other types count as empty."""


def tensor_sizes(data: bytes) -> list[tuple[str, int, tuple[int, ...], int]]:
    """(name, ggml_type, shape, bytes) of every tensor. Raises Broken where `data` ends before the last."""
    if data[:4] != b"GGUF":
        raise Broken
    reader = HeaderReader(data)
    tensors, keys = reader.begin()
    for _ in range(keys):
        reader.text(0)
        reader.value()
    if tensors > _MAX_TENSORS:
        raise Broken
    return [_tensor(reader) for _ in range(tensors)]


def _tensor(reader: HeaderReader) -> tuple[str, int, tuple[int, ...], int]:
    name = reader.text(512)
    dimensions = int(reader.number("I"))
    if dimensions > _MAX_DIMENSIONS:
        raise Broken
    shape = tuple(reader.count() for _ in range(dimensions))
    count = 1
    for side in shape:
        count *= side
    kind = int(reader.number("I"))
    weights, size = BLOCKS.get(kind, (1, 0))
    reader.count()
    return name, kind, shape, -(-count // weights) * size


def tensors_end(data: bytes) -> int:
    """Bytes that the tensors of a GGUF file reach to. Raises Broken where `data` ends, or is broken, before that."""
    if data[:4] != b"GGUF":
        raise Broken
    reader = HeaderReader(data)
    tensors, keys = reader.begin()
    alignment = _ALIGNMENT
    for _ in range(keys):
        key, value = reader.text(512), reader.value()
        if key == "general.alignment" and isinstance(value, int) and 0 < value <= 1 << 20:
            alignment = value
    if tensors > _MAX_TENSORS:
        raise Broken
    end = 0
    for _ in range(tensors):
        reader.text(0)
        end = max(end, _tensor_end(reader))
    start = -(-reader.at // alignment) * alignment
    return start + end if tensors else reader.at


def _tensor_end(reader: HeaderReader) -> int:
    dimensions = int(reader.number("I"))
    if dimensions > _MAX_DIMENSIONS:
        raise Broken
    count = 1
    for _ in range(dimensions):
        count *= reader.count()
    weights, size = BLOCKS.get(int(reader.number("I")), (1, 0))
    return int(reader.number("Q")) + -(-count // weights) * size
