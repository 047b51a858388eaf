"""Tokens of pictures by config and processor's files, where no model is needed to know them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cachetui import states

COLOURS = Path(__file__).parents[1] / "data" / "colour_vlm"
QWEN3 = {"model_type": "qwen3_vl", "vision_config": {"patch_size": 16, "spatial_merge_size": 2}}
QWEN2 = {"model_type": "qwen2_5_vl", "vision_config": {"patch_size": 14, "spatial_merge_size": 2}}
INTERN = {"model_type": "internvl", "vision_config": {"image_size": [448, 448]}}
OLDER = {"min_pixels": 3136, "max_pixels": 1003520, "patch_size": 14, "merge_size": 2}


def test_both_of_a_processors_files_are_read() -> None:
    """transformers 5 writes one with the image processor inside, older versions two."""
    config = json.loads((COLOURS / "config.json").read_text())
    said = states.processor_files(str(COLOURS))
    assert states.picture_tokens(config, (500, 40), said) == (4, True)
    assert states.processor_files("/none") == {}


def test_an_older_pair_and_what_is_broken(home: Path) -> None:
    (home / "preprocessor_config.json").write_text(json.dumps(OLDER))
    (home / "processor_config.json").write_text("{")
    assert states.processor_files(str(home)) == OLDER
    (home / "processor_config.json").write_text(json.dumps({"image_seq_length": 4, "image_processor": [1]}))
    assert states.processor_files(str(home)) == OLDER | {"image_seq_length": 4}


@pytest.mark.parametrize(
    ("config", "size", "said", "tokens", "exact"),
    [
        (QWEN3, (1024, 1024), {}, 32 * 32, True),
        (QWEN3, (100, 50), {}, 12 * 6, False),
        (QWEN2, (1024, 1024), {}, 37 * 37, True),
        (QWEN2, (4000, 3000), OLDER, 41 * 30, True),
        (QWEN2, (20, 20), OLDER, 4, True),
        (QWEN2, (3000, 10), OLDER, 0, True),
        ({"model_type": "gemma3", "mm_tokens_per_image": 256}, (9, 9000), {}, 260, True),
        ({"model_type": "llava", "image_seq_length": 576}, (9, 9000), {}, 576, True),
        (INTERN, (896, 448), {"min_patches": 1}, 2 + 3 * 256, True),
        ({"model_type": "phi3_v", "vision_config": {}}, (336, 336), {}, 288, False),
    ],
)  # fmt: skip
def test_families(
    config: dict[str, Any], size: tuple[int, int], said: dict[str, Any], tokens: int, exact: bool
) -> None:
    assert states.picture_tokens(config, size, said) == (tokens, exact)
    told = states.predict(config, width=size[0], height=size[1], pictures=2, system_tokens=5, processor=said)
    assert told.tokens == (2 * tokens + 5 if tokens else 0)
