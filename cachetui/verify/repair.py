"""Repairing what a verification found: the same content from elsewhere takes the damaged file's place, or the damaged
file goes to the trash. Both are plans: shown, agreed to, journalled, undoable.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from cachetui.fs import DISK, Fs
from cachetui.ledger import Scan
from cachetui.model import Item
from cachetui.plans import cautions, places, removal
from cachetui.plans.executor import execute
from cachetui.plans.lock import HeldError
from cachetui.plans.model import (
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
from cachetui.plans.survey import kind_of, reason
from cachetui.plans.swap import step
from cachetui.plans.vault import INCOMING
from cachetui.quant_items import STORE as QUANT
from cachetui.store import Selection
from cachetui.targets import target_of
from cachetui.transfer import pieces, staging
from cachetui.transfer.copying import CancelledError, CopyError, copy, never
from cachetui.verify.model import DAMAGED, Finding, Verdict
from cachetui.verify.reading import Reader, stamp

_NO_COPY = "no other copy of it was found on this machine"
_ELSEWHERE = "it lies outside of its root (in an archive?): repair it there"
_WHOLE = "it is not the content of a file that is wrong: download it again"


@dataclass(frozen=True, slots=True)
class Repair:
    """One damaged file and the content that takes its place."""

    finding: Finding
    planned: PlannedItem


@dataclass(frozen=True, slots=True)
class Repairs:
    """What --repair would do; `plan` names each file that goes, its replacement is copied when it is executed."""

    plan: Plan
    repairs: tuple[Repair, ...]


def damaged(scan: Scan, verdicts: Sequence[Verdict]) -> Iterator[tuple[Item, Finding]]:
    """Every damaged thing of these verdicts, each path once."""
    seen: set[str] = set()
    for verdict in verdicts:
        item = scan.by_key.get((verdict.root, verdict.target))
        for finding in verdict.findings if item is not None else ():
            if finding.outcome == DAMAGED and finding.path not in seen:
                seen.add(finding.path)
                assert item is not None
                yield item, finding


def prepare(scan: Scan, verdicts: Sequence[Verdict]) -> Repairs:
    """What can be repaired from copies on this machine. Reads no content, changes nothing."""
    found: list[Repair] = []
    refused: list[PlannedItem] = []
    chosen: dict[str, TrashPlace] = {}
    for item, finding in damaged(scan, verdicts):
        selection = Selection(item, "", finding.name)
        target = target_of(selection) if finding.name else item.id
        place = chosen.get(item.root) or places.choose(scan.root_of(item).root)
        chosen[item.root] = place
        why = _refusal(item, finding, place)
        made: Step | None = None
        if not why:
            try:
                made = _step(item, finding, "")
            except OSError as e:
                why = reason(e)
        if made is None:
            refused.append(PlannedItem(selection, target, refused=why))
            continue
        asks = cautions.of(item, {})
        found.append(Repair(finding, PlannedItem(selection, target, (made,), cautions=asks)))
    items = (*(r.planned for r in found), *refused)
    return Repairs(Plan("repair", items, tuple(chosen.values())), tuple(found))


def _refusal(item: Item, finding: Finding, place: TrashPlace) -> str:
    if not finding.digest:
        return _WHOLE
    if not finding.path.startswith(os.path.join(item.root, "")):
        return _ELSEWHERE
    if not finding.copy:
        return _NO_COPY
    if not place.path:
        return place.note
    folder = os.path.dirname(finding.path)
    if not os.path.isdir(folder) or os.path.realpath(folder) != folder:
        return "the folder that it belongs into is not there"
    return "" if os.access(folder, os.W_OK | os.X_OK) else "you may not write to the folder it lies in"


def _step(item: Item, finding: Finding, staged: str) -> Step:
    """The exchange of one file, or its coming where it is missing. `staged` is empty while nothing is copied yet."""
    path = finding.path[len(os.path.join(item.root, "")) :]
    return step(item.root, path, Replacement("tree", staged or finding.copy), Phase.CONTENT)


def carry_out(
    repairs: Repairs,
    *,
    accept: frozenset[str] = frozenset(),
    fs: Fs = DISK,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = never,
) -> Outcome:
    """Copy, compare with the hash it ought to have, and only then exchange; what was damaged goes to the trash.

    Never raises for what is on disk: each file has its result.
    """
    by_root = {p.root: p for p in repairs.plan.places}
    failed: dict[tuple[str, str], str] = {}
    ready: list[PlannedItem] = []
    left: list[str] = []
    with ExitStack() as stack:
        for n, repair in enumerate(repairs.repairs):
            planned = repair.planned
            key = (planned.selection.item.root, planned.target)
            if progress is not None:
                progress.advance(n, len(repairs.repairs), planned.target)
            try:
                staged = stack.enter_context(_staged(repair, by_root[key[0]], fs, cancelled, left))
                made = _step(planned.selection.item, repair.finding, staged)
                if made.was != planned.steps[0].was:
                    raise _NotEqual("it was changed since it was verified: verify it again")
                ready.append(replace(planned, steps=(made,)))
            except (_NotEqual, HeldError) as e:
                failed[key] = str(e)
            except CancelledError:
                failed[key] = "cancelled"
            except CopyError as e:
                failed[key] = f"{e.why}: {e.path}"
            except OSError as e:
                failed[key] = reason(e)
        plan = replace(repairs.plan, items=tuple(ready))
        outcome = execute(plan, accept=accept, fs=fs, progress=progress) if ready else Outcome("repair", ())
    rest = [Result(target, root, False, why) for (root, target), why in failed.items()]
    rest += [Result(i.target, i.selection.item.root, False, i.refused) for i in repairs.plan.refused]
    return replace(outcome, results=(*outcome.results, *rest), messages=(*outcome.messages, *left))


class _NotEqual(Exception):
    """The copy is not what it ought to be."""


@contextmanager
def _staged(repair: Repair, place: TrashPlace, fs: Fs, cancelled: Callable[[], bool], left: list[str]) -> Iterator[str]:
    """The path of a proven copy on the root's file system; what is left of it goes in the end.

    `left` hears what could not be removed. Raises _NotEqual, CopyError, CancelledError, HeldError, OSError.
    """
    finding = repair.finding
    key = "repair-" + hashlib.sha256(os.fsencode(finding.path)).hexdigest()[:24]
    header = {"repair": finding.path, "digest": finding.digest}
    with staging.open_staging(fs, os.path.join(place.path, INCOMING), key, header) as made:
        try:
            copy(pieces.survey(finding.copy), made, fs=fs, cancelled=cancelled)
            _compare(made.tree, finding)
            _dress(made.tree, finding.path, fs)
            yield made.tree
        finally:
            try:
                made.discard()
            except OSError as e:
                left.append(f"{made.path} could not be removed: {reason(e)}")


def _compare(tree: str, finding: Finding) -> None:
    was = stamp(os.lstat(tree))
    reading = Reader(lambda count: None, never).read(tree, was, (finding.algorithm,))
    if reading.digests.get(finding.algorithm) != finding.digest:
        raise _NotEqual(f"{finding.copy} is not what it ought to be either: nothing was changed")


def _dress(tree: str, path: str, fs: Fs) -> None:
    """The mode of what it replaces."""
    try:
        st = os.lstat(path)
    except OSError:
        return
    if kind_of(st) == "file":
        fd = os.open(tree, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fs.chmod(fd, st.st_mode & 0o7777)
        finally:
            os.close(fd)


def quarantine(scan: Scan, verdicts: Sequence[Verdict]) -> Plan:
    """The plan that moves every damaged file to the trash, with the names that lead to it, so that it is downloaded
    again; of an Ollama model the layer alone. Changes nothing.
    """
    selections: list[Selection] = []
    layers: list[tuple[Item, Finding]] = []
    refused: list[PlannedItem] = []
    for item, finding in damaged(scan, verdicts):
        whole = Selection(item)
        if item.store == QUANT:  # without a file of it, it could not be loaded: it goes as a whole, and is made anew
            selections.append(whole)
        elif not os.path.lexists(finding.path):
            refused.append(
                PlannedItem(whole, item.id, refused=f"{finding.path} is not there: {finding.offer or _WHOLE}")
            )
        elif not finding.path.startswith(os.path.join(item.root, "")):
            refused.append(PlannedItem(whole, item.id, refused=_ELSEWHERE))
        elif item.store == "ollama" and finding.name:
            layers.append((item, finding))
        elif chosen := _names(item, finding.path):
            selections += chosen
        else:
            refused.append(PlannedItem(whole, item.id, refused=_WHOLE))
    plan = removal.prepare(scan, selections)
    made, more = _layers(scan, layers)
    known = {p.root for p in plan.places}
    return replace(
        plan,
        items=(*plan.items, *made, *refused),
        places=(*plan.places, *(p for p in more.values() if p.root not in known)),
    )


def _names(item: Item, path: str) -> list[Selection]:
    """Every name of the content at an absolute path, in every revision and part."""
    if item.kind in ("orphan", "unknown", "file") and path == os.path.join(item.root, item.path):
        return [Selection(item)]
    at = {n for n, b in enumerate(item.content) if f"{item.root}/{b.path}" == path}
    return [
        Selection(item, r.commit, name)
        for r in (*item.revisions, *item.parts)
        for name, n in zip(r.names, r.index, strict=True)
        if n in at
    ]


def _layers(scan: Scan, found: Sequence[tuple[Item, Finding]]) -> tuple[list[PlannedItem], Mapping[str, TrashPlace]]:
    """Damaged layers: the store's own removal would take the whole tag, and a pull fetches one layer again."""
    made: list[PlannedItem] = []
    chosen: dict[str, TrashPlace] = {}
    for item, finding in found:
        selection = Selection(item, "", finding.name)
        target = target_of(selection)
        place = chosen.setdefault(item.root, places.choose(scan.root_of(item).root))
        try:
            base = step(item.root, finding.path[len(item.root) + 1 :], None, Phase.CONTENT)
        except OSError as e:
            made.append(PlannedItem(selection, target, refused=reason(e)))
            continue
        refused = place.note if not place.path else ""
        made.append(PlannedItem(selection, target, (base,), cautions=cautions.of(item, {}), refused=refused))
    return made, chosen
