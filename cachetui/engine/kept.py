"""What lies in the layers of a cache, taken out as tensors and put back. Follows transformers 5.23's cache_utils.py."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cachetui.states.reading import Layer

if TYPE_CHECKING:
    from torch import Tensor

    from cachetui.engine.loading import Loaded

PLAIN = ("keys", "values")
INDEXED = ("indexer_keys", "indexer_position_ids")
STATES = ("conv_states", "recurrent_states")
KNOWN = frozenset((
    "DynamicLayer", "DynamicSlidingWindowLayer", "DynamicIndexedLayer", "LinearAttentionLayer",
    "LinearAttentionAndFullAttentionLayer", "LinearAttentionAndSlidingWindowAttentionLayer", "DummyLayer",
))  # fmt: skip
"""Classes of layers whose whole content is known here; another one is refused rather than saved in part."""
GOES_ON = frozenset((
    "falcon_h1", "granitemoehybrid", "lfm2", "lfm2_moe", "nemotron_h", "olmo_hybrid", "qwen3_5_moe_text",
    "qwen3_5_text", "qwen3_next", "zamba2",
))  # fmt: skip
"""Families with linear layers that read on from a running state exactly, several tokens at once: a test compares them.

In transformers 5.23 others (bamba, jamba, recurrent_gemma) forget it without a word, and answer something else.
"""


def new_cache(config: Any) -> Any:
    """An empty cache with the layers that this model needs."""
    from transformers import DynamicCache

    return DynamicCache(config=config)


def unsupported(loaded: Loaded) -> str:
    """Why this architecture has no state that can be saved; empty where it has one."""
    model, name = loaded.model, loaded.wanted.name
    if not model.can_generate():
        return f"{name} writes no text ({loaded.model_class}): it has nothing to go on from"
    if getattr(model.config, "is_encoder_decoder", False):
        return f"{name} ({loaded.model_class}) reads with an encoder: it keeps no cache of what it was given"
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        return (
            f"{name} ({loaded.model_class}) is a pure state-space or recurrent model: it has no keys and values, "
            "only a running state that transformers goes on from one token at a time"
        )
    mine = {type(layer).__name__ for layer in new_cache(model.config).layers}
    if mine - KNOWN:
        strange = ", ".join(sorted(mine - KNOWN))
        return f"{name} ({loaded.model_class}) keeps {strange}, of which it is not known what belongs to it"
    family = str(getattr(model.config.get_text_config(decoder=True), "model_type", ""))
    if any(kind.startswith("LinearAttention") for kind in mine) and family not in GOES_ON:
        return (
            f"{name} ({loaded.model_class}) has layers with a running state, and it is not proven that transformers "
            f"reads on from that of {family}: answers could differ without a word"
        )
    return ""


def tensors_of(cache: Any) -> tuple[dict[str, Tensor], tuple[Layer, ...]]:
    """({"layers.N.NAME": tensor}, what each layer is) of a cache that has read something."""
    tensors: dict[str, Tensor] = {}
    layers = []
    for n, layer in enumerate(cache.layers):
        for name in (*PLAIN, *INDEXED):
            found = getattr(layer, name, None)
            if found is not None and found.numel():
                tensors[f"layers.{n}.{name}"] = found
        for name in STATES:
            for k, found in (getattr(layer, name, None) or {}).items():
                if found is not None:
                    tensors[f"layers.{n}.{name}.{k}"] = found
        layers.append(Layer(type(layer).__name__, seen(layer)))
    return tensors, tuple(layers)


def seen(layer: Any) -> int:
    """Tokens a layer has read; 0 where it does not count."""
    count = getattr(layer, "cumulative_length", None)
    if count is None:
        keys = getattr(layer, "keys", None)
        count = keys.shape[-2] if keys is not None and keys.numel() else 0
    return int(count)


def filled(config: Any, tensors: Mapping[str, Tensor], layers: Sequence[Layer]) -> Any:
    """A cache with that content, which a question may change: the tensors stay as they are."""
    cache = new_cache(config)
    for n, (layer, was) in enumerate(zip(cache.layers, layers, strict=True)):
        at = f"layers.{n}."
        if at + PLAIN[0] in tensors:
            keys, values = (tensors[at + name] for name in PLAIN)
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values  # growing makes new ones
            if hasattr(layer, "cumulative_length"):
                layer.cumulative_length = was.seen
        if at + INDEXED[0] in tensors:
            layer.lazy_initialization_indexer(tensors[at + INDEXED[0]])
            for name in INDEXED:
                if at + name in tensors:
                    setattr(layer, name, tensors[at + name])
        for k in range(getattr(layer, "number_of_states", 0)):
            _put_state(layer, k, *(tensors.get(f"{at}{name}.{k}") for name in STATES))
    return cache


def _put_state(layer: Any, k: int, conv: Tensor | None, recurrent: Tensor | None) -> None:
    """These are written in place by every token: the layer gets copies."""
    if conv is not None:
        layer.lazy_initialization(conv_states=conv, state_idx=k)
        layer.conv_states[k].copy_(conv)
        layer.has_previous_state[k] = True
    if recurrent is not None:
        layer.lazy_initialization(recurrent_states=recurrent, state_idx=k)
        layer.recurrent_states[k].copy_(recurrent)
