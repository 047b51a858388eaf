"""From what somebody wants to load to the identity of its quantized entry: config.json and versions alone, no torch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from cachetui import families, hub_layout, walk
from cachetui.config import Where
from cachetui.quantized_entries.identity import Identity, minor, source_digest
from cachetui.wanted import Wanted

LIBRARIES = ("transformers", "bitsandbytes")
"""Those whose generation is a part of a bitsandbytes entry's identity."""
DEFAULT_DTYPE = "bfloat16"
_DTYPES = ("float32", "bfloat16", "float16")
_MAX_CONFIG = 4 << 20
_SNAPSHOT = re.compile(r"/models--([^/]+)/snapshots/([0-9a-f]{40})/*\Z")


@dataclass(frozen=True)
class Model:
    """What an identity says of the model itself, whatever is made of it."""

    config: Mapping[str, Any]
    dtype: str
    """Of `Wanted`, or what the config names where that says auto."""
    repo: str
    """Empty for a folder without a commit."""
    weights: str
    """`source_digest` of such a folder."""
    model_class: str


class NotHere(Exception):
    """The model is not on this machine, or is none; the message says what to do."""


def identify(wanted: Wanted, rank: int = 0, told: Callable[[int], None] = lambda _: None) -> Identity:
    """What the entry depends on: `wanted.bits` 4 or 8. Of a folder without a commit every byte of its weights is read.

    The model is to be loaded with the identity's dtype: `auto` is the one its config names, on every machine. Raises
    NotHere.
    """
    model = model_of(wanted, told)
    dtype = model.dtype
    family = families.of(model.config)
    settings: dict[str, Any] = {
        "llm_int8_skip_modules": sorted({*(family.vision if family else ()), "lm_head", *wanted.skip})
    }
    if wanted.bits == 8:
        settings["load_in_8bit"] = True
    else:
        settings |= {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_compute_dtype": dtype,
            "bnb_4bit_use_double_quant": wanted.double_quant,
        }
    return Identity(
        repo=model.repo,
        commit=wanted.commit,
        weights=model.weights,
        dtype=dtype,
        settings=settings,
        rank=rank,
        model_class=model.model_class,
        libraries={name: minor(found) for name in LIBRARIES if (found := version(name))},
    )


def model_of(wanted: Wanted, told: Callable[[int], None] = lambda _: None) -> Model:
    """What is to be quantized. Of a folder without a commit every byte of its weights is read. Raises NotHere."""
    config = _config(wanted.folder)
    classes = config.get("architectures")
    try:
        weights = "" if wanted.commit else _digest(wanted.folder, told)
    except OSError as e:
        raise NotHere(f"{wanted.folder} cannot be read: {e.strerror or e}") from e
    return Model(
        config,
        dtype_of(wanted, config),
        wanted.repo if wanted.commit else "",
        weights,
        str(classes[0])[:200] if isinstance(classes, list) and classes else "",
    )


_digests: dict[tuple[object, ...], str] = {}
"""Of folders that were read, by what they held then: a dialog asks for one folder in several ways."""


def _digest(folder: str, told: Callable[[int], None]) -> str:
    """`source_digest`, read once. Raises OSError."""
    found: list[object] = [folder]
    for name in sorted(os.listdir(folder)):
        st = os.stat(f"{folder}/{name}")
        found.append((name, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns))
    key = tuple(found)
    if key not in _digests:
        _digests[key] = source_digest(folder, told)
    return _digests[key]


def find_model(where: Where, name: str, **how: Any) -> Wanted:
    """The model that a folder or a repo's name means, as from_pretrained takes it. `how`: fields of Wanted.

    Raises NotHere.
    """
    folder = where.resolve(name)
    if os.path.isdir(folder):
        found = _SNAPSHOT.search(folder)
        if found is None:
            return Wanted(os.path.realpath(folder), os.path.basename(folder.rstrip("/")) or folder, **how)
        repo = found[1].replace("--", "/")
        return Wanted(folder, repo, repo, found[2], **how)
    cache, _ = hub_layout.hub_cache(where.env, where.home)
    top = os.path.normpath(os.path.join(where.cwd, cache, "models--" + name.replace("/", "--")))
    try:
        commit = walk.read_small(f"{top}/refs/main", 100).decode("ascii", "replace").strip()
    except OSError:
        commit = ""
    snapshot = f"{top}/snapshots/{commit}"
    if not commit or not os.path.isdir(snapshot):
        raise NotHere(f"{name} is not on this machine: cachetui pull hf:{name}")
    return Wanted(snapshot, name, name, commit, **how)


def version(library: str) -> str:
    """Of an installed library, without importing it; empty where it is not installed."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""


def _config(folder: str) -> Mapping[str, Any]:
    try:
        body = json.loads(walk.read_small(os.path.realpath(f"{folder}/config.json"), _MAX_CONFIG))
    except (OSError, ValueError, RecursionError) as e:
        raise NotHere(f"{folder} has no config.json that can be read: it is no model of transformers") from e
    if not isinstance(body, dict):
        raise NotHere(f"config.json in {folder} is no object")
    return body


def dtype_of(wanted: Wanted, config: Mapping[str, Any]) -> str:
    """What stays unquantized is held in this, and quantized layers compute in it.

    `auto` is what the config names, in itself or in its text part: the same on every machine, kept or not.
    """
    if wanted.dtype in _DTYPES:
        return wanted.dtype
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        for key in ("dtype", "torch_dtype"):
            if part.get(key) in _DTYPES:
                return str(part[key])
    return DEFAULT_DTYPE
