"""Packages that only some tests need: looked for when tests are collected, imported when a test uses them.

torch and its friends take a gigabyte, and a process that holds it forks slowly: whoever runs the other tests shall not
have it. Tests of models come last (conftest.py) for the same reason.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest


class Later:
    """A module that is imported when something of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith(("_", "pytest")):  # pytest asks every name in a file for these
            raise AttributeError(attribute)
        return getattr(import_module(self._name), attribute)


def needs(name: str, *, reason: str = "") -> Any:
    """The module, not imported yet; the tests of the file are skipped where it is not installed."""
    if find_spec(name.partition(".")[0]) is None:
        pytest.skip(reason or f"needs {name}", allow_module_level=True)
    return Later(name)
