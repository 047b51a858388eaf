"""Quantized entries in use: the one that is wanted is checked and loaded, or made and kept.

Every way on is a line in the log (logger `cachetui.quantized`): what was found, what was wrong with it, what was made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from cachetui.engine.errors import DAMAGED, UNSUPPORTED, Cancelled, EngineError
from cachetui.engine.loading import Loaded, load
from cachetui.engine.quantizing import Quantized, quantize
from cachetui.fs import DISK, Fs
from cachetui.quantized_entries import checking
from cachetui.quantized_entries.identity import Identity
from cachetui.quantized_entries.listing import Entry
from cachetui.quantized_entries.making import Making, NoPlace
from cachetui.quantized_entries.managing import quarantine
from cachetui.quantized_entries.manifest import Source
from cachetui.quantized_entries.places import room
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
    """What was made, with the model still in memory, exactly as it was written."""
    replaced: str = ""
    """What was wrong with the entry that was there before; it lies in the trash."""


def ensure(
    wanted: Wanted,
    folder: str,
    *,
    rank: int = 0,
    target: str = "",
    needed: int = 0,
    progress: Progress | None = None,
    cancelled: Stop | None = None,
    fs: Fs = DISK,
) -> Had:
    """The entry of `wanted` (bits 4 or 8) in `folder`, checked, or made when it is not there or damaged.

    Another process that makes the same one is waited for. `target`: the model's TARGET, for people; `needed`: bytes
    that have to fit, where that is known. Phases of `progress`: wait, prepare, load, write, copy, hash. Raises
    EngineError, Cancelled, OSError.
    """
    told, stop = progress or (lambda *_: None), cancelled or (lambda: False)
    identity = _identity(wanted, rank, told)
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
            made = quantize(wanted, making.begin(), progress=progress, cancelled=cancelled, fs=fs)
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
    return Had(entry, made=True, quantized=made, replaced=replaced)


def _identity(wanted: Wanted, rank: int, told: Progress) -> Identity:
    read = 0

    def count(more: int) -> None:
        nonlocal read
        read += more
        told("identify", read, 0, wanted.name)

    try:
        return identify(wanted, rank, count)
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
