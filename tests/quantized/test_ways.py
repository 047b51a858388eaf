"""What MLX and GGUF entries depend on, and which models are converted here: no torch, no model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cachetui import gguf_models
from cachetui.quantized_entries import Identity
from cachetui.quantized_entries.ways import GGUF, MLX, TYPES, Way, identify, obstacles, tools, way_of
from cachetui.wanted import Wanted

CONFIG = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "dtype": "bfloat16"}
LEVEL = {"type": "ByteLevel", "add_prefix_space": False}
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def cut(pattern: str) -> dict[str, Any]:
    steps = [{"type": "Split", "pattern": {"Regex": pattern}}, {**LEVEL, "use_regex": False}]
    return {"type": "Sequence", "pretokenizers": steps}


def model(folder: Path, config: dict[str, Any] | None = None, cutting: Any = None, **bpe: Any) -> Wanted:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or CONFIG))
    (folder / "model.safetensors").write_bytes(b"weights")
    words = {"pre_tokenizer": cutting or {**LEVEL, "use_regex": True}, "model": {"type": "BPE", **bpe}}
    (folder / "tokenizer.json").write_text(json.dumps(words))
    return Wanted(str(folder), folder.name)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The libraries of this machine."""
    found = {"mlx": "0.32.4", "mlx-lm": "0.32.2", "libgguf": "0.2.2", "gguf": "0.19.0"}
    monkeypatch.setattr("cachetui.quantized_entries.ways.version", lambda name: found.get(name, ""))
    monkeypatch.setenv("PATH", "/nowhere")
    return found


def test_equal_inputs_make_one_key_and_every_other_another(tmp_path: Path, machine: dict[str, str]) -> None:
    here, there = model(tmp_path / "a/m"), model(tmp_path / "b/n")
    ways = [Way(MLX, 4), Way(MLX, 8), *(Way(GGUF, type=t) for t in TYPES)]
    keys = {identify(here, way).key for way in ways}
    assert len(keys) == len(ways) and keys == {identify(there, way).key for way in ways}
    for way, library in ((Way(MLX), "mlx"), (Way(MLX), "mlx-lm"), (Way(GGUF), "libgguf"), (Way(GGUF), "gguf")):
        before = identify(here, way)
        old = machine[library]
        machine[library] = old + "1"
        assert identify(here, way).key == before.key, "a patch release"
        machine[library] = "9.9"
        assert any(library in d for d in before.differences(identify(here, way)))
        machine[library] = old
    (tmp_path / "a/m/model.safetensors").write_bytes(b"others!")
    assert identify(here, Way(MLX)).key not in keys
    found = identify(there, Way(GGUF))
    assert Identity.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert [identify(there, w).label for w in ways[:3]] == ["mlx 4-bit", "mlx 8-bit", "Q4_K_M"]


@pytest.mark.parametrize(
    ("cutting", "name"),
    [
        ({**LEVEL, "use_regex": True}, "gpt-2"),
        (cut(SPLIT % ""), "qwen2"),
        (cut(SPLIT % "{1,3}"), "llama-bpe"),
        ({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, LEVEL]}, "smollm"),
        (cut(SPLIT % "{1,2}"), ""),
        ({**LEVEL, "add_prefix_space": True}, ""),
        ({"type": "Metaspace"}, ""),
        ([1], ""),
        ({"type": "Sequence", "pretokenizers": 7}, ""),
    ],
)
def test_how_words_are_cut_has_a_name(tmp_path: Path, cutting: Any, name: str) -> None:
    wanted = model(tmp_path / "m", cutting=cutting)
    assert gguf_models.pre_tokenizer(wanted.folder) == name
    refused = [code for code, _, _ in obstacles(wanted, Way(GGUF), CONFIG)]
    assert refused == ([] if name else ["unsupported"])


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"architectures": ["BertModel"]}, "BertModel is not among those"),
        ({"architectures": 7}, "this architecture is not among those"),
        ({"sliding_window": 4096, "architectures": ["MistralForCausalLM"]}, "sliding window"),
        ({"sliding_window": 4096, "use_sliding_window": True}, "sliding window"),
        ({"rope_scaling": {"type": "longrope"}}, "longrope"),
        ({"attention_bias": True, "architectures": ["LlamaForCausalLM"]}, "biases"),
    ],
)
def test_what_is_not_converted_here_says_why(tmp_path: Path, more: dict[str, Any], why: str) -> None:
    wanted = model(tmp_path / "m", {**CONFIG, **more})
    assert why in gguf_models.unfit({**CONFIG, **more}, wanted.folder)
    assert not gguf_models.unfit({**CONFIG, "sliding_window": 4096, "use_sliding_window": False}, wanted.folder)


def test_llama_cpp_s_tools_are_found_and_told_apart(
    tmp_path: Path, machine: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = model(tmp_path / "m", {**CONFIG, "architectures": ["BertModel"]})
    config = {"architectures": ["BertModel"]}
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name in ("convert_hf_to_gguf.py", "llama-quantize"):
        (bin_ / name).write_text("#!/bin/sh\n")
        (bin_ / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_))
    assert obstacles(wanted, Way(GGUF), config) == ()
    assert tools(config, wanted.folder).converter == str(bin_ / "convert_hf_to_gguf.py")
    assert not tools(CONFIG, wanted.folder).converter, "this program's own is enough"
    before = identify(wanted, Way(GGUF))
    (bin_ / "convert_hf_to_gguf.py").write_text("#!/bin/sh\n#newer\n")
    assert identify(wanted, Way(GGUF)).key != before.key
    assert not tools(config, wanted.folder).quantizer, "libgguf is installed"
    machine.clear()
    assert tools(config, wanted.folder).quantizer and "llama.cpp" in identify(wanted, Way(GGUF)).libraries
    os.unlink(bin_ / "llama-quantize")
    assert [code for code, _, _ in obstacles(wanted, Way(GGUF), config)] == ["not-installed"]


@pytest.mark.parametrize("data", [{"method": "hqq"}, {"method": "mlx", "bits": 3}, {"method": "gguf", "type": "Q9"}])
def test_a_request_for_no_way_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no way to quantize"):
        way_of(data)
    assert way_of(None) is None and way_of(Way(MLX, 8).to_json()) == Way(MLX, 8)


def test_mlx_refuses_code_of_the_repo(tmp_path: Path) -> None:
    wanted = model(tmp_path / "m")
    assert obstacles(wanted, Way(MLX), CONFIG) == ()
    (found,) = obstacles(wanted, Way(MLX), {**CONFIG, "model_file": "model.py"})
    assert found[0] == "remote-code"
