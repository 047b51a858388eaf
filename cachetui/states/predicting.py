"""How large a state will be, before anything is loaded: from config.json and the processor's file alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cachetui.memory.cache import cache_of
from cachetui.memory.config import part
from cachetui.memory.vision import image_tokens

WIDTH: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
_PER_TOKEN = 8
"""Bytes of an id, and of each mask."""
_GRID = 24
"""Bytes of one row of image_grid_thw."""
_QWEN_OLD = (3136, 12845056)
_QWEN_NEW = (65536, 16777216)
"""(least, most) pixels in the repos of Qwen2-VL and Qwen2.5-VL, and of Qwen3-VL: where no processor's file is read."""
_MAX = 1 << 40
_TEXT_BYTES = 3.5
_TEMPLATE = 24


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a state will need."""

    tokens: int
    bytes: int
    """Of its tensors; the header beside them is a few kilobytes."""
    exact: bool


def text_tokens(system: str) -> int:
    """About how many tokens a system prompt and a chat template around it become: a rule of thumb."""
    return math.ceil(len(system.encode("utf-8", "surrogateescape")) / _TEXT_BYTES) + _TEMPLATE


def lowered(size: tuple[int, int], *, max_pixels: int = 0, resize: tuple[int, int] | None = None) -> tuple[int, int]:
    """Width and height of a picture after --max-pixels or --resize (which wins), as `engine.images` makes it."""
    if resize is not None:
        return resize
    width, height = size
    if not max_pixels or width * height <= max_pixels:
        return size
    scale = math.sqrt(max_pixels / (width * height))
    new = max(int(width * scale), 1), max(int(height * scale), 1)
    return min(new[0], max(max_pixels // new[1], 1)), min(new[1], max(max_pixels // new[0], 1))


def predict(
    config: Mapping[str, Any],
    *,
    width: int = 0,
    height: int = 0,
    pictures: int = 1,
    system_tokens: int = 0,
    max_pixels: int = 0,
    resize: tuple[int, int] | None = None,
    dtype: str = "bfloat16",
    processor: Mapping[str, Any] | None = None,
) -> Predicted:
    """Tokens and bytes of a state of so many pictures of `width` x `height` pixels.

    `system_tokens`: of everything else before the question (see `text_tokens`). `processor`: what
    preprocessor_config.json or processor_config.json says; without it a picture larger or smaller than the processor
    takes is counted with the values that the family's repos have, and is not exact.
    """
    tokens, exact = system_tokens, True
    if pictures:
        each, exact = picture_tokens(config, lowered((width, height), max_pixels=max_pixels, resize=resize), processor)
        tokens += pictures * each
    cache = cache_of(config)
    if cache is None or not tokens:
        return Predicted(tokens, 0, False)
    beside = 3 if typed(config) else 2
    grid = _GRID * pictures if _qwen(config) else 0
    kept = cache.bytes(tokens, WIDTH.get(dtype, 2)) + beside * _PER_TOKEN * tokens + grid
    return Predicted(tokens, kept + (_PER_TOKEN if _qwen(config) else 0), exact and cache.exact)


def picture_tokens(
    config: Mapping[str, Any], size: tuple[int, int], processor: Mapping[str, Any] | None = None
) -> tuple[int, bool]:
    """(tokens of one picture of `size` pixels, whether that is exact)."""
    if min(size) < 1:
        return 0, False
    if _qwen(config):
        return _qwen_tokens(config, size, processor)
    return image_tokens(config, size)


def _qwen_tokens(
    config: Mapping[str, Any], size: tuple[int, int], processor: Mapping[str, Any] | None
) -> tuple[int, bool]:
    """`smart_resize` of transformers' models/qwen2_vl/image_processing_qwen2_vl.py."""
    vision = part(config, "vision_config")
    old = not str(config.get("model_type")).startswith("qwen3")
    side = _count(vision, "patch_size", 14 if old else 16) * _count(vision, "spatial_merge_size", 2)
    least, most = _QWEN_OLD if old else _QWEN_NEW
    given = _image_processor(processor)
    if given:
        edges = part(given, "size")
        least = _count(given, "min_pixels", _count(edges, "shortest_edge", 56 * 56))
        most = _count(given, "max_pixels", _count(edges, "longest_edge", 28 * 28 * 1280))
        side = _count(given, "patch_size", 14) * _count(given, "merge_size", 2)
    width, height = size
    if max(size) > 200 * min(size):
        return 0, False  # the processor refuses it
    w, h = round(width / side) * side, round(height / side) * side
    exact = bool(given)
    if w * h > most:
        beta = math.sqrt(width * height / most)
        w = max(side, math.floor(width / beta / side) * side)
        h = max(side, math.floor(height / beta / side) * side)
    elif w * h < least:
        beta = math.sqrt(least / (width * height))
        w, h = math.ceil(width * beta / side) * side, math.ceil(height * beta / side) * side
    else:
        exact = True
    return (w // side) * (h // side), exact


def typed(config: Mapping[str, Any]) -> bool:
    """Whether the processor tells tokens of pictures from those of text in a mask of its own."""
    return _qwen(config) or config.get("model_type") == "gemma3"


def _qwen(config: Mapping[str, Any]) -> bool:
    family = config.get("model_type")
    return isinstance(family, str) and family.startswith(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5"))


def _image_processor(processor: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The part about pictures: processor_config.json of transformers 5 holds it below a name."""
    return part(processor, "image_processor") or processor if processor else {}


def _count(body: Mapping[str, Any], key: str, default: int) -> int:
    value = body.get(key)
    return value if type(value) is int and 0 < value < _MAX else default
