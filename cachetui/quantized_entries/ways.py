"""Ways to quantize beside bitsandbytes: MLX by mlx_lm, K-quants of GGUF by libgguf or llama.cpp. No torch.

What such an entry depends on, whether it can be made here, and what it will weigh.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cachetui import gguf_models
from cachetui.memory.config import text_config
from cachetui.memory.model import Tensor
from cachetui.memory.variants import MIXES, gguf_size
from cachetui.memory.weights import is_vision
from cachetui.quantized_entries.identity import Identity, file_digest, minor
from cachetui.quantized_entries.wishes import model_of, version
from cachetui.wanted import Wanted

MLX, GGUF = "mlx", "gguf"
FORMATS = (MLX, GGUF)
TYPES = tuple(MIXES)
"""File types of GGUF that are made here; the first is usual."""
GROUP = 64
"""Numbers that share a scale in MLX, its own default."""
INSTALL = {MLX: "pip install 'cachetui[mlx]'", GGUF: "pip install 'cachetui[gguf]'"}
LLAMA_CPP = (
    "with convert_hf_to_gguf.py of llama.cpp on PATH its architectures can be converted too: "
    "https://github.com/ggml-org/llama.cpp"
)
LIBRARIES = {MLX: ("mlx-lm", "mlx"), GGUF: ("libgguf", "gguf")}
"""Those whose generation is a part of the identity."""
_CONVERTERS = ("convert_hf_to_gguf.py", "convert-hf-to-gguf")
_QUANTIZER = "llama-quantize"
_PROJECTOR = ("vision_config", "visual")


@dataclass(frozen=True, slots=True)
class Way:
    """What is made: MLX in so many bits, or GGUF of a type."""

    method: str
    bits: int = 4
    """mlx: 4 or 8."""
    type: str = TYPES[0]
    """gguf: one of TYPES."""

    @property
    def label(self) -> str:
        """For people."""
        return self.type if self.method == GGUF else f"mlx {self.bits}-bit"

    def to_json(self) -> dict[str, Any]:
        """For a request."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Tools:
    """What makes GGUF files on this machine. Paths are absolute; empty: not there."""

    converter: str = ""
    """llama.cpp's script; without it, the converter of this program does a few architectures."""
    quantizer: str = ""
    """llama.cpp's llama-quantize; taken where libgguf is not installed."""


def tools(config: Mapping[str, Any], folder: str) -> Tools:
    """Those that a model is made with: llama.cpp's converter only where this program's own does not do it."""
    converter = ""
    if gguf_models.unfit(config, folder):
        converter = next((found for name in _CONVERTERS if (found := shutil.which(name))), "")
    quantizer = "" if version("libgguf") else shutil.which(_QUANTIZER) or ""
    return Tools(converter and os.path.abspath(converter), quantizer and os.path.abspath(quantizer))


def identify(wanted: Wanted, way: Way, told: Callable[[int], None] = lambda _: None) -> Identity:
    """What the entry depends on. Of a folder without a commit every byte is read. Raises NotHere."""
    model = model_of(wanted, told)
    libraries = {name: minor(found) for name in LIBRARIES[way.method] if (found := version(name))}
    settings: dict[str, Any] = {"bits": way.bits, "group_size": GROUP, "mode": "affine"}
    dtype = model.dtype
    if way.method == GGUF:
        used = tools(model.config, wanted.folder)
        own = "" if used.converter else f"cachetui {gguf_models.VERSION}"
        settings, dtype = {"type": way.type, "converter": own or _build(used.converter)}, "float32"
        if used.quantizer:
            libraries["llama.cpp"] = _build(used.quantizer)
    return Identity(
        repo=model.repo,
        commit=wanted.commit,
        weights=model.weights,
        dtype=dtype,
        method=way.method,
        settings=settings,
        model_class=model.model_class,
        libraries=libraries,
    )


def _build(program: str) -> str:
    """Which build it is: llama.cpp's programs do not tell, so the beginning of its sha256."""
    try:
        return file_digest(os.path.realpath(program))[:12]
    except OSError:
        return ""


def obstacles(wanted: Wanted, way: Way, config: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """(code, why, what to do) of all that is in the way; nothing is imported."""
    if way.method == MLX:
        absent = [name for name in LIBRARIES[MLX] if not version(name)]
        found = [("not-installed", f"making MLX models needs {', '.join(absent)}", INSTALL[MLX])] if absent else []
        if config.get("model_file") or (config.get("auto_map") and not _known_to_mlx(config)):
            found.append(
                ("remote-code", "it brings Python code of its own, which is not run", "take a model without such code")
            )
        return tuple(found)
    found = []
    used = tools(config, wanted.folder)
    why = gguf_models.unfit(config, wanted.folder)
    if why and not used.converter:
        found.append(("unsupported", why, LLAMA_CPP))
    needed = ["gguf"] if not used.converter or not used.quantizer else []
    needed += [] if used.quantizer else ["libgguf"]
    if absent := [name for name in needed if not version(name)]:
        advice = f"{INSTALL[GGUF]}, or llama-quantize of llama.cpp on PATH"
        found.append(("not-installed", f"making GGUF files needs {', '.join(absent)}", advice))
    return tuple(found)


def _known_to_mlx(config: Mapping[str, Any]) -> bool:
    """Whether mlx_lm has a module named like the model's type."""
    from importlib import metadata

    name = config.get("model_type")
    if not isinstance(name, str) or not name.isidentifier():
        return False
    try:
        where = metadata.distribution("mlx-lm").locate_file(f"mlx_lm/models/{name}.py")
    except metadata.PackageNotFoundError:
        return False
    return os.path.exists(str(where))


def notes(way: Way, config: Mapping[str, Any]) -> tuple[str, ...]:
    """What a person should know before."""
    if way.method == MLX and any(isinstance(config.get(part), dict) for part in _PROJECTOR):
        return ("mlx_lm takes the part that writes only: the result reads no pictures",)
    return ()


def size(way: Way, kept: Sequence[Tensor], config: Mapping[str, Any], dtype: str) -> int:
    """Bytes of the weights on disk, counted by the rules of who makes them. `kept`: memory.weights.alike."""
    if way.method == GGUF:
        return sum(gguf_size(kept, text_config(config), way.type))
    rest = 4 if dtype == "float32" else 2
    total = 0
    for t in kept:
        if is_vision(t.name):
            continue
        plain = t.elements * rest
        if t.name.endswith(".weight") and len(t.shape) == 2 and t.shape[-1] % GROUP == 0:
            plain = t.elements * way.bits // 8 + t.elements // GROUP * 2 * rest
        total += plain * t.number
    return total


def memory(way: Way, kept: Sequence[Tensor], made: int) -> int:
    """Bytes while it is made, roughly: mlx_lm holds the model whole, libgguf one tensor at a time."""
    largest = max((t.elements for t in kept), default=0) * 4
    if way.method == GGUF:
        return 3 * largest + 300_000_000
    return made + sum(t.size * t.number for t in kept) + largest + 400_000_000


def scratch(way: Way, source: int) -> int:
    """Bytes that are needed on disk for a moment beside the result."""
    return source if way.method == GGUF else 0


def way_of(data: Mapping[str, Any] | None) -> Way | None:
    """From a request. Raises ValueError for what is no way."""
    if not data:
        return None
    way = Way(str(data.get("method")), int(data.get("bits", 4)), str(data.get("type", TYPES[0])))
    if way.method not in FORMATS or way.bits not in (4, 8) or way.type not in TYPES:
        raise ValueError(f"no way to quantize: {json.dumps(dict(data))[:200]}")
    return way
