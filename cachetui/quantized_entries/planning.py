"""What quantizing a model would do, before a byte is written: which entry, is it there, does it fit. No torch.

The size on disk is counted from the headers by the rules of who makes it (cachetui.memory.weights for bitsandbytes,
ways for the other formats); the memory is a rough figure: transformers reads one parameter after the other and
quantizes it at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cachetui import hub_layout
from cachetui.config import Where
from cachetui.hub_making import NameTakenError, commit_of, there
from cachetui.memory import NotAModel, devices, facts_of
from cachetui.memory.model import INT8, NF4, NF4_DOUBLE, Device, Fit, Tensor
from cachetui.memory.sources import Facts
from cachetui.memory.weights import alike, is_linear, is_quantized, untied, weights
from cachetui.quantized_entries import ways
from cachetui.quantized_entries.checking import check
from cachetui.quantized_entries.identity import Identity
from cachetui.quantized_entries.listing import Entry, find
from cachetui.quantized_entries.places import Place, Room, place, room
from cachetui.quantized_entries.storage import Storage, storage
from cachetui.quantized_entries.ways import Way
from cachetui.quantized_entries.wishes import LIBRARIES, identify, version
from cachetui.runnable import TRANSFORMERS, NotRunnable, Runnable
from cachetui.store import Selection
from cachetui.units import size as words
from cachetui.wanted import Wanted

RUNTIME = 1_200_000_000
"""Bytes that torch, transformers and bitsandbytes take by themselves, roughly."""
INSTALL = "pip install 'cachetui[models]'"
_OUTER = re.compile(r"^((language_)?model\.)+")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why it cannot be done, and what to do about it; may hold outside strings."""

    code: str
    """not-installed, quantized, nothing-to-quantize, no-room, no-memory, not-here, read-only, unsupported,
    remote-code, name-taken."""
    message: str
    advice: str = ""


