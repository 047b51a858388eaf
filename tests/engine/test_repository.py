"""What is wrong with a model's folder is told before torch is even imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cachetui import families
from cachetui.engine import environment
from cachetui.engine.errors import EngineError
from cachetui.engine.repository import look
from cachetui.wanted import BadRequest, Wanted

NUMBERS = b"\0" * 32
HEADER = {"a.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}


def tensors(path: Path, *, rest: bytes = b"\0" * 16) -> None:
    header = json.dumps(HEADER).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + rest)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "llama"}')
    tensors(path / "model.safetensors")
    return path


def error(folder: Path, **more: str) -> EngineError:
    with pytest.raises(EngineError) as caught:
        look(Wanted(str(folder), "m", **more))
    return caught.value


def test_a_whole_folder(folder: Path) -> None:
    found = look(Wanted(str(folder), "m"))
    assert [t.name for t in found.tensors] == ["a.weight"]
    assert (found.method, found.has_tokenizer) == ("", False)
    (folder / "tokenizer.json").touch()
    assert look(Wanted(str(folder), "m")).has_tokenizer


def test_it_imports_no_torch() -> None:
    code = "import sys, cachetui.engine.repository, cachetui.families, cachetui.wanted; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_a_worker_is_offline_and_a_program_decides_for_itself() -> None:
    code = (
        "import os, sys; from cachetui.engine import environment as e; e.prepare(sys.argv[1] == 'worker');"
        "env = os.environ;"
        "print(env.get('HF_HUB_OFFLINE'), env['OMP_NUM_THREADS'] == str(e.cores()), 'torch' in sys.modules)"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "HF_HUB_OFF"))}
    for who, said in (("worker", "1 True False"), ("program", "None True False")):
        assert subprocess.check_output([sys.executable, "-c", code, who], text=True, env=env).strip() == said
    assert 1 <= environment.cores() <= (os.cpu_count() or 1)


def test_what_is_missing(folder: Path) -> None:
    assert error(folder / "nowhere").code == "damaged"
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert error(folder).code == "no-safetensors"
    (folder / "weights.safetensors").unlink()
    assert "no weights" in error(folder).reason
    (folder / "pytorch_model.bin").touch()
    pickled = error(folder, repo="org/m")
    assert pickled.code == "no-safetensors"
    assert "cachetui pull hf:org/m" in pickled.advice
    (folder / "config.json").unlink()
    assert "config.json" in error(folder, repo="org/m").reason
    assert "cachetui pull hf:org/m" in error(folder, repo="org/m").advice


def test_what_is_something_else(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model_index.json").touch()
    assert "diffusers" in error(folder).reason
    (folder / "weights.gguf").touch()
    assert "cachetui[gguf]" in error(folder).advice
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    assert "org/base" in error(folder).reason
    assert error(folder / "weights.gguf").code == "unsupported"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 100_000, b"\xff\xfe"])
def test_a_config_that_is_broken(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    assert error(folder).code == "damaged"


@pytest.mark.parametrize("rest", [b"", b"\0" * 15])
def test_weights_that_are_cut_off(folder: Path, rest: bytes) -> None:
    tensors(folder / "model.safetensors", rest=rest)
    assert (error(folder).code, "cut off" in error(folder).reason) == ("damaged", True)
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    assert error(folder).code == "damaged"


def test_an_index(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    index = folder / "model.safetensors.index.json"
    for content, words in (
        ("{}", "no weight_map"),
        ('{"weight_map": {"a": 1}}', "no weight_map"),
        (
            '{"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "c": "three.safetensors"}}',
            "and 1 more of 3",
        ),
    ):
        index.write_text(content)
        assert words in error(folder).reason
    index.write_text('{"weight_map": {"a": "one.safetensors"}}')
    assert look(Wanted(str(folder), "m")).weights == ("one.safetensors",)


def test_links_to_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../blobs/gone")
    away = error(folder, repo="org/m")
    assert "is not there now" in away.reason
    (tmp_path / "blobs").mkdir()
    broken = error(folder, repo="org/m")
    assert "link to nothing" in broken.reason
    assert "cachetui pull hf:org/m" in broken.advice


@pytest.mark.parametrize(
    ("said", "method"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"load_in_4bit": True}, "bitsandbytes"),
        ({"group_size": 64, "bits": 4}, "mlx"),
        ("what", ""),
        (None, ""),
    ],
)
def test_how_it_is_stored(folder: Path, said: object, method: str) -> None:
    (folder / "config.json").write_text(json.dumps({"quantization_config": said}))
    assert look(Wanted(str(folder), "m")).method == method


def test_a_request_survives_the_wire() -> None:
    wanted = Wanted("/a", "b\udcff", "o/r", "c" * 40, "cuda:1", "bf16", 4, True, ("x", "y"), True, "sdpa")
    sent = json.loads(json.dumps(wanted.to_json() | {"new": 1}))
    assert Wanted.from_json(sent) == wanted
    assert (wanted.dtype, wanted.quantization) == ("bfloat16", "nf4-double")
    assert Wanted.from_json({"folder": "/a", "name": "b"}) == Wanted("/a", "b")


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "tpu"}, {"device": "cpu:1"}, {"device": "cuda:x"}, {"dtype": "int3"}, {"bits": 3}, {"bits": "4"},
        {"double_quant": True}, {"skip": "lm_head"}, {"skip": [1]}, {"folder": None}, {"attention": "paper"},
        {"trust_remote_code": 1},
    ],
)  # fmt: skip
def test_a_request_that_means_nothing(changes: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        Wanted.from_json({"folder": "/a", "name": "b"} | changes)


def test_families() -> None:
    for _, family in families.native():
        assert family.vision and not family.remote_code
    for kind, family in families.foreign():
        assert family.remote_code and families.of({"model_type": kind}) is family
    assert families.of({"model_type": "llama"}) is None
    assert families.of({"model_type": ["llama"]}) is None
    assert not families.brings_code({"auto_map": {}})
    assert families.brings_code({"auto_map": {"AutoModel": "m.M"}})
