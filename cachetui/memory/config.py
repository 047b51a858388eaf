"""The numbers of a config.json, under the names that families give them, with the defaults a config leaves out.

The defaults are those of transformers 5.23's configuration classes; a config.json names only what differs from them
(LLaVA's text_config has no hidden_size at all).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MAX = 1 << 40
_TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config", "decoder")
_NAMES: Mapping[str, tuple[str, ...]] = {
    "hidden": ("hidden_size", "n_embd", "d_model", "dim"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_decoder_layers", "decoder_layers"),
    "heads": ("num_attention_heads", "n_head", "num_heads", "n_heads", "decoder_attention_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads"),
    "inner": ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "decoder_ffn_dim"),
    "limit": ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "max_seq_len"),
    "head_dim": ("head_dim", "attention_head_dim", "d_kv"),
    "vocab": ("vocab_size",),
}  # fmt: skip
_COLUMNS = ("hidden", "layers", "heads", "kv_heads", "head_dim", "inner", "vocab", "limit", "window")
_DEFAULTS: Mapping[str, tuple[int, ...]] = {
    "llama": (4096, 32, 32, 0, 0, 11008, 32000, 2048, 0),
    "mistral": (4096, 32, 32, 8, 0, 14336, 32000, 131072, 4096),
    "mixtral": (4096, 32, 32, 8, 0, 14336, 32000, 131072, 0),
    "qwen2": (4096, 32, 32, 32, 0, 22016, 151936, 32768, 4096),
    "qwen3": (4096, 32, 32, 32, 128, 22016, 151936, 32768, 4096),
    "qwen3_moe": (2048, 24, 32, 4, 0, 6144, 151936, 32768, 4096),
    "qwen3_vl_text": (4096, 32, 32, 32, 128, 22016, 151936, 128000, 0),
    "qwen3_next": (2048, 48, 16, 2, 256, 5632, 151936, 32768, 0),
    "gemma": (3072, 28, 16, 16, 256, 24576, 256000, 8192, 0),
    "gemma2": (2304, 26, 8, 4, 256, 9216, 256000, 8192, 4096),
    "gemma3_text": (2304, 26, 8, 4, 256, 9216, 262208, 131072, 4096),
    "phi": (2048, 24, 32, 0, 0, 8192, 51200, 2048, 0),
    "phi3": (3072, 32, 32, 0, 0, 8192, 32064, 4096, 0),
    "gpt_oss": (2880, 36, 64, 8, 64, 2880, 201088, 131072, 128),
    "cohere2": (8192, 40, 64, 0, 0, 22528, 256000, 8192, 4096),
    "gpt2": (768, 12, 12, 0, 0, 3072, 50257, 1024, 0),
}  # fmt: skip
LLAMA_CPP, UNSURE = "cachetui:llama.cpp", "cachetui:unsure"
"""Marks in a config that was made of a GGUF header: its cache is llama.cpp's; what it keeps is not certain."""
_MULTI_QUERY = frozenset(("falcon", "gpt_bigcode"))


@dataclass(frozen=True, slots=True)
class Config:
    """The part of a config that describes the language model."""

    raw: Mapping[str, Any]
    family: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocab: int
    limit: int
    window: int
    sure: bool
    """False where a number that matters was neither there nor a known default."""

    def get(self, key: str) -> Any:
        """A value as it stands."""
        return self.raw.get(key)

    def number(self, key: str, default: int = 0) -> int:
        """A count; `default` where it is not there or no count."""
        return _count(self.raw.get(key), default)


def _count(value: object, default: int = 0) -> int:
    return value if type(value) is int and 0 <= value < _MAX else default


def part(config: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The first of the parts that is there, else nothing."""
    return next((p for n in names if isinstance(p := config.get(n), dict)), {})


def text_config(config: Mapping[str, Any]) -> Config:
    """The numbers of the language model in a config."""
    raw: Mapping[str, Any] = config
    for _ in range(2):
        inner = part(raw, *_TEXT_PARTS)
        raw = inner or raw
    family = raw.get("model_type") or config.get("model_type")
    family = family if isinstance(family, str) else ""
    row = _DEFAULTS.get(family) or _DEFAULTS.get(family.removesuffix("_text"))
    base = dict(zip(_COLUMNS, row, strict=True)) if row else {}
    got = {key: _first(raw, names, base.get(key, 0)) for key, names in _NAMES.items()}
    heads = got["heads"]
    explicit = any(name in raw for name in _NAMES["kv_heads"])
    kv_heads = got["kv_heads"] if explicit or row else 0
    if family in _MULTI_QUERY and raw.get("multi_query") is True and raw.get("new_decoder_architecture") is not True:
        kv_heads = 1
    head_dim = got["head_dim"] or (got["hidden"] // heads if heads else 0)
    if "sliding_window" in raw or not row:
        window = _count(raw.get("sliding_window")) or _count(raw.get("attention_chunk_size"))
    else:
        window = base["window"]
    sure = bool(got["layers"] and head_dim)
    return Config(
        raw, family, got["hidden"], got["layers"], heads, kv_heads or heads, head_dim, got["inner"], got["vocab"],
        got["limit"], window, sure,
    )  # fmt: skip


def _first(raw: Mapping[str, Any], names: tuple[str, ...], default: int) -> int:
    return next((v for n in names if (v := _count(raw.get(n)))), default)


def from_gguf(values: Mapping[str, str | int | float | bool]) -> dict[str, Any]:
    """A config in the names of config.json, from the values of a GGUF header (docs/gguf.md)."""
    prefix = str(values.get("general.architecture", ""))
    names = {
        "block_count": "num_hidden_layers", "embedding_length": "hidden_size",
        "context_length": "max_position_embeddings",
        "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
        "attention.key_length": "head_dim", "attention.value_length": "value_length",
        "attention.sliding_window": "sliding_window", "attention.kv_lora_rank": "kv_lora_rank",
        "rope.dimension_count": "rope_dimension_count", "feed_forward_length": "intermediate_size",
        "vocab_size": "vocab_size", "attention.shared_kv_layers": "num_kv_shared_layers",
    }  # fmt: skip
    out: dict[str, Any] = {
        ours: values[f"{prefix}.{key}"] for key, ours in names.items() if f"{prefix}.{key}" in values
    }
    if out.get("kv_lora_rank"):
        out["qk_rope_head_dim"] = out.get("rope_dimension_count", 0)
    out["model_type"] = {"gemma3": "gemma3_text", "phi2": "phi"}.get(prefix, prefix).replace("-", "_")
    out[LLAMA_CPP] = True
    # Arrays (other numbers in each layer) are not in `values`; latents and states are kept in other ways there.
    out[UNSURE] = "kv_lora_rank" in out or "num_key_value_heads" not in out or f"{prefix}.ssm.state_size" in values
    return out
