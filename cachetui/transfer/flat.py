"""A repo's folder in a hub cache with the model directly in it, as `mlx_lm.convert --mlx-path` leaves one: moved into
blobs, a snapshot and a ref, so that programs find it by its name.

The new folder is laid out in the trash folder, its content under second names, and exchanged with the old one by one
rename; the old one stays in the trash, and undo exchanges it back.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from cachetui import hub_layout, hub_making, walk
from cachetui.fs import DISK, Fs, open_below
from cachetui.hub_item import FLAT
from cachetui.ledger import Scan
from cachetui.model import Item
from cachetui.plans import cautions, executor, places
from cachetui.plans.lock import HeldError
from cachetui.plans.model import (
    YOUNG,
    Caution,
    Outcome,
    Phase,
    Plan,
    PlannedItem,
    Progress,
    Replacement,
    Result,
    Step,
    TrashPlace,
)
from cachetui.plans.moves import Meter, remove_tree
from cachetui.plans.survey import reason
from cachetui.plans.swap import step
from cachetui.plans.vault import INCOMING
from cachetui.quantized_entries.identity import file_digest
from cachetui.store import Selection
from cachetui.transfer import staging
from cachetui.transfer.copying import CancelledError, never

_FRESH = 60
"""Seconds in which what writes it may not have ended: mlx_lm writes config.json near the end."""
_STRANGE = "it holds links, or something that cannot be read: move its files by hand"
_BOTH = "it has {} as well: is it another program's?"
_CHANGED = "it was changed since it was looked at"


def is_flat(item: Item) -> bool:
    """Whether an item is such a folder."""
    return any(p.code == FLAT for p in item.problems)


def prepare(scan: Scan, items: Sequence[Item]) -> Plan:
    """The plan for items of which `is_flat` is true. Changes nothing."""
    chosen: dict[str, TrashPlace] = {}
    planned = []
    for item in items:
        place = chosen.get(item.root) or places.choose(scan.root_of(item).root)
        chosen[item.root] = place
        why = _refusal(item, place)
        made: tuple[Step, ...] = ()
        try:
            made = () if why else (_step(item, ""),)
        except OSError as e:
            why = reason(e)
        planned.append(PlannedItem(Selection(item), item.id, made, cautions=_cautions(item), refused=why))
    note = "Its files get a second name for this: nothing is copied where the file system can do that."
    return Plan("adopt", tuple(planned), tuple(chosen.values()), notes=(note,))


def _cautions(item: Item) -> tuple[Caution, ...]:
    asks = cautions.of(item, {})
    if max((b.mtime for b in item.content), default=0.0) > time.time() - _FRESH:
        asks = (*asks, Caution(YOUNG, "it was written a moment ago: a conversion may go on"))
    return asks


def _refusal(item: Item, place: TrashPlace) -> str:
    if not place.path:
        return place.note
    path = f"{item.root}/{item.path}"
    tally = walk.tree(path)
    if tally.links or tally.problems or tally.nested:
        return _STRANGE
    tops = {b.path.partition("/")[0] for b in tally.files}
    if both := sorted(tops & {"blobs", "snapshots", *hub_layout.BOOKKEEPING}):
        return _BOTH.format(both[0])
    return "" if os.access(item.root, os.W_OK | os.X_OK) else "you may not write to the folder it lies in"


def _step(item: Item, staged: str) -> Step:
    """The exchange of the folder, which frees nothing: its content stays. `staged` is empty while there is none yet."""
    return replace(step(item.root, item.path, Replacement("tree", staged), Phase.REFERENCE), frees=0)


def carry_out(
    plan: Plan,
    *,
    accept: frozenset[str] = frozenset(),
    fs: Fs = DISK,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = never,
) -> Outcome:
    """Hash, lay out, exchange. Never raises for what is on disk: each item has its result."""
    by_root = {p.root: p for p in plan.places}
    failed: dict[str, Result] = {}
    ready: list[PlannedItem] = []
    left: list[str] = []
    with ExitStack() as stack:
        for n, planned in enumerate(plan.accepted):
            item = planned.selection.item
            if progress is not None:
                progress.advance(n, len(plan.accepted), planned.target)
            why = ""
            try:
                files = _hashed(f"{item.root}/{item.path}", cancelled)
                staged = stack.enter_context(_staged(item, files, by_root[item.root], fs, left))
                made = _step(item, staged)
                if made.was != planned.steps[0].was:
                    raise HeldError(_CHANGED)
                ready.append(replace(planned, steps=(made,)))
            except CancelledError:
                why = "cancelled"
            except HeldError as e:
                why = str(e)
            except OSError as e:
                why = reason(e)
            if why:
                failed[planned.target] = Result(planned.target, item.root, False, why)
        outcome = Outcome(plan.verb, ())
        if ready:
            outcome = executor.execute(replace(plan, items=tuple(ready)), accept=accept, fs=fs, progress=progress)
    rest = [Result(i.target, i.selection.item.root, False, i.refused) for i in plan.refused]
    return replace(outcome, results=(*outcome.results, *failed.values(), *rest), messages=(*outcome.messages, *left))


def _hashed(folder: str, cancelled: Callable[[], bool]) -> dict[str, str]:
    """Every file with its sha256. Raises CancelledError, OSError."""

    def told(_: int) -> None:
        if cancelled():
            raise CancelledError

    return {b.path: file_digest(f"{folder}/{b.path}", told) for b in sorted(walk.tree(folder).files)}


@contextmanager
def _staged(item: Item, files: Mapping[str, str], place: TrashPlace, fs: Fs, left: list[str]) -> Iterator[str]:
    """The path of the new folder; what is left of it goes in the end. Raises HeldError, OSError."""
    path = f"{item.root}/{item.path}"
    key = "flat-" + hashlib.sha256(os.fsencode(path)).hexdigest()[:24]
    with staging.open_staging(fs, os.path.join(place.path, INCOMING), key, {"flat": path}) as made:
        try:
            remove_tree(fs, made.fd, staging.TREE, Meter())  # what a killed run left
            fs.mkdir(made.fd, staging.TREE, 0o755)
            tree = open_below(made.fd, staging.TREE)
            try:
                hub_making.lay_out(fs, path, files, tree)
            finally:
                os.close(tree)
            yield made.tree
        finally:
            try:
                made.discard()
            except OSError as e:
                left.append(f"{made.path} could not be removed: {reason(e)}")
