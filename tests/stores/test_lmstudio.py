"""LM Studio's folder: found through its settings and pointer, read like any folder of models."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cachetui.config import Where
from cachetui.demo.builders import gguf_bytes, write
from cachetui.scan import scan
from cachetui.store import Selection, store_named

STORE = store_named("lmstudio")
GGUF = gguf_bytes({"general.architecture": "gemma3", "general.file_type": 15, "general.size_label": "4B"})


def roots(where: Where) -> list[tuple[str, str]]:
    return [(os.path.relpath(r.path, where.home), r.origin) for r in STORE.roots(where)]


def test_models_are_publisher_and_model(home: Path, where: Where) -> None:
    models = home / ".lmstudio" / "models"
    write(models / "lmstudio-community" / "gemma-3-4b-it-GGUF" / "gemma-3-4b-it-Q4_K_M.gguf", GGUF)
    write(models / "lmstudio-community" / "gemma-3-4b-it-GGUF" / "mmproj-model-f16.gguf", GGUF)
    write(models / "mlx-community" / "tiny" / "config.json", b'{"quantization": {"group_size": 64, "bits": 4}}')
    write(models / "mlx-community" / "tiny" / "model.safetensors", b"")
    found = scan(where, stores=["lmstudio"])
    gemma, tiny = found.items
    assert gemma.id == "lmstudio:lmstudio-community/gemma-3-4b-it-GGUF" and gemma.name == gemma.path
    assert (gemma.traits.quantization, gemma.traits.family, gemma.traits.parameters) == ("Q4_K_M", "gemma3", "4B")
    assert (tiny.id, tiny.traits.quantization) == ("lmstudio:mlx-community/tiny", "MLX 4-bit")
    removal = STORE.removal(Selection(gemma, file="mmproj-model-f16.gguf"), found.ledger, set())
    assert removal.references == ("lmstudio-community/gemma-3-4b-it-GGUF/mmproj-model-f16.gguf",)


def test_where_it_is(home: Path, where: Where) -> None:
    assert roots(where) == []
    (home / ".lmstudio" / "models").mkdir(parents=True)
    assert roots(where) == [(".lmstudio/models", "default")]
    (home / "far" / "models").mkdir(parents=True)
    write(home / ".lmstudio-home-pointer", os.fsencode(f"{home}/far\n"))
    assert roots(where) == [("far/models", "default")]
    (home / "big").mkdir()
    write(home / "far" / "settings.json", json.dumps({"downloadsFolder": str(home / "big")}).encode())
    assert roots(where) == [("big", "settings.json")]


@pytest.mark.parametrize(
    "settings",
    [b"", b"[]", b"{", b"[" * 99_999, b'{"downloadsFolder": 5}', b'{"downloadsFolder": "relative"}',
     b'{"downloadsFolder": "/a\\u0000b"}'],
)  # fmt: skip
def test_settings_that_say_nothing(home: Path, where: Where, settings: bytes) -> None:
    (home / ".lmstudio" / "models").mkdir(parents=True)
    write(home / ".lmstudio" / "settings.json", settings)
    write(home / ".lmstudio-home-pointer", b"\xff\x00 not a path")
    assert roots(where) == [(".lmstudio/models", "default")]
