"""Models that need not be on disk: the numbers of their configs, and where those were read. Nothing else is typed in.

All sizes follow from these numbers through shapes.py. A model without a source has no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cachetui.memory.shapes import likes_of
from cachetui.memory.sources import Facts
from cachetui.memory.weights import stored, untied

READ = "2026-11-21"
"""When the sources were read."""

_TITAN = (
    "https://github.com/pytorch/torchtitan/blob/0375bb6789fa55559e7bb58d81e8cca47cb418a1/"
    "torchtitan/experiments/qwen3_vl/__init__.py"
)
_MLC = (
    "https://github.com/mlc-ai/mlc-llm/blob/f2b1ffe068a84d4703fb695ac9a3615c88713a1a/"
    "python/mlc_llm/model/model_preset.py"
)
_COMFY = (
    "https://github.com/Comfy-Org/ComfyUI/blob/master/comfy/text_encoders/llama.py"
    " (Qwen3VL_32BConfig: 50 of 64 layers), vision as in " + _TITAN
)
_QWEN3 = (
    "https://github.com/pytorch/torchtitan/blob/cfb93265153094f99736547f26b5346410181102/"
    "torchtitan/models/qwen3/__init__.py"
)
_OUMI = "https://github.com/oumi-ai/oumi/blob/bd18cd68cdcdb3b1942c9813689c5c3e4d7d9977/configs/recipes/"
_COUNTED = (
    "https://github.com/floschne/gimmick/blob/81c06a5e04ee936534f8519d1f13591505f5182b/src/gimmick/models/__init__.py"
)
"""Parameters of models by the headers of their own files (huggingface_hub.get_safetensors_metadata), to compare with:
MiniCPM-V-2_6, Qwen2-VL-7B, InternVL2.5-8B (which is as InternVL2-8B) and Phi-3.5-vision (as Phi-3-vision)."""
_MINICPM = (
    "https://github.com/InfiniTensor/InfiniLM/blob/84820d6f9240aa7ba2a27abe0c5d5c025768ae52/include/infinicore_infer/"
    "models/minicpmv.h, https://github.com/OpenBMB/MiniCPM-V/blob/main/docs/minicpm_v2dot6.md, vocabulary:"
    " https://github.com/rcarmo/go-pherence/blob/33d3fc0c926cc5f416b6fe19bb55adc70fe26aa3/scripts/minicpmv_check.py;"
    " with these numbers it has the 8,099,175,152 parameters of its files: " + _COUNTED
)


@dataclass(frozen=True, slots=True)
class Row:
    """One model."""

    repo: str
    config: Mapping[str, Any]
    source: str
    names: tuple[str, ...]
    """Short names it answers to."""
    sees: bool
    """Whether it reads pictures."""
    native: bool
    """Whether transformers 5 has its class; else it needs remote code."""
    successor: str = ""
    """What to take instead, where it is not native."""


def _qwen3_vl(
    hidden: int, layers: int, heads: int, inner: int, vision: tuple[int, int, int], **more: Any
) -> dict[str, Any]:
    size, vision_inner, depth = vision
    deep = [5, 11, 17] if depth == 24 else [8, 16, 24]
    text = {
        "model_type": "qwen3_vl_text", "vocab_size": 151936, "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": inner,
        "max_position_embeddings": 262144,
    }  # fmt: skip
    eyes = {
        "hidden_size": size, "intermediate_size": vision_inner, "depth": depth, "num_heads": 16, "patch_size": 16,
        "temporal_patch_size": 2, "spatial_merge_size": 2, "out_hidden_size": hidden, "num_position_embeddings": 2304,
        "deepstack_visual_indexes": deep,
    }  # fmt: skip
    return {"model_type": "qwen3_vl", "tie_word_embeddings": False, "text_config": text, "vision_config": eyes, **more}


def _qwen3_vl_moe(hidden: int, layers: int, heads: int, inner: int, expert: int) -> dict[str, Any]:
    dense = _qwen3_vl(hidden, layers, heads, inner, (1152, 4304, 27), model_type="qwen3_vl_moe")
    more = {"model_type": "qwen3_vl_moe_text", "num_key_value_heads": 4, "num_experts": 128}
    return dense | {"text_config": dense["text_config"] | more | {"moe_intermediate_size": expert}}


def _qwen3(hidden: int, layers: int, heads: int, inner: int, **more: Any) -> dict[str, Any]:
    """Its limit is not in the source: transformers' default for the family stands for it."""
    return {
        "model_type": "qwen3", "vocab_size": 151936, "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": inner,
        "tie_word_embeddings": False, **more,
    }  # fmt: skip


