"""A folder of transformers as a GGUF file in 16 or 32 bits: the models of cachetui.gguf_models, by the package gguf.

Follows llama.cpp's convert_hf_to_gguf.py (TextModel, LlamaModel, Qwen2Model): the same keys, names and order of rows.
Tensors go through one at a time.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cachetui import gguf_models, walk
from cachetui.engine.errors import DAMAGED, EngineError
from cachetui.engine.progress import Reporter
from cachetui.engine.repository import Repository

_NORMAL, _CONTROL, _USER, _UNUSED = 1, 3, 4, 5
_KINDS = {"F32": ("<f4", 0), "F16": ("<f2", 1), "BF16": ("<u2", 30)}
"""dtype of a safetensors header: that of numpy, and ggml's type."""


@dataclass(frozen=True)
class _Source:
    """One tensor in its file."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


def convert(repo: Repository, path: str, reporter: Reporter) -> None:
    """Write `path`. Raises EngineError, Cancelled, OSError."""
    import gguf

    config = repo.config
    writer = gguf.GGUFWriter(path, gguf_models.architecture(config), use_temp_file=False)
    try:
        numbers(writer, repo.wanted.name, config)
        vocabulary(writer, repo)
        _tensors(writer, repo, reporter)
    finally:
        writer.close()


def numbers(writer: Any, name: str, config: Mapping[str, Any]) -> None:
    """The hyperparameters, in GGUF's words."""
    heads = _number(config, "num_attention_heads")
    hidden = _number(config, "hidden_size")
    wide = _number(config, "head_dim", hidden // heads)
    writer.add_type("model")
    writer.add_name(name.encode("utf-8", "replace").decode())
    writer.add_block_count(_number(config, "num_hidden_layers"))
    writer.add_context_length(_number(config, "max_position_embeddings"))
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(_number(config, "intermediate_size"))
    writer.add_head_count(heads)
    writer.add_head_count_kv(_number(config, "num_key_value_heads", heads))
    writer.add_key_length(wide)
    writer.add_value_length(wide)
    writer.add_rope_dimension_count(wide)
    writer.add_layer_norm_rms_eps(float(config.get("rms_norm_eps", 1e-6)))
    writer.add_vocab_size(_number(config, "vocab_size"))
    writer.add_file_type(1)
    writer.add_quantization_version(2)
    rope = gguf_models.rope(config)
    writer.add_rope_freq_base(float(rope.get("rope_theta", config.get("rope_theta", 10000.0))))
    kind, factor = rope.get("rope_type", rope.get("type")), rope.get("factor")
    if kind in ("linear", "yarn") and factor is not None:
        import gguf

        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(float(factor))
        if kind == "yarn":
            before = rope.get("original_max_position_embeddings") or config["max_position_embeddings"]
            writer.add_rope_scaling_orig_ctx_len(int(before))


def _number(config: Mapping[str, Any], key: str, default: int = 0) -> int:
    value = config.get(key)
    value = default if value is None else value
    if type(value) is not int or value < 1:
        raise EngineError(f"config.json says no {key}", "", DAMAGED)
    return value


def vocabulary(writer: Any, repo: Repository) -> None:
    """Tokens with their kinds, merges, special tokens, chat template."""
    import gguf

    path = os.path.realpath(f"{repo.wanted.folder}/tokenizer.json")
    body = json.loads(walk.read_small(path, 64 << 20))
    size = max(_number(repo.config, "vocab_size"), 1)
    tokens = [f"[PAD{n}]" for n in range(size)]
    kinds = [_UNUSED] * size
    for text, at in body["model"]["vocab"].items():
        if at < size:
            tokens[at], kinds[at] = text, _NORMAL
    for added in body.get("added_tokens", ()):
        if added["id"] < size:
            tokens[added["id"]] = added["content"]
            kinds[added["id"]] = _CONTROL if added.get("special") else _USER
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(gguf_models.pre_tokenizer(repo.wanted.folder))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    special = gguf.SpecialVocab(Path(repo.path), load_merges=True, n_vocab=size)
    special.add_to_gguf(writer, quiet=True)


def _tensors(writer: Any, repo: Repository, reporter: Reporter) -> None:
    """Every tensor under its name in GGUF. Norms and biases in 32 bits, the rest as it is stored."""
    import gguf
    import numpy as np

    config = repo.config
    layers = _number(config, "num_hidden_layers")
    arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == gguf_models.architecture(config))
    names = gguf.get_tensor_name_map(arch, layers)
    found: list[tuple[str, str, _Source]] = []
    tied = bool(config.get("tie_word_embeddings"))
    for name, source in _sources(repo):
        if name.endswith((".rotary_emb.inv_freq", ".attention.masked_bias")) or (tied and name == "lm_head.weight"):
            continue
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if new is None or source.dtype not in _KINDS:
            what = f"holds {name}" if new is None else f"stores {name} as {source.dtype}"
            raise EngineError(f"{repo.wanted.name} {what}, which is not converted to GGUF here", "", DAMAGED)
        found.append((new, name, source))
    extra = _factors(config)
    if extra is not None:
        writer.add_tensor_info("rope_freqs.weight", extra.shape, extra.dtype, extra.nbytes)
    for new, _, source in found:
        flat = len(source.shape) < 2
        kind = np.dtype("<f4") if flat else np.dtype(_KINDS[source.dtype][0])
        count = math.prod(source.shape)
        raw = gguf.GGMLQuantizationType(0 if flat else _KINDS[source.dtype][1])
        writer.add_tensor_info(new, source.shape, kind, count * kind.itemsize, raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if extra is not None:
        writer.write_tensor_data(extra)
    for done, (new, name, source) in enumerate(found):
        reporter.tell("load", done, len(found), name)
        writer.write_tensor_data(_rows(source, new, config))


def _sources(repo: Repository) -> Iterator[tuple[str, _Source]]:
    for file in repo.weights:
        path = os.path.realpath(f"{repo.wanted.folder}/{file}")
        length = int.from_bytes(walk.read_small(path, 8), "little")
        header = json.loads(walk.read_small(path, 8 + length)[8:])
        for name, row in header.items():
            if name != "__metadata__":
                yield name, _Source(path, row["dtype"], tuple(row["shape"]), 8 + length + row["data_offsets"][0])


def _rows(source: _Source, new: str, config: Mapping[str, Any]) -> Any:
    import numpy as np

    kind = np.dtype(_KINDS[source.dtype][0])
    data = np.fromfile(source.path, kind, math.prod(source.shape), offset=source.offset).reshape(source.shape)
    if len(source.shape) < 2:
        if source.dtype == "BF16":
            return (data.astype("<u4") << 16).view("<f4")
        return data.astype("<f4")
    if gguf_models.architecture(config) == "llama" and new.endswith((".attn_q.weight", ".attn_k.weight")):
        heads = _number(config, "num_attention_heads")
        if new.endswith(".attn_k.weight"):
            heads = _number(config, "num_key_value_heads", heads)
        # transformers turns halves of a head, llama.cpp neighbours (LlamaModel.permute).
        halves = data.reshape(heads, 2, source.shape[0] // heads // 2, source.shape[1])
        data = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(source.shape)
    return data


def _factors(config: Mapping[str, Any]) -> Any:
    """Llama 3's long context: by how much each frequency is slower (LlamaModel.generate_extra_tensors); else None."""
    import numpy as np

    rope = gguf_models.rope(config)
    if rope.get("rope_type", rope.get("type")) != "llama3":
        return None
    wide = _number(config, "head_dim", _number(config, "hidden_size") // _number(config, "num_attention_heads"))
    base = float(rope.get("rope_theta", config.get("rope_theta", 10000.0)))
    factor, low, high = float(rope["factor"]), float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    before = float(rope["original_max_position_embeddings"])
    found = []
    for n in range(0, wide, 2):
        wave = 2 * math.pi * base ** (n / wide)
        if wave < before / high:
            found.append(1.0)
        elif wave > before / low:
            found.append(factor)
        else:
            smooth = (before / wave - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(found, dtype=np.float32)
