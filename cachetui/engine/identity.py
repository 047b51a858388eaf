"""What a loaded model is, for the states that belong to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cachetui.engine.errors import DAMAGED, EngineError
from cachetui.states import Identity, Image
from cachetui.states.folder import PROCESSOR, TOKENIZER, commit_of, files_digest, weights_digest

if TYPE_CHECKING:
    from cachetui.engine.images import Picture
    from cachetui.engine.loading import Loaded


def identity(
    loaded: Loaded,
    pictures: Sequence[Picture] = (),
    system: str = "",
    *,
    max_pixels: int = 0,
    resize: tuple[int, int] | None = None,
) -> Identity:
    """Of this model as it is loaded, with these pictures and this system prompt. Raises EngineError.

    `max_pixels` and `resize` are how the pictures were lowered.
    """
    wanted = loaded.wanted
    commit = wanted.commit or commit_of(wanted.folder)
    return Identity(
        repo=wanted.repo,
        commit=commit,
        weights="" if commit else _weights(wanted.folder),
        architecture=loaded.model_class,
        quantization=" ".join((loaded.quantization, *wanted.skip)) if loaded.quantization else "",
        dtype=str(loaded.dtype).removeprefix("torch."),
        attention=str(getattr(loaded.model.config, "_attn_implementation", None) or ""),
        tokenizer=files_digest(wanted.folder, TOKENIZER),
        template=_template(loaded),
        processor=_processor(loaded),
        libraries=_libraries(),
        system=system,
        images=tuple(Image(p.source, p.sha256, *p.size) for p in pictures),
        max_pixels=max_pixels if pictures else 0,
        resize=resize if pictures else None,
    )


def _weights(folder: str) -> str:
    try:
        return weights_digest(folder)
    except OSError as e:
        raise EngineError(f"the weights in {folder} cannot be read: {e.strerror}", "", DAMAGED) from None


def _template(loaded: Loaded) -> str:
    """The chat template that questions are put through."""
    for owner in (loaded.processor, loaded.tokenizer):
        found = getattr(owner, "chat_template", None)
        if found:
            return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    return ""


def _processor(loaded: Loaded) -> str:
    """How pictures are prepared: the files that say it, and the class that does it (its backends round differently)."""
    if loaded.image_processor is None:
        return ""
    said = files_digest(loaded.wanted.folder, PROCESSOR)
    return hashlib.sha256(f"{type(loaded.image_processor).__name__} {said}".encode()).hexdigest()


def _libraries() -> str:
    from transformers import __version__

    return "transformers " + ".".join(__version__.split(".")[:2])