def _llama3(hidden: int, layers: int, heads: int, inner: int) -> dict[str, Any]:
    return {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": 8, "intermediate_size": inner,
        "max_position_embeddings": 131072, "tie_word_embeddings": False,
    }  # fmt: skip


_QWEN2_7B = {
    "vocab_size": 152064, "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "intermediate_size": 18944, "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}  # fmt: skip
_CLIP_L336 = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": 336, "patch_size": 14,
}  # fmt: skip

ROWS: tuple[Row, ...] = (
    Row(
        "Qwen/Qwen3-VL-2B-Instruct",
        _qwen3_vl(2048, 28, 16, 6144, (1024, 4096, 24), tie_word_embeddings=True),
        _TITAN, ("qwen3", "qwen3-vl", "qwen3-vl-2b"), True, True,
    ),
    Row(
        "Qwen/Qwen3-VL-8B-Instruct",
        _qwen3_vl(4096, 36, 32, 12288, (1152, 4304, 27)),
        _TITAN, ("qwen3", "qwen3-vl", "qwen3-vl-8b"), True, True,
    ),
    Row(
        "Qwen/Qwen3-VL-32B-Instruct",
        _qwen3_vl(5120, 64, 64, 25600, (1152, 4304, 27)),
        _COMFY, ("qwen3", "qwen3-vl", "qwen3-vl-32b"), True, True,
    ),
    Row(
        "Qwen/Qwen3-VL-30B-A3B-Instruct",
        _qwen3_vl_moe(2048, 48, 32, 6144, 768),
        _TITAN, ("qwen3", "qwen3-vl", "qwen3-vl-30b"), True, True,
    ),
    Row(
        "Qwen/Qwen3-VL-235B-A22B-Instruct",
        _qwen3_vl_moe(4096, 94, 64, 12288, 1536),
        _TITAN, ("qwen3", "qwen3-vl", "qwen3-vl-235b"), True, True,
    ),
    Row(
        "Qwen/Qwen3-0.6B", _qwen3(1024, 28, 16, 3072, tie_word_embeddings=True),
        _QWEN3, ("qwen3-0.6b",), False, True,
    ),
    Row(
        "Qwen/Qwen3-4B", _qwen3(2560, 36, 32, 9728, tie_word_embeddings=True),
        _QWEN3, ("qwen3-4b",), False, True,
    ),
    Row("Qwen/Qwen3-8B", _qwen3(4096, 36, 32, 12288), _QWEN3, ("qwen3-8b",), False, True),
    Row("Qwen/Qwen3-14B", _qwen3(5120, 40, 40, 17408), _QWEN3, ("qwen3-14b",), False, True),
    Row("Qwen/Qwen3-32B", _qwen3(5120, 64, 64, 25600), _QWEN3, ("qwen3-32b",), False, True),
    Row(
        "Qwen/Qwen3-235B-A22B",
        _qwen3(
            4096, 94, 64, 12288,
            model_type="qwen3_moe", num_key_value_heads=4, num_experts=128, moe_intermediate_size=1536,
        ),
        _QWEN3, ("qwen3-235b",), False, True,
    ),
    Row(
        "meta-llama/Llama-3.1-8B-Instruct", _llama3(4096, 32, 32, 14336),
        _OUMI + "llama3_1/README.md", ("llama3", "llama3.1"), False, True,
    ),
    Row(
        "meta-llama/Llama-3.3-70B-Instruct", _llama3(8192, 80, 64, 28672),
        _OUMI + "llama3_3/README.md", ("llama3.3", "llama3-70b"), False, True,
    ),
    Row(
        "meta-llama/Llama-2-70b-hf",
        {
            "model_type": "llama", "dtype": "float16", "vocab_size": 32000, "hidden_size": 8192,
            "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 28672,
            "max_position_embeddings": 2048, "tie_word_embeddings": False,
        },
        _MLC, ("llama2-70b",), False, True,
    ),
    Row(
        "Qwen/Qwen2-VL-7B-Instruct",
        {"model_type": "qwen2_vl", **_QWEN2_7B, "vision_config": {
            "embed_dim": 1280, "hidden_size": 3584, "depth": 32, "mlp_ratio": 4, "num_heads": 16, "patch_size": 14,
            "temporal_patch_size": 2, "spatial_merge_size": 2,
        }},
        "https://github.com/zhenhua32/Qwen2-VL/blob/main/READ.md (print of the loaded model)",
        ("qwen2", "qwen2-vl"), True, True,
    ),
    Row(
        "Qwen/Qwen2.5-VL-7B-Instruct",
        {"model_type": "qwen2_5_vl", **_QWEN2_7B, "max_position_embeddings": 128000, "vision_config": {
            "hidden_size": 1280, "out_hidden_size": 3584, "depth": 32, "intermediate_size": 3420, "num_heads": 16,
            "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2,
        }},
        "https://github.com/acproject/duorou/blob/0362c275e841b3ce549a941db4a8f776d60266bd/docs/qwen2.5vl_graph.md"
        " (print of the loaded model)",
        ("qwen2.5", "qwen2.5-vl"), True, True,
    ),
    Row(
        "llava-hf/llava-1.5-7b-hf",
        {
            "model_type": "llava", "dtype": "float16", "tie_word_embeddings": False, "image_seq_length": 576,
            "text_config": {"model_type": "llama", "vocab_size": 32064, "max_position_embeddings": 4096},
            "vision_config": _CLIP_L336,
        },
        _MLC,
        ("llava", "llava-1.5"), True, True,
    ),
    Row(
        "OpenGVLab/InternVL2-8B",
        {
            "model_type": "internvl_chat",
            "llm_config": {
                "model_type": "internlm2", "vocab_size": 92553, "hidden_size": 4096, "num_hidden_layers": 32,
                "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
                "max_position_embeddings": 32768, "tie_word_embeddings": False,
            },
            "vision_config": {
                "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "image_size": 448,
                "patch_size": 14,
            },
        },
        "https://github.com/PaddlePaddle/PaddleMIX/blob/develop/tests/models/test_internvl2.py",
        ("internvl", "internvl2"), True, False, "OpenGVLab/InternVL3-8B-hf",
    ),
    Row(
        "openbmb/MiniCPM-V-2_6",
        {
            "model_type": "minicpmv", **_QWEN2_7B, "vocab_size": 151666, "query_num": 64,
            "vision_config": {
                "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "image_size": 980,
                "patch_size": 14,
            },
        },
        _MINICPM, ("minicpm", "minicpm-v"), True, False, "openbmb/MiniCPM-V-4.6",
    ),
    Row(
        "microsoft/Phi-3-vision-128k-instruct",
        {
            "model_type": "phi3_v", "vocab_size": 32064, "hidden_size": 3072, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "intermediate_size": 8192,
            "max_position_embeddings": 131072, "tie_word_embeddings": False, "vision_config": _CLIP_L336,
        },
        "https://github.com/sdpython/experimental-experiment/blob/main/experimental_experiment/torch_models/"
        "llm_model_helper.py (its config.json)",
        ("phi3", "phi3-vision"), True, False, "microsoft/Phi-4-multimodal-instruct",
    ),
    Row(
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        {
            "model_type": "llama", "vocab_size": 32000, "hidden_size": 2048, "num_hidden_layers": 22,
            "num_attention_heads": 32, "num_key_value_heads": 4, "intermediate_size": 5632,
            "max_position_embeddings": 2048, "tie_word_embeddings": False,
        },
        _MLC, ("tinyllama",), False, True,
    ),
    Row(
        "microsoft/phi-2",
        {
            "model_type": "phi", "dtype": "float16", "vocab_size": 51200, "hidden_size": 2560, "num_hidden_layers": 32,
            "num_attention_heads": 32, "intermediate_size": 10240, "max_position_embeddings": 2048,
            "tie_word_embeddings": False,
        },
        _MLC, ("phi2",), False, True,
    ),
    Row(
        "google/gemma-2b",
        {
            "model_type": "gemma", "vocab_size": 256000, "hidden_size": 2048, "num_hidden_layers": 18,
            "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256, "intermediate_size": 16384,
            "max_position_embeddings": 8192, "tie_word_embeddings": True,
        },
        _MLC, ("gemma",), False, True,
    ),
    Row(
        "mistralai/Mistral-7B-v0.1",
        {
            "model_type": "mistral", "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
            "max_position_embeddings": 32768, "sliding_window": 4096, "tie_word_embeddings": False,
        },
        _MLC, ("mistral",), False, True,
    ),
)  # fmt: skip


