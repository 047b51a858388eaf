"""Saved states: an image and a system prompt that a model has read once, as a file. No torch in here.

form is the file, identity what a state belongs to, reading and writing do that, predicting tells the size before.
"""

from __future__ import annotations

from cachetui.states.errors import StateError
from cachetui.states.identity import MODEL_FIELDS, Difference, Identity, Image, mismatch
from cachetui.states.pictures import picture_tokens, processor_files
from cachetui.states.predicting import Predicted, predict, text_tokens
from cachetui.states.reading import StateInfo, check, is_start, read, start_length
from cachetui.states.writing import write

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
