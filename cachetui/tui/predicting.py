"""What a picture and a system prompt come to before anything is loaded. Reads two small files: for a thread."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cachetui.walk import read_small

if TYPE_CHECKING:
    from cachetui.runnable import Runnable
    from cachetui.tui.pictures import Shown
    from cachetui.tui.talk import Options

_MOST = 16 << 20
_PROCESSORS = ("processor_config.json", "preprocessor_config.json")
_DTYPES = ("dtype", "torch_dtype")


@dataclass(frozen=True, slots=True)
class Predicted:
    """What is read before the question, and what a saved state of it takes."""

    picture_tokens: int
    tokens: int
    """Of picture, system prompt and template together; the text in it is counted by a rule of thumb."""
    bytes: int
    exact: bool
    """Whether the tokens of the picture are."""


def predict(runnable: Runnable, shown: Shown | None, options: Options) -> Predicted | None:
    """None for engines whose configuration is not read here. Never raises for what files hold."""
    from cachetui.states import predicting

    if not runnable.saves_states:
        return None
    folder = runnable.wanted.folder
    config = _json(folder, "config.json")
    if not config:
        return None
    processor: dict[str, Any] = {}
    for name in _PROCESSORS:
        processor = processor or _json(folder, name)
    each, exact = predicting.picture_tokens(config, shown.size, processor) if shown is not None else (0, True)
    found = predicting.predict(
        config,
        width=shown.size[0] if shown is not None else 0,
        height=shown.size[1] if shown is not None else 0,
        pictures=1 if shown is not None else 0,
        system_tokens=predicting.text_tokens(options.system),
        dtype=_dtype(config),
        processor=processor,
    )
    return Predicted(each, found.tokens, found.bytes, exact)


def _json(folder: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(read_small(os.path.realpath(os.path.join(folder, name)), _MOST))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _dtype(config: Mapping[str, Any]) -> str:
    inner = config.get("text_config")
    for body in (config, inner if isinstance(inner, Mapping) else {}):
        for key in _DTYPES:
            if isinstance(body.get(key), str):
                return str(body[key])
    return "float32"
