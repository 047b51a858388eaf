"""Families of models: where their eyes are, and whether transformers 5 knows them. Plain data, no torch.

Read from the source of transformers 5.23: `native` means that models/auto/modeling_auto.py maps the `model_type` to a
class (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES, MODEL_FOR_CAUSAL_LM_MAPPING
_NAMES); `vision` are the names of the modules in models/*/modeling_*.py, from the root of the class that those tables
name. Tests build every native family here and compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of model that reads pictures."""

    name: str
    vision: tuple[str, ...] = ()
    """Dotted names of the modules that see or hear, from the root: bitsandbytes' skip list matches from there."""
    native: bool = True
    """Whether transformers 5 has its classes."""
    remote_code: bool = False
    """Whether its repos bring Python code that must run."""
    successor: str = ""
    """A repo of the same line that loads natively, where this one does not."""
    note: str = ""


_TORCHVISION = "its pictures need the package torchvision"
"""Their image_processing_*.py has no PIL variant."""
_VISUAL = ("model.visual",)
_TOWER = ("model.vision_tower",)
_MODEL = ("model.vision_model",)


def _remote(name: str, successor: str, note: str = "") -> Family:
    return Family(name, (), False, True, successor, note)


_FAMILIES: Mapping[str, Family] = {
    # models/qwen2_vl/modeling_qwen2_vl.py, qwen2_5_vl, qwen3_vl, qwen3_vl_moe, qwen3_5: Model.visual
    "qwen2_vl": Family("Qwen2-VL", _VISUAL),
    "qwen2_5_vl": Family("Qwen2.5-VL", _VISUAL),
    "qwen3_vl": Family("Qwen3-VL", _VISUAL),
    "qwen3_vl_moe": Family("Qwen3-VL MoE", _VISUAL),
    "qwen3_5": Family("Qwen3.5", _VISUAL),
    "qwen3_5_moe": Family("Qwen3.5 MoE", _VISUAL),
    # models/glm4v/modeling_glm4v.py, glm46v: Model.visual
    "glm4v": Family("GLM-4V", _VISUAL),
    "glm4v_moe": Family("GLM-4.5V", _VISUAL),
    "glm46v": Family("GLM-4.6V", _VISUAL),
    # models/llava/modeling_llava.py and its kin: Model.vision_tower
    "llava": Family("LLaVA", _TOWER),
    "llava_next": Family("LLaVA-NeXT", _TOWER),
    "llava_onevision": Family("LLaVA-OneVision", _TOWER),
    "vipllava": Family("ViP-LLaVA", _TOWER),
    "paligemma": Family("PaliGemma", _TOWER),
    "mistral3": Family("Mistral 3", _TOWER, note=_TORCHVISION),
    "aya_vision": Family("Aya Vision", _TOWER),
    "cohere2_vision": Family("Command A Vision", _TOWER, note=_TORCHVISION),
    "lfm2_vl": Family("LFM2-VL", _TOWER, note=_TORCHVISION),
    "got_ocr2": Family("GOT-OCR 2", _TOWER),
    "florence2": Family("Florence-2", _TOWER),
    # models/internvl/modeling_internvl.py; repos that end in -hf. The others have model_type internvl_chat, below.
    "internvl": Family("InternVL", _TOWER),
    # models/ovis2/modeling_ovis2.py (repos that end in -hf), models/molmo2, models/kimi_k25: Model.vision_tower
    "ovis2": Family("Ovis2", _TOWER),
    "molmo2": Family("Molmo 2", _TOWER, note=_TORCHVISION),
    "kimi_k25": Family("Kimi K2.5", _TOWER, note=_TORCHVISION),
    # models/gemma3/modeling_gemma3.py; gemma3n and gemma4 hear too: Model.audio_tower
    "gemma3": Family("Gemma 3", _TOWER),
    "gemma3n": Family("Gemma 3n", (*_TOWER, "model.audio_tower"), note="its eyes need the package timm"),
    "gemma4": Family("Gemma 4", (*_TOWER, "model.audio_tower")),
    # models/smolvlm/modeling_smolvlm.py, idefics2, idefics3, mllama, deepseek_vl, janus: Model.vision_model
    "smolvlm": Family("SmolVLM", _MODEL),
    "idefics2": Family("Idefics2", _MODEL),
    "idefics3": Family("Idefics3", _MODEL),
    "mllama": Family("Llama 3.2 Vision", _MODEL),
    "deepseek_vl": Family("DeepSeek-VL", _MODEL),
    "janus": Family("Janus", _MODEL),
    # models/llama4/modeling_llama4.py: Llama4ForConditionalGeneration.vision_model, no `model.` before it
    "llama4": Family("Llama 4", ("vision_model",), note=_TORCHVISION),
    # models/minicpmv4_6/modeling_minicpmv4_6.py, minicpmv4_7: Model.vision_tower
    "minicpmv4_6": Family("MiniCPM-V 4.6", _TOWER),
    "minicpmv4_7": Family("MiniCPM-V 4.7", _TOWER),
    # models/phi4_multimodal/modeling_phi4_multimodal.py: Phi4MultimodalFeatureEmbedding; its pictures are prepared by
    # a class that exists for torchvision only (image_processing_phi4_multimodal.py, TorchvisionBackend)
    "phi4_multimodal": Family("Phi-4-multimodal", ("model.embed_tokens_extend",), note=_TORCHVISION),
    # No row in modeling_auto.py for any of these.
    "phi4mm": _remote(
        "Phi-4-multimodal (original)",
        "microsoft/Phi-4-multimodal-instruct",
        "transformers reads the converted files (model_type phi4_multimodal) only",
    ),
    "phi3_v": _remote("Phi-3-vision", "microsoft/Phi-4-multimodal-instruct"),
    "internvl_chat": _remote("InternVL (original)", "OpenGVLab/InternVL3-8B-hf"),
    "minicpmv": _remote("MiniCPM-V", "openbmb/MiniCPM-V-4.6"),
    "minicpmo": _remote("MiniCPM-o", "openbmb/MiniCPM-V-4.6"),
    "ovis": _remote("Ovis", "thisisiron/Ovis2-2B-hf"),
    "molmo": _remote("Molmo", "allenai/Molmo2-8B"),
    "deepseek_vl_v2": _remote("DeepSeek-VL2", "deepseek-community/deepseek-vl-7b-chat"),
    "moondream1": _remote("Moondream", "HuggingFaceTB/SmolVLM2-2.2B-Instruct"),
}


def of(config: Mapping[str, Any]) -> Family | None:
    """The family of a config.json; None for text-only models and for what is not in the table."""
    kind = config.get("model_type")
    return _FAMILIES.get(kind) if isinstance(kind, str) else None


def native() -> tuple[tuple[str, Family], ...]:
    """(model_type, family) of those that transformers 5 loads without remote code."""
    return tuple((kind, family) for kind, family in _FAMILIES.items() if family.native)


def foreign() -> tuple[tuple[str, Family], ...]:
    """(model_type, family) of those that need remote code."""
    return tuple((kind, family) for kind, family in _FAMILIES.items() if not family.native)


def brings_code(config: Mapping[str, Any]) -> bool:
    """Whether the repo has Python classes of its own for a model (`auto_map`), needed or not."""
    return isinstance(config.get("auto_map"), dict) and bool(config["auto_map"])
