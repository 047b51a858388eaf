"""Every test has a home of its own: nothing outside tmp_path is read or written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cachetui.config import Where

_CLEARED = (
    "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ASSETS_CACHE", "HF_XET_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE",
    "TRANSFORMERS_CACHE", "LLAMA_CACHE", "CUSTOM_MODEL_DIR", "HF_CACHE_DIR", "QWEN_CACHE", "TORCH_HOME", "OLLAMA_HOST",
    "MODELSCOPE_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "NO_COLOR",
    "CACHETUI_NOW", "CACHETUI_STATES", "CACHETUI_ONLY_BELOW", "CACHETUI_AND_BELOW",
    "DISPLAY", "WAYLAND_DISPLAY",
)  # fmt: skip
_LONGEST_NAME = 60


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary home; HOME, HF_HOME, XDG_* and OLLAMA_MODELS point into it."""
    path = tmp_path / "home"
    path.mkdir()
    for name in _CLEARED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setenv("HF_HOME", str(path / ".cache/huggingface"))
    monkeypatch.setenv("OLLAMA_MODELS", str(path / ".ollama/models"))
    for name, folder in (
        ("CACHE", ".cache"),
        ("CONFIG", ".config"),
        ("DATA", ".local/share"),
        ("STATE", ".local/state"),
    ):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(path / folder))
    # Archives on this machine's other drives are none of a test's, nor of the processes it starts.
    monkeypatch.setenv("CACHETUI_ONLY_BELOW", str(tmp_path))
    # No server of this machine may be asked either.
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def where(home: Path) -> Where:
    """Where to look, for this test's home."""
    return Where(dict(os.environ), str(home), str(home))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long texts and bytes are named by their length: what a test is given need not be its name."""
    return f"{argname}-{len(val)}" if isinstance(val, str | bytes) and len(val) > _LONGEST_NAME else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of models come last: the process that runs them holds torch from then on, and starts others slowly."""
    items.sort(key=lambda item: item.get_closest_marker("models") is not None)
