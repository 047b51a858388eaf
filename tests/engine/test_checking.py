"""The load check: any architecture loads and computes, and what does not says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from needs import needs

from cachetui.engine.errors import DAMAGED, Cancelled, EngineError
from cachetui.wanted import Wanted

torch = needs("torch", reason="needs torch (extra models)")
transformers = needs("transformers", reason="needs transformers (extra models)")
pytestmark = pytest.mark.models

from cachetui.engine.checking import check  # noqa: E402

_SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
_EYES = {**_SMALL, "image_size": 28, "patch_size": 14}
_EARS = {"conv_dim": [16, 16], "conv_stride": [5, 2], "conv_kernel": [10, 3], "num_feat_extract_layers": 2}
OTHERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "clip": ("CLIPModel", {"text_config": {**_SMALL, "vocab_size": 320}, "vision_config": _EYES}, "words"),
    "siglip": ("SiglipModel", {"text_config": {**_SMALL, "vocab_size": 320}, "vision_config": _EYES}, "words"),
    "dinov2": ("Dinov2Model", _EYES, ""),
    "resnet": (
        "ResNetForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        "",
    ),
    "t5": (
        "T5ForConditionalGeneration",
        {"d_model": 32, "d_ff": 48, "num_layers": 2, "num_heads": 2, "d_kv": 16, "vocab_size": 320},
        "words",
    ),
    "wav2vec2": (
        "Wav2Vec2Model", {**_SMALL, **_EARS, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}, "",
    ),
    "whisper": (
        "WhisperForConditionalGeneration",
        {
            "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 320,
            "max_source_positions": 50, "decoder_start_token_id": 1, "num_mel_bins": 16, "pad_token_id": 0,
            "bos_token_id": 1, "eos_token_id": 2,
        },
        "words",
    ),
    "bert_base": ("BertModel", {**_SMALL, "vocab_size": 320}, "words"),
    "gpt2_base": ("GPT2Model", {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 320}, "words"),
}  # fmt: skip
"""Class, numbers of its config, and whether it has a vocabulary: what reads no chat."""


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_every_architecture(kind: str, repo: Callable[..., Path]) -> None:
    found = check(Wanted(str(repo(kind)), kind, device="cpu"))
    assert found.folder == str(repo(kind)) and found.loader == "transformers"
    assert found.model_class == json.loads((repo(kind) / "config.json").read_text())["architectures"][0]
    assert 0 < found.step_seconds < found.seconds and found.memory > 10_000
    assert json.loads(json.dumps(found.to_json()))["dtype"] == "float32"


@pytest.mark.parametrize("kind", OTHERS)
def test_what_writes_no_text(kind: str, tmp_path: Path) -> None:
    name, numbers, vocabulary = OTHERS[kind]
    made = getattr(transformers, name)
    config = made.config_class(**numbers)
    torch.manual_seed(0)
    made(config).save_pretrained(tmp_path)
    if vocabulary:
        tiny.tokenizer(tiny.KINDS["llama"]).save_pretrained(tmp_path)
    assert check(Wanted(str(tmp_path), kind, device="cpu")).model_class == name


def test_weights_that_are_no_numbers(repo: Callable[..., Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(repo("llama"), tmp_path / "llama"))
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineError, match="no number") as found:
        check(Wanted(str(folder), "llama", device="cpu"))
    assert found.value.code == DAMAGED and "verify" in found.value.advice


def test_what_does_not_load_says_why(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as found:
        check(Wanted(str(tmp_path), "nothing"))
    assert found.value.reason and found.value.advice


def test_it_can_be_stopped(repo: Callable[..., Path]) -> None:
    with pytest.raises(Cancelled):
        check(Wanted(str(repo("llama")), "llama", device="cpu"), cancelled=lambda: True)
