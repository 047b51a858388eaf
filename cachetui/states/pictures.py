"""How many tokens a picture becomes, as the processors of transformers 5.23 count it: by size, config and their files.

Counted is all that a processor puts in the place of one picture's mark. Without the processor's file (`processor` is
empty) the values that a family's repos have are taken, and what depends on them is not exact.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from cachetui.checked import CheckError, load
from cachetui.memory.config import part
from cachetui.memory.vision import image_tokens
from cachetui.states.folder import PROCESSOR

QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5")
_QWEN_OLD = (3136, 12845056)
_QWEN_NEW = (65536, 16777216)
"""(least, most) pixels in the repos of Qwen2-VL and Qwen2.5-VL, and of Qwen3-VL."""
_WIDEST = 200
"""Above this ratio of sides Qwen's processor refuses a picture."""
_MAX = 1 << 40
_MAX_FILE = 1 << 20
_MAX_TILES = 64
_LONGEST = 4096
"""MAX_IMAGE_SIZE of Idefics3 and SmolVLM."""

Size = tuple[int, int]
"""Width and height in pixels."""


def processor_files(folder: str) -> dict[str, Any]:
    """What the processor's files in a model's folder say, put together; what cannot be read is left out."""
    found: dict[str, Any] = {}
    for name in PROCESSOR:
        try:
            body = load(os.path.realpath(os.path.join(folder, name)), _MAX_FILE)
        except CheckError:
            continue
        if isinstance(body, dict):
            inner = body.pop("image_processor", None)
            found |= body | (inner if isinstance(inner, dict) else {})
    return found


def picture_tokens(
    config: Mapping[str, Any], size: Size, processor: Mapping[str, Any] | None = None
) -> tuple[int, bool]:
    """(tokens of one picture of `size` pixels, whether that is exact); 0 for a picture that the processor refuses."""
    if min(size) < 1:
        return 0, False
    family, said = _family(config), processor or {}
    if family.startswith(QWEN):
        return _qwen(config, size, said)
    if family == "llava" and said:
        return _llava(config, size, said)
    if family == "gemma3":
        newlines = 2  # "\n\n" before and behind are a token each in its vocabulary
        return image_tokens(config, size)[0] + 2 + newlines, said.get("do_pan_and_scan") is not True
    if family in ("internvl", "internvl_chat"):
        return _internvl(config, size, said)
    if family in ("idefics3", "smolvlm"):
        return _idefics(config, size, said)
    return image_tokens(config, size)


def typed(config: Mapping[str, Any]) -> bool:
    """Whether the processor tells tokens of pictures from those of text in a mask of its own."""
    return _family(config).startswith((*QWEN, "gemma3"))


def gridded(config: Mapping[str, Any]) -> bool:
    """Whether it tells rows and columns of each picture, and positions lag behind tokens."""
    return _family(config).startswith(QWEN)


def _family(config: Mapping[str, Any]) -> str:
    found = config.get("model_type")
    return found if isinstance(found, str) else ""


def _count(body: Mapping[str, Any], key: str, default: int) -> int:
    value = body.get(key)
    return value if type(value) is int and 0 < value < _MAX else default


