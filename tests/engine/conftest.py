"""Tiny repos, built once a session and shared: a test that damages one copies it first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests share their machine."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`repo(kind, dtype="float32")`: the folder of a tiny repo (tiny.KINDS). Read only."""
    import tiny

    base = tmp_path_factory.mktemp("tiny")
    made: dict[str, Path] = {}

    def get(kind: str, dtype: str = "float32") -> Path:
        name = f"{kind}-{dtype}"
        if name not in made:
            made[name] = tiny.build(kind, base / name, dtype=dtype)
        return made[name]

    return get
