"""Carry out a plan: one entry per root, everything journalled, each item whole or not at all."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from cachetui import fs as fs_module
from cachetui.fs import DISK, Fs, open_dir
from cachetui.plans import history, places, server
from cachetui.plans.deletion import FULL, Deletion, StuckError
from cachetui.plans.intent import is_whole, make_intent
from cachetui.plans.lock import HeldError
from cachetui.plans.model import ROOT, Outcome, Plan, PlannedItem, Progress, Result, TrashPlace
from cachetui.plans.moves import Place
from cachetui.plans.record import Act
from cachetui.plans.survey import reason
from cachetui.plans.vault import open_vault

UNFINISHED = "interrupted ({}); the next start of cachetui puts it right"
NO_ROOM = "the disk is too full to note down what would be deleted: empty the trash first, or delete permanently"
_NO_ROOM_TO_SWAP = "the disk is too full to note down what would be done: empty the trash first"


@dataclass
class _Run:
    plan: Plan
    fs: Fs
    progress: Progress | None
    operation: str
    when: float
    total: int
    count: int = 0

    def advance(self, name: str) -> None:
        self.count += 1
        if self.progress is not None:
            self.progress.advance(min(self.count, self.total), self.total, name)


def execute(
    plan: Plan, *, accept: frozenset[str] = frozenset(), fs: Fs = DISK, progress: Progress | None = None
) -> Outcome:
    """Do what the plan says. Never raises for what is on disk: every item has its result.

    An item with a caution whose code is not in `accept` is not touched and says so.
    """
    when = time.time()
    operation = time.strftime("%Y%m%dT%H%M%S", time.gmtime(when)) + "-" + secrets.token_hex(3)
    results: dict[int, Result] = {}
    roots: dict[str, list[int]] = {}
    for n, item in enumerate(plan.items):
        if why := _held_back(item, accept):
            results[n] = Result(item.target, item.selection.item.root, False, why)
        else:
            roots.setdefault(item.selection.item.root, []).append(n)
    chosen = [plan.items[n] for numbers in roots.values() for n in numbers]
    run = _Run(plan, fs, progress, operation, when, _total(plan, chosen))
    messages: list[str] = []
    for root, numbers in roots.items():
        items = [plan.items[n] for n in numbers]
        done = _on_root(run, root, items)
        results.update(zip(numbers, done, strict=True))
    ordered = tuple(results[n] for n in range(len(plan.items)))
    verb = "delete permanently" if plan.permanent and not plan.swaps else plan.verb
    history.note(fs, when, verb, operation, ordered)
    return Outcome(plan.verb, ordered, operation if any(r.done for r in ordered) else "", tuple(messages))


def _held_back(item: PlannedItem, accept: frozenset[str]) -> str:
    if item.refused:
        return item.refused
    if not fs_module.HAS_DIR_FD:
        return "this system lacks the calls that deleting safely needs"
    missing = [c for c in item.cautions if c.code not in accept]
    return "needs a confirmation of its own: " + "; ".join(c.message for c in missing) if missing else ""


def _total(plan: Plan, items: Sequence[PlannedItem]) -> int:
    steps = [s for i in items for s in i.steps]
    return len(steps) + (sum(s.entries for s in steps) if plan.permanent else 0)


def _on_root(run: _Run, root: str, items: Sequence[PlannedItem]) -> list[Result]:
    """The results of the items of one root, in their order."""
    place = next(p for p in run.plan.places if p.root == root)
    try:
        by_server = [i for i in items if i.via_server]
        by_hand = [i for i in items if not i.via_server]
        results: dict[str, Result] = {}
        if by_server:
            results |= server.delete(run.fs, place, run.operation, run.when, by_server, run.advance, run.plan.permanent)
        if by_hand:
            results |= _by_hand(run, place, root, by_hand)
        return [results[i.target] for i in items]
    except HeldError as e:
        why = str(e)
    except StuckError as e:
        why = UNFINISHED.format(e)
    except OSError as e:
        why = (
            (_NO_ROOM_TO_SWAP if run.plan.swaps else NO_ROOM)
            if e.errno in FULL
            else f"nothing was changed: {reason(e)}"
        )
    return [Result(i.target, root, False, why) for i in items]


def _by_hand(run: _Run, place: TrashPlace, root: str, items: Sequence[PlannedItem]) -> dict[str, Result]:
    """Through the trash; permanently also in place, where the trash has no room or a rename into it is impossible."""
    if not run.plan.permanent or run.plan.swaps:
        act = Act.DESTROY if run.plan.permanent else Act.DELETE
        return _attempt(run, act, place.path, root, items)[0]
    results: dict[str, Result] = {}
    rest = list(items)
    if place.path:
        try:
            results, crossed = _attempt(run, Act.DESTROY, place.path, root, items)
            rest = [i for n, i in enumerate(items) if n in crossed]
        except OSError as e:
            if e.errno not in FULL:
                raise
    if rest:
        path = places.fallback(root)
        run.fs.make_path(path)
        results |= _attempt(run, Act.ERASE, path, root, rest)[0]
    return results


def _attempt(
    run: _Run, act: Act, path: str, root: str, items: Sequence[PlannedItem]
) -> tuple[dict[str, Result], frozenset[int]]:
    """Results, and the items that cannot be renamed into the trash. Raises OSError only before the first change."""
    base = root
    if is_whole(items):
        base = os.path.dirname(root)
        places.remember(run.fs, path)
    with open_vault(run.fs, path, create=True) as vault:
        slot = vault.take()
        root_fd = open_dir(base)
        try:
            intent = make_intent(act, run.operation, run.when, path, root_fd, items, run.plan.verb)
            make_room = partial(vault.make_room, slot)
            deletion = Deletion(Place(run.fs, root_fd, base, slot), intent, run.advance, make_room)
            deletion.begin()
            if act is Act.ERASE:
                deletion.erase()
            else:
                deletion.into_trash()
                if act is Act.DESTROY and deletion.done:
                    deletion.empty(vault)
        finally:
            os.close(root_fd)
        vault.top_up()
    results = {i.target: _result(n, i, deletion, run.plan.permanent) for n, i in enumerate(items)}
    return results, frozenset(deletion.crossed)


def _result(number: int, item: PlannedItem, deletion: Deletion, permanent: bool) -> Result:
    root = item.selection.item.root
    if number in deletion.failed:
        return Result(item.target, root, False, f"left as it was: {deletion.failed[number]}")
    gone = {m.source for m in deletion.intent.moves} - deletion.left
    if deletion.intent.whole:
        gone = {ROOT}
    moved = sum(s.allocated for s in item.steps if s.path in gone)
    stayed = [s.path for s in item.steps if s.path not in gone]
    notes = [deletion.notes[number]] if number in deletion.notes else []
    if stayed:
        notes.append(f"{len(stayed)} shared files stay for what did not go")
    if number in deletion.back:
        return Result(item.target, root, False, deletion.back[number])
    result = Result(item.target, root, True, "; ".join(notes))
    if permanent:
        return replace(result, freed=deletion.freed.get(number, 0))
    return replace(result, moved=moved)
