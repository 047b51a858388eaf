"""Quantized entries in use: the one that is wanted is checked and loaded, or made and kept.

Every way on is a line in the log (logger `cachetui.quantized`): what was found, what was wrong with it, what was made.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from cachetui.engine.errors import DAMAGED, UNSUPPORTED, Cancelled, EngineError
from cachetui.engine.loading import Loaded, load
from cachetui.engine.progress import Reporter
from cachetui.engine.quantizing import Quantized, libraries, peak_memory, quantize
from cachetui.fs import DISK, Fs
from cachetui.quantized_entries import checking, ways
from cachetui.quantized_entries.identity import Identity
from cachetui.quantized_entries.listing import Entry
from cachetui.quantized_entries.making import Making, NoPlace
from cachetui.quantized_entries.managing import quarantine
from cachetui.quantized_entries.manifest import Source
from cachetui.quantized_entries.places import room
from cachetui.quantized_entries.ways import Way
from cachetui.quantized_entries.wishes import NotHere, identify
from cachetui.wanted import Wanted

log = logging.getLogger("cachetui.quantized")

NO_PLACE, NO_ROOM = "no-place", "no-room"
"""Codes of EngineError, beside those of engine.errors."""

Progress = Callable[[str, int, int, str], None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class Had:
    """An entry that is good."""

    entry: Entry
    made: bool
    """It was made just now."""
    quantized: Quantized | None = None
    """What bitsandbytes made, with the model still in memory, exactly as it was written."""
    replaced: str = ""
    """What was wrong with the entry that was there before; it lies in the trash."""


def ensure(
    wanted: Wanted,
    folder: str,
    *,
    rank: int = 0,
    target: str = "",
    needed: int = 0,
    way: Way | None = None,
    progress: Progress | None = None,
    cancelled: Stop | None = None,
    fs: Fs = DISK,
) -> Had:
    """The entry of `wanted` in `folder`, checked, or made when it is not there or damaged.

    `way`: MLX or GGUF; None: bitsandbytes, with `wanted.bits` 4 or 8.

    Another process that makes the same one is waited for. `target`: the model's TARGET, for people; `needed`: bytes
    that have to fit, where that is known. Phases of `progress`: wait, prepare, load, write, copy, hash. Raises
    EngineError, Cancelled, OSError.
    """
    told, stop = progress or (lambda *_: None), cancelled or (lambda: False)
    identity = _identity(wanted, rank, way, told)
    wanted = replace(wanted, dtype=identity.dtype)
    try:
        with Making(folder, identity, fs=fs, waiting=lambda who: told("wait", 0, 0, who), cancelled=stop) as making:
            replaced = _take_away(making, fs) if making.damaged is not None else ""
            if making.there is not None:
                log.info("Quantized model is there: %s", making.there.path)
                return Had(making.there, made=False)
            if why := room(folder, needed).refused:
                log.warning("Not kept: no space in %s: %s", folder, why)
                raise EngineError(f"there is no room in {folder}: {why}", "make room, or take another folder", NO_ROOM)
            log.info("Quantizing %s (%s); it is kept in %s", wanted.name, identity.label, folder)
            made = _made(wanted, way, making.begin(), progress, cancelled, fs)
            entry = making.publish(
                Source(wanted.name, target, wanted.folder),
                seconds=made.seconds,
                peak_memory=made.peak_memory,
                device=made.device,
                libraries=made.libraries,
                progress=lambda done, total, name: told("hash", done, total, name),
            )
    except checking.Cancelled:
        raise Cancelled from None
    except NoPlace as e:
        log.warning("Not kept: %s", e)
        raise EngineError(str(e), e.advice, NO_PLACE) from None
    except ValueError as e:
        raise EngineError(f"{wanted.name}: {e}", "", UNSUPPORTED) from e
    log.info("Quantized model is kept in %s", entry.path)
    return Had(entry, made=True, quantized=made if isinstance(made, Quantized) else None, replaced=replaced)


@dataclass(frozen=True, slots=True)
class _Converted:
    """How another format came to be."""

    seconds: float
    peak_memory: int
    libraries: dict[str, str]
    device: str = ""


def _made(
    wanted: Wanted, way: Way | None, folder: str, progress: Progress | None, cancelled: Stop | None, fs: Fs
) -> Quantized | _Converted:
    """Write it into an empty folder. Raises EngineError, Cancelled, OSError."""
    if way is None:
        return quantize(wanted, folder, progress=progress, cancelled=cancelled, fs=fs)
    from cachetui.engine import gguf_quantizing, mlx_quantizing

    begun = time.monotonic()
    module = mlx_quantizing if way.method == ways.MLX else gguf_quantizing
    module.quantize(wanted, way, folder, Reporter(progress, cancelled))
    return _Converted(time.monotonic() - begun, peak_memory(children=True), libraries(ways.LIBRARIES[way.method]))


def _identity(wanted: Wanted, rank: int, way: Way | None, told: Progress) -> Identity:
    read = 0

    def count(more: int) -> None:
        nonlocal read
        read += more
        told("identify", read, 0, wanted.name)

    try:
        return identify(wanted, rank, count) if way is None else ways.identify(wanted, way, count)
    except NotHere as e:
        raise EngineError(str(e), "", DAMAGED) from None


def _take_away(making: Making, fs: Fs) -> str:
    """A damaged entry goes to the trash. Raises EngineError where it cannot."""
    assert making.damaged is not None
    found = making.damaged
    log.warning("Validation of %s failed: %s; it goes to the trash and is made anew", found.path, found.reason)
    if why := quarantine(found.path, fs):
        reason = f"{found.path} is damaged ({found.reason}) and cannot be moved away: {why}"
        raise EngineError(reason, "cachetui quantize clean --corrupted", DAMAGED)
    making.look()
    return found.reason


def load_entry(
    entry: Entry, *, device: str = "auto", progress: Progress | None = None, cancelled: Stop | None = None
) -> Loaded:
    """The model of a good entry, as it was quantized. Nothing is computed with it. Raises EngineError, Cancelled."""
    manifest = entry.manifest
    assert manifest is not None
    identity = manifest.identity
    wanted = Wanted(
        entry.path, manifest.source.name, identity.repo, identity.commit, device=device, dtype=identity.dtype
    )
    return load(wanted, progress=progress, cancelled=cancelled)
