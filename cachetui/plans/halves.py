"""Originals that were freed in part when the drive with their copies went away: recovery waits for it to come back.

When it never does, somebody has to say so: what is left here goes then.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cachetui.fs import DISK, Fs
from cachetui.model import Root
from cachetui.plans import history, places
from cachetui.plans.lock import HeldError
from cachetui.plans.model import Outcome, Result
from cachetui.plans.moves import Meter, empty_slot
from cachetui.plans.record import Act, Intent, Record, State
from cachetui.plans.survey import reason
from cachetui.plans.trash import root_of
from cachetui.plans.vault import ENTRIES, open_vault, peek


@dataclass(frozen=True, slots=True)
class Half:
    """What is left of originals in one entry of a trash."""

    trash: str
    name: str
    intent: Intent


def halves(roots: Sequence[Root], operation: str) -> tuple[Half, ...]:
    """What waits of an operation (its id). Changes nothing."""
    return tuple(
        Half(path, name, record.intent)
        for path in places.existing(roots)
        for name, record, _ in peek(path)
        if record.intent is not None and record.intent.operation == operation and _waits(record, record.intent)
    )


def _waits(record: Record, intent: Intent) -> bool:
    swapped = any(m.replacement is not None for m in intent.moves)
    return swapped and record.state is State.EMPTYING and intent.act is Act.DESTROY


def let_go(found: Sequence[Half], *, fs: Fs = DISK) -> Outcome:
    """Free what is left, without waiting any longer. Never raises."""
    results: list[Result] = []
    for half in found:
        meter, why = Meter(), ""
        try:
            with open_vault(fs, half.trash) as vault:
                slot = vault.open_slot(half.name)
                intent = slot.record.intent
                if intent == half.intent and _waits(slot.record, half.intent):
                    empty_slot(fs, slot, os.path.join(vault.path, ENTRIES, slot.name), meter)
                    slot.record.clear(fs)
        except (HeldError, OSError) as e:
            why = reason(e) if isinstance(e, OSError) else str(e)
        root, items = root_of(half.trash, half.intent), half.intent.items
        results += [Result(i.target, root, not why, why, 0 if n else meter.freed) for n, i in enumerate(items)]
    operation = found[0].intent.operation if found else ""
    history.note(fs, time.time(), "empty trash", operation, results)
    return Outcome("empty trash", tuple(results), operation if any(r.done for r in results) else "")
