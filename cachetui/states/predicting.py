"""How large a state will be, before anything is loaded: from config.json and the processor's files alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cachetui.memory.cache import cache_of
from cachetui.states.pictures import Size, gridded, picture_tokens, typed

WIDTH: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
_NUMBER = 8
"""Bytes of an id, of a mask's entry, of a position."""
_GRID = 3
"""Numbers that image_grid_thw has for a picture."""
_TEXT_BYTES = 3.5
_TEMPLATE = 24


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a state will need."""

    tokens: int
    """0 where the processor refuses such a picture."""
    bytes: int
    """Of its tensors; the header beside them is a few kilobytes."""
    exact: bool


def text_tokens(system: str) -> int:
    """About how many tokens a system prompt and a chat template around it become: a rule of thumb."""
    return math.ceil(len(system.encode("utf-8", "surrogateescape")) / _TEXT_BYTES) + _TEMPLATE


def lowered(size: Size, *, max_pixels: int = 0, resize: Size | None = None) -> Size:
    """Width and height of a picture after --max-pixels or --resize, which wins."""
    if resize is not None:
        return resize
    width, height = size
    if not max_pixels or width * height <= max_pixels:
        return size
    scale = math.sqrt(max_pixels / (width * height))
    # A side of at least one pixel may leave the other more than its share: then that one is cut.
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
    resize: Size | None = None,
    dtype: str = "bfloat16",
    processor: Mapping[str, Any] | None = None,
) -> Predicted:
    """Tokens and bytes of a state of so many pictures of `width` x `height` pixels.

    `system_tokens`: of everything else before the question (`text_tokens` guesses it). `processor`: what
    `processor_files` finds; without it, pictures are counted with the values that the family's repos have.
    """
    tokens, exact = system_tokens, True
    if pictures:
        each, exact = picture_tokens(config, lowered((width, height), max_pixels=max_pixels, resize=resize), processor)
        if not each:
            return Predicted(0, 0, exact)
        tokens += pictures * each
    cache = cache_of(config)
    if cache is None or not tokens:
        return Predicted(tokens, 0, False)
    beside = 2 * tokens  # ids and their mask
    if pictures:
        beside += tokens if typed(config) else 0
        beside += _GRID * pictures + 1 if gridded(config) else 0
    kept = cache.bytes(tokens, WIDTH.get(dtype, 2))
    return Predicted(tokens, kept + beside * _NUMBER, exact and cache.exact)
