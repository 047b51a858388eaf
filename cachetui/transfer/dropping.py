"""Manifests of archives after a deletion: what went for good is no entry any more."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from cachetui.archives import MANIFEST, ManifestError
from cachetui.fs import DISK, Fs
from cachetui.plans import lock
from cachetui.plans.lock import HeldError
from cachetui.plans.model import Outcome, Plan
from cachetui.plans.survey import reason
from cachetui.transfer.shelf import open_shelf

_PATIENCE = 10.0
"""Seconds; whoever copies into the archive may hold it for hours."""


def drop_deleted(plan: Plan, outcome: Outcome, fs: Fs = DISK) -> tuple[str, ...]:
    """Take what this permanent deletion removed out of the manifests of the archives it lay in.

    What lies in the trash keeps its entry, for undo; emptying.py takes that out. Returns as `drop`.
    """
    done = {(r.root, r.target) for r in outcome.results if r.done} if plan.permanent else set()
    gone: dict[str, list[str]] = {}
    for planned in plan.accepted:
        item = planned.selection.item
        directory, part = os.path.split(item.root)
        whole = (item.root, planned.target) in done and planned.selection.is_whole
        if whole and os.path.lexists(os.path.join(directory, MANIFEST)):
            gone.setdefault(directory, []).append(f"{part}/{item.path}")
    return drop(gone, fs)


def drop(gone: Mapping[str, Sequence[str]], fs: Fs = DISK) -> tuple[str, ...]:
    """Take the entries at these places (relative to the folder of their archive) out of its manifest.

    Returns what could not be noted, in words; never raises.
    """
    troubles = []
    for directory, places in gone.items():
        try:
            with lock.patience(_PATIENCE), open_shelf(fs, directory) as shelf:
                for place in places:
                    if shelf.manifest.at(place) is not None:
                        shelf.drop(place)
        except (OSError, ManifestError, HeldError) as e:
            why = reason(e) if isinstance(e, OSError) else str(e)
            troubles.append(f"{directory}: its manifest still lists what was deleted: {why}")
    return tuple(troubles)
