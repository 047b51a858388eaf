"""Fixtures of the tests of transfers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from transfer_world import World, world_on

from cachetui.config import Where


@pytest.fixture
def drive_world(tmp_path: Path, home: Path, where: Where) -> Iterator[World]:
    """A home with stores, and a second file system."""
    with world_on(tmp_path, home, where) as made:
        yield made
