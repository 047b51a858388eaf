"""What can I run? Models against one device: a verdict for every mode, what to take, what it is good for there.

Where the precision it is stored in does not go in, 4 bits are proposed; where nothing goes in, what still works: a
smaller file that others make of it, the CPU, a hosted API. That one is only named: nothing here asks a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from cachetui.memory import catalogue
from cachetui.memory.devices import fit_of, verdicts
from cachetui.memory.estimating import estimate
from cachetui.memory.model import (
    HALF,
    INT8,
    NF4,
    NF4_DOUBLE,
    STORED,
    TRAINING,
    Ask,
    Device,
    Estimate,
    Fit,
    Mode,
    Verdict,
)
from cachetui.memory.variants import GGUF

LEARNING, PRODUCTION, QUALITY, INFERENCE = "learning", "production", "high quality", "inference only"
USES: Mapping[str, str] = {
    LEARNING: "at most 4.5 B parameters, and QLoRA training goes in",
    PRODUCTION: "goes in with room to spare in 8 bits or more, with 8,192 tokens",
    QUALITY: "among the largest that run here: at least half of the parameters of the largest",
    INFERENCE: "runs, but QLoRA training does not go in",
}
"""What a model is good for on a device, and what is meant by it."""
PROPOSED = (STORED, HALF, NF4, NF4_DOUBLE, INT8)
"""In this order a mode is proposed: as it is, then 4 bits."""
_SMALL = 4_500_000_000
_LONG = 8192
_SHORTEST = 512
"""Tokens of context below which a model is of no use."""
_HOSTS = {"qwen": "Alibaba Cloud Model Studio", "mistralai": "Mistral AI Studio"}
HOSTED = "a hosted API, such as "
_HOST = "Hugging Face Inference Providers"


@dataclass(frozen=True, slots=True)
class Way:
    """Something that still works where the model itself does not go in."""

    name: str
    need: int = 0
    """Bytes of memory; 0 where none of this machine's is needed."""
    download: int = 0
    """Bytes; 0 where nothing is downloaded, or it is here."""
    here: bool = False
    """Whether it runs on the device that was asked about."""


@dataclass(frozen=True, slots=True)
class Run:
    """One model on one device."""

    estimate: Estimate
    device: Device
    verdicts: tuple[Verdict, ...]
    take: Mode | None
    """What to load it as; None where it does not go in."""
    fit: Fit
    context: int
    """Largest context in tokens with that; 0: none, -1: unknown, or it has no KV cache."""
    uses: tuple[str, ...]
    instead: tuple[Way, ...]
    """What still works, best first."""

    @property
    def runs(self) -> bool:
        """Whether it runs on the device in some way."""
        return self.take is not None or any(w.here for w in self.instead)

    @property
    def is_short(self) -> bool:
        """Whether it only goes in with a shorter context than was asked for."""
        return self.take is not None and 0 <= self.context < self.estimate.context

    def verdict(self, mode: str) -> Verdict | None:
        """On one mode; None where the model cannot be held that way."""
        return next((v for v in self.verdicts if v.mode == mode), None)


def order(e: Estimate) -> int:
    """What models are sorted by, smallest first."""
    return (e.mode(HALF) or e.modes[0]).total


def what_runs(estimates: Iterable[Estimate], device: Device, ram: int) -> tuple[Run, ...]:
    """Every model on a device, smallest first. `ram`: bytes of this machine's memory, for what the CPU could do."""
    found = [run_of(e, device, ram) for e in sorted(estimates, key=order)]
    largest = max((r.estimate.parameters for r in found if r.runs), default=0)
    return tuple(_with_uses(r, largest) for r in found)


def run_of(e: Estimate, device: Device, ram: int) -> Run:
    """One model on a device, without its uses: those compare it with others."""
    said = verdicts(e, device)
    take, context = _taken(e, said)
    fit = Fit.NO if take is None else fit_of(take.total, device)
    short = take is not None and fit is Fit.NO
    instead = () if take is not None and not short else _ways(e, device, ram)
    return Run(e, device, said, take, Fit.TIGHT if short else fit, context, (), instead)


def _taken(e: Estimate, said: tuple[Verdict, ...]) -> tuple[Mode | None, int]:
    by_mode = {v.mode: v for v in said}
    for wanted in (Fit.FITS, Fit.TIGHT):
        for name in PROPOSED:
            if name in by_mode and by_mode[name].fit is wanted:
                return e.mode(name), by_mode[name].context
    best = max((by_mode[n] for n in PROPOSED if n in by_mode), key=lambda v: v.context, default=None)
    if best is not None and best.context >= _SHORTEST:
        return e.mode(best.mode), best.context
    return None, 0


def _ways(e: Estimate, device: Device, ram: int) -> tuple[Way, ...]:
    found = []
    for v in e.variants:
        if fit_of(v.total, device) is not Fit.NO:
            found.append(Way(v.name, v.total, v.weights, True))
    cpu = next((v for v in e.variants if v.name == GGUF), None)
    if device.kind != "ram" and cpu is not None and cpu.total <= ram:
        found.append(Way(f"{GGUF} on the CPU, slowly", cpu.total, cpu.weights))
    elif device.kind != "ram" and not e.variants and e.modes[0].total <= ram:
        found.append(Way("the CPU, slowly", e.modes[0].total))
    return (*found, Way(HOSTED + hosted(e.name)))


def hosted(name: str) -> str:
    """A service that could run it: named, never called."""
    return _HOSTS.get(name.partition("/")[0].lower(), _HOST)


def _with_uses(run: Run, largest: int) -> Run:
    if not run.runs:
        return run
    e, uses = run.estimate, []
    training = run.verdict(TRAINING)
    trains = training is not None and training.fit is not Fit.NO
    if trains and e.parameters <= _SMALL:
        uses.append(LEARNING)
    long = min(_LONG, e.context_limit or _LONG)
    for name in (STORED, HALF, INT8):
        v = run.verdict(name)
        if v is not None and v.fit is Fit.FITS and (v.context < 0 or v.context >= long):
            uses.append(PRODUCTION)
            break
    if e.parameters and e.parameters * 2 >= largest:
        uses.append(QUALITY)
    if not trains:
        uses.append(INFERENCE)
    return Run(e, run.device, run.verdicts, run.take, run.fit, run.context, tuple(uses), run.instead)


@dataclass(frozen=True, slots=True)
class SizeClass:
    """What a size of models weighs in 4 bits, by the model that stands for it. Bytes of weights."""

    name: str
    repo: str
    parameters: int
    modes: tuple[tuple[str, int], ...]
    """(nf4, nf4 double-quant, GGUF Q4_K_M, GPTQ 4-bit; bytes)."""


@lru_cache(1)
def by_class() -> tuple[SizeClass, ...]:
    """4-bit sizes by class, computed from the configs of the catalogue."""
    found = []
    for name, repo in catalogue.CLASSES:
        e = estimate(catalogue.facts(repo), Ask())
        modes = (*(m for m in e.modes if m.name in (NF4, NF4_DOUBLE)), *e.variants)
        found.append(SizeClass(name, repo, e.parameters, tuple((m.name, m.weights) for m in modes)))
    return tuple(found)
