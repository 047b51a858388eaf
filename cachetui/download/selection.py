"""Which files of a repo are needed: patterns, else one format of the weights, and one quantization of a GGUF repo."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from cachetui.download.listing import Entry
from cachetui.formats import is_weights
from cachetui.gguf import type_in_name

_SHARD = re.compile(r"[-_.]0*\d+-of-0*\d+(?=\.)")
_VARIANT = re.compile(r"(.+)\.(fp16|bf16|fp32|non_ema)((?:-\d+-of-\d+)?\.(?:safetensors|bin)(?:\.index\.json)?)")
_OTHER_FOLDERS = {
    "onnx": "onnx", "openvino": "openvino", "coreml": "coreml", "tf": "tensorflow", "flax": "flax",
    "original": "original checkpoint",
}  # fmt: skip
_OTHER_SUFFIXES = {
    "onnx": "onnx", "onnx_data": "onnx", "h5": "tensorflow", "tflite": "tensorflow", "keras": "tensorflow",
    "msgpack": "flax", "ot": "rust", "mlmodel": "coreml", "mlpackage": "coreml", "gguf": "gguf", "pb": "tensorflow",
}  # fmt: skip
_TORCH = ("bin", "pt", "pth", "ckpt")
_PROJECTOR = re.compile(r"(^|[/_.-])mmproj", re.IGNORECASE)
_PROJECTORS = ("F16", "BF16", "F32", "Q8_0")


@dataclass(frozen=True, slots=True)
class Quant:
    """One quantization of a GGUF repo."""

    name: str
    """E.g. Q4_K_M; the file's name where it tells none."""
    size: int
    """Bytes of its files, projector not included."""
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selected:
    """What is taken, and why the rest is not."""

    entries: tuple[Entry, ...]
    left_out: tuple[tuple[Entry, str], ...]
    quants: tuple[Quant, ...] = ()
    """What there is to choose from; smallest first."""
    must_choose: bool = False
    """Several quantizations, and none was chosen."""
    unknown: str = ""
    """A path, pattern or quantization that matches nothing."""


def matches(path: str, patterns: Iterable[str]) -> bool:
    """As huggingface_hub's filter_repo_objects: fnmatch on the whole path, `folder/` is everything below it."""
    return any(fnmatch(path, p + "*" if p.endswith("/") else p) for p in patterns)


def select(
    entries: Sequence[Entry],
    *,
    path: str = "",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    quant: str = "",
    everything: bool = False,
) -> Selected:
    """The files to get. `path`, `include` and `everything` (all formats) turn the defaults off."""
    left: dict[str, str] = {}
    unknown, must_choose = "", False
    quants = quantizations(entries)
    if path:
        asked = [e for e in entries if e.path == path or e.path.startswith(path.rstrip("/") + "/")]
        unknown = "" if asked else path
        left = dict.fromkeys({e.path for e in entries} - {e.path for e in asked}, "not asked for")
    elif include:
        left = {e.path: "not asked for" for e in entries if not matches(e.path, include)}
        unknown = ", ".join(p for p in include if not any(matches(e.path, [p]) for e in entries))
    elif quant:
        left, unknown = _one_quant(entries, quants, quant)
    elif not everything:
        left = _other_formats(entries)
        taken = [q for q in quants if not all(f in left for f in q.files)]
        if taken:
            must_choose = len(taken) > 1
            more, _ = _one_quant(entries, quants, taken[0].name)
            left |= {} if must_choose else more
    left |= {e.path: "excluded" for e in entries if exclude and e.path not in left and matches(e.path, exclude)}
    return Selected(
        tuple(e for e in entries if e.path not in left),
        tuple((e, left[e.path]) for e in entries if e.path in left),
        quants,
        must_choose,
        unknown,
    )


def quantizations(entries: Sequence[Entry]) -> tuple[Quant, ...]:
    """The GGUF files of a repo as choices: shards together, projectors apart, smallest first."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for e in entries:
        if e.path.lower().endswith(".gguf") and not _PROJECTOR.search(e.path):
            groups[_SHARD.sub("", e.path)].append(e)
    names = [type_in_name(path) or path for path in groups]
    found = []
    for (path, files), name in zip(groups.items(), names, strict=True):
        title = name if names.count(name) == 1 else path
        found.append(Quant(title, sum(e.size for e in files), tuple(e.path for e in files)))
    return tuple(sorted(found, key=lambda q: (q.size, q.name)))


def _one_quant(entries: Sequence[Entry], quants: Sequence[Quant], wanted: str) -> tuple[dict[str, str], str]:
    """What is left out when one quantization is taken: the others, other weights, all projectors but the best."""
    chosen = next((q for q in quants if wanted.lower() in (q.name.lower(), *(f.lower() for f in q.files))), None)
    if chosen is None:
        return {}, wanted
    projectors = sorted((e for e in entries if _is_projector(e)), key=_projector_rank)
    keep = {*chosen.files, *(e.path for e in projectors[:1])}
    return {
        e.path: "another quantization" if e.path.lower().endswith(".gguf") else "weights in another format"
        for e in entries
        if e.path not in keep and (is_weights(e.path) or e.path.lower().endswith(".gguf"))
    }, ""


def _is_projector(entry: Entry) -> bool:
    return entry.path.lower().endswith(".gguf") and _PROJECTOR.search(entry.path) is not None


def _projector_rank(entry: Entry) -> tuple[int, str]:
    name = type_in_name(entry.path)
    return (_PROJECTORS.index(name) if name in _PROJECTORS else len(_PROJECTORS), entry.path)


def _other_formats(entries: Sequence[Entry]) -> dict[str, str]:
    """What repeats the weights: other formats beside safetensors (or, without those, beside PyTorch's)."""
    paths = {e.path for e in entries}
    safetensors = {_folder(p) for p in paths if p.endswith(".safetensors")}
    torch = any(_suffix(p) in _TORCH and is_weights(p) for p in paths)
    left: dict[str, str] = {}
    if not safetensors and not torch:
        return left
    for path in paths:
        top = path.split("/")[0]
        if safetensors and _suffix(path) in _TORCH and is_weights(path) and _folder(path) in safetensors:
            left[path] = "the same weights are there as safetensors"
        elif "/" in path and top in _OTHER_FOLDERS and (safetensors or top != "original"):
            left[path] = f"another format: {_OTHER_FOLDERS[top]}"
        elif _suffix(path) in _OTHER_SUFFIXES:
            left[path] = f"another format: {_OTHER_SUFFIXES[_suffix(path)]}"
        elif re.fullmatch(r"consolidated[\w.-]*\.safetensors", path) and _has_shards(paths):
            left[path] = "the same weights once more"
        elif (
            re.fullmatch(r"pytorch_model.*\.bin\.index\.json", path.rpartition("/")[2]) and _folder(path) in safetensors
        ):
            left[path] = "index of weights that are left out"
        elif (match := _VARIANT.fullmatch(path)) and f"{match[1]}{match[3]}" in paths:
            left[path] = f"variant {match[2]} of weights that are taken"
    return left


def _has_shards(paths: set[str]) -> bool:
    return any(re.fullmatch(r"model(-\d+-of-\d+)?\.safetensors", p) for p in paths)


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _suffix(path: str) -> str:
    return path[path.rfind(".") + 1 :].lower()
