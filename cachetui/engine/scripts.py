"""What training scripts call, in their own process: save, load, load or quantize (see cachetui.quantized).

Nothing is computed with a model that is handed out: after one forward without gradients the 4-bit weights are packed
for the CPU's own instructions (bitsandbytes/nn/modules.py, Linear4bit.forward), and PEFT then trains without effect.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cachetui import quantized
from cachetui.config import Where
from cachetui.engine import environment, quantizing
from cachetui.engine.entries import NO_PLACE, NO_ROOM, ensure, load_entry
from cachetui.engine.errors import EngineError
from cachetui.engine.loading import Loaded, load
from cachetui.quantized_entries import Entry, Identity, entries, place
from cachetui.quantized_entries.listing import ENTRY, look
from cachetui.quantized_entries.making import Making
from cachetui.quantized_entries.managing import quarantine
from cachetui.quantized_entries.manifest import Source
from cachetui.quantized_entries.wishes import NotHere, find_model, identify
from cachetui.wanted import Wanted

log = quantized.log
_SUCCESS = "Successfully loaded quantized model from cache"


class NotAnEntry(ValueError):
    """What a path names cannot be loaded, or a model not be kept there; the text says why and what to do."""


def save(model: Any, cache_path: str) -> str:
    """See cachetui.quantized.save_quantized_model."""
    path = os.path.abspath(os.fspath(cache_path))
    folder, key = os.path.split(path)
    wanted, identity = _meant(model, key)
    _must_be_fresh(model)
    if wrong := _made_otherwise(model, identity):
        raise NotAnEntry(f"the model is not what {key[:12]} stands for: {'; '.join(wrong)}")
    with Making(folder, identity) as making:
        if making.damaged is not None and (why := quarantine(making.damaged.path)):
            raise NotAnEntry(f"{path} is damaged and cannot be moved away: {why}")
        making.look()
        if making.there is not None:
            log.info("Quantized model is there: %s", path)
            return making.there.path
        quantizing.write(model, wanted, making.begin())
        entry = making.publish(
            Source(wanted.name, "", wanted.folder), device=str(model.device), libraries=quantizing.libraries()
        )
    log.info("Quantized model is kept in %s", entry.path)
    return entry.path


def _meant(model: Any, key: str) -> tuple[Wanted, Identity]:
    """The model and identity that a key stands for. Raises NotAnEntry."""
    if (known := quantized.asked_for(key)) is not None:
        return known
    name = str(getattr(model.config, "_name_or_path", "") or model.name_or_path)
    how = _quantization(model)
    try:
        wanted = find_model(
            Where.current(), name, bits=8 if how.get("load_in_8bit") else 4, dtype=_word(how, model),
            double_quant=bool(how.get("bnb_4bit_use_double_quant")),
        )  # fmt: skip
        identity = identify(wanted)
    except NotHere as e:
        raise NotAnEntry(str(e)) from None
    if identity.key != key:
        raise NotAnEntry(
            f"{key[:12]} is not the path of {name} as it is in memory: "
            "ask get_quantized_model_cache_path for it in this process"
        )
    return wanted, identity


def _word(how: dict[str, Any], model: Any) -> str:
    """The dtype that it computes in."""
    return str(how.get("bnb_4bit_compute_dtype") or model.dtype).removeprefix("torch.")


def _quantization(model: Any) -> dict[str, Any]:
    """Raises NotAnEntry for what bitsandbytes has not quantized."""
    found = getattr(model.config, "quantization_config", None)
    how = found if isinstance(found, dict) else found.to_dict() if found is not None else {}
    if not (how.get("load_in_4bit") or how.get("load_in_8bit")):
        raise NotAnEntry("the model is not quantized by bitsandbytes: load it with a BitsAndBytesConfig")
    return how


def _must_be_fresh(model: Any) -> None:
    for name, module in model.named_modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if getattr(state, "packing_format_for_cpu", False):
            raise NotAnEntry(
                f"something was computed with the model, and its 4-bit weights ({name}) are packed for this CPU: "
                "save it before the first forward"
            )


def _made_otherwise(model: Any, identity: Identity) -> list[str]:
    """In what the model differs from the identity, as `field: one here, another there`."""
    how = _quantization(model)
    settings = {
        name: str(value).removeprefix("torch.") if name == "bnb_4bit_compute_dtype" else value
        for name, value in how.items()
        if name in identity.settings
    }
    there = replace(identity, settings=settings, model_class=type(model).__name__)
    return list(there.differences(identity))


def load_kept(model: Any, cache_path: str) -> Any:
    """See cachetui.quantized.load_quantized_model."""
    path = os.path.abspath(os.fspath(cache_path))
    found = quantized.checked(path)
    if not found:
        if found.code == quantized.NOT_LOADED:
            raise NotAnEntry(f"{path} is not loaded: {found.reason}")
        gone = " (it lies in the trash now)" if os.path.lexists(path) and not quarantine(path) else ""
        raise NotAnEntry(f"{path}: {found.reason}{gone}; load_or_quantize makes it anew")
    environment.prepare(offline=False)
    entry = look(path, ENTRY)
    made = _with_class(model, entry) if model is not None else load_entry(entry).model
    log.info(_SUCCESS)
    return made


def _with_class(model: Any, entry: Entry) -> Any:
    """Loaded by the class that was given, or whose instance was."""
    kind = model if isinstance(model, type) else type(model)
    assert entry.manifest is not None
    if kind.__name__ == entry.manifest.identity.model_class or not hasattr(kind, "from_pretrained"):
        return load_entry(entry).model
    import torch

    environment.settle()
    made = kind.from_pretrained(
        entry.path, dtype=getattr(torch, entry.manifest.identity.dtype), use_safetensors=True, local_files_only=True
    )
    return made.eval()


def load_or_quantize(
    name: str, weight_dtype: Any, rank: int, quantize: bool, *, bits: int, double_quant: bool, device: str,
    skip: Sequence[str], quant_dir: str,
) -> Any:  # fmt: skip
    """See cachetui.quantized.load_or_quantize."""
    environment.prepare(offline=False)
    where = Where.current()
    dtype = str(weight_dtype).removeprefix("torch.")
    wanted = _found(where, os.fspath(name), {"dtype": dtype, "device": device})
    if not quantize:
        log.info("Quantized model cache is not used: quantize is off")
        return load(wanted).model
    wanted = replace(wanted, bits=bits, double_quant=double_quant, skip=tuple(skip))
    folder = place(where, quant_dir).path
    quantized.announce(folder)
    quantized.clean_by_age(folder, where.config.quant_max_age)
    _say_what_changed(folder, wanted, rank)
    try:
        had = ensure(wanted, folder, rank=rank)
    except EngineError as e:
        if e.code not in (NO_PLACE, NO_ROOM):
            raise
        log.warning("Quantized model cache is not used: %s", e.reason)
        return load(wanted).model
    if had.quantized is not None:
        return had.quantized.loaded.model
    loaded: Loaded = load_entry(had.entry, device=device)
    log.info(_SUCCESS)
    return loaded.model


def _found(where: Where, name: str, how: dict[str, Any]) -> Wanted:
    """On this machine, or fetched as HF libraries do."""
    try:
        return find_model(where, name, **how)
    except NotHere:
        if os.path.isdir(where.resolve(name)):
            raise
    from cachetui.vlm import find

    folder, repo, commit = find(name, None, None)
    return Wanted(folder, repo or name, repo, commit, **how)


def _say_what_changed(folder: str, wanted: Wanted, rank: int) -> None:
    """Where there are entries of the model, but not this one: in which fields the nearest differs."""
    if not wanted.commit:
        return
    identity = identify(wanted, rank)
    known = [e.manifest.identity for e in entries(folder) if e.manifest is not None]
    same = [k for k in known if k.repo == identity.repo]
    if not same or any(k.key == identity.key for k in same):
        return
    nearest = min((k.differences(identity) for k in same), key=len)
    log.info("Quantized model in cache is not used, its key differs: %s", "; ".join(nearest))
