"""The demo world for the UI's tests: small, of a fixed age, in this test's own home."""

from __future__ import annotations

from pathlib import Path

import pytest
from tui_world import NOW

from cachetui.config import Where
from cachetui.demo import build
from cachetui.tui.app import CachetuiApp


@pytest.fixture
def world(home: Path, monkeypatch: pytest.MonkeyPatch) -> Where:
    """The demo, at a hundredth of its usual size."""
    env = build(home.parent / "world", gb=10**4, now=NOW)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(env["HOME"])
    return Where.current()


@pytest.fixture
def app(world: Where) -> CachetuiApp:
    """The app on the demo, its clock stopped."""
    return CachetuiApp(world, clock=lambda: NOW)
