"""Bytes of the weights in each mode, by the rules of the loading libraries.

bitsandbytes 0.50 through transformers 5 (integrations/bitsandbytes.py): every `nn.Linear` is quantized except the
output layer, what is tied to it, and what the skip list names. Embeddings, norms, convolutions, routers and the fused
experts of a mixture (a parameter with three dimensions in transformers 5) are no `nn.Linear` and stay as they are.
4-bit weights lie in blocks of 64 with a float32 maximum each; double quantization stores those maxima in 8 bits, in
blocks of 256. int8 keeps one float32 a row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from cachetui.memory.headers import BITS
from cachetui.memory.model import FP32, HALF, INT8, NF4, NF4_DOUBLE, Tensor

BLOCK, SECOND_BLOCK = 64, 256
_CODE4 = 16 * 4
"""The table of the 16 values of a 4-bit type, kept with every weight."""
_CODE8 = 256 * 4 + 4
"""The table of the 8-bit maxima and their offset, kept with every weight."""

_VISION = re.compile(
    r"(^|\.)(visual|vision_tower|vision_model|vision_encoder|vision_embed_tokens|img_processor|image_encoder|vpm"
    r"|audio_tower|audio_model|vision_backbone)\."
)
_NOT_LINEAR = re.compile(
    r"(^|[._])(embed|wte|wpe|lm_head|embed_out|norm|layernorm|ln_f|router|conv|conv1d)(\d|[._]|$)"
    r"|embed_tokens|embeddings?(\.|$)|relative_attention_bias|\.experts\.|(^|\.)gate$|^(language_model\.)?output$"
)
_LAYER = re.compile(r"\.\d+(?=\.)")
_CONV1D = re.compile(r"(^|\.)h\.\d+\.(attn|mlp|crossattention)\.(c_attn|c_proj|c_fc|q_attn)$")
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|tok_embeddings|word_embeddings|embed_in)\.weight$")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$|^(language_model\.)?output\.weight$")

# Names of tensors that exist only because a layer is quantized already.
_PACKED = re.compile(
    r"\.(qweight|qzeros|scales|g_idx|weight_packed|weight_scale(_inv)?|weight\.(absmax|nested_absmax|quant_map"
    r"|nested_quant_map|quant_state\.bitsandbytes__\w+)|SCB|biases)$|_(blocks|scales)$"
)


_NAMES = 8192
"""Names whose kind is remembered: a model's are asked for again in every mode."""


@lru_cache(_NAMES)
def is_vision(name: str) -> bool:
    """Whether a tensor belongs to the part that sees or hears."""
    return _VISION.search(name) is not None


@lru_cache(_NAMES)
def _is_linear_name(name: str) -> bool:
    return name.endswith(".weight") and not _NOT_LINEAR.search(name[: -len(".weight")])


@lru_cache(_NAMES)
def _is_packed_name(name: str) -> bool:
    return _PACKED.search(name) is not None


def is_linear(tensor: Tensor, *, skip_vision: bool = True) -> bool:
    """Whether bitsandbytes quantizes it."""
    if len(tensor.shape) != 2 or not _is_linear_name(tensor.name):
        return False
    return not (skip_vision and is_vision(tensor.name))


def is_quantized(tensors: Iterable[Tensor]) -> bool:
    """Whether some of it is stored quantized: such weights are loaded as they are."""
    return any(t.dtype.startswith(("F8", "F4", "F6")) or _is_packed_name(t.name) for t in tensors)


