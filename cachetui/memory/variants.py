"""What a 4-bit version that others publish weighs: GGUF Q4_K_M with its projector, GPTQ. Computed from the tensors.

GGUF follows llama.cpp (src/llama-quant.cpp, `llama_tensor_get_type` for LLAMA_FTYPE_MOSTLY_Q4_K_M, and its fallback
for rows that are no multiple of 256) and the block sizes of ggml. GPTQ follows the files that GPT-QModel and AutoGPTQ
write at 4 bits in groups of 128: the linear layers of the language model are packed, everything else stays in 16 bit.
Whether somebody publishes such a file is another question: the Hub knows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cachetui.gguf_tensors import BLOCKS
from cachetui.memory.cache import Cache
from cachetui.memory.config import Config
from cachetui.memory.model import KV, RUNTIME, WEIGHTS, Line, Mode, Tensor
from cachetui.memory.weights import is_linear, is_vision

GGUF, GPTQ = "GGUF Q4_K_M", "GPTQ 4-bit"
LLAMA_RUNTIME = 150_000_000
"""Of llama.cpp's compute buffers; rough."""
_GROUP = 128
_Q4_K, _Q5_K, _Q6_K, _F32, _F16 = 12, 13, 14, 0, 1
_Q8_0 = 8
MIXES = {
    "Q4_K_M": (_Q4_K, _Q6_K, _Q5_K, _Q6_K), "Q5_K_M": (_Q5_K, _Q6_K, _Q6_K, _Q6_K), "Q6_K": (_Q6_K,) * 4,
    "Q8_0": (_Q8_0,) * 4,
}  # fmt: skip
"""File type: ggml's types of most tensors, of values and ffn_down in some layers, of queries, keys and values in one,
and of the output."""
_FALLBACK = {_Q4_K: 6, _Q5_K: 7, _Q6_K: 8}
"""Q5_0, Q5_1, Q8_0: blocks of 32, for rows that are no multiple of 256."""
_BESIDE = re.compile(
    r"(^|\.)(multi_modal_projector|mlp1|resampler|merger|connector|img_projection|embed_vision|sub_GN|glb_GN)(\.|$)"
)
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|tok_embeddings|word_embeddings|embed_in)\.weight$")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$|^(language_model\.)?output\.weight$")
_ROUTER = re.compile(r"(^|\.)(gate|router)(\.weight)?$")
_VALUES = re.compile(r"(^|\.)(v_proj|wv)\.weight$")
_FUSED = re.compile(r"(^|\.)(qkv_proj|wqkv|c_attn|query_key_value)\.weight$")
_DOWN = re.compile(r"(^|\.)(down_proj|w2|fc2|c_proj|dense_4h_to_h)(\.weight)?$")


def variants(tensors: Sequence[Tensor], text: Config, cache: Cache | None, context: int) -> tuple[Mode, ...]:
    """Both, as ways to hold the model; `weights` of each is what would be downloaded. Without full weights: none."""
    if cache is None or not text.layers or not any(is_linear(t) for t in tensors):
        return ()
    found = []
    model, beside = gguf_size(tensors, text)
    keeps = Line(KV, cache.bytes(context), False, f"{context} tokens in 16 bit")
    note = "computed: llama.cpp's mix of 4 and 6 bits" + ("; its projector in 16 bit" if beside else "")
    rest = (keeps, Line(RUNTIME, LLAMA_RUNTIME, False, "llama.cpp's compute buffers"))
    found.append(Mode(GGUF, (Line(WEIGHTS, model + beside, False, note), *rest)))
    packed = Line(WEIGHTS, gptq_size(tensors), False, f"computed: linear layers in 4 bit, groups of {_GROUP}")
    found.append(Mode(GPTQ, (packed, keeps, Line(RUNTIME, 3 * LLAMA_RUNTIME, False, "CUDA context"))))
    return tuple(found)


def gguf_size(tensors: Sequence[Tensor], text: Config, kind: str = "Q4_K_M") -> tuple[int, int]:
    """(bytes of the model's tensors in a file type of MIXES, bytes of its projector's): headers and vocabulary are some
    MB more.
    """
    usual, finer, fused, output = MIXES[kind]
    tied = not any(_HEAD.search(t.name) for t in tensors)
    more = sum(more_bits(n, text.layers) for n in range(text.layers))
    model = beside = 0
    for t in tensors:
        if is_vision(t.name) or _BESIDE.search(t.name):
            beside += _bytes(t, _F16 if len(t.shape) > 1 else _F32) * t.number
        elif len(t.shape) < 2 or _ROUTER.search(t.name):
            model += _bytes(t, _F32) * t.number
        elif _EMBEDDING.search(t.name):
            model += _bytes(t, output if tied else usual) * t.number
        elif _HEAD.search(t.name):
            model += _bytes(t, output) * t.number
        elif _VALUES.search(t.name) or _DOWN.search(t.name):
            # Spread over the layers: their part of all likes has more bits.
            better = t.number * more // text.layers if text.layers else 0
            is_70b = text.layers == 80 and text.hidden == 8192 and usual == _Q4_K
            plain = _Q5_K if is_70b and _VALUES.search(t.name) else usual
            model += _bytes(t, finer) * better + _bytes(t, plain) * (t.number - better)
        elif _FUSED.search(t.name):
            model += _fused(t, text, more, (usual, finer, fused))
        else:
            model += _bytes(t, usual) * t.number
    return model, beside


def _fused(t: Tensor, text: Config, more: int, kinds: tuple[int, int, int]) -> int:
    """Queries, keys and values in one: kept so (phi3), or taken apart when it is converted (internlm2)."""
    usual, finer, fused = kinds
    if text.family != "internlm2":
        return _bytes(t, fused) * t.number
    rows, wide = t.shape
    values = t._replace(shape=(text.kv_heads * text.head_dim, wide))
    others = t._replace(shape=(rows - values.shape[0], wide))
    plain = _bytes(values, usual) * (t.number - more) + _bytes(values, finer) * more
    return plain + _bytes(others, usual) * t.number


def more_bits(layer: int, layers: int) -> bool:
    """llama.cpp's `use_more_bits`: the first and last eighth of the layers, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _bytes(t: Tensor, kind: int) -> int:
    numbers, size = BLOCKS[fitting(kind, t.shape[-1])]
    return t.elements // numbers * size


def fitting(kind: int, row: int) -> int:
    """The ggml type that is taken for rows of so many numbers, which may be no multiple of its block."""
    if kind in _FALLBACK and row % BLOCKS[kind][0]:
        kind = _FALLBACK[kind]
    return _F16 if row % BLOCKS[kind][0] else kind


def gptq_size(tensors: Sequence[Tensor]) -> int:
    """Bytes of the tensors at 4 bits: halves of bytes, a 16-bit scale and a 4-bit zero a group, an index a row."""
    total = 0
    for t in tensors:
        stacked = len(t.shape) == 3 and ".experts." in t.name
        if not _BESIDE.search(t.name) and (is_linear(t) or stacked):
            groups = -(-t.shape[-1] // _GROUP) * (t.elements // t.shape[-1])
            layers = t.shape[0] * (2 if "gate_up" in t.name else 1) if stacked else 1
            size = t.elements // 2 + 2 * groups + groups // 2 + 4 * t.shape[-1] * layers
        else:
            size = t.elements * 2
        total += size * t.number
    return total
