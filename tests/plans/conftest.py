"""Fixtures of the tests of plans."""

from __future__ import annotations

from pathlib import Path

import pytest
from plans_world import World

from cachetui.config import Where


@pytest.fixture
def world(home: Path, where: Where) -> World:
    """A home with a hub cache and an Ollama store."""
    made = World(home, where)
    made.build()
    return made
