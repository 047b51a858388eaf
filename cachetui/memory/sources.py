"""What is known of a model: its config, its tensors, its sizes. Read from an item on disk; weights stay unread."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cachetui import afar
from cachetui.formats import is_weights
from cachetui.gguf import FILE_TYPES
from cachetui.memory import headers
from cachetui.memory.config import from_gguf
from cachetui.memory.model import Tensor
from cachetui.model import OFFLINE, Item, Revision
from cachetui.walk import read_small

MAX_CONFIG = 4 << 20
_VARIANTS = (".fp16.", ".bf16.", ".fp32.", ".non_ema.")
_NOT_THE_MODEL = ("adapter_model", "optimizer", "training_args", "scheduler", "rng_state")


class NotAModel(Exception):
    """There is nothing whose memory could be told; the text says why."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an estimate is made from. Sizes in bytes."""

    target: str
    name: str
    config: Mapping[str, Any]
    tensors: tuple[Tensor, ...] = ()
    """Of all weights that are loaded; empty where no header could be read."""
    weights: int = 0
    """Bytes of the weights as stored."""
    exact: bool = True
    """Whether `weights` and `tensors` are read, not inferred."""
    is_gguf: bool = False
    download: int = 0
    disk: int = -1
    """-1: not on disk."""
    quantization: str = ""
    source: str = ""
    notes: tuple[str, ...] = field(default=())
    stated: int = 0
    """Parameters, roughly, as a label says (`1.5B`): where no tensors were read."""


def facts_of(item: Item, revision: str = "", *, thorough: bool = True) -> Facts:
    """Of an item on disk. Raises NotAModel, OSError.

    `revision`: a commit; default what `main` names. `thorough`: for GGUF, walk over the vocabulary to the list of
    tensors (tens of milliseconds) instead of taking the file's length.
    """
    if OFFLINE in item.states:
        raise NotAModel("it lies on a drive or server that is not there now")
    if item.kind == "state":
        raise NotAModel(f"it is a saved state: estimate {dict(item.extra).get('belongs to', 'its model')}")
    files = _files(item, revision)
    if not files:
        raise NotAModel("no file of it is here")
    config = _json(files.get("config.json", ""))
    download = sum(size for _, size in _sizes(files))
    base = Facts(item.id, item.name, config, download=download, disk=item.allocated + item.away)
    tensors = main_weights(files, ".safetensors", has_config=bool(config))
    if tensors:
        return _from_safetensors(base, files, tensors, item)
    gguf = _gguf_files(item, files)
    if gguf:
        return _from_gguf(base, gguf, item, thorough)
    rest = main_weights(files, ".bin", has_config=bool(config)) or [n for n in files if is_weights(n)]
    if rest:
        total = sum(os.stat(files[n]).st_size for n in rest)
        note = "no safetensors header: weights by the length of their files"
        return _with(base, weights=total, exact=False, quantization=item.traits.quantization, notes=(note,))
    raise NotAModel("it holds no weights")


def _with(facts: Facts, **changes: Any) -> Facts:
    return replace(facts, **changes)


def _files(item: Item, revision: str) -> dict[str, str]:
    """Name -> absolute path of what lies in the revision that is meant, read through links where it lies elsewhere."""
    chosen = _revision(item, revision)
    content = item.content
    if chosen is None:
        base = item.path + "/" if item.path else ""
        return {b.path.removeprefix(base): _absolute(item, b.path) for b in content}
    return {
        name: _absolute(item, content[at].path)
        for name, at in zip(chosen.names, chosen.index, strict=True)
        if 0 <= at < len(content)
    }


def _absolute(item: Item, path: str) -> str:
    return path if os.path.isabs(path) else f"{item.root}/{path}"


def _revision(item: Item, wanted: str) -> Revision | None:
    for r in item.revisions:
        if wanted and r.commit.startswith(wanted):
            return r
    if wanted:
        raise NotAModel(f"there is no revision {wanted}")
    named = next((r for r in item.revisions if "main" in r.refs), None)
    return named or max(item.revisions, key=lambda r: r.last_modified or 0.0, default=None)


def _json(path: str) -> dict[str, Any]:
    if not path:
        return {}
    try:
        return loads(read_small(afar.follow(path).real if os.path.islink(path) else path, MAX_CONFIG))
    except OSError:
        return {}


