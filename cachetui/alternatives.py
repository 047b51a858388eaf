"""Which files of a repo are meant: by patterns, and without the same weights in another format. Names only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatch

from cachetui.formats import is_weights

SHARD = re.compile(r"[-_.]0*\d+-of-0*\d+(?=\.)")
"""What makes a name one piece of several."""
PROJECTOR = re.compile(r"(^|[/_.-])mmproj", re.IGNORECASE)
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


def other_formats(names: Iterable[str]) -> dict[str, str]:
    """What repeats the weights, and as what: formats beside safetensors (or, without those, beside PyTorch's)."""
    paths = set(names)
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


def matches(path: str, patterns: Iterable[str]) -> bool:
    """As huggingface_hub's filter_repo_objects: fnmatch on the whole path, `folder/` is everything below it."""
    return any(fnmatch(path, p + "*" if p.endswith("/") else p) for p in patterns)


def needed(names: Iterable[str], present: Iterable[str]) -> set[str]:
    """The files a complete copy has: without what repeats the weights, and of GGUF what belongs to the ones present."""
    every, here = set(names), set(present)
    found = every - other_formats(every).keys()
    models = {SHARD.sub("", n) for n in here if _is_gguf(n)}
    return {
        n for n in found if not models or not n.lower().endswith(".gguf") or SHARD.sub("", n) in models or n in here
    }


def _is_gguf(name: str) -> bool:
    return name.lower().endswith(".gguf") and not PROJECTOR.search(name)
