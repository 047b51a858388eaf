"""Carry out a plan: one entry per root, everything journalled, each item whole or not at all."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cachetui import fs as fs_module
from cachetui.fs import DISK, Fs, open_dir
from cachetui.plans import history, places, server
from cachetui.plans.deletion import Deletion, StuckError
from cachetui.plans.lock import HeldError
from cachetui.plans.model import Outcome, Phase, Plan, PlannedItem, Progress, Result, TrashedItem, TrashPlace
from cachetui.plans.moves import Place
from cachetui.plans.record import Act, Intent, Kept, Move
from cachetui.plans.survey import lstat_below, reason
from cachetui.plans.vault import open_vault

UNFINISHED = "interrupted ({}); the next start of cachetui puts it right"
NO_ROOM = "the disk is too full to note down what would be deleted: empty the trash first, or delete permanently"


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
    verb = "delete permanently" if plan.permanent else plan.verb
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
            results |= server.delete(run.fs, place, run.operation, run.when, by_server, run.advance)
        if by_hand:
            results |= _by_hand(run, place, root, by_hand)
        return [results[i.target] for i in items]
    except HeldError as e:
        why = str(e)
    except StuckError as e:
        why = UNFINISHED.format(e)
    except OSError as e:
        why = NO_ROOM if e.errno in (28, 122) else f"nothing was changed: {reason(e)}"
    return [Result(i.target, root, False, why) for i in items]


def _by_hand(run: _Run, place: TrashPlace, root: str, items: Sequence[PlannedItem]) -> dict[str, Result]:
    direct = not place.path
    path = place.path or places.fallback(root)
    if direct:
        run.fs.make_path(path)
    with open_vault(run.fs, path, create=True) as vault:
        slot = vault.take()
        root_fd = open_dir(root)
        try:
            act = Act.ERASE if direct else Act.DESTROY if run.plan.permanent else Act.DELETE
            intent = make_intent(act, run.operation, run.when, path, root_fd, items)
            deletion = Deletion(Place(run.fs, root_fd, root, slot), intent, run.advance)
            deletion.begin()
            if direct:
                deletion.erase()
            else:
                deletion.into_trash()
                if run.plan.permanent and deletion.done:
                    deletion.empty(vault)
        finally:
            os.close(root_fd)
        vault.top_up()
    return {i.target: _result(n, i, deletion, run.plan.permanent) for n, i in enumerate(items)}


def _result(number: int, item: PlannedItem, deletion: Deletion, permanent: bool) -> Result:
    root = item.selection.item.root
    if number in deletion.failed:
        return Result(item.target, root, False, f"left as it was: {deletion.failed[number]}")
    gone = {m.source for m in deletion.intent.moves} - deletion.left
    moved = sum(s.allocated for s in item.steps if s.path in gone)
    stayed = [s.path for s in item.steps if s.path not in gone]
    notes = [deletion.notes[number]] if number in deletion.notes else []
    if stayed:
        notes.append(f"{len(stayed)} shared files stay for what was not deleted")
    if number in deletion.back:
        return Result(item.target, root, False, deletion.back[number])
    result = Result(item.target, root, True, "; ".join(notes))
    if permanent:
        return replace(result, freed=deletion.freed.get(number, 0))
    return replace(result, moved=moved)


def make_intent(
    act: Act, operation: str, when: float, trash: str, root_fd: int, items: Sequence[PlannedItem]
) -> Intent:
    """What is written down before the first change. Raises OSError."""
    root = items[0].selection.item.root
    numbers = {(root, i.target): n for n, i in enumerate(items)}
    moves: list[Move] = []
    for phase, shared in ((Phase.REFERENCE, False), (Phase.CONTENT, False), (Phase.CONTENT, True)):
        for n, item in enumerate(items):
            for step in item.steps:
                if step.phase is phase and bool(step.needs) is shared and all(k in numbers for k in step.needs):
                    needs = tuple(numbers[k] for k in step.needs)
                    slot = str(len(moves))
                    moves.append(Move(n, step.path, slot, step.was, step.entries, phase is Phase.CONTENT, needs))
    return Intent(
        operation=operation,
        act=act,
        root=root,
        relative=os.path.relpath(root, trash),
        store=items[0].selection.item.store,
        when=when,
        by=f"{_user()}@{socket.gethostname()}",
        items=tuple(_trashed(n, i) for n, i in enumerate(items)),
        homes=tuple(_home(i) for i in items),
        moves=tuple(moves),
        kept=_kept(root_fd, items) if act is Act.DELETE else (),
    )


def _home(item: PlannedItem) -> str:
    """The folder that a part of an item makes no sense without; empty where the item goes as a whole."""
    home = item.selection.item.path
    return "" if item.selection.is_whole or any(s.path == home for s in item.steps) else home


def _trashed(number: int, item: PlannedItem) -> TrashedItem:
    return TrashedItem(
        number,
        item.target,
        item.selection.item.name,
        sum(s.size for s in item.steps),
        sum(s.allocated for s in item.steps),
        item.frees,
    )


def _kept(root_fd: int, items: Sequence[PlannedItem]) -> tuple[Kept, ...]:
    needed: dict[str, list[int]] = {}
    for n, item in enumerate(items):
        for stay in item.stays:
            needed.setdefault(stay.path, []).append(n)
    found: list[Kept] = []
    for path, numbers in needed.items():
        st = lstat_below(root_fd, path)
        if st is not None:
            found.append(Kept(tuple(numbers), path, str(len(found)), st.st_ino))
    return tuple(found)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())
