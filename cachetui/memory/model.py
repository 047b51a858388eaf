"""The values an estimate is made of. Frozen, no I/O. All sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from cachetui.memory.cache import Cache


class Tensor(NamedTuple):
    """One tensor of a model, or all its likes in other layers, by its header or by its config's numbers."""

    name: str
    dtype: str
    """As safetensors writes it: F32, BF16, U8 ..."""
    shape: tuple[int, ...]
    size: int
    """Bytes as stored, of one."""
    number: int = 1
    """How many there are that differ in the number of their layer only; `name` is the first one's."""

    @property
    def elements(self) -> int:
        """Elements of one."""
        n = 1
        for side in self.shape:
            n *= side
        return n


@dataclass(frozen=True, slots=True)
class Line:
    """One number and how far it can be trusted."""

    name: str
    bytes: int
    exact: bool
    """False: a rough figure; `note` says of what kind."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to hold the model in memory."""

    name: str
    """as stored, fp32, 16-bit, int8, nf4, nf4 double-quant, QLoRA training."""
    lines: tuple[Line, ...] = ()
    width: int = 2
    """Bytes of a number in the KV cache."""
    reason: str = ""
    """Why this model cannot be held that way; empty when it can."""

    @property
    def total(self) -> int:
        """All lines together."""
        return sum(line.bytes for line in self.lines)

    @property
    def exact(self) -> int:
        """The part that is exact."""
        return sum(line.bytes for line in self.lines if line.exact)

    @property
    def weights(self) -> int:
        """The weights alone."""
        return sum(line.bytes for line in self.lines if line.name == WEIGHTS)

    @property
    def kv(self) -> int:
        """The KV cache alone."""
        return sum(line.bytes for line in self.lines if line.name == KV)


WEIGHTS, KV, ACTIVATIONS, RUNTIME = "weights", "KV cache", "activations", "runtime"
STORED, FP32, HALF, INT8, NF4, NF4_DOUBLE, TRAINING = (
    "as stored",
    "fp32",
    "16-bit",
    "int8",
    "nf4",
    "nf4 double-quant",
    "QLoRA training",
)
BEST_FIRST = (STORED, HALF, INT8, NF4, NF4_DOUBLE)
"""In this order a way to run a model is looked for; fp32 only helps where nothing is gained by it."""

USUAL_CONTEXT = 4096
"""Tokens."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be estimated."""

    context: int = 0
    """Tokens of text; 0: USUAL_CONTEXT, or what the model was made for where that is less."""
    images: int = 0
    image_size: tuple[int, int] = (1024, 1024)
    """Width and height in pixels of each image."""
    rank: int = 16
    """Of the LoRA adapters."""
    targets: tuple[str, ...] = ()
    """Names of the modules that get adapters (q_proj ...), or `attention`; empty: every linear layer."""
    optimizer_bits: int = 32
    train_tokens: int = 2048
    """Tokens in one training step."""
    skip_vision: bool = True
    """Whether the vision tower stays unquantized."""


class Fit(StrEnum):
    """Whether it goes in."""

    FITS = "fits"
    TIGHT = "tight"
    NO = "does not fit"


@dataclass(frozen=True, slots=True)
class Device:
    """Something to run a model on."""

    name: str
    kind: str
    """ram, gpu, unified, card (named, not here)."""
    total: int
    usable: int
    """What a model may take: free now, or all of a card that is only named."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One mode on one device."""

    mode: str
    need: int
    fit: Fit
    context: int
    """Largest context in tokens that fits; 0: none; -1: unknown, or this model has no KV cache."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one model needs."""

    target: str
    name: str
    family: str
    quantization: str
    parameters: int
    """0 where it cannot be told."""
    by_dtype: tuple[tuple[str, int], ...]
    """(dtype, elements as stored), most first."""
    download: Line
    disk: Line
    context: int
    """Tokens, those of images included."""
    context_limit: int
    """What the model was made for; 0: unknown."""
    cache: Cache | None
    """What it keeps for each token; None where that is nothing or unknown."""
    kv_exact: bool
    modes: tuple[Mode, ...]
    training: Mode
    notes: tuple[str, ...] = ()
    source: str = ""
    """Where the numbers are from, for what is not on disk."""
    variants: tuple[Mode, ...] = ()
    """4-bit files that others make of it: their sizes are computed, whether there are any is not known here."""
    sees: bool = False
    """Whether it reads pictures."""

    def mode(self, name: str) -> Mode | None:
        """The mode of that name, if the model can be held that way."""
        return next((m for m in (*self.modes, self.training) if m.name == name and not m.reason), None)
