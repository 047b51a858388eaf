"""How many tokens a picture becomes, by the config."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cachetui.memory.config import part


def image_tokens(config: Mapping[str, Any], size: tuple[int, int]) -> tuple[int, bool]:
    """(tokens of one picture of `size` pixels, whether that is exact); 0 where the model sees nothing.

    Exact: Qwen-VL (patches merged, sides rounded to whole ones) and models with a fixed picture size (LLaVA,
    Gemma 3). Models that cut a picture in tiles are counted with the tiles that its shape asks for.
    """
    family = config.get("model_type")
    family = family if isinstance(family, str) else ""
    vision = part(config, "vision_config", "vision_tower_config")

    def number(key: str, default: int) -> int:
        value = vision.get(key)
        return value if type(value) is int and 0 < value < 1 << 20 else default

    width, height = size
    if family.startswith(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5")):
        old = family.startswith(("qwen2_vl", "qwen2_5_vl"))
        side = number("patch_size", 14 if old else 16) * number("spatial_merge_size", 2)
        return max(round(width / side), 1) * max(round(height / side), 1), True
    if family in ("llava", "vipllava"):
        fixed = config.get("image_seq_length")
        patches = (number("image_size", 336) // number("patch_size", 14)) ** 2
        return fixed if type(fixed) is int and fixed > 0 else patches, True
    if family == "gemma3":
        fixed = config.get("mm_tokens_per_image")
        return fixed if type(fixed) is int and fixed > 0 else 256, True
    tiles = 1 + math.ceil(width / 448) * math.ceil(height / 448)
    if family in ("internvl", "internvl_chat"):
        return 256 * min(tiles, 13), False
    if family.startswith("minicpmv"):
        return 64 * min(tiles, 10), False
    if family in ("smolvlm", "idefics3"):
        scale = config.get("scale_factor")
        scale = scale if type(scale) is int and scale > 0 else 2
        tile = number("image_size", 364)
        per_tile = (tile // number("patch_size", 14)) ** 2 // scale**2
        return per_tile * (1 + math.ceil(width / tile) * math.ceil(height / tile)), False
    if family == "phi3_v":
        return 144 * (1 + math.ceil(width / 336) * math.ceil(height / 336)), False
    return (576, False) if vision else (0, True)
