"""Models by their headers: real safetensors and GGUF headers over files without weights."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cachetui.config import Where
from cachetui.demo.builders import Content, Filler, Hub, safetensors_bytes
from cachetui.memory.shapes import tensors_of
from cachetui.model import Item
from cachetui.scan import find_roots, scan_roots

LLAMA: dict[str, Any] = {
    "model_type": "llama", "dtype": "bfloat16", "vocab_size": 1000, "hidden_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 320, "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}  # fmt: skip


def weights(config: Mapping[str, Any], *, shards: int = 1) -> list[Filler]:
    """Safetensors files with the real header of such a model; their blocks are reserved: for small models."""
    tensors = tensors_of(config)
    assert 0 < sum(t.size for t in tensors) < 100_000_000, "take only_headers: this much would be taken of the disk"
    found = []
    for n in range(shards):
        part = {t.name: (t.dtype, t.shape) for t in tensors[n::shards]}
        head = safetensors_bytes(part, data=False)
        found.append(Filler(len(head) + sum(t.size for t in tensors[n::shards]), f"weights {n}", head))
    return found


def repo(hub: Hub, name: str, config: Mapping[str, Any], **more: Content) -> str:
    """A repo of one safetensors file; returns the commit."""
    files: dict[str, Content] = {"config.json": json.dumps(config).encode(), "tokenizer.json": b"{}" * 500}
    return hub.repo(name).revision(files | {"model.safetensors": weights(config)[0]} | more)


def only_headers(config: Mapping[str, Any]) -> bytes:
    """The header of such a model's safetensors file, without a byte of weights: for models of any size."""
    return safetensors_bytes({t.name: (t.dtype, t.shape) for t in tensors_of(config)}, data=False)


def gguf(values: Mapping[str, str | int], tensors: Mapping[str, tuple[int, tuple[int, ...], int]], words: int) -> bytes:
    """A GGUF v3 file: values, a vocabulary of `words`, tensors as name -> (ggml_type, shape, bytes), zeros."""

    def text(value: str) -> bytes:
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values) + 1)
    for key, value in values.items():
        out += text(key)
        out += struct.pack("<I", 8) + text(value) if isinstance(value, str) else struct.pack("<II", 4, value)
    out += text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, words)
    out += b"".join(text(f"word{n}") for n in range(words))
    offset = 0
    for name, (kind, shape, size) in tensors.items():
        out += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in shape)
        out += struct.pack("<IQ", kind, offset)
        offset += -(-size // 32) * 32
    return out + bytes(-len(out) % 32 + offset)


def item(where: Where, target: str) -> Item:
    """What a scan finds under that id."""
    roots, problems = find_roots(where)
    scan = scan_roots(roots, roots, problems=problems)
    return next(i for i in scan.items if i.id == target)


def where_of(home: Path) -> Where:
    """Where to look."""
    import os

    return Where(dict(os.environ), str(home), str(home))
