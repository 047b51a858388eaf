"""Emptying the trash where archives are concerned: what lies in one leaves its manifest, what is only there is said."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from cachetui import afar
from cachetui.archives import MANIFEST
from cachetui.fs import DISK, Fs
from cachetui.plans import trash
from cachetui.plans.model import Outcome, Progress, TrashEntry
from cachetui.plans.record import Move
from cachetui.transfer import dropping

OFFLINE = "offline"
"""Code of the confirmation that `offline` asks for."""


def offline(entries: Sequence[TrashEntry]) -> dict[TrashEntry, str]:
    """Why emptying an entry leaves content only on a drive that is not there now, for those where it does.

    It is about originals that were kept when links took their place. Changes nothing.
    """
    found: dict[TrashEntry, str] = {}
    for entry in entries:
        base, moves = trash.moves_of(entry)
        gone = next((g for m in moves if (g := _absent(base, m))), "")
        if gone:
            names = ", ".join(i.target for i in entry.items[:3])
            found[entry] = f"{names}: the copy at {gone} is not there now, and nothing else would be left of it"
    return found


def _absent(base: str, move: Move) -> str:
    """Where the copy of a kept original lies, when nothing can be reached there; empty where all is well."""
    made = move.replacement
    if made is None or made.kind != "link" or move.was.type in ("link", "none"):
        return ""
    here = os.path.join(base, move.source)
    if any(afar.reach(path).stat is not None for path in (here, made.target)):
        return ""
    return made.target


def empty(entries: Sequence[TrashEntry], *, fs: Fs = DISK, progress: Progress | None = None) -> Outcome:
    """As trash.empty; what lay in an archive is no entry of its manifest any more."""
    gone: dict[str, list[str]] = {}
    for entry in entries:
        directory, part = os.path.split(entry.root)
        if os.path.lexists(os.path.join(directory, MANIFEST)):
            gone.setdefault(directory, []).extend(f"{part}/{m.source}" for m in trash.moves_of(entry)[1])
    outcome = trash.empty(entries, fs=fs, progress=progress)
    absent = {d: [p for p in places if not os.path.lexists(f"{d}/{p}")] for d, places in gone.items()}
    roots = {r.root for r in outcome.results if r.done}
    done = {d: p for d, p in absent.items() if p and any(os.path.dirname(root) == d for root in roots)}
    return replace(outcome, messages=(*outcome.messages, *dropping.drop(done, fs)))
