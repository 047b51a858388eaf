"""`from cachetui import VLM`: right answers in the caller's process, downloads as HF libraries do, offline if told."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asking import COLOUR_VLM, COLOURS, QUESTION, picture
from needs import needs

torch = needs("torch", reason="needs torch (extra models)")
needs("transformers", reason="needs transformers (extra models)")
pytestmark = pytest.mark.models

from cachetui import VLM  # noqa: E402
from cachetui.engine.errors import NO_MODEL, EngineError  # noqa: E402

sys.path.append(str(Path(__file__).parents[1] / "download"))
from server import HubServer, Repo  # noqa: E402

RIGHT = [f"the picture is {colour} ." for colour in COLOURS]
REPO = "acme/colours"


@pytest.fixture(scope="module")
def vlm() -> Any:
    return VLM(COLOUR_VLM, device="cpu")


def test_importing_brings_no_torch() -> None:
    code = (
        "import sys, cachetui, cachetui.vlm; cachetui.VLM; from cachetui import VLM; "
        "print([m for m in ('torch', 'transformers', 'huggingface_hub', 'PIL') if m in sys.modules], VLM.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] VLM\n"


def test_there_are_no_other_such_names() -> None:
    import cachetui

    with pytest.raises(AttributeError, match="no attribute 'VLMs'"):
        cachetui.VLMs  # noqa: B018


def test_pictures_in_every_form(vlm: Any, tmp_path: Path) -> None:
    image = picture("green").image
    image.save(tmp_path / "x.png")
    file = io.BytesIO()
    image.save(file, "BMP")
    path = tmp_path / "x.png"
    for given in (str(path), path, image, image.convert("RGBA"), file.getvalue(), [image], (None, path)):
        assert vlm.call(QUESTION, given) == "the picture is green ."
    assert vlm.call(text_prompt="what colour ?", image_input=None)
    assert vlm.call(QUESTION, [image, image], max_new_tokens=3) and vlm.answer.tokens == 3
    assert vlm.call(QUESTION, "noise") and vlm.answer.finish == "stop"


def test_options_of_a_question(vlm: Any) -> None:
    pieces: list[str] = []
    image = picture("blue", (800, 600)).image
    said = vlm.call(QUESTION, image, system_prompt="the", max_pixels=1000, on_token=pieces.append)
    assert "".join(pieces) == said and vlm.answer.prompt_tokens == 14
    assert vlm.call(QUESTION, image, resize=(33, 40)) == "the picture is blue ."
    drawn = [vlm.call(QUESTION, image, temperature=4.0, seed=s, max_new_tokens=12) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("flag", ["load_in_4bit", "load_in_8bit"])
def test_quantized_while_loading(flag: str) -> None:
    pytest.importorskip("bitsandbytes")
    found = VLM(model_path=str(COLOUR_VLM), cache_dir=None, **{flag: True})
    assert found.loaded.quantization in repr(found) and found.loaded.quantization
    assert [found.call(text_prompt=QUESTION, image_input=picture(c).image) for c in COLOURS] == RIGHT


def test_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="not both"):
        VLM(COLOUR_VLM, load_in_4bit=True, load_in_8bit=True)
    with pytest.raises(EngineError) as found:
        VLM("no such/folder/at all")
    assert found.value.code == NO_MODEL
    with pytest.raises(EngineError, match="qwen3 can be Qwen/Qwen3"):
        VLM("qwen3")


def test_what_is_no_picture(vlm: Any, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("no picture")
    for given in (tmp_path / "x.png", tmp_path / "none.png", b"no picture", 7):
        with pytest.raises(EngineError) as found:
            vlm.call(QUESTION, given)
        assert found.value.advice
        assert found.value.__notes__ == [found.value.advice]


# Downloading: a process of its own, for huggingface_hub reads its environment when it is imported.


@pytest.fixture
def hub() -> Iterator[HubServer]:
    files = {p.name: p.read_bytes() for p in COLOUR_VLM.iterdir()}
    more = {"pytorch_model.bin": b"the same weights", "onnx/model.onnx": b"once more", "README.md": b"a model"}
    with HubServer() as server:
        server.add(REPO, Repo({**files, **more}, frozenset(["model.safetensors", "pytorch_model.bin"])))
        yield server


def run(hub: HubServer, code: str, **env: str) -> tuple[int, list[str], str]:
    prelude = f"""
from cachetui import VLM
from cachetui.engine.errors import EngineError
from PIL import Image
def tell(vlm):
    print(vlm.loaded.wanted.folder)
    print(vlm.call({QUESTION!r}, Image.new("RGB", (40, 40), {COLOURS["red"]!r})))
"""
    # A worker's environment may have been set up in this very process by another test.
    here = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    done = subprocess.run(
        [sys.executable, "-c", prelude + code],
        env={**here, "HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1", **env},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_it_downloads_what_is_needed_and_then_needs_no_network(hub: HubServer, home: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models"
    code, told, errors = run(
        hub,
        f"""
tell(VLM("{REPO}", {str(cache)!r}, device="cpu"))
tell(VLM("{REPO}", {str(cache / "hub")!r}, device="cpu"))
tell(VLM("hf:{REPO}", device="cpu"))
import huggingface_hub.constants
try:
    VLM("acme/nothing")
except huggingface_hub.errors.RepositoryNotFoundError:
    print("the Hub's own error")
huggingface_hub.constants.HF_HUB_OFFLINE = True
tell(VLM("{REPO}", {str(cache)!r}, device="cpu"))
try:
    VLM("acme/else")
except EngineError as e:
    print(e.code, e.advice)
""",
    )
    assert code == 0, errors
    commit = hub.repos[REPO].commit
    inside = f"models--acme--colours/snapshots/{commit}"
    usual = home / ".cache/huggingface/hub"
    names = {p.name for p in (cache / "hub" / inside).rglob("*")}
    assert told[0:6:2] + told[7:8] == [f"{f}/{inside}" for f in (cache / "hub", cache / "hub", usual, cache / "hub")]
    assert told.pop(6) == "the Hub's own error"
    assert told[1:8:2] == ["the picture is red ."] * 4
    assert told[8] == "no-model cachetui pull hf:acme/else, or unset HF_HUB_OFFLINE"
    assert {"model.safetensors", "README.md"} <= names and not {"pytorch_model.bin", "model.onnx"} & names
    assert not [r for r in hub.requests if "pytorch_model" in r.path or "onnx" in r.path]


def test_what_is_there_is_used_when_the_hub_is_not(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants, snapshot_download

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    snapshot_download(REPO, cache_dir=tmp_path / "own", endpoint=hub.endpoint)
    code, told, errors = run(
        hub,
        f"""
tell(VLM("{REPO}", {str(tmp_path / "own")!r}))
try:
    VLM("acme/else")
except EngineError as e:
    print(e.code, e)
""",
        HF_ENDPOINT="http://127.0.0.1:9",
    )
    assert code == 0, errors
    assert told[0].startswith(str(tmp_path / "own/models--acme--colours")) and told[1] == "the picture is red ."
    assert told[2].startswith("no-model acme/else is not in") and "does not answer" in told[2]


@pytest.mark.sweep
def test_the_small_model_can_be_trained_anew(tmp_path: Path) -> None:
    """Half a minute of one core; the numbers differ between CPUs, the answers must not."""
    script = COLOUR_VLM.parent / "make_colour_vlm.py"
    subprocess.run([sys.executable, script, tmp_path / "made"], check=True, capture_output=True)
    found = VLM(tmp_path / "made", device="cpu")
    assert [found.call(QUESTION, picture(c).image) for c in COLOURS] == RIGHT
