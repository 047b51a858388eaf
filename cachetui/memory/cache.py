"""What a model keeps for every token it has read, by its config.

Follows transformers 5.23: cache_utils.py (`get_layer_types_and_kwargs`, DynamicCache: sliding layers keep the last
window - 1 tokens), and the modeling files for what a layer stores: MLA (deepseek) its latent, linear attention
(qwen3_next), state spaces (mamba, mamba2 and their hybrids) and short convolutions (lfm2) a state of constant size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachetui.memory.config import LLAMA_CPP, UNSURE, Config, text_config

FULL, SLIDING, STATE, HYBRID, NONE = "full", "sliding", "state", "hybrid", "none"
_KINDS = {
    "full_attention": FULL, "attention": FULL, "sliding_attention": SLIDING, "chunked_attention": SLIDING,
    "linear_attention": STATE, "mamba": STATE, "conv": STATE, "hybrid": HYBRID, "moe": NONE, "mlp": NONE,
}  # fmt: skip
_ENCODERS = frozenset((
    "bert", "roberta", "xlm-roberta", "distilbert", "albert", "electra", "deberta", "deberta-v2", "mpnet", "camembert",
    "modernbert", "nomic_bert", "clip", "siglip", "siglip2", "vit", "dinov2", "dinov3_vit", "wav2vec2", "hubert",
    "convnext", "swin", "beit", "clap", "esm", "longformer",
))  # fmt: skip
_PATTERNS = {"gemma2": 2, "gemma3_text": 6, "gemma3": 6, "cohere2": 4, "gpt_oss": 2}
"""Every n-th layer is a full one, where the config does not list them."""
_CELLS, _BATCH = 256, 512
"""llama.cpp (llama-kv-cache.cpp): cells come in steps of 256; a window has room for one batch of 512 beside it."""
_WINDOW_ONLY_IF_ASKED = frozenset(("qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "qwen2_vl", "qwen2_5_vl", "smollm3"))


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers that keep the same."""

    number: int
    per_token: int = 0
    """Elements for each token."""
    window: int = 0
    """Only the last window - 1 tokens are kept; 0: all."""
    state: int = 0
    """Elements, whatever the context."""
    state32: int = 0
    """Elements in float32, whatever the dtype."""

    def bytes(self, tokens: int, width: int) -> int:
        """Bytes for a context of `tokens` in a dtype of `width` bytes."""
        kept = min(tokens, self.window - 1) if self.window else tokens
        return self.number * ((self.per_token * kept + self.state) * width + self.state32 * 4)


