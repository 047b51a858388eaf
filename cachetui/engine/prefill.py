"""Reading the beginning of a prompt once: what a model keeps of system prompt and pictures before the text comes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cachetui.engine.chat import Encoded

if TYPE_CHECKING:
    from torch import Tensor

    from cachetui.engine.loading import Loaded


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A prompt of which the model has read the beginning."""

    encoded: Encoded
    """The whole prompt, ids of what was read included; without pixels."""
    cache: Any
    """transformers.Cache that holds the first tokens. Asking changes it: one is good for one question."""
    rope_deltas: Tensor | None
    """int64 (1, 1): how far positions lag behind tokens after pictures (Qwen-VL); None in other architectures."""


def prefill(loaded: Loaded, encoded: Encoded) -> Prefilled:
    """Read the first `encoded.prefix` tokens and the pictures. Works for every architecture that keeps a cache."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=loaded.model.config)
    total, prefix = encoded.ids.shape[1], encoded.prefix
    # What has a value for every token is cut like the tokens; the shape of a picture is not.
    extra = {k: v[..., :prefix] if v.shape[-1] == total else v for k, v in encoded.extra.items()}
    set_rope_deltas(loaded.model, None)  # a prompt without pictures would leave what the last one had
    with torch.no_grad():
        loaded.model(
            input_ids=encoded.ids[:, :prefix],
            attention_mask=encoded.mask[:, :prefix],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **extra,
            **encoded.pixels,
        )
    return Prefilled(replace(encoded, pixels={}), cache, rope_deltas(loaded.model))


def rope_deltas(model: Any) -> Tensor | None:
    """A copy of what the last forward left in the model; None where the architecture has none."""
    found = getattr(getattr(model, "model", None), "rope_deltas", None)
    return None if found is None else found.clone()


def set_rope_deltas(model: Any, deltas: Tensor | None) -> None:
    """Must be said anew before every question that goes on from a cache: what the last one left is wrong, silently."""
    inner = getattr(model, "model", None)
    if inner is not None and hasattr(inner, "rope_deltas"):
        inner.rope_deltas = deltas
