"""A home with nothing in it yet, to be filled and verified."""

from __future__ import annotations

from pathlib import Path

import pytest
from verify_world import World

from cachetui.config import Where


@pytest.fixture
def world(home: Path, where: Where) -> World:
    """Empty caches."""
    return World(home, where)
