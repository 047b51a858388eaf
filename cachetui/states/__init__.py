"""Saved states: an image and a system prompt that a model has read once, as a file. No torch in here.

form is the file, identity what a state belongs to, reading and writing do that, predicting tells the size before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachetui.states.errors import StateError
from cachetui.states.identity import MODEL_FIELDS, Difference, Identity, Image, mismatch
from cachetui.states.reading import StateInfo, check, is_start, read, start_length
from cachetui.states.writing import write

if TYPE_CHECKING:
    from cachetui.states.pictures import picture_tokens, processor_files
    from cachetui.states.predicting import Predicted, predict, text_tokens

__all__ = [
    "MODEL_FIELDS",
    "Difference",
    "Identity",
    "Image",
    "Predicted",
    "StateError",
    "StateInfo",
    "check",
    "is_start",
    "mismatch",
    "picture_tokens",
    "predict",
    "processor_files",
    "read",
    "start_length",
    "text_tokens",
    "write",
]

_LATER = {
    "picture_tokens": "pictures", "processor_files": "pictures", "Predicted": "predicting", "predict": "predicting",
    "text_tokens": "predicting",
}  # fmt: skip
"""What needs the estimates of memory/, by module: a listing of states does not pay for it."""

if not TYPE_CHECKING:  # else every name would be one of this module's, for a type checker

    def __getattr__(name: str) -> Any:
        """Names that come when they are asked for (PEP 562)."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"cachetui.states.{_LATER[name]}"), name)
