"""What an entry depends on, and nothing else, makes its key."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from entry_world import IDENTITY, NF4, make

from cachetui.checked import CheckError
from cachetui.quantized_entries import Identity, minor, read, source_digest

CHANGES: list[dict[str, Any]] = [
    {"repo": "org/other"},
    {"commit": "d4" * 20},
    {"weights": "ab" * 32},
    {"dtype": "float16"},
    {"method": "mlx"},
    {"rank": 8},
    {"model_class": "Qwen3ForCausalLM"},
    {"libraries": {"transformers": "5.24", "bitsandbytes": "0.50"}},
    {"libraries": {"transformers": "5.23"}},
    *({"settings": {**NF4, key: value}} for key, value in (
        ("bnb_4bit_use_double_quant", True), ("bnb_4bit_quant_type", "fp4"), ("bnb_4bit_compute_dtype", "float16"),
        ("llm_int8_skip_modules", ["lm_head"]), ("bnb_4bit_quant_storage", "uint8"),
    )),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: next(iter(c)))
def test_each_field_makes_a_new_key_and_is_named(change: dict[str, Any]) -> None:
    other = replace(IDENTITY, **change)
    assert other.key != IDENTITY.key
    (field, *_) = change
    assert any(d.startswith(field) for d in IDENTITY.differences(other))


def test_all_changes_are_different_keys() -> None:
    keys = [replace(IDENTITY, **c).key for c in CHANGES] + [IDENTITY.key]
    assert len(set(keys)) == len(keys)
    assert IDENTITY.differences(replace(IDENTITY)) == ()


def test_the_key_is_the_same_everywhere() -> None:
    """Written down: a change of how it is computed would make every entry new."""
    assert IDENTITY.key == "3c916944e2cf5cc91fc212db68927ed043872823adbb03964dd7bea8d02a18be"
    shuffled = dict(reversed(NF4.items())) | {"llm_int8_skip_modules": ("model.visual", "lm_head", "lm_head")}
    libraries = dict(reversed(IDENTITY.libraries.items()))
    assert replace(IDENTITY, settings=shuffled, libraries=libraries).key == IDENTITY.key
    assert replace(IDENTITY, settings={**NF4, "t": 6.0}).key == replace(IDENTITY, settings={**NF4, "t": 6}).key


def test_two_machines_folders_make_the_same_key(tmp_path: Path) -> None:
    keys = set()
    for machine in ("one", "two/deep"):
        folder = tmp_path / machine / "model"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "blob").write_bytes(b"weights")
        if machine == "one":
            (folder / "model.safetensors").symlink_to("blob")
        else:
            (folder / "model.safetensors").write_bytes(b"weights")
        keys.add(Identity(weights=source_digest(str(folder))).key)
    assert len(keys) == 1
    (folder / "model.safetensors").write_bytes(b"weightz")
    assert Identity(weights=source_digest(str(folder))).key not in keys


def test_it_comes_back_from_a_manifest(tmp_path: Path) -> None:
    entry = make(tmp_path)
    assert Identity.from_json(json.loads(json.dumps(IDENTITY.to_json()))) == replace(
        IDENTITY, settings=IDENTITY.to_json()["settings"]
    )
    assert read(entry.path).identity.key == IDENTITY.key


@pytest.mark.parametrize("value", [float("nan"), object(), {"a": {1, b"x"}}])
def test_what_no_identity_can_hold(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        _ = replace(IDENTITY, settings={"x": value}).key


@pytest.mark.parametrize("body", [None, [], {}, {**IDENTITY.to_json(), "rank": True}, {**IDENTITY.to_json(), "repo": 1},
                                  {**IDENTITY.to_json(), "settings": []}])  # fmt: skip
def test_what_is_no_identity(body: Any) -> None:
    with pytest.raises(CheckError):
        Identity.from_json(body)


def test_labels_and_generations() -> None:
    assert IDENTITY.label == "nf4"
    assert replace(IDENTITY, settings={**NF4, "bnb_4bit_use_double_quant": True}).label == "nf4-double"
    assert replace(IDENTITY, settings={"load_in_8bit": True}).label == "int8"
    assert replace(IDENTITY, method="mlx", settings={"bits": 4}).label == "mlx 4-bit"
    assert replace(IDENTITY, method="gguf", settings={"type": "Q4_K_M"}).label == "Q4_K_M"
    assert [minor(v) for v in ("5.23.0", "0.50.2.dev1", "5.23rc1", "x")] == ["5.23", "0.50", "5.23", "x"]