@dataclass(frozen=True, slots=True)
class Cache:
    """What a whole model keeps."""

    layers: tuple[Layers, ...]
    limit: int
    """Tokens the model was made for; 0: unknown."""
    exact: bool
    note: str = ""
    cells: int = 1
    """Room is taken for so many tokens at once."""

    def bytes(self, tokens: int, width: int = 2) -> int:
        """Bytes for one sequence of `tokens`."""
        tokens = -(-tokens // self.cells) * self.cells
        return sum(group.bytes(tokens, width) for group in self.layers)

    @property
    def per_token(self) -> int:
        """Elements that each further token adds, as long as no window is full."""
        return sum(g.number * g.per_token for g in self.layers)

    def largest(self, room: int, width: int = 2) -> int:
        """The largest context whose cache goes into `room` bytes, at most the limit; 0: none."""
        top = self.limit or 1 << 20
        if self.bytes(top, width) <= room:
            return top
        low, high = 0, top
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.bytes(middle, width) <= room else (low, middle)
        return low


def cache_of(config: Mapping[str, Any]) -> Cache | None:
    """Of a config.json, or of a GGUF header's values turned into one; None where there is none or it cannot be told."""
    text = text_config(config)
    if text.family in _ENCODERS or not text.layers:
        return None
    if config.get("is_encoder_decoder") is True:
        per_token = 2 * text.layers * text.kv_heads * text.head_dim
        note = "an encoder-decoder also keeps what the encoder read"
        return Cache((Layers(1, per_token),), text.limit, False, note)
    kinds = _kinds(text)
    counted: dict[str, int] = {}
    for kind in kinds:
        counted[kind] = counted.get(kind, 0) + 1
    groups: list[Layers] = []
    known = True
    state, state32 = _state(text)
    if (STATE in counted or HYBRID in counted) and not state + state32:
        known = False
    llama_cpp = config.get(LLAMA_CPP) is True
    window = -(-(text.window + _BATCH) // _CELLS) * _CELLS + 1 if llama_cpp else text.window
    for kind, number in counted.items():
        if kind in (FULL, SLIDING):
            groups.append(Layers(number, _per_token(text), window if kind == SLIDING else 0))
        elif kind == STATE:
            groups.append(Layers(number, state=state, state32=state32))
        elif kind == HYBRID:
            groups.append(Layers(number, _per_token(text), 0, state, state32))
    note = "" if known else f"what a layer of {text.family} keeps is not known"
    sure = text.sure or not {FULL, SLIDING, HYBRID} & counted.keys()
    exact = known and sure and config.get(UNSURE) is not True
    return Cache(tuple(groups), text.limit, exact, note, _CELLS if llama_cpp else 1)


def _per_token(text: Config) -> int:
    if text.number("kv_lora_rank"):
        return text.number("kv_lora_rank") + text.number("qk_rope_head_dim")
    value = text.number("v_head_dim") or text.number("value_length") or text.head_dim
    return text.kv_heads * (text.head_dim + value)


def _kinds(text: Config) -> Sequence[str]:
    """One of FULL, SLIDING, STATE, HYBRID, NONE for each layer."""
    n = text.layers
    listed = text.get("layer_types") or text.get("layers_block_type")
    if isinstance(listed, list) and len(listed) == n:
        kinds = [_KINDS.get(k, FULL) if isinstance(k, str) else FULL for k in listed]
    else:
        kinds = _unlisted(text, n)
    if not text.window:
        kinds = [FULL if k == SLIDING else k for k in kinds]
    shared = text.number("num_kv_shared_layers")
    return kinds[: n - shared] + [NONE] * shared if 0 < shared < n else kinds


def _unlisted(text: Config, n: int) -> list[str]:
    family = text.family
    if family in ("mamba", "mamba2", "falcon_mamba"):
        return [STATE] * n
    if family == "falcon_h1":
        return [HYBRID] * n
    if family == "jamba":
        period, offset = text.number("attn_layer_period") or 8, text.number("attn_layer_offset", 4)
        return [FULL if i % period == offset else STATE for i in range(n)]
    if family == "bamba":
        full = text.get("attn_layer_indices")
        return [FULL if isinstance(full, list) and i in full else STATE for i in range(n)]
    if family in ("lfm2", "lfm2_vl"):
        full = text.get("full_attn_idxs")
        return [FULL if not isinstance(full, list) or i in full else STATE for i in range(n)]
    if family.startswith(("qwen3_next", "qwen3_5")):
        every = text.number("full_attention_interval") or 4
        return [FULL if (i + 1) % every == 0 else STATE for i in range(n)]
    if not text.window:
        return [FULL] * n
    pattern = text.number("sliding_window_pattern") or _PATTERNS.get(family, 0)
    if pattern:
        return [FULL if (i + 1) % pattern == 0 else SLIDING for i in range(n)]
    if family.removesuffix("_text") in _WINDOW_ONLY_IF_ASKED:
        first = text.number("max_window_layers") if text.get("use_sliding_window") is True else n
        return [SLIDING if i >= first else FULL for i in range(n)]
    return [SLIDING] * n


def _state(text: Config) -> tuple[int, int]:
    """(elements in the model's dtype, elements in float32) of a layer that keeps a state."""
    n = text.number
    if n("linear_num_value_heads"):
        key = n("linear_num_key_heads") * n("linear_key_head_dim")
        value = n("linear_num_value_heads") * n("linear_value_head_dim")
        recurrent = n("linear_num_value_heads") * n("linear_key_head_dim") * n("linear_value_head_dim")
        return (2 * key + value) * n("linear_conv_kernel_dim"), recurrent
    if text.family.startswith("lfm2"):
        return text.hidden * n("conv_L_cache", 3), 0
    if text.family in ("mamba", "falcon_mamba", "jamba"):
        prefix = "mamba_" if text.family == "jamba" else ""
        inner = n("intermediate_size") if not prefix else 0
        inner = inner or n(f"{prefix}expand", 2) * text.hidden
        kernel = n("mamba_d_conv", 4) if prefix else n("conv_kernel", 4)
        return inner * kernel, inner * (n("mamba_d_state", 16) if prefix else n("state_size", 16))
    if text.family == "mamba2":
        inner = n("expand", 2) * text.hidden
        groups, size = n("n_groups", 8), n("state_size", 128)
        return (inner + 2 * groups * size) * n("conv_kernel", 4), inner * size
    if n("mamba_d_state"):  # bamba, falcon_h1, granitemoehybrid
        inner = n("mamba_d_ssm") or n("mamba_expand", 2) * text.hidden
        size = n("mamba_d_state")
        return (inner + 2 * n("mamba_n_groups", 1) * size) * n("mamba_d_conv", 4), inner * size
    return 0, 0
