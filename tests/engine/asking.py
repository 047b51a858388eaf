"""What the tests of asking share: tiny repos in memory, plain pictures, and the model that names colours."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cachetui.engine.images import Picture
from cachetui.wanted import Wanted

COLOUR_VLM = Path(__file__).parents[1] / "data" / "colour_vlm"
COLOURS = {
    "red": (214, 40, 35), "green": (35, 160, 60), "blue": (40, 70, 210), "yellow": (230, 210, 50),
    "black": (20, 18, 22), "white": (240, 242, 238),
}  # fmt: skip
"""Not the shades it was trained with."""
QUESTION = "what colour is this picture ?"
Load = Callable[..., Any]


def picture(colour: str = "red", size: tuple[int, int] = (60, 44)) -> Picture:
    """A plain one."""
    from PIL import Image

    image = Image.new("RGB", size, COLOURS[colour])
    return Picture(image, f"{colour}.png", hashlib.sha256(image.tobytes()).hexdigest(), size, size)


def loaded_from(folder: Path, **more: Any) -> Any:
    """Through the real loader."""
    from cachetui.engine.loading import load

    return load(Wanted(str(folder), folder.name, **({"dtype": "float32", "device": "cpu"} | more)))


@cache
def colour_vlm(**more: Any) -> Any:
    """Loaded once for all tests of a process."""
    return loaded_from(COLOUR_VLM, **more)
