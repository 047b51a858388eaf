"""The tensors that a config stands for, where no file is here to read them from.

Names and shapes follow transformers 5.23's modeling files, and the modeling files in the model's own repo for what
transformers does not have (InternVL2, Phi-3-Vision, MiniCPM-V). Counts are checked against the real classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cachetui.memory.config import Config, part, text_config
from cachetui.memory.headers import BITS
from cachetui.memory.model import Tensor

_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
Shape = tuple[str, tuple[int, ...]]
_QKV_BIAS = ("qwen2", "qwen2_vl", "qwen2_5_vl", "minicpmv")
_IN_LAYER = re.compile(r"\.(layers|blocks)\.0\.")
"""What stands once for all layers: only the first is written down."""
_HEAD_NORM = ("qwen3", "qwen3_vl", "qwen3_moe", "qwen3_vl_moe")


def tensors_of(config: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """All tensors of a model with this config, one by one. Empty for a family that is not known here."""
    found = []
    for t in likes_of(config):
        for n in range(t.number):
            found.append(t._replace(name=t.name.replace(".0.", f".{n}.", 1), number=1) if t.number > 1 else t)
    return tuple(found)


def likes_of(config: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The same with the likes of all layers in one row each, named as in the first."""
    text = text_config(config)
    family = config.get("model_type")
    if not isinstance(family, str) or family not in _FAMILIES or not text.hidden:
        return ()
    said = config.get("dtype") or config.get("torch_dtype")
    dtype = _DTYPES.get(said, "BF16") if isinstance(said, str) else "BF16"
    vision = _numbers(config)
    deep = vision.get("depth") or vision.get("num_hidden_layers", 0)
    rows = [(n, s, text.layers if _IN_LAYER.search(n) else 1) for n, s in _decoder(text, config)]
    rows += [(n, s, deep if _IN_LAYER.search(n) else 1) for n, s in _FAMILIES[family](config, text)]
    found = []
    for name, shape, number in rows:
        tensor = Tensor(name, dtype, shape, 0, number)
        found.append(tensor._replace(size=tensor.elements * BITS[dtype] // 8))
    return tuple(found)


def _linear(name: str, into: int, out: int, bias: bool = False) -> Iterator[Shape]:
    yield f"{name}.weight", (out, into)
    if bias:
        yield f"{name}.bias", (out,)


def _norm(name: str, size: int, bias: bool = False) -> Iterator[Shape]:
    yield f"{name}.weight", (size,)
    if bias:
        yield f"{name}.bias", (size,)


def _decoder(c: Config, config: Mapping[str, Any]) -> Iterator[Shape]:
    family = c.family.removesuffix("_text")
    yield "model.embed_tokens.weight", (c.vocab, c.hidden)
    yield from (_phi_layer if family == "phi" else _layer)("model.layers.0", c, family)
    phi = family == "phi"
    yield from _norm("model.final_layernorm" if phi else "model.norm", c.hidden, phi)
    tied = next((p["tie_word_embeddings"] for p in (c.raw, config) if "tie_word_embeddings" in p), family == "gemma")
    if not tied:
        yield from _linear("lm_head", c.hidden, c.vocab, phi)


def _layer(at: str, c: Config, family: str) -> Iterator[Shape]:
    queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
    if family in ("phi3", "phi3_v", "internlm2"):
        yield from _linear(f"{at}.self_attn.qkv_proj", c.hidden, queries + 2 * keys)
    else:
        bias = family in _QKV_BIAS
        yield from _linear(f"{at}.self_attn.q_proj", c.hidden, queries, bias)
        yield from _linear(f"{at}.self_attn.k_proj", c.hidden, keys, bias)
        yield from _linear(f"{at}.self_attn.v_proj", c.hidden, keys, bias)
    yield from _linear(f"{at}.self_attn.o_proj", queries, c.hidden)
    if family in _HEAD_NORM:
        yield from _norm(f"{at}.self_attn.q_norm", c.head_dim)
        yield from _norm(f"{at}.self_attn.k_norm", c.head_dim)
    experts = c.number("num_experts")
    if experts:
        inner = c.number("moe_intermediate_size")
        yield f"{at}.mlp.gate.weight", (experts, c.hidden)
        yield f"{at}.mlp.experts.gate_up_proj", (experts, 2 * inner, c.hidden)
        yield f"{at}.mlp.experts.down_proj", (experts, c.hidden, inner)
    else:
        if family in ("phi3", "phi3_v"):
            yield from _linear(f"{at}.mlp.gate_up_proj", c.hidden, 2 * c.inner)
        else:
            yield from _linear(f"{at}.mlp.gate_proj", c.hidden, c.inner)
            yield from _linear(f"{at}.mlp.up_proj", c.hidden, c.inner)
        yield from _linear(f"{at}.mlp.down_proj", c.inner, c.hidden)
    yield from _norm(f"{at}.input_layernorm", c.hidden)
    yield from _norm(f"{at}.post_attention_layernorm", c.hidden)


def _phi_layer(at: str, c: Config, family: str) -> Iterator[Shape]:
    for name in ("q_proj", "k_proj", "v_proj", "dense"):
        yield from _linear(f"{at}.self_attn.{name}", c.hidden, c.hidden, True)
    yield from _linear(f"{at}.mlp.fc1", c.hidden, c.inner, True)
    yield from _linear(f"{at}.mlp.fc2", c.inner, c.hidden, True)
    yield from _norm(f"{at}.input_layernorm", c.hidden, True)


def _nothing(config: Mapping[str, Any], text: Config) -> Iterator[Shape]:
    yield from ()


def _numbers(config: Mapping[str, Any]) -> dict[str, int]:
    return {k: v for k, v in part(config, "vision_config").items() if type(v) is int}


def _block(
    at: str, size: int, inner: int, fused: bool, names: tuple[str, str], norms: tuple[str, str]
) -> Iterator[Shape]:
    """One layer of a vision transformer: attention with biases, two linear layers, two layer norms."""
    if fused:
        yield from _linear(f"{at}.attn.qkv", size, 3 * size, True)
        yield from _linear(f"{at}.attn.proj", size, size, True)
    else:
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{at}.self_attn.{name}", size, size, True)
    yield from _linear(f"{at}.mlp.{names[0]}", size, inner, True)
    yield from _linear(f"{at}.mlp.{names[1]}", inner, size, True)
    yield from _norm(f"{at}.{norms[0]}", size, True)
    yield from _norm(f"{at}.{norms[1]}", size, True)


def _qwen2_vl(config: Mapping[str, Any], text: Config) -> Iterator[Shape]:
    v = _numbers(config)
    size, merged = v["embed_dim"], v["embed_dim"] * v["spatial_merge_size"] ** 2
    yield "visual.patch_embed.proj.weight", (size, 3, v["temporal_patch_size"], v["patch_size"], v["patch_size"])
    yield from _block("visual.blocks.0", size, size * v["mlp_ratio"], True, ("fc1", "fc2"), ("norm1", "norm2"))
    yield from _norm("visual.merger.ln_q", size, True)
    yield from _linear("visual.merger.mlp.0", merged, merged, True)
    yield from _linear("visual.merger.mlp.2", merged, v["hidden_size"], True)


def _qwen2_5_vl(config: Mapping[str, Any], text: Config) -> Iterator[Shape]:
    v = _numbers(config)
    size, inner, merged = v["hidden_size"], v["intermediate_size"], v["hidden_size"] * v["spatial_merge_size"] ** 2
    yield "visual.patch_embed.proj.weight", (size, 3, v["temporal_patch_size"], v["patch_size"], v["patch_size"])
    at = "visual.blocks.0"
    yield from _linear(f"{at}.attn.qkv", size, 3 * size, True)
    yield from _linear(f"{at}.attn.proj", size, size, True)
    yield from _linear(f"{at}.mlp.gate_proj", size, inner, True)
    yield from _linear(f"{at}.mlp.up_proj", size, inner, True)
    yield from _linear(f"{at}.mlp.down_proj", inner, size, True)
    yield from _norm(f"{at}.norm1", size)
    yield from _norm(f"{at}.norm2", size)
    yield from _norm("visual.merger.ln_q", size)
    yield from _linear("visual.merger.mlp.0", merged, merged, True)
    yield from _linear("visual.merger.mlp.2", merged, v["out_hidden_size"], True)


def _qwen3_vl(config: Mapping[str, Any], text: Config) -> Iterator[Shape]:
    v = _numbers(config)
    size, merged, out = v["hidden_size"], v["hidden_size"] * v["spatial_merge_size"] ** 2, v["out_hidden_size"]
    yield "visual.patch_embed.proj.weight", (size, 3, v["temporal_patch_size"], v["patch_size"], v["patch_size"])
    yield "visual.patch_embed.proj.bias", (size,)
    yield "visual.pos_embed.weight", (v["num_position_embeddings"], size)
    names = ("linear_fc1", "linear_fc2")
    yield from _block("visual.blocks.0", size, v["intermediate_size"], True, names, ("norm1", "norm2"))
    deep = len(part(config, "vision_config").get("deepstack_visual_indexes", ()))
    for at, normed in [("visual.merger", size), *((f"visual.deepstack_merger_list.{n}", merged) for n in range(deep))]:
        yield from _norm(f"{at}.norm", normed, True)
        yield from _linear(f"{at}.linear_fc1", merged, merged, True)
        yield from _linear(f"{at}.linear_fc2", merged, out, True)


def _clip(at: str, v: Mapping[str, int]) -> Iterator[Shape]:
    size, patches = v["hidden_size"], (v["image_size"] // v["patch_size"]) ** 2
    yield f"{at}.embeddings.class_embedding", (size,)
    yield f"{at}.embeddings.patch_embedding.weight", (size, 3, v["patch_size"], v["patch_size"])
    yield f"{at}.embeddings.position_embedding.weight", (patches + 1, size)
    yield from _norm(f"{at}.pre_layrnorm", size, True)
    norms = ("layer_norm1", "layer_norm2")
    yield from _block(f"{at}.encoder.layers.0", size, v["intermediate_size"], False, ("fc1", "fc2"), norms)
    yield from _norm(f"{at}.post_layernorm", size, True)


def _llava(config: Mapping[str, Any], text: Config) -> Iterator[Shape]:
    v = _numbers(config)
    yield from _clip("model.vision_tower.vision_model", v)
    yield from _linear("model.multi_modal_projector.linear_1", v["hidden_size"], text.hidden, True)
    yield from _linear("model.multi_modal_projector.linear_2", text.hidden, text.hidden, True)


def _phi3_v(config: Mapping[str, Any], text: Config) -> Iterator[Shape]:
    v, at = _numbers(config), "model.vision_embed_tokens"
    merged = 4 * v["hidden_size"]
    yield from _clip(f"{at}.img_processor.vision_model", v)
    yield f"{at}.glb_GN", (1, 1, merged)
    yield f"{at}.sub_GN", (1, 1, 1, merged)
    yield from _linear(f"{at}.img_projection.0", merged, text.hidden, True)
    yield from _linear(f"{at}.img_projection.2", text.hidden, text.hidden, True)


def _internvl2(config: Mapping[str, Any], text: Config) -> Iterator[Shape]:
    v = _numbers(config)
    size, patches = v["hidden_size"], (v["image_size"] // v["patch_size"]) ** 2
    yield "vision_model.embeddings.class_embedding", (1, 1, size)
    yield "vision_model.embeddings.position_embedding", (1, patches + 1, size)
    yield "vision_model.embeddings.patch_embedding.weight", (size, 3, v["patch_size"], v["patch_size"])
    yield "vision_model.embeddings.patch_embedding.bias", (size,)
    at = "vision_model.encoder.layers.0"
    yield from _block(at, size, v["intermediate_size"], True, ("fc1", "fc2"), ("norm1", "norm2"))
    yield f"{at}.ls1", (size,)
    yield f"{at}.ls2", (size,)
    yield from _norm("mlp1.0", 4 * size, True)
    yield from _linear("mlp1.1", 4 * size, text.hidden, True)
    yield from _linear("mlp1.3", text.hidden, text.hidden, True)


def _minicpmv(config: Mapping[str, Any], text: Config) -> Iterator[Shape]:
    v = _numbers(config)
    size, side = v["hidden_size"], v["image_size"] // v["patch_size"]
    yield "vpm.embeddings.patch_embedding.weight", (size, 3, v["patch_size"], v["patch_size"])
    yield "vpm.embeddings.patch_embedding.bias", (size,)
    yield "vpm.embeddings.position_embedding.weight", (side * side, size)
    norms = ("layer_norm1", "layer_norm2")
    yield from _block("vpm.encoder.layers.0", size, v["intermediate_size"], False, ("fc1", "fc2"), norms)
    yield from _norm("vpm.post_layernorm", size, True)
    wide = text.hidden
    yield "resampler.query", (text.number("query_num") or 64, wide)
    yield "resampler.proj", (wide, wide)
    yield from _linear("resampler.kv_proj", size, wide)
    yield "resampler.attn.in_proj_weight", (3 * wide, wide)
    yield "resampler.attn.in_proj_bias", (3 * wide,)
    yield from _linear("resampler.attn.out_proj", wide, wide, True)
    for name in ("ln_q", "ln_kv", "ln_post"):
        yield from _norm(f"resampler.{name}", wide, True)


_FAMILIES = {
    "llama": _nothing, "mistral": _nothing, "qwen2": _nothing, "qwen3": _nothing, "qwen3_moe": _nothing,
    "gemma": _nothing, "phi": _nothing, "phi3": _nothing, "qwen2_vl": _qwen2_vl, "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl, "qwen3_vl_moe": _qwen3_vl, "llava": _llava, "phi3_v": _phi3_v,
    "internvl_chat": _internvl2, "minicpmv": _minicpmv,
}  # fmt: skip