def alike(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same with the likes of all layers in one row each: a model has 20 kinds of tensors, in 1,000 copies.

    What is stored quantized stays as it is: there a weight belongs to the scales beside it, by name.
    """
    # One substitution over all names: one for each would take half of the time of an estimate.
    plain = _LAYER.sub("", "\n".join([t.name for t in tensors])).split("\n")
    if len(plain) != len(tensors):  # a name with a line end in it: no loader's
        plain = [_LAYER.sub("", t.name) for t in tensors]
    keys = [(name, t[1], t[2], t[3]) for name, t in zip(plain, tensors, strict=True)]
    number = Counter(keys)
    for key, t in zip(keys, tensors, strict=True):
        if t[4] != 1:
            number[key] += t[4] - 1
    first = dict(zip(reversed(keys), reversed(tensors), strict=True))
    groups = tuple(first[key]._replace(number=n) for key, n in number.items())
    return tuple(tensors) if is_quantized(groups) else groups


def untied(tensors: Sequence[Tensor], config: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Without an output layer that is the embedding again: memory holds it once, whatever the file says."""
    text = config.get("text_config")
    said = [part.get("tie_word_embeddings") for part in (text, config) if isinstance(part, dict)]
    tied = next((s for s in said if isinstance(s, bool)), False)
    if not tied:
        return tuple(tensors)
    shapes = {t.shape for t in tensors if _EMBEDDING.search(t.name)}
    return tuple(t for t in tensors if not (_HEAD.search(t.name) and t.shape in shapes))


def by_dtype(tensors: Iterable[Tensor]) -> tuple[tuple[str, int], ...]:
    """Elements by dtype as stored, most first."""
    count: Counter[str] = Counter()
    for t in tensors:
        count[t.dtype] += t.elements * t.number
    return tuple(count.most_common())


def parameters(tensors: Sequence[Tensor], config: Mapping[str, Any]) -> int:
    """How many numbers the model has; packed ones are counted as what they stand for."""
    total = 0
    bits = _packed_bits(config)
    four_bit = {t.name.removesuffix(".absmax") for t in tensors if t.name.endswith(".weight.absmax")}
    groups = {t.name.removesuffix(".scales") for t in tensors if t.name.endswith(".scales")}
    for t in tensors:
        if t.name in four_bit:
            total += t.elements * 2 * t.number
        elif t.name.endswith((".qweight", ".weight_packed")) or (
            t.dtype == "U32" and t.name.removesuffix(".weight") in groups
        ):
            total += t.elements * BITS.get(t.dtype, 32) // bits * t.number
        elif t.name.endswith("_blocks"):
            total += t.elements * 2 * t.number
        elif not _PACKED.search(t.name):
            total += t.elements * t.number
    return total


def _packed_bits(config: Mapping[str, Any]) -> int:
    for key in ("quantization_config", "quantization"):
        part = config.get(key)
        if isinstance(part, dict):
            for name in ("bits", "w_bit"):
                if part.get(name) in (2, 3, 4, 8):
                    return int(part[name])
    return 4


def stored(tensors: Iterable[Tensor]) -> int:
    """Bytes as they are."""
    return sum(t.size * t.number for t in tensors)


def linear_bytes(tensor: Tensor, mode: str) -> int:
    """Bytes of one quantized linear layer."""
    k = tensor.elements
    if mode == INT8:
        rows = tensor.shape[1] if _CONV1D.search(tensor.name[: -len(".weight")]) else tensor.shape[0]
        return k + 4 * rows
    blocks = -(-k // BLOCK)
    half = -(-k // 2)
    if mode == NF4:
        return half + 4 * blocks + _CODE4
    return half + blocks + 4 * -(-blocks // SECOND_BLOCK) + _CODE4 + _CODE8


def weights(tensors: Sequence[Tensor], mode: str, *, skip_vision: bool = True, rest: int = 2) -> int:
    """Bytes in `fp32`, `16-bit`, `int8`, `nf4` or `nf4 double-quant`; what stays unquantized has `rest` bytes each."""
    if mode in (FP32, HALF):
        width = 4 if mode == FP32 else 2
        return sum((t.elements * width if _is_float(t) else t.size) * t.number for t in tensors)
    assert mode in (INT8, NF4, NF4_DOUBLE)
    total = 0
    for t in tensors:
        if is_linear(t, skip_vision=skip_vision):
            total += linear_bytes(t, mode) * t.number
        else:
            total += (t.elements * rest if _is_float(t) else t.size) * t.number
    return total


def _is_float(tensor: Tensor) -> bool:
    return tensor.dtype.startswith(("F", "BF"))
