"""A state as the engine writes it, made of plain bytes: two layers, five tokens."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from cachetui.fs import DISK, Fs
from cachetui.states import Identity, Image, StateInfo, form, write
from cachetui.states.reading import Layer

TOKENS = 5
IDENTITY = Identity(
    "acme/eyes", "c" * 40, "", "LlavaForConditionalGeneration", "nf4", "bfloat16", "sdpa", "1" * 64, "2" * 64, "3" * 64,
    "transformers 5.23", "You are a helpful AI assistant.", (Image("photo.jpg", "4" * 64, 640, 480),), 0, None,
)  # fmt: skip
OTHER: dict[str, Any] = {
    "repo": "acme/ears", "commit": "d" * 40, "weights": "5" * 64, "architecture": "GPT2LMHeadModel", "quantization": "",
    "dtype": "float32", "attention": "eager", "tokenizer": "6" * 64, "template": "", "processor": "7" * 64,
    "libraries": "transformers 5.24", "system": "Answer in French.", "max_pixels": 200_000, "resize": (64, 48),
    "images": (Image("photo.jpg", "8" * 64, 640, 480),),
}  # fmt: skip
"""Another value for every field of the identity."""


def info(path: Path | str, identity: Identity = IDENTITY) -> StateInfo:
    """What a state says."""
    layers = (Layer("DynamicLayer", TOKENS),) * 2
    return StateInfo(str(path), identity, TOKENS, 0, 1.7e9, "hf:acme/eyes", "cpu", "cachetui 0.1.0", layers)


def tensors(seed: int = 0) -> list[form.Raw]:
    """Its tensors."""
    made = random.Random(seed)
    rows = [form.Raw(n, "I64", (1, TOKENS), made.randbytes(8 * TOKENS)) for n in ("input_ids", "attention_mask")]
    for n in range(2):
        for name in ("keys", "values"):
            rows.append(form.Raw(f"layers.{n}.{name}", "BF16", (1, 2, TOKENS, 4), made.randbytes(80)))
    return rows


def make(path: Path, *, seed: int = 0, identity: Identity = IDENTITY, fs: Fs = DISK) -> StateInfo:
    """Write one."""
    return write(info(path, identity), tensors(seed), fs=fs)


def reseal(path: Path, change: Any, *, again: bool = True) -> None:
    """Let `change` edit the header as parsed JSON; with `again` sealed anew, as somebody with bad intent would."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    meta = header["__metadata__"]
    told = json.loads(meta["cachetui.info"])
    found = change(header, told)
    data = data if found is None else found
    meta["cachetui.info"] = json.dumps(told)
    path.write_bytes(sealed(header) + data if again else _raw(header) + data)


def _raw(header: Any) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def sealed(header: Any) -> bytes:
    """Everything before the data, with a seal that fits."""
    import hashlib

    header["__metadata__"]["cachetui.header.sha256"] = "0" * 64
    raw = _raw(header)
    return raw.replace(b'256":"' + b"0" * 64, b'256":"' + hashlib.sha256(raw).hexdigest().encode(), 1)


def changed(**more: Any) -> Identity:
    """The identity with other values."""
    return replace(IDENTITY, **more)
