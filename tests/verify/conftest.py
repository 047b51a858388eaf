"""A home with nothing in it yet, to be filled and verified."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from verify_world import World

from cachetui.config import Where


@pytest.fixture
def world(home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Empty caches. Drives of the machine, where archives are looked for too, are no part of it."""
    monkeypatch.setenv("CACHETUI_ONLY_BELOW", str(home.parent))
    return World(home, Where(dict(os.environ), str(home), str(home)))