_NEVER: Mapping[str, tuple[str, ...]] = {
    "qwen3-vl-70b": ("Qwen/Qwen3-VL-32B-Instruct", "Qwen/Qwen2.5-VL-72B-Instruct", "Qwen/Qwen3-VL-235B-A22B-Instruct"),
}


def never(text: str) -> str:
    """Of a name that people look for and nobody published: what is nearest, as a sentence. Else empty."""
    name = text.strip().lower().removeprefix("hf:").rpartition("/")[2].replace("_", "-").removesuffix("-instruct")
    near = _NEVER.get(name)
    return f"{text}: no such model was published; nearest are {', '.join(near)}" if near else ""


def named(text: str) -> tuple[Row, ...]:
    """The rows that a repo id (any case) or a short name means; several where the short name is a family's."""
    wanted = text.strip().lower().removeprefix("hf:")
    exact = tuple(r for r in ROWS if r.repo.lower() == wanted)
    if exact:
        return exact
    short = wanted.replace("_", "-")
    return tuple(r for r in ROWS if short in r.names or r.repo.lower().rpartition("/")[2] == wanted)


CLASSES: tuple[tuple[str, str], ...] = (
    ("0.6B", "Qwen/Qwen3-0.6B"), ("8B", "Qwen/Qwen3-8B"), ("14B", "Qwen/Qwen3-14B"), ("32B", "Qwen/Qwen3-32B"),
    ("70B", "meta-llama/Llama-3.3-70B-Instruct"), ("235B MoE", "Qwen/Qwen3-235B-A22B"),
)  # fmt: skip
"""Sizes that models come in, and the row that stands for each."""


@cache
def facts(repo: str) -> Facts:
    """What is known of a row, as if it were on disk. Raises KeyError."""
    for row in ROWS:
        if row.repo == repo:
            break
    else:
        raise KeyError(repo)
    tensors = untied(likes_of(row.config), row.config)
    size = stored(tensors)
    notes: list[str] = []
    if any(len(t.shape) == 3 and ".experts." in t.name for t in tensors):
        notes.append("transformers 5 fuses the experts, and bitsandbytes leaves them as they are: take a GGUF or GPTQ")
    if row.native:
        notes.append("transformers 5 loads it natively")
    else:
        notes.append(f"transformers 5 has no class for it: remote code, or take {row.successor}")
    label = {"F16": "fp16", "BF16": "bf16", "F32": "fp32"}[tensors[0].dtype]
    source = f"{row.source}, read {READ}"
    return Facts(
        f"hf:{row.repo}", row.repo, row.config, tensors, size, download=size, quantization=label, source=source,
        notes=tuple(notes),
    )  # fmt: skip
