"""Entries of quantized models without torch: real safetensors of a few bytes, any identity."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from cachetui.demo.builders import safetensors_bytes
from cachetui.fs import DISK, Fs
from cachetui.quantized_entries import Entry, Identity, Source
from cachetui.quantized_entries.making import Making

COMMIT = "c3" * 20
NF4: dict[str, Any] = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_use_double_quant": False,
    "llm_int8_skip_modules": ["lm_head", "model.visual"],
}
IDENTITY = Identity(
    repo="org/name", commit=COMMIT, dtype="bfloat16", settings=NF4, model_class="LlamaForCausalLM",
    libraries={"transformers": "5.23", "bitsandbytes": "0.50"},
)  # fmt: skip
FILES = {
    "config.json": b'{"model_type": "llama", "quantization_config": {"quant_method": "bitsandbytes", "bits": 4}}',
    "model.safetensors": safetensors_bytes({"w": ("U8", (5000,))}),
    "tokenizer/vocab.json": b'{"a": 1}',
}


def make(
    folder: Path | str,
    identity: Identity = IDENTITY,
    files: dict[str, bytes] = FILES,
    *,
    fs: Fs = DISK,
    when: float | None = 1.7e9,
    **change: Any,
) -> Entry:
    """Make an entry as the engine does: save beside, publish."""
    identity = replace(identity, **change)
    with Making(str(folder), identity, fs=fs) as making:
        if making.there is not None:
            return making.there
        staging = Path(making.begin())
        for name, content in files.items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).write_bytes(content)
        source = Source(identity.repo or "folder", f"hf:{identity.repo}" if identity.repo else "", "/snapshots/x")
        return making.publish(
            source, seconds=23.0, peak_memory=10**9, device="cpu", libraries={"torch": "2.13.0"}, when=when
        )


def spoil_byte(path: Path, at: int = -3) -> None:
    """Flip one byte and put the time back, as a bad sector would leave it."""
    st = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
