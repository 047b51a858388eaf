"""The trained model that names colours as two GGUF files: text model and projector, as llama.cpp reads a LLaVA.

Follows convert_hf_to_gguf.py of llama.cpp (LlamaModel, LlavaVisionModel). Its vocabulary of whole words becomes one of
byte-level words, with and without the space before them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEMPLATE = "{% for m in messages %}USER: {{ m['content'] }} {% endfor %}ASSISTANT:"
_NORMAL, _UNKNOWN, _CONTROL, _USER = 1, 2, 3, 4
_SPACE = "\u0120"


def build(source: Path, folder: Path) -> tuple[Path, Path]:
    """(model, projector) in `folder`. Needs the package gguf."""
    from safetensors.numpy import load_file

    weights = load_file(source / "model.safetensors")
    model, projector = folder / "colour.gguf", folder / "mmproj-colour.gguf"
    _text(weights, source, model)
    _projector(weights, projector)
    return model, projector


def _text(weights: dict[str, Any], source: Path, path: Path) -> None:
    import gguf
    import numpy as np

    vocabulary = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    plain = list(range(7, len(words)))
    tokens = words + [_SPACE + words[n] for n in plain]
    kinds = [_CONTROL, _CONTROL, _CONTROL, _UNKNOWN, _CONTROL, _USER, _USER] + [_NORMAL] * (2 * len(plain))
    rows = list(range(len(words))) + plain

    out = gguf.GGUFWriter(str(path), "llama")
    out.add_name("colour")
    out.add_context_length(1024)
    out.add_embedding_length(48)
    out.add_block_count(2)
    out.add_feed_forward_length(96)
    out.add_head_count(4)
    out.add_head_count_kv(2)
    out.add_key_length(12)
    out.add_value_length(12)
    out.add_rope_dimension_count(12)
    out.add_rope_freq_base(10000.0)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_vocab_size(len(tokens))
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("llama-bpe")
    out.add_token_list(tokens)
    out.add_token_types(kinds)
    out.add_token_merges(["a b"])
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_pad_token_id(0)
    out.add_add_bos_token(False)
    out.add_chat_template(TEMPLATE)

    def add(name: str, value: Any) -> None:
        out.add_tensor(name, np.ascontiguousarray(value, dtype=np.float32))

    head = weights["language_model.lm_head.weight"][rows]
    head[7 : len(words)] *= 0.5  # a word with its space before it is likelier
    add("token_embd.weight", weights["language_model.model.embed_tokens.weight"][rows])
    add("output.weight", head)
    add("output_norm.weight", weights["language_model.model.norm.weight"])
    for n in range(2):
        ours = f"language_model.model.layers.{n}"
        add(f"blk.{n}.attn_norm.weight", weights[f"{ours}.input_layernorm.weight"])
        add(f"blk.{n}.ffn_norm.weight", weights[f"{ours}.post_attention_layernorm.weight"])
        add(f"blk.{n}.attn_q.weight", _turned(weights[f"{ours}.self_attn.q_proj.weight"], 4))
        add(f"blk.{n}.attn_k.weight", _turned(weights[f"{ours}.self_attn.k_proj.weight"], 2))
        add(f"blk.{n}.attn_v.weight", weights[f"{ours}.self_attn.v_proj.weight"])
        add(f"blk.{n}.attn_output.weight", weights[f"{ours}.self_attn.o_proj.weight"])
        for name in ("gate", "up", "down"):
            add(f"blk.{n}.ffn_{name}.weight", weights[f"{ours}.mlp.{name}_proj.weight"])
    _write(out)


def _turned(weight: Any, heads: int) -> Any:
    """Rotary halves interleaved, as llama.cpp's `llama` has them (LlamaModel.permute)."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _projector(weights: dict[str, Any], path: Path) -> None:
    import gguf
    import numpy as np

    out = gguf.GGUFWriter(str(path), "clip")
    out.add_bool("clip.has_vision_encoder", True)
    out.add_string("clip.projector_type", "mlp")
    out.add_bool("clip.use_gelu", False)
    for name, value in (
        ("image_size", 32), ("patch_size", 16), ("embedding_length", 32), ("feed_forward_length", 64),
        ("block_count", 2), ("projection_dim", 48), ("attention.head_count", 2),
    ):  # fmt: skip
        out.add_uint32(f"clip.vision.{name}", value)
    out.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    out.add_array("clip.vision.image_mean", [0.48145466, 0.4578275, 0.40821073])
    out.add_array("clip.vision.image_std", [0.26862954, 0.26130258, 0.27577711])

    def add(name: str, value: Any) -> None:
        out.add_tensor(name, np.ascontiguousarray(value, dtype=np.float32))

    eyes = "vision_tower."
    add("v.class_embd", weights[f"{eyes}embeddings.class_embedding"])
    add("v.patch_embd.weight", weights[f"{eyes}embeddings.patch_embedding.weight"])
    add("v.position_embd.weight", weights[f"{eyes}embeddings.position_embedding.weight"])
    for kind in ("weight", "bias"):
        add(f"v.pre_ln.{kind}", weights[f"{eyes}pre_layrnorm.{kind}"])
        for n in range(2):
            ours = f"{eyes}encoder.layers.{n}"
            for theirs, name in (
                ("attn_q", "self_attn.q_proj"), ("attn_k", "self_attn.k_proj"), ("attn_v", "self_attn.v_proj"),
                ("attn_out", "self_attn.out_proj"), ("ln1", "layer_norm1"), ("ln2", "layer_norm2"),
                ("ffn_up", "mlp.fc1"), ("ffn_down", "mlp.fc2"),
            ):  # fmt: skip
                add(f"v.blk.{n}.{theirs}.{kind}", weights[f"{ours}.{name}.{kind}"])
        add(f"mm.0.{kind}", weights[f"multi_modal_projector.linear_1.{kind}"])
        add(f"mm.2.{kind}", weights[f"multi_modal_projector.linear_2.{kind}"])
    _write(out)


def _write(out: Any) -> None:
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
