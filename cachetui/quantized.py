"""Quantized models that are kept, for scripts: where one lies, whether it is whole, what there is, what may go.

    from cachetui.quantized import get_cache_info, get_quantized_model_cache_path, validate_cache_integrity

    path = get_quantized_model_cache_path("Qwen/Qwen3-0.6B", torch.bfloat16, 8)
    found = validate_cache_integrity(path)
    if not found:
        print(found.reason)                       # which file, and what is wrong with it
    print(get_cache_info(os.path.dirname(path)))  # {'cache_dir': ..., 'file_count': 2, 'total_size_mb': 45.2, ...}
    clear_old_cache_files(os.path.dirname(path), max_age_days=30)

What these functions take away goes to the trash: `cachetui undo` brings it back. None of them imports torch.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from typing import Any

from cachetui.config import Where
from cachetui.quantized_entries import Checked, check
from cachetui.quantized_entries.listing import ENTRY, OLDER, entries, kind_of
from cachetui.quantized_entries.managing import MAX_AGE, look, old, spoilt, take_away
from cachetui.quantized_entries.places import LEAST_MARGIN, place
from cachetui.quantized_entries.wishes import find_model, identify

__all__ = [
    "cleanup_corrupted_cache",
    "clear_old_cache_files",
    "get_cache_info",
    "get_quantized_model_cache_path",
    "validate_cache_integrity",
]

log = logging.getLogger("cachetui.quantized")
NOT_LOADED = "older-convention"
"""Code of what an older script made."""
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
    return os.path.join(place(where).path, identify(wanted, rank).key)


def validate_cache_integrity(cache_path: str) -> Checked:
    """Whether an entry is what its manifest says, by the hash of every file: true, or false with `reason` and `file`.

    What the older convention left is never opened, and false.
    """
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
            found = check(path, full=True)
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