def loads(raw: bytes) -> dict[str, Any]:
    """The JSON object that these bytes are; an empty one where they are none."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _sizes(files: Mapping[str, str]) -> Sequence[tuple[str, int]]:
    found = []
    for name, path in files.items():
        try:
            found.append((name, os.stat(path).st_size))
        except OSError:
            continue
    return found


def main_weights(files: Iterable[str], suffix: str, *, has_config: bool) -> list[str]:
    """The weights that a loader takes, without other copies of the same (consolidated, variants, other formats)."""
    names = [n for n in files if n.endswith(suffix) and not n.rpartition("/")[2].startswith(_NOT_THE_MODEL)]
    if suffix == ".bin":
        names = [n for n in names if is_weights(n)]
    top = [n for n in names if "/" not in n]
    if top and (has_config or not any("/" in n for n in names)):
        names = top
    plain = [n for n in names if not any(v in n for v in _VARIANTS)]
    names = plain or names
    model = [n for n in names if not n.rpartition("/")[2].startswith("consolidated")]
    return sorted(model or names)


def _from_safetensors(base: Facts, files: Mapping[str, str], names: Sequence[str], item: Item) -> Facts:
    found: list[Tensor] = []
    name = ""
    try:
        for name in names:
            found += headers.safetensors(files[name])
    except headers.BadHeader as e:
        raise NotAModel(f"{name}: {e}") from None
    notes: list[str] = []
    missing = _missing(files, {t.name for t in found})
    if missing:
        notes.append(f"{missing} tensors of the index are not here: the model is incomplete")
    return _with(
        base,
        tensors=tuple(found),
        weights=sum(t.size for t in found),
        quantization=item.traits.quantization,
        notes=tuple(notes),
    )


def _missing(files: Mapping[str, str], there: set[str]) -> int:
    index = _json(files.get("model.safetensors.index.json", "")).get("weight_map")
    return len(index.keys() - there) if isinstance(index, dict) else 0


def _gguf_files(item: Item, files: Mapping[str, str]) -> dict[str, str]:
    named = {n: p for n, p in files.items() if n.endswith(".gguf")}
    if item.store == "ollama":
        named = {n: p for n, p in files.items() if n.partition("#")[0] in ("model", "projector", "adapter")}
    if len(named) <= 1:
        return named
    first = [n for n in sorted(named) if "mmproj" not in n and "-of-" not in n]
    shards = [n for n in sorted(named) if "-of-" in n]
    if item.store == "ollama" or (shards and not first):
        return named
    # Several quantizations of one model in one repo: the smallest is what is loaded when memory is short.
    chosen = min(first, key=lambda n: os.stat(named[n]).st_size) if first else sorted(named)[0]
    projectors = [n for n in sorted(named) if "mmproj" in n][:1]
    return {n: named[n] for n in (chosen, *projectors)}


def _from_gguf(base: Facts, named: Mapping[str, str], item: Item, thorough: bool) -> Facts:
    values: dict[str, str | int | float | bool] = {}
    found: list[Tensor] = []
    total, label, exact = 0, "", thorough
    notes: list[str] = []
    reading = ""
    try:
        for name, path in named.items():
            reading = name
            its, size = headers.gguf_values(path)
            if not values or its.get("general.architecture") not in ("clip", None):
                values = values or its
                kind = its.get("general.file_type")
                label = label or (FILE_TYPES.get(kind, "") if isinstance(kind, int) else "")
            if thorough:
                its_tensors = headers.gguf_tensors(path)
                found += its_tensors
                total += sum(t.size for t in its_tensors)
            else:
                total += size
    except headers.BadHeader as e:
        raise NotAModel(f"{reading}: {e}") from None
    if len(named) > 1:
        notes.append("counted: " + ", ".join(named))
    return _with(
        base,
        config=from_gguf(values),
        tensors=tuple(found),
        weights=total,
        exact=exact,
        is_gguf=True,
        quantization=label or item.traits.quantization,
        notes=tuple(notes),
        stated=labelled(str(values.get("general.size_label") or item.traits.parameters)),
    )


def labelled(text: str) -> int:
    """What a label of a model's size stands for: `1.5B`, `270M`; 0 where it says nothing."""
    match = re.fullmatch(r"(\d{1,4}(?:\.\d{1,3})?)\s*([BMK])", text.strip(), re.IGNORECASE)
    return int(float(match[1]) * {"b": 10**9, "m": 10**6, "k": 10**3}[match[2].lower()]) if match else 0
