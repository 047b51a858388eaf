"""What a saved state belongs to: one value for everything that, if it changed, would make the state's answers wrong."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from cachetui.checked import CheckError, mapping, rows, size

MAX_SYSTEM = 1 << 20
"""Characters of a system prompt."""
MAX_IMAGES = 1024
MAX_SIDE = 1 << 16
MAX_PIXELS = 178_956_970
"""Pixels of one picture: where Pillow speaks of a decompression bomb and refuses."""
_MAX_TEXT = 4096


@dataclass(frozen=True, slots=True)
class Image:
    """One picture of a state."""

    name: str
    """As the person called it; not compared."""
    sha256: str
    """Of the file's bytes; of the pixels where there was no file."""
    width: int
    height: int
    """Pixels, as the model's processor got it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Model, way of loading, and what was read. Two equal ones stand for the same state."""

    repo: str = ""
    commit: str = ""
    weights: str = ""
    """Of a folder without a commit: what `engine.identity` makes of its weight files."""
    architecture: str = ""
    quantization: str = ""
    dtype: str = ""
    attention: str = ""
    tokenizer: str = ""
    """sha256; so are template and processor."""
    template: str = ""
    processor: str = ""
    libraries: str = ""
    """transformers' minor version: another one may keep other tensors."""
    system: str = ""
    images: tuple[Image, ...] = ()
    max_pixels: int = 0
    resize: tuple[int, int] | None = None

    @property
    def key(self) -> str:
        """sha256 over all of it but the names of pictures: equal for equal states."""
        plain = replace(self, images=tuple(replace(i, name="") for i in self.images))
        text = json.dumps(plain.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Any) -> Identity:
        """What anybody may have written. Raises CheckError."""
        body = mapping(body, "identity")
        texts = {f.name: _text(body, f.name) for f in fields(cls) if f.type == "str"}
        images = rows(body, "images")
        if len(images) > MAX_IMAGES:
            raise CheckError(f"it speaks of {len(images)} pictures")
        resize = body.get("resize")
        if resize is not None:
            resize = _sides(dict(zip(("width", "height"), rows(body, "resize"), strict=False)))
        found = tuple(Image(_text(mapping(i, "a picture"), "name"), _text(i, "sha256"), *_sides(i)) for i in images)
        return cls(**texts, images=found, max_pixels=size(body, "max_pixels"), resize=resize)


MODEL_FIELDS = tuple(f.name for f in fields(Identity) if f.name not in ("system", "images", "max_pixels", "resize"))
"""What a loaded model alone can tell; the rest is told by a question."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs, in words."""

    field: str
    stored: str
    wanted: str

    def __str__(self) -> str:
        name = self.field.replace("_", "-")
        return f"{name}: the state has {self.stored or 'none'}, here it is {self.wanted or 'none'}"


def mismatch(stored: Identity, other: Identity, only: Sequence[str] = ()) -> tuple[Difference, ...]:
    """The fields in which `other` (what is loaded or asked) differs; `only`: compare these fields alone."""
    found = []
    for f in fields(Identity):
        if only and f.name not in only:
            continue
        mine, theirs = getattr(stored, f.name), getattr(other, f.name)
        if f.name == "images":
            same = [(i.sha256, i.width, i.height) for i in mine] == [(i.sha256, i.width, i.height) for i in theirs]
        else:
            same = mine == theirs
        if not same:
            found.append(Difference(f.name, _words(mine), _words(theirs)))
    return tuple(found)


def _words(value: Any) -> str:
    """A value of a field, short enough for a line."""
    if value is None or value == 0:
        return ""
    if isinstance(value, tuple) and value and isinstance(value[0], Image):
        return ", ".join(f"{i.name or 'a picture'} {i.width}x{i.height} ({i.sha256[:12]})" for i in value[:4])
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    text = str(value)
    if len(text) == 64 and not set(text) - set("0123456789abcdef"):
        return text[:12]
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or len(value) > (MAX_SYSTEM if key == "system" else _MAX_TEXT):
        raise CheckError(f"it is damaged: {key} is no text")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise CheckError(f"it is damaged: {key} is no text") from None
    return value


def _sides(body: Any) -> tuple[int, int]:
    """Width and height of a picture that one could have."""
    body = mapping(body, "a size")
    width, height = size(body, "width"), size(body, "height")
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise CheckError(f"it is damaged: no picture has {width}x{height} pixels")
    return width, height
