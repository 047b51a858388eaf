"""prompt and verify --load with a real model: it is asked the colour of a picture, and loaded from its snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_world import Run
from needs import needs

from cachetui.demo.builders import Hub

torch = needs("torch")
pytestmark = pytest.mark.models

COLOUR_VLM = Path(__file__).parents[1] / "data" / "colour_vlm"


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The model that names colours as a repo, and one whose weights are cut short."""
    from PIL import Image

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    files = {p.name: p.read_bytes() for p in COLOUR_VLM.iterdir()}
    made = Hub(home / ".cache/huggingface/hub")
    made.repo("org/colour").revision(files)
    made.repo("org/cut").revision(files | {"model.safetensors": files["model.safetensors"][:-1000]})
    Image.new("RGB", (60, 44), (40, 70, 210)).save(home / "blue.png")
    return made


def test_a_picture_is_asked_about(hub: Hub, run: Run) -> None:
    answer = run("prompt", "org/colour", "what colour is this picture ?", "--image", "blue.png", "--device", "cpu")
    assert answer.out == "the picture is blue .\n"
    assert "tokens" in answer.err and "no saved state" in answer.err and "(cpu, float32)" in answer.err


def test_a_load_check_names_the_folder(hub: Hub, run: Run) -> None:
    found = run("verify", "--load", "org/colour", "org/cut", "--json", code=1).data
    loads, cut = found["rows"]
    snapshot = next((hub.repo("org/colour").path / "snapshots").iterdir())
    assert (loads["outcome"], loads["folder"]) == ("loads", str(snapshot))
    assert loads["class"] == "LlavaForConditionalGeneration" and loads["seconds"] > 0
    assert loads["memory"] == pytest.approx(sum(f.stat().st_size for f in snapshot.glob("*.safetensors")), rel=0.1)
    assert cut["outcome"] == "fails" and "model.safetensors" in cut["reason"] and "pull" in cut["advice"]
    assert found["failed"] == 1
