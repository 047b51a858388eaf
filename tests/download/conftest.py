"""A Hub for each test, and both libraries pointed at it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from hub_world import World
from server import HubServer


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer(token="hf_letmein") as hub:
        yield hub


@pytest.fixture
def world(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    from huggingface_hub import constants

    # Read from the environment when the library is imported, which another test may have done.
    for name, value in (("ENDPOINT", server.endpoint), ("HF_HUB_DISABLE_XET", True), ("HF_HUB_OFFLINE", False)):
        monkeypatch.setattr(constants, name, value)
    template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return World(server, tmp_path)
