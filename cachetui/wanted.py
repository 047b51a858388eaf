"""Which model is to be loaded, and how: what a request carries to the engine. Plain data, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16")
BITS = (0, 4, 8)
ATTENTIONS = ("", "eager", "sdpa", "flash_attention_2", "flash_attention_3")

_DTYPE_WORDS = {
    "fp32": "float32", "f32": "float32", "float": "float32", "bf16": "bfloat16", "fp16": "float16", "f16": "float16",
    "half": "float16", "": "auto",
}  # fmt: skip


class BadRequest(ValueError):
    """An option that means nothing; the text names it and what there is."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One model on disk and how to hold it in memory. Two equal ones are the same loaded model."""

    folder: str
    """Absolute path of what `from_pretrained` takes: a snapshot, or a folder with config.json."""
    name: str
    """As it is shown: the repo id, or the folder's name."""
    repo: str = ""
    commit: str = ""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N, mps."""
    dtype: str = "auto"
    """auto (as stored), float32, bfloat16, float16."""
    bits: int = 0
    """4 (nf4) or 8 quantizes while loading; 0: as stored."""
    double_quant: bool = False
    """With 4 bits: the maxima are quantized too."""
    skip: tuple[str, ...] = ()
    """Modules that stay unquantized beside the vision tower and the output layer; dotted, from the root."""
    trust_remote_code: bool = False
    """Whether the person allowed this model's own Python code to run."""
    attention: str = ""
    """Attention implementation; empty: what transformers takes."""

    def __post_init__(self) -> None:
        """Raises BadRequest."""
        object.__setattr__(self, "dtype", _DTYPE_WORDS.get(self.dtype, self.dtype))
        object.__setattr__(self, "skip", tuple(self.skip))
        device, _, number = self.device.partition(":")
        if device not in DEVICES or (number and not (device == "cuda" and number.isdecimal())):
            raise BadRequest(f"device {self.device}: there are {', '.join(DEVICES)} and cuda:N")
        if self.dtype not in DTYPES:
            raise BadRequest(f"dtype {self.dtype}: there are {', '.join(DTYPES)}")
        if self.bits not in BITS:
            raise BadRequest(f"{self.bits} bits: there are 4 and 8")
        if self.double_quant and self.bits != 4:
            raise BadRequest("double quantization is for 4 bits")
        if self.attention not in ATTENTIONS:
            raise BadRequest(f"attention {self.attention}: there are {', '.join(ATTENTIONS[1:])}")

    @property
    def quantization(self) -> str:
        """What loading makes of it: nf4, nf4-double, int8; empty: as stored."""
        if self.bits == 4:
            return "nf4-double" if self.double_quant else "nf4"
        return "int8" if self.bits == 8 else ""

    def to_json(self) -> dict[str, Any]:
        """For a request."""
        return {**asdict(self), "skip": list(self.skip)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Wanted:
        """The same again; keys that are not known are ignored. Raises BadRequest."""
        known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        for f in fields(cls):
            if f.name in known and f.name != "skip" and type(known[f.name]).__name__ != f.type:
                raise BadRequest(f"{f.name} in a request to load is no {f.type}")
        if "folder" not in known or "name" not in known:
            raise BadRequest("a request to load names no folder")
        skip = known.get("skip", ())
        if not isinstance(skip, list | tuple) or not all(isinstance(s, str) for s in skip):
            raise BadRequest("skip in a request to load is no list of names")
        return cls(**known)