def _qwen(config: Mapping[str, Any], size: Size, said: Mapping[str, Any]) -> tuple[int, bool]:
    """`smart_resize` of models/qwen2_vl/image_processing_qwen2_vl.py."""
    vision = part(config, "vision_config")
    old = not _family(config).startswith("qwen3")
    side = _count(vision, "patch_size", 14 if old else 16) * _count(vision, "spatial_merge_size", 2)
    least, most = _QWEN_OLD if old else _QWEN_NEW
    if said:
        edges = part(said, "size")
        least = _count(said, "min_pixels", _count(edges, "shortest_edge", 56 * 56))
        most = _count(said, "max_pixels", _count(edges, "longest_edge", 28 * 28 * 1280))
        side = _count(said, "patch_size", 14) * _count(said, "merge_size", 2)
    width, height = size
    if max(size) > _WIDEST * min(size):
        return 0, True
    w, h = round(width / side) * side, round(height / side) * side
    inside = False
    if w * h > most:
        beta = math.sqrt(width * height / most)
        w, h = (max(side, math.floor(n / beta / side) * side) for n in size)
    elif w * h < least:
        beta = math.sqrt(least / (width * height))
        w, h = (math.ceil(n * beta / side) * side for n in size)
    else:
        inside = True
    return (w // side) * (h // side), inside or bool(said)


def _llava(config: Mapping[str, Any], size: Size, said: Mapping[str, Any]) -> tuple[int, bool]:
    """models/llava/processing_llava.py; the picture is cropped to a fixed size."""
    edges = part(said, "crop_size") if said.get("do_center_crop", True) is True else part(said, "size")
    patch = _count(said, "patch_size", _count(part(config, "vision_config"), "patch_size", 14))
    width, height = _count(edges, "width", 0), _count(edges, "height", 0)
    if not width or not height:
        return image_tokens(config, size)
    extra = said.get("num_additional_image_tokens")
    tokens = (height // patch) * (width // patch) + (extra if type(extra) is int and 0 <= extra < 99 else 0)
    cut = said.get("vision_feature_select_strategy", config.get("vision_feature_select_strategy")) == "default"
    return tokens - 1 if cut else tokens, True


def _internvl(config: Mapping[str, Any], size: Size, said: Mapping[str, Any]) -> tuple[int, bool]:
    """models/internvl/processing_internvl.py, `get_optimal_tiled_canvas` of models/got_ocr2: tiles and a thumbnail."""
    vision = part(config, "vision_config")
    whole = vision.get("image_size")
    side = (
        whole[0] if isinstance(whole, list) and whole and type(whole[0]) is int else _count(vision, "image_size", 448)
    )
    tile = _count(part(said, "size"), "width", side), _count(part(said, "size"), "height", side)
    each = _count(said, "image_seq_length", _count(config, "image_seq_length", 256))
    most, least = _count(said, "max_patches", 12), _count(said, "min_patches", 1)
    tiles = 1
    if said.get("crop_to_patches", True) is True and 1 < most <= _MAX_TILES:
        columns, rows = _canvas(size, tile, least, most)
        tiles += columns * rows if columns * rows > 1 else 0
    return 2 + each * tiles, bool(said) and _family(config) == "internvl"


def _canvas(size: Size, tile: Size, least: int, most: int) -> Size:
    """Columns and rows whose shape is nearest to the picture's."""
    grids = [(c, r) for c in range(1, most + 1) for r in range(1, most + 1) if least <= c * r <= most]
    ratio, area = size[0] / size[1], size[0] * size[1]
    best, nearest = (1, 1), math.inf
    for grid in sorted(grids, key=lambda g: g[0] * g[1]):
        difference = abs(ratio - grid[0] / grid[1])
        if difference < nearest:
            best, nearest = grid, difference
        elif difference == nearest and area > 0.5 * tile[0] * tile[1] * grid[0] * grid[1]:
            best = grid
    return best


def _idefics(config: Mapping[str, Any], size: Size, said: Mapping[str, Any]) -> tuple[int, bool]:
    """models/idefics3 (and smolvlm): image_processing_pil_idefics3.py, processing_idefics3.py. Tiles and the whole."""
    vision, scale = part(config, "vision_config"), _count(config, "scale_factor", 2)
    tile = _count(part(said, "max_image_size"), "longest_edge", _count(vision, "image_size", 364))
    longest = _count(part(said, "size"), "longest_edge", 4 * tile)
    each = (_count(vision, "image_size", tile) // _count(vision, "patch_size", 14)) ** 2 // scale**2
    each = _count(said, "image_seq_len", each)
    if said.get("do_image_splitting", True) is not True:
        return each + 3, bool(said)
    width, height = _longest_edge(size, longest)
    aspect = width / height
    if width >= height:
        width = math.ceil(width / tile) * tile
        height = math.ceil(int(width / aspect) / tile) * tile
    else:
        height = math.ceil(height / tile) * tile
        width = math.ceil(int(height * aspect) / tile) * tile
    columns, rows = width // tile, height // tile
    if columns * rows <= 1:
        return each + 3, bool(said)
    # A line break after every row and before the whole picture: the last two are one token in their vocabularies.
    return each + 3 + rows * (columns * (each + 2) + 1), bool(said)


def _longest_edge(size: Size, longest: int) -> Size:
    """`get_resize_output_image_size`: the longer side becomes `longest`, the other even; both at most 4,096."""
    width, height = size
    aspect = width / height
    if width >= height:
        width, height = longest, int(longest / aspect)
        height += height % 2
    else:
        width, height = int(longest * aspect), longest
        width += width % 2
    width, height = max(width, 1), max(height, 1)
    aspect = width / height
    if width >= height and width > _LONGEST:
        width, height = _LONGEST, int(_LONGEST / aspect)
    elif height > width and height > _LONGEST:
        width, height = int(_LONGEST * aspect), _LONGEST
    return max(width, 1), max(height, 1)