@dataclass(frozen=True)
class QuantPlan:
    """All of it. Sizes in bytes."""

    target: str
    """TARGET of the model."""
    wanted: Wanted
    """With the dtype that the identity says."""
    rank: int
    identity: Identity
    place: Place
    storage: Storage
    room: Room
    way: Way | None = None
    """MLX or GGUF; None: bitsandbytes."""
    name: str = ""
    """ORG/NAME that it gets in the hub cache too; empty: none."""
    hub: str = ""
    """That hub cache."""
    there: Entry | None = None
    """The entry, where it exists and a quick look finds nothing wrong."""
    damaged: str = ""
    """What is wrong with the entry that exists: it goes to the trash and is made anew."""
    source: int = 0
    """Of the weights as they are now."""
    size: int = 0
    """On disk, counted; without the tokenizer and other small files."""
    memory: int = 0
    """While it is made, roughly."""
    device: str = ""
    """What it is compared with: RAM, or the name of a GPU."""
    usable: int = 0
    """What is free of it."""
    plain: tuple[str, ...] = ()
    """Parts that stay unquantized."""
    refused: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Absolute, of the entry."""
        return os.path.join(self.place.path, self.identity.key)

    @property
    def is_done(self) -> bool:
        """Nothing has to be made."""
        return self.there is not None and self.is_named

    @property
    def is_named(self) -> bool:
        """Whether the entry is known by `name`, where it has to be."""
        if not self.name:
            return True
        if self.there is None or self.there.manifest is None:
            return False
        try:
            return there(self.hub, self.name) == commit_of(self.there.manifest.digests)
        except NameTakenError:
            return False

    def job(self) -> dict[str, Any]:
        """What the worker is asked for."""
        return {
            "target": self.target,
            "wanted": self.wanted.to_json(),
            "rank": self.rank,
            "folder": self.place.path,
            "key": self.identity.key,
            "size": self.size,
            "label": self.identity.label,
            "way": self.way.to_json() if self.way is not None else None,
            "name": self.name,
            "hub": self.hub,
        }

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "target": self.target,
            "key": self.identity.key,
            "entry": self.path,
            "name": self.name or None,
            "format": self.identity.method,
            "quantization": self.identity.label,
            "identity": self.identity.to_json(),
            "folder": self.place.path,
            "origin": self.place.origin,
            "storage": self.storage.kind,
            "there": self.is_done,
            "damaged": self.damaged or None,
            "source_size": self.source,
            "size": self.size,
            "memory": self.memory,
            "device": self.device,
            "usable_memory": self.usable,
            "free": self.room.free if self.room.free >= 0 else None,
            "unquantized": list(self.plain),
            "notes": list(self.notes),
            "refused": [{"code": r.code, "message": r.message, "advice": r.advice} for r in self.refused],
        }


def prepare(
    where: Where,
    selection: Selection,
    runnable: Runnable,
    *,
    way: Way | None = None,
    name: str = "",
    skip: tuple[str, ...] = (),
    rank: int = 0,
    quant_dir: str = "",
    told: Callable[[int], None] = lambda _: None,
) -> QuantPlan:
    """The plan for `runnable.wanted`: with bits 4 or 8, or in another `way`.

    Of a folder without a commit every byte is read (`told` counts). Raises NotRunnable for what transformers does not
    run, NotHere.
    """
    if runnable.engine != TRANSFORMERS:
        raise NotRunnable(
            f"{runnable.name} is run by {runnable.engine}: only what transformers loads is quantized here"
        )
    wanted = replace(runnable.wanted, skip=skip)
    identity = identify(wanted, rank, told) if way is None else ways.identify(wanted, way, told)
    wanted = replace(wanted, dtype=identity.dtype)
    used = place(where, quant_dir)
    found = find(used.path, identity)
    checked = check(found.path) if found is not None else None
    good = found if checked else None
    plan = QuantPlan(
        runnable.target,
        wanted,
        rank,
        identity,
        used,
        storage(used.path),
        room(used.path, 0),
        way,
        name,
        os.path.normpath(os.path.join(where.cwd, hub_layout.hub_cache(where.env, where.home)[0])),
        good,
        checked.reason if checked is not None and not checked else "",
        plain=tuple(identity.settings.get("llm_int8_skip_modules", ())),
    )
    plan = plan if good is not None else _measured(plan, selection)
    taken = _taken(plan) if name else None
    return replace(plan, refused=(*plan.refused, taken)) if taken is not None else plan


def _taken(plan: QuantPlan) -> Refusal | None:
    """Something else that has the name."""
    try:
        if not there(plan.hub, plan.name) or plan.is_named:
            return None
    except NameTakenError:
        pass
    return Refusal("name-taken", f"{plan.name} is in {plan.hub} already", "choose another --name, or delete that one")


def _measured(plan: QuantPlan, selection: Selection) -> QuantPlan:
    """With sizes, and what stands in the way."""
    way = plan.way
    refused = list(_not_installed()) if way is None else []
    try:
        facts = facts_of(selection.item, plan.wanted.commit)
    except (NotAModel, OSError) as e:
        return replace(plan, refused=(*refused, Refusal("not-here", f"{plan.wanted.name}: {e}")))
    # Which modules stay is said by name: then the likes of all layers cannot be counted together.
    kept = untied(facts.tensors if plan.wanted.skip else alike(facts.tensors), facts.config)
    if way is not None:
        refused += [Refusal(*found) for found in ways.obstacles(plan.wanted, way, facts.config)]
    if why := _unfit(facts, kept):
        return replace(plan, source=facts.weights, refused=(*refused, why))
    if way is None:
        size, beside = counted(kept, plan.wanted), 0
        memory = size + 2 * max(t.elements * 4 for t in kept) + RUNTIME
        device = _device(plan.wanted.device)
    else:
        size = ways.size(way, kept, facts.config, plan.identity.dtype)
        memory, beside = ways.memory(way, kept, size), ways.scratch(way, facts.weights)
        device = _device("cpu")
    fits = devices.fit_of(memory, device)
    space = room(plan.place.path, size + beside)
    notes = [*([space.warning] if space.warning else []), *(ways.notes(way, facts.config) if way is not None else ())]
    if space.refused:
        refused.append(
            Refusal("no-room", space.refused, "make room (cachetui ls --sort size), or take another --quant-dir")
        )
    if fits is Fit.NO:
        message = f"about {words(memory)} of memory are needed, {words(device.usable)} are free ({device.name})"
        refused.append(Refusal("no-memory", message, "end other programs, or quantize it where there is more memory"))
    elif fits is Fit.TIGHT:
        notes.append(f"memory will be tight: about {words(memory)} of {words(device.usable)} that are free")
    return replace(
        plan, room=space, source=facts.weights, size=size, memory=memory, device=device.name, usable=device.usable,
        refused=tuple(refused), notes=tuple(notes),
    )  # fmt: skip


def _not_installed() -> list[Refusal]:
    absent = [name for name in ("torch", *LIBRARIES, "accelerate") if not version(name)]
    return [Refusal("not-installed", f"quantizing needs {', '.join(absent)}", INSTALL)] if absent else []


def _unfit(facts: Facts, kept: tuple[Tensor, ...]) -> Refusal | None:
    if is_quantized(kept):
        how = facts.quantization or "it is stored so"
        return Refusal("quantized", f"it is quantized already ({how})", f"cachetui prompt {facts.target}")
    if not any(is_linear(t) for t in kept):
        return Refusal("nothing-to-quantize", "it has no linear layers that bitsandbytes quantizes")
    return None


def counted(kept: tuple[Tensor, ...], wanted: Wanted) -> int:
    """Bytes of the weights in an entry, by bitsandbytes' rules; `wanted.skip` stays as it is."""
    mode = INT8 if wanted.bits == 8 else NF4_DOUBLE if wanted.double_quant else NF4
    rest = 4 if wanted.dtype == "float32" else 2
    named = tuple(t for t in kept if _is_skipped(t.name, wanted.skip))
    others = tuple(t for t in kept if not _is_skipped(t.name, wanted.skip))
    return weights(others, mode, rest=rest) + sum(t.elements * rest * t.number for t in named)


def _is_skipped(name: str, skip: tuple[str, ...]) -> bool:
    """Whether transformers leaves it out (quantizers_utils.py, should_convert_module), as far as names tell.

    Files of older checkpoints put `model` and `language_model` in another order than modules in memory do.
    """
    return any(_bare(name).startswith(f"{_bare(s)}.") or f".{s}." in name for s in skip)


def _bare(name: str) -> str:
    return _OUTER.sub("", name)


def _device(wanted: str) -> Device:
    """The GPU with most room where one may be taken, else RAM."""
    found = devices.here()
    gpus = [d for d in found if d.kind in ("gpu", "unified")]
    if wanted != "cpu" and gpus:
        return max(gpus, key=lambda d: d.usable)
    return found[-1]
