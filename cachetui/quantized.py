"""Quantized models that are kept, for training scripts: quantize once, load in a second.

    import torch
    from cachetui.quantized import load_or_quantize
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    logging.basicConfig(level=logging.INFO)       # says which folder, what is in it, and what is done
    model = load_or_quantize(args.pretrained_model_name_or_path, torch.bfloat16, args.rank, args.quantize)
    model = prepare_model_for_kbit_training(model)
    model = get_peft_model(model, LoraConfig(r=args.rank, target_modules="all-linear"))

The other functions are the steps of that, and what a folder of such models needs now and then:

    path = get_quantized_model_cache_path("Qwen/Qwen3-0.6B", torch.bfloat16, 8)
    found = validate_cache_integrity(path)
    if not found:
        print(found.reason)                       # which file, and what is wrong with it
    clear_old_cache_files(os.path.dirname(path), max_age_days=30)

What these functions take away goes to the trash: `cachetui undo` brings it back. torch is imported by what loads and
saves, not before.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Sequence
from typing import Any

from cachetui.config import Where
from cachetui.quantized_entries import Checked, Identity, check
from cachetui.quantized_entries.listing import ENTRY, OLDER, entries, kind_of
from cachetui.quantized_entries.managing import MAX_AGE, look, old, spoilt, take_away
from cachetui.quantized_entries.places import LEAST_MARGIN, place
from cachetui.quantized_entries.wishes import find_model, identify
from cachetui.wanted import Wanted

__all__ = [
    "cleanup_corrupted_cache",
    "clear_old_cache_files",
    "get_cache_info",
    "get_quantized_model_cache_path",
    "load_or_quantize",
    "load_quantized_model",
    "save_quantized_model",
    "validate_cache_integrity",
]

log = logging.getLogger("cachetui.quantized")
NOT_LOADED = "older-convention"
"""Code of what an older script made."""
_asked: dict[str, tuple[Wanted, Identity]] = {}
_MB = 1e6
_GB = 1e9


def get_quantized_model_cache_path(
    model_path: str, weight_dtype: Any, rank: int, *, bits: int = 4, double_quant: bool = False
) -> str:
    """Absolute path of the entry that belongs to this model, dtype and rank, whether it is there or not.

    `model_path`: ORG/NAME of a repo in the hub cache (its main revision), or a folder. `weight_dtype`: a torch.dtype or
    its name. Another commit, dtype, rank, setting or library generation is another path. Raises quantized_entries.
    wishes.NotHere where the model is not on this machine.
    """
    where = Where.current()
    dtype = str(weight_dtype).removeprefix("torch.")
    wanted = find_model(where, os.fspath(model_path), dtype=dtype, bits=bits, double_quant=double_quant)
    identity = identify(wanted, rank)
    _asked[identity.key] = (wanted, identity)
    return os.path.join(place(where).path, identity.key)


def asked_for(key: str) -> tuple[Wanted, Identity] | None:
    """What a path that this process asked for stands for: a rank, for one, cannot be seen in a model."""
    return _asked.get(key)


def load_or_quantize(
    pretrained_model_name_or_path: str,
    weight_dtype: Any,
    rank: int,
    quantize: bool = True,
    *,
    bits: int = 4,
    double_quant: bool = False,
    device: str = "auto",
    skip: Sequence[str] = (),
    quant_dir: str = "",
) -> Any:
    """The model, quantized with bitsandbytes: loaded if it was kept, else quantized and kept. The one call to make.

    `pretrained_model_name_or_path`: ORG/NAME (fetched where it is not here, unless HF_HUB_OFFLINE is set) or a folder.
    `weight_dtype`: a torch.dtype or its name, of what stays unquantized. `rank`: of the LoRA, a part of the key.
    `quantize=False` loads it as it is. `bits`: 4 (nf4) or 8. Nothing was computed with what is returned: it is ready
    for `peft.prepare_model_for_kbit_training`. An entry that is damaged goes to the trash and is made anew; where two
    processes ask at once, one makes it and the other waits. Without room the model is quantized and not kept.

    Raises cachetui.engine.errors.EngineError, whose `advice` says what to do.
    """
    from cachetui.engine import scripts

    return scripts.load_or_quantize(
        pretrained_model_name_or_path, weight_dtype, rank, quantize, bits=bits, double_quant=double_quant,
        device=device, skip=skip, quant_dir=quant_dir,
    )  # fmt: skip


def save_quantized_model(model: Any, cache_path: str) -> str:
    """Keep a model that bitsandbytes quantized at the path that `get_quantized_model_cache_path` gave; the path.

    Before anything is computed with it. Config, tokenizer and processor are copied from where the model came from.
    Raises ValueError where the model is not what the path stands for (the fields are named), or was computed with.
    """
    from cachetui.engine import scripts

    return scripts.save(model, cache_path)


def load_quantized_model(model: Any, cache_path: str) -> Any:
    """The model of an entry, checked first. `model`: a class, a model or None; it only gives the class.

    Raises ValueError for what is damaged (it goes to the trash), not there, or made by an older script.
    """
    from cachetui.engine import scripts

    return scripts.load_kept(model, cache_path)


def validate_cache_integrity(cache_path: str) -> Checked:
    """Whether an entry is what its manifest says, by the hash of every file: true, or false with `reason` and `file`.

    What the older convention left is never opened, and false.
    """
    return checked(cache_path, full=True)


def checked(cache_path: str, *, full: bool = False) -> Checked:
    """The same; without `full` only what has another size or time is read."""
    path = os.path.abspath(os.fspath(cache_path))
    try:
        kind = kind_of(os.path.basename(path), os.lstat(path))
    except OSError as e:
        found = Checked(path, "missing", f"{path}: {(e.strerror or str(e)).lower()}")
    else:
        if kind == OLDER:
            why = "it was made by an older script, whose name for it cannot see that a model has a new commit"
            found = Checked(path, NOT_LOADED, f"{why}: make it again")
        else:
            found = check(path, full=full)
    if not found:
        log.warning("Validation of %s failed: %s", path, found.reason)
    return found


def get_cache_info(cache_dir: str) -> dict[str, Any]:
    """What lies in a folder of quantized models: `file_count` of entries (those of older scripts too), their size in
    MB of 1,000,000 bytes, the GB that are free, and each entry's name, path, size and age in days.
    """
    folder = os.path.abspath(os.fspath(cache_dir))
    now = time.time()
    items = [i for i in look(folder).items if i.kind in (ENTRY, OLDER)]
    rows = [
        {
            "name": i.name,
            "path": f"{i.root}/{i.path}",
            "size_mb": round(i.size / _MB, 2),
            "age_days": round(max(now - (i.last_modified or now), 0.0) / 86400, 1),
        }
        for i in items
    ]
    return {
        "cache_dir": folder,
        "file_count": len(items),
        "total_size_mb": round(sum(i.size for i in items) / _MB, 1),
        "free_gb": round(_free(folder) / _GB, 2),
        "entries": rows,
    }


def clear_old_cache_files(cache_dir: str, max_age_days: float = MAX_AGE) -> list[str]:
    """Move what was neither made nor used for so long to the trash; the paths that are gone."""
    folder = os.path.realpath(os.fspath(cache_dir))
    wanted = old(look(folder).items, max_age_days, time.time())
    gone = _take(folder, [i.path for i in wanted])
    log.info("Cleaned up %d of %d quantized models older than %g days", len(gone), len(wanted), max_age_days)
    return gone


def cleanup_corrupted_cache(cache_dir: str) -> list[str]:
    """Move what is damaged, or was never finished, to the trash; the paths that are gone. Reads every byte."""
    folder = os.path.realpath(os.fspath(cache_dir))
    found = spoilt(look(folder).items)
    for s in found:
        log.warning("Validation of %s/%s failed: %s", folder, s.item.path, s.reason)
    gone = _take(folder, [s.item.path for s in found])
    log.info("Cleaned up %d of %d corrupted quantized models", len(gone), len(found))
    return gone


def clean_by_age(folder: str, days: int) -> None:
    """What `quant_max_age` of config.toml asks for; 0 is never."""
    if days:
        clear_old_cache_files(folder, days)


def announce(folder: str) -> None:
    """The lines that people look for in their logs: folder, what is in it, room; and a warning where that is little."""
    log.info("Using quantized model cache directory: %s", folder)
    size = 0
    found = [e for e in entries(folder) if e.kind in (ENTRY, OLDER)]
    for entry in found:
        size += entry.manifest.size if entry.manifest is not None else _size(entry.path)
    info = {"cache_dir": folder, "file_count": len(found), "total_size_mb": round(size / _MB, 1)}
    log.info("Cache info: %s", info)
    free = _free(folder)
    log.info("Available disk space: %.2f GB", free / _GB)
    if free < 5 * LEAST_MARGIN:
        log.warning("Low disk space: only %.2f GB left in %s", free / _GB, folder)


def _take(folder: str, names: list[str]) -> list[str]:
    if not names:
        return []
    outcome = take_away(folder, names)
    for result in outcome.results:
        if not result.done:
            log.warning("Not cleaned up: %s: %s", result.target, result.message)
    return [f"{folder}/{name}" for name in names if not os.path.lexists(f"{folder}/{name}")]


def _size(path: str) -> int:
    if not os.path.isdir(path):
        return os.lstat(path).st_size if os.path.lexists(path) else 0
    return sum(os.lstat(os.path.join(top, n)).st_size for top, _, names in os.walk(path) for n in names)


def _free(folder: str) -> int:
    above = folder
    while not os.path.isdir(above) and above != os.path.dirname(above):
        above = os.path.dirname(above)
    return shutil.disk_usage(above).free
