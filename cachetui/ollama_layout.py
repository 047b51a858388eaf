"""What the files of an Ollama store mean: names, manifests, digests.

Follows Ollama 0.33: types/model/name.go (names and their defaults), manifest/ (docker v2 manifests), server/layer.go.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cachetui import afar
from cachetui.text import encode_target

MANIFESTS, BLOBS = "manifests", "blobs"
DEFAULT_HOST, DEFAULT_NAMESPACE = "registry.ollama.ai", "library"
MAX_MANIFEST = 4 << 20
"""A model of tensor layers has a manifest of a few hundred kB."""
MAX_CONFIG = 1 << 16

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
BLOB = re.compile(r"sha256-[0-9a-f]{64}")
PARTIAL_BLOB = re.compile(r"(sha256-[0-9a-f]{64})-partial(?:-[0-9]{1,9})?")
LITTER = re.compile(r"sha256-[0-9A-Za-z]{1,63}")
"""os.CreateTemp(blobs, "sha256-"): what an import or create writes before it knows the digest."""
_MEDIA = "application/vnd.ollama.image."
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII)
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}", re.ASCII)
WEIGHTS = frozenset(("model", "projector", "adapter", "tensor", "draft", "embed"))
"""Roles of layers that hold weights."""


class BadManifest(Exception):
    """A manifest that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One row of a manifest: what it is for, and the blob that holds it."""

    role: str
    """model, projector, adapter, template, system, params, license ..., config, or the tensor's name; unique."""
    file: str
    """Name of the blob in blobs/."""
    size: int
    """As the manifest claims; -1 where it says nothing usable."""
    weights: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """A tag's content."""

    layers: tuple[Layer, ...]
    """In the manifest's order, the config last."""
    config: str
    """Name of the config's blob, or empty."""


def is_ollama_layout(path: str) -> bool:
    """Whether a folder holds an Ollama store. Never raises."""
    return not afar.is_silent(os.path.abspath(path)) and all(
        os.path.isdir(os.path.join(path, name)) for name in (MANIFESTS, BLOBS)
    )


def blob_name(digest: object) -> str:
    """The file that holds a digest, or empty where it is none: a digest is a path only when it matches exactly."""
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    return f"sha256-{match[1]}" if match else ""


def display_name(path: str) -> str | None:
    """`host/namespace/model/tag` as the server prints it (name.go DisplayShortest); None where it would not list it."""
    parts = path.split("/")
    if len(parts) != 4:
        return None
    host, namespace, model, tag = parts
    valid = (
        _HOST.fullmatch(host) and _NAMESPACE.fullmatch(namespace) and _PART.fullmatch(model) and _PART.fullmatch(tag)
    )
    if not valid:
        return None
    if host.lower() != DEFAULT_HOST:
        return f"{host}/{namespace}/{model}:{tag}"
    return f"{model}:{tag}" if namespace.lower() == DEFAULT_NAMESPACE else f"{namespace}/{model}:{tag}"


def item_id(path: str) -> str:
    """The TARGET of a file of the store (`path` relative to the root): a tag by its name, else `ollama:./PATH`.

    Two files whose names the server would print alike (it folds the case of the defaults) stay two ids.
    """
    inside = path.removeprefix(MANIFESTS + "/")
    name = display_name(inside) if inside != path else None
    if name is not None:
        host, namespace, _, _ = inside.split("/")
        hidden = (
            host if host.lower() == DEFAULT_HOST else DEFAULT_HOST,
            (
                namespace
                if host.lower() == DEFAULT_HOST and namespace.lower() == DEFAULT_NAMESPACE
                else DEFAULT_NAMESPACE
            ),
        )
        if hidden == (DEFAULT_HOST, DEFAULT_NAMESPACE):
            return f"ollama:{encode_target(name)}"
    return f"ollama:./{encode_target(path)}"


def parse_manifest(raw: bytes) -> Manifest:
    """A manifest file's content. Raises BadManifest."""
    if len(raw) >= MAX_MANIFEST:
        raise BadManifest("the manifest is too large to be one")
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        raise BadManifest("the manifest is empty" if not raw else "the manifest is not valid JSON") from None
    if not isinstance(data, dict):
        raise BadManifest("the manifest is not a JSON object")
    rows = data.get("layers")
    rows = [] if rows is None else rows
    config = data.get("config")
    if not isinstance(rows, list) or not (config is None or isinstance(config, dict)):
        raise BadManifest("the manifest's layers or config have the wrong type")
    layers = list(_layers(rows))
    config_file = ""
    if config is not None and config.get("digest"):
        config_file = _file(config)
        layers.append(Layer(_unique("config", {row.role for row in layers}), config_file, _size(config), False))
    return Manifest(tuple(layers), config_file)


def _layers(rows: list[Any]) -> Iterable[Layer]:
    taken: set[str] = set()
    for row in rows:
        if not isinstance(row, dict):
            raise BadManifest("a layer of the manifest has the wrong type")
        media = row.get("mediaType")
        kind = media.removeprefix(_MEDIA) if isinstance(media, str) else "layer"
        name = row.get("name")
        role = _unique(name if isinstance(name, str) and name else kind or "layer", taken)
        taken.add(role)
        yield Layer(role, _file(row), _size(row), kind in WEIGHTS)


def _unique(role: str, taken: set[str]) -> str:
    if role not in taken:
        return role
    return next(f"{role}#{n}" for n in range(2, len(taken) + 3) if f"{role}#{n}" not in taken)


def _file(row: dict[str, Any]) -> str:
    file = blob_name(row.get("digest"))
    if not file:
        raise BadManifest("a digest of the manifest is malformed")
    return file


def _size(row: dict[str, Any]) -> int:
    size = row.get("size")
    return size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 63 else -1


def parse_config(raw: bytes) -> dict[str, str]:
    """The short texts of a config blob that describe the model; empty where it cannot be read."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(data, dict):
        return {}
    keys = ("model_format", "model_family", "model_type", "file_type", "remote_host", "remote_model")
    return {k: v[:200] for k in keys if isinstance(v := data.get(k), str) and v}
