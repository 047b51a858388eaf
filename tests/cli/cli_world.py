"""The world the command line is tried on, and what a run of it says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cachetui.demo.builders import Hub, OllamaStore, set_age


@dataclass
class World:
    """Where things lie."""

    hub: Hub
    ollama: OllamaStore
    main: str
    """The commit of org/two's main."""
    old: str
    """The commit of org/two that no ref names."""

    def age(self, days: float = 10) -> None:
        """Make everything that old, so that nothing counts as just being written."""
        for path in (self.hub.path, self.ollama.path):
            set_age(path, days, time.time())


@dataclass
class Answer:
    """What a run said."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """The JSON object on stdout: one, with schema 1, in ASCII."""
        assert self.out.isascii()
        found = json.loads(self.out)
        assert isinstance(found, dict)
        assert found["schema"] == 1
        json.dumps(found, ensure_ascii=False).encode("utf-8")  # every program can read it: no lone surrogates
        return found


Run = Callable[..., Answer]
