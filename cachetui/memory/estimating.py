"""From what is known of a model to what it needs."""

from __future__ import annotations

from cachetui.memory.cache import Cache, cache_of
from cachetui.memory.config import Config, part, text_config
from cachetui.memory.model import (
    ACTIVATIONS,
    FP32,
    HALF,
    INT8,
    KV,
    NF4,
    NF4_DOUBLE,
    RUNTIME,
    STORED,
    TRAINING,
    USUAL_CONTEXT,
    WEIGHTS,
    Ask,
    Estimate,
    Line,
    Mode,
    Tensor,
)
from cachetui.memory.sources import Facts
from cachetui.memory.training import CUDA_CONTEXT, training
from cachetui.memory.variants import LLAMA_RUNTIME, variants
from cachetui.memory.vision import image_tokens
from cachetui.memory.weights import alike, by_dtype, is_quantized, parameters, stored, untied, weights

_QUANTIZED = "it is quantized already: it is loaded as stored"


def estimate(facts: Facts, ask: Ask | None = None) -> Estimate:
    """What a model needs, mode by mode."""
    ask = ask or Ask()
    text = text_config(facts.config)
    cache = cache_of(facts.config)
    per_image, image_exact = image_tokens(facts.config, ask.image_size) if ask.images else (0, True)
    limit = cache.limit if cache else text.limit
    context = (ask.context or min(USUAL_CONTEXT, limit or USUAL_CONTEXT)) + ask.images * per_image
    notes = list(facts.notes)
    if 0 < limit < context:
        notes.append(f"it was made for {limit} tokens, {context} were asked for")
    if ask.images:
        sure = "" if image_exact else " or so"
        notes.append(f"{ask.images} x {per_image}{sure} tokens of pictures" if per_image else "it reads no pictures")
    if cache is None:
        notes.append("no KV cache" if text.layers else "the config does not tell how large its KV cache is")
    elif cache.note:
        notes.append(cache.note)
    kv_exact = cache is not None and cache.exact and image_exact
    kept = facts.tensors if facts.is_gguf else untied(alike(facts.tensors), facts.config)
    rest = _rest(facts, text, cache, context, kv_exact)
    modes = _modes(facts, kept, ask, rest)
    if facts.is_gguf or not kept:
        why = "GGUF is for inference" if facts.is_gguf else "the layers are not known"
        train = Mode(TRAINING, reason=why)
    else:
        train = training(kept, text, ask, facts.exact)
    elements = sum(t.elements for t in kept) if facts.is_gguf else parameters(kept, facts.config)
    full = not facts.is_gguf and not is_quantized(kept)
    here = "weights and all files beside them" if facts.disk >= 0 else "the weights; a tokenizer is some MB more"
    return Estimate(
        facts.target,
        facts.name,
        _family(facts, text),
        facts.quantization,
        elements or facts.stated,
        () if facts.is_gguf else by_dtype(kept),
        Line("download", facts.download, facts.disk >= 0, here),
        Line("on disk", max(facts.disk, 0), facts.disk >= 0, "all revisions" if facts.disk >= 0 else "not on disk"),
        context,
        limit,
        cache,
        kv_exact,
        modes,
        train,
        tuple(notes),
        facts.source,
        variants(kept, text, cache, context) if full else (),
        bool(part(facts.config, "vision_config", "vision_tower_config")),
    )


def _family(facts: Facts, text: Config) -> str:
    family = facts.config.get("model_type")
    return family if isinstance(family, str) else text.family


def _rest(facts: Facts, text: Config, cache: Cache | None, context: int, kv_exact: bool) -> dict[int, list[Line]]:
    """The lines beside the weights, by bytes of a number."""
    runtime = (
        Line(RUNTIME, LLAMA_RUNTIME, False, "llama.cpp's compute buffers")
        if facts.is_gguf
        else Line(RUNTIME, CUDA_CONTEXT, False, "CUDA context or the libraries, 0.3 to 0.6 GB")
    )
    found = {}
    for width in (2, 4):
        lines = []
        if cache is not None:
            note = f"{context} tokens in {'fp32' if width == 4 else '16 bit'}"
            lines.append(Line(KV, cache.bytes(context, width), kv_exact, note))
        # While the prompt is read: one layer unfolded for all its tokens, and the logits of the last.
        peak = min(context, 4096) * (4 * text.hidden + 2 * text.inner) * width + text.vocab * 4
        if not facts.is_gguf:
            lines.append(Line(ACTIVATIONS, peak, False, "rough: while the prompt is read"))
        found[width] = [*lines, runtime]
    return found


def _modes(facts: Facts, kept: tuple[Tensor, ...], ask: Ask, rest: dict[int, list[Line]]) -> tuple[Mode, ...]:
    whole = stored(kept) if kept else facts.weights
    label = facts.quantization or "as the files say"
    wide = 4 if facts.quantization == "fp32" else 2
    modes = [Mode(STORED, (Line(WEIGHTS, whole, facts.exact, label), *rest[wide]), wide)]
    if facts.is_gguf:
        return tuple(modes)
    for name in (FP32, HALF, INT8, NF4, NF4_DOUBLE):
        if not kept:
            modes.append(Mode(name, reason="the layers are not known"))
        elif is_quantized(kept):
            modes.append(Mode(name, reason=_QUANTIZED))
        else:
            size = weights(kept, name, skip_vision=ask.skip_vision)
            note = "" if name in (FP32, HALF) else "linear layers; the rest in 16 bit"
            width = 4 if name == FP32 else 2
            modes.append(Mode(name, (Line(WEIGHTS, size, facts.exact, note), *rest[width]), width))
    return tuple(modes)
