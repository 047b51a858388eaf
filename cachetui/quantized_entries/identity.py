"""What a quantized entry depends on: one value, and its hash is the entry's name.

Equal inputs give the same key on every machine: no path, no host and no time is in it. The older convention,
md5("{model_path}_{weight_dtype}_{rank}"), could not see that a model had a new commit.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from cachetui import walk
from cachetui.checked import CheckError, mapping, text
from cachetui.formats import is_weights

_VERSION = 1
_MINOR = re.compile(r"\d+(\.\d+)?")
_CHUNK = 8 << 20
_MAX_SETTINGS = 64
_CODE = (".json", ".jinja", ".txt", ".model", ".py")
"""Beside weights, what of a folder decides what is made of it."""


@dataclass(frozen=True)
class Identity:
    """Model, commit, and everything about the way of quantizing that changes a byte of the result."""

    repo: str = ""
    """ORG/NAME; empty for a folder of no repo."""
    commit: str = ""
    """40 hex; empty for a folder of no repo."""
    weights: str = ""
    """Of a folder without a commit: `source_digest`."""
    dtype: str = ""
    """Of what stays unquantized: bfloat16, float16, float32."""
    method: str = "bitsandbytes"
    """bitsandbytes, mlx or gguf."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The whole quantization config as the library takes it, with the modules that are skipped."""
    rank: int = 0
    """Of the LoRA it is made for."""
    model_class: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)
    """Minor versions (`minor`) of the libraries that make it, e.g. transformers 5.23, bitsandbytes 0.50."""

    @property
    def key(self) -> str:
        """sha256 over the canonical JSON: 64 hex digits, the name of the entry's folder."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def canonical(self) -> str:
        """The JSON that is hashed: keys sorted, no blanks, ASCII; in what order modules are skipped is left out."""
        body = {"version": _VERSION, **self.to_json()}
        return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)

    @property
    def label(self) -> str:
        """How it is quantized, in a word: nf4, nf4-double, int8, or the method's own."""
        s = self.settings
        if s.get("load_in_4bit"):
            return f"{s.get('bnb_4bit_quant_type', 'fp4')}{'-double' if s.get('bnb_4bit_use_double_quant') else ''}"
        if s.get("load_in_8bit"):
            return "int8"
        bits, kind = s.get("bits"), s.get("type")
        return str(kind) if kind else f"{self.method} {bits}-bit" if bits else self.method

    def differences(self, other: Identity) -> tuple[str, ...]:
        """The fields in which another one differs, as `commit: 1a2b3c4 here, 5d6e7f8 there`."""
        found = []
        mine, theirs = self.to_json(), other.to_json()
        for f in fields(self):
            a, b = mine[f.name], theirs[f.name]
            if isinstance(a, dict):
                for key in sorted(a.keys() | b.keys()):
                    if a.get(key) != b.get(key):
                        found.append(f"{f.name}.{key}: {_short(a.get(key))} here, {_short(b.get(key))} there")
            elif a != b:
                found.append(f"{f.name}: {_short(a)} here, {_short(b)} there")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest. Raises ValueError for settings that no JSON holds."""
        body = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**body, "settings": _plain(self.settings), "libraries": dict(sorted(self.libraries.items()))}

    @classmethod
    def from_json(cls, body: Any) -> Identity:
        """What anybody may have written. Raises CheckError."""
        body = mapping(body)
        names = ("repo", "commit", "weights", "dtype", "method", "model_class")
        texts = {name: text(body, name) for name in names}
        rank, settings, libraries = body.get("rank"), mapping(body.get("settings")), mapping(body.get("libraries"))
        if type(rank) is not int or not 0 <= rank < 1 << 20:
            raise CheckError("it is damaged: its rank is no number")
        if len(settings) > _MAX_SETTINGS or len(libraries) > _MAX_SETTINGS:
            raise CheckError("it is damaged: it holds too many settings")
        return cls(
            **texts, settings=_plain(settings), rank=rank, libraries={str(k): text(libraries, k) for k in libraries}
        )


def minor(version: str) -> str:
    """The generation of a library: `5.23` of 5.23.0 or 5.23.1rc2."""
    found = _MINOR.match(version)
    return found[0] if found else version


def source_digest(folder: str, told: Callable[[int], None] = lambda _: None) -> str:
    """sha256 over names, sizes and contents of what a model's folder is made of, for folders without a commit.

    Reads every byte of its weights; `told` hears how many came. Raises OSError.
    """
    digest = hashlib.sha256()
    for name in sorted(os.listdir(folder)):
        if not (is_weights(name) or name.endswith(_CODE)) or not stat.S_ISREG(os.stat(f"{folder}/{name}").st_mode):
            continue
        digest.update(f"{len(os.fsencode(name))}:".encode() + os.fsencode(name))
        digest.update(file_digest(os.path.realpath(f"{folder}/{name}"), told).encode())
    return digest.hexdigest()


def file_digest(path: str, told: Callable[[int], None] = lambda _: None) -> str:
    """sha256 of a regular file, which must be no link. Raises OSError."""
    fd = walk.open_regular(path)
    try:
        digest, at = hashlib.sha256(), 0
        while data := os.pread(fd, _CHUNK, at):
            digest.update(data)
            at += len(data)
            told(len(data))
        return digest.hexdigest()
    finally:
        os.close(fd)


def _plain(value: Any) -> Any:
    """The value as JSON has it; lists of names are sets to every library here: sorted, each once. Raises ValueError."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in sorted(value.items(), key=lambda kv: str(kv[0]))}
    if isinstance(value, list | tuple | set | frozenset):
        rows = [_plain(v) for v in value]
        return sorted(set(rows)) if all(isinstance(r, str) for r in rows) else rows
    raise ValueError(f"a setting of the quantization is a {type(value).__name__}, which no identity can hold")


def _short(value: Any) -> str:
    words = json.dumps(value) if not isinstance(value, str) else value or "none"
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", words):
        return words[:7]
    return words if len(words) <= 60 else f"{words[:57]}..."
