"""What a state will need, told before anything is loaded, against what really comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from needs import needs

from cachetui import states
from cachetui.wanted import Wanted

torch = needs("torch", reason="needs torch (extra models)")
needs("transformers", reason="needs transformers (extra models)")
pytestmark = pytest.mark.models

import tiny  # noqa: E402

from cachetui.engine import chat, images, state  # noqa: E402
from cachetui.engine.loading import Loaded, load  # noqa: E402

SIZES = ((120, 90), (70, 130), (30, 30), (640, 33), (33, 640), (500, 500), (57, 112), (113, 56), (200, 399))
SYSTEM = "you are a helpful assistant analyzing an image."


def picture(width: int, height: int) -> images.Picture:
    """A grey one."""
    from PIL import Image

    return images.Picture(Image.new("RGB", (width, height), (90, 90, 90)), "x", "0" * 64, (width, height), (0, 0))


@pytest.fixture(scope="session")
def model(repo: Callable[..., Path]) -> Callable[[str], tuple[Loaded, dict[str, Any], dict[str, Any]]]:
    """(loaded model, its config.json, what its processor's files say)."""
    made: dict[str, Loaded] = {}

    def get(kind: str) -> tuple[Loaded, dict[str, Any], dict[str, Any]]:
        folder = repo(kind)
        if kind not in made:
            made[kind] = load(Wanted(str(folder), kind, device="cpu"))
        config = json.loads((folder / "config.json").read_text())
        return made[kind], config, states.processor_files(str(folder))

    return get


def beside(loaded: Loaded, system: str, pictures: int) -> int:
    """Tokens before the question that are no pictures: those of the template with a mark for each, less the marks."""
    prompt = chat.render(loaded, system=system, pictures=pictures, text="What")
    whole = loaded.tokenizer(prompt.text, add_special_tokens=prompt.special)["input_ids"]
    tail = chat.follow(loaded, system=system, pictures=pictures, text="What")
    assert tail is not None
    return len(whole) - len(tail) - pictures


def breaks(loaded: Loaded, kind: str, tokens: int) -> int:
    """Of one picture of `tokens`: line breaks that are one token in a real vocabulary, and two in this small one."""
    more = len(loaded.tokenizer("\n\n", add_special_tokens=False)["input_ids"]) - 1
    if kind in ("idefics3", "smolvlm"):
        return more if tokens > 4 + 3 else 0
    return {"gemma3": 2 * more}.get(kind, 0)


EXACT = [k for k in tiny.SEEING if not k.startswith("minicpm")]


@pytest.mark.parametrize("kind", EXACT)
def test_tokens_of_a_picture_are_those_the_processor_makes(kind: str, model: Callable[[str], Any]) -> None:
    loaded, config, said = model(kind)
    assert said
    for width, height in SIZES:
        e = chat.encode(loaded, system="", pictures=[picture(width, height)], text="What")
        real = e.prefix - beside(loaded, "", 1)
        told = states.picture_tokens(config, (width, height), said)
        assert told == (real - breaks(loaded, kind, real), True), (width, height)


@pytest.mark.parametrize("kind", [k for k in tiny.WRITING if k != "mamba" and not k.startswith("minicpm")])
def test_a_prediction_is_what_build_makes(kind: str, model: Callable[[str], Any]) -> None:
    loaded, config, said = model(kind)
    for width, height, count in ((120, 90, 1), (70, 130, 2), (300, 40, 1)) if loaded.images else ((0, 0, 0),):
        made = state.build(loaded, [picture(width, height)] * count, SYSTEM)
        text = beside(loaded, SYSTEM, count)
        text += count * breaks(loaded, kind, (made.info.tokens - text) // max(count, 1))
        told = states.predict(
            config, width=width, height=height, pictures=count, system_tokens=text, dtype="float32", processor=said
        )
        held = sum(t.numel() * t.element_size() for t in made.tensors.values())
        assert (told.tokens, told.bytes, told.exact) == (made.info.tokens, held, True)


def test_numbers_move_with_the_resolution(model: Callable[[str], Any]) -> None:
    loaded, config, said = model("qwen3_vl")
    size = (300, 200)

    def told(**more: Any) -> states.Predicted:
        return states.predict(config, width=size[0], height=size[1], system_tokens=9, processor=said, **more)

    def built(**more: Any) -> int:
        made = state.build(loaded, [picture(*images.lowered(size, **more))], "")
        return made.info.tokens - beside(loaded, "", 1) + 9

    for more in ({}, {"max_pixels": 20_000}, {"max_pixels": 7000}, {"resize": (64, 160)}):
        assert told(**more).tokens == built(**more)
    assert told(max_pixels=20_000).bytes < told().bytes
    assert told(dtype="float32").bytes > told().bytes
