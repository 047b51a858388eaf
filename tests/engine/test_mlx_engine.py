"""MLX: a tiny model converted by mlx_lm itself answers (on Linux on the CPU), and passes the load check."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asking import picture
from needs import needs

from cachetui.engine.errors import DAMAGED, NOT_INSTALLED, REMOTE_CODE, TOO_LONG, UNSUPPORTED, Cancelled, EngineError
from cachetui.engine.mlx_engine import MlxLoaded, ask, load
from cachetui.engine.prompting import Question
from cachetui.wanted import Wanted

needs("mlx_lm", reason="needs mlx_lm (extra mlx)")
needs("torch", reason="needs torch (extra models)")
pytestmark = pytest.mark.models

TEXT = "what colour is it?"


@pytest.fixture(scope="module")
def folder(repo: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mlx_lm import convert

    made = tmp_path_factory.mktemp("mlx") / "tiny-4bit"
    convert(str(repo("llama")), str(made), quantize=True, q_bits=4, q_group_size=32)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> MlxLoaded:
    return load(str(folder))


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def refused(folder: Path) -> EngineError:
    with pytest.raises(EngineError) as found:
        load(str(folder))
    assert found.value.advice
    return found.value


def test_it_answers(model: MlxLoaded) -> None:
    pieces: list[str] = []
    answer = ask(model, Question(TEXT, system="be short", max_new_tokens=12), on_token=pieces.append)
    assert answer.text == "".join(pieces) and len(pieces) > 5
    assert (answer.tokens, answer.finish) == (12, "length") and answer.prompt_tokens > 20
    assert 0 < answer.first_token_seconds < answer.seconds and answer.tokens_per_second > 0
    assert not answer.state_used and answer.reason and not answer.advice
    assert (model.quantization, model.model_class, model.context) == ("MLX 4-bit", "llama", 2048)
    assert 0 < model.memory < 100_000


def test_the_same_seed_says_the_same(model: MlxLoaded) -> None:
    def said(**more: Any) -> str:
        return ask(model, Question(TEXT, max_new_tokens=12, **more)).text

    assert said() == said(seed=8)
    assert said(temperature=1.5, seed=1) == said(temperature=1.5, seed=1) != said(temperature=1.5, seed=2)


def test_cancelling(model: MlxLoaded) -> None:
    pieces: list[str] = []
    answer = ask(model, Question(TEXT, max_new_tokens=900), on_token=pieces.append, cancelled=lambda: len(pieces) > 4)
    assert answer.finish == "cancelled" and len(pieces) == 5
    answer = ask(model, Question(TEXT), cancelled=lambda: True)
    assert (answer.finish, answer.tokens) == ("cancelled", 0)
    with pytest.raises(Cancelled):
        load(model.folder, cancelled=lambda: True)


def test_limits(model: MlxLoaded, monkeypatch: pytest.MonkeyPatch) -> None:
    count = ask(model, Question(TEXT, max_new_tokens=1)).prompt_tokens
    monkeypatch.setattr(model, "context", count + 3)
    answer = ask(model, Question(TEXT, max_new_tokens=50))
    assert answer.tokens == 3 and f"context of {count + 3}" in answer.advice
    monkeypatch.setattr(model, "context", count)
    with pytest.raises(EngineError) as found:
        ask(model, Question(TEXT))
    assert found.value.code == TOO_LONG


def test_without_a_template(model: MlxLoaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.tokenizer, "has_chat_template", False)
    assert "no chat template" in ask(model, Question(TEXT, max_new_tokens=2)).advice


def test_pictures(model: MlxLoaded) -> None:
    with pytest.raises(EngineError, match="takes no pictures") as found:
        ask(model, Question(TEXT, [picture()]))
    assert found.value.code == UNSUPPORTED


def test_the_load_check_goes_through_mlx(folder: Path) -> None:
    from cachetui.engine.checking import check

    found = check(Wanted(str(folder), "tiny"))
    assert (found.loader, found.folder, found.model_class) == ("mlx_lm", str(folder), "llama")


def test_damage(copied: Path) -> None:
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:4000])
    assert refused(copied).code == DAMAGED
    (copied / "config.json").write_text("{")
    assert refused(copied).code == DAMAGED


def test_code_of_its_own_is_not_run(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"model_file": "evil.py"}))
    (copied / "evil.py").write_text("open('ran', 'w')\n")
    assert refused(copied).code == REMOTE_CODE
    assert not Path("ran").exists()


def test_without_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlx_lm.utils", None)
    error = refused(folder)
    assert error.code == NOT_INSTALLED and error.advice == "pip install 'cachetui[mlx]'"
