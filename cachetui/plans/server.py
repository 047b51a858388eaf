"""Deleting through the server that serves a store: second names into an entry first, then its own API.

What the server unlinks stays in the entry; undo links the blobs back, then the manifest. Where nothing can be linked
(files of another user, no trash) it cannot be undone: the plan says so and asks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from cachetui import ollama_server
from cachetui.fs import Fs, open_dir
from cachetui.ollama_server import Kind, Server, ServerError
from cachetui.plans.deletion import Deletion, StuckError
from cachetui.plans.intent import make_intent
from cachetui.plans.model import NO_UNDO, PlannedItem, Result, TrashPlace
from cachetui.plans.moves import Place
from cachetui.plans.record import Act
from cachetui.plans.survey import lstat_below, reason
from cachetui.plans.vault import open_vault
from cachetui.walk import allocated

_NOT_LINKED = "its files could not be linked into the trash, so it could not be brought back; nothing was deleted"


def delete(
    fs: Fs,
    place: TrashPlace,
    operation: str,
    when: float,
    items: Sequence[PlannedItem],
    advance: Callable[[str], None],
    permanent: bool,
) -> dict[str, Result]:
    """Results by target. Raises HeldError, StuckError, OSError before the first change."""
    results: dict[str, Result] = {}
    kept = [i for i in items if not permanent and not cannot_be_undone(i)]
    root = open_dir(place.root)
    try:
        for item in items:
            if item not in kept:
                results[item.target] = _for_good(root, item, advance)
        if kept:
            results |= _with_undo(fs, place, root, operation, when, kept, advance)
    finally:
        os.close(root)
    return results


def cannot_be_undone(item: PlannedItem) -> bool:
    """Whether the plan says that an item's deletion cannot be undone."""
    return any(c.code == NO_UNDO for c in item.cautions)


def _ask(item: PlannedItem) -> None:
    ollama_server.delete(Server(Kind.SERVES, item.via_server), item.selection.item.name)


def _for_good(root: int, item: PlannedItem, advance: Callable[[str], None]) -> Result:
    """Without a second name: what comes back is measured (I9)."""
    where = item.selection.item.root
    before = [(s, lstat_below(root, s.path)) for s in item.steps]
    try:
        _ask(item)
    except ServerError as e:
        return Result(item.target, where, False, f"left as it was: {e}")
    freed = 0
    left = []
    for step, st in before:
        advance(step.path)
        if lstat_below(root, step.path) is not None:
            left.append(step.path)
        elif st is not None and st.st_nlink == 1:
            freed += allocated(st)
    note = f"the server kept {', '.join(left[:3])}" if left else ""
    return Result(item.target, where, item.steps[0].path not in left, note, freed)


def _with_undo(
    fs: Fs,
    place: TrashPlace,
    root: int,
    operation: str,
    when: float,
    items: Sequence[PlannedItem],
    advance: Callable[[str], None],
) -> dict[str, Result]:
    with open_vault(fs, place.path, create=True) as vault:
        intent = make_intent(Act.SERVER, operation, when, place.path, root, items)
        deletion = Deletion(Place(fs, root, place.root, vault.take()), intent, advance)
        deletion.begin()
        try:
            deletion.keep_all()
            for number, item in enumerate(items):
                _delete_one(deletion, number, item)
            deletion.commit("done")
        except OSError as e:
            raise StuckError(reason(e)) from e
        vault.top_up()
        return {i.target: _result(deletion, n, i, root) for n, i in enumerate(items)}


def _delete_one(deletion: Deletion, number: int, item: PlannedItem) -> None:
    if number in deletion.notes and number not in deletion.failed:
        deletion.fail(number, ServerError(_NOT_LINKED))
    if number in deletion.failed:
        return
    try:
        _ask(item)
    except ServerError as e:
        deletion.fail(number, e)
        return
    for step in item.steps:
        deletion.advance(step.path)


def _result(deletion: Deletion, number: int, item: PlannedItem, root: int) -> Result:
    where = item.selection.item.root
    if number in deletion.failed:
        return Result(item.target, where, False, f"left as it was: {deletion.failed[number]}")
    left = [s.path for s in item.steps if lstat_below(root, s.path) is not None]
    moved = sum(s.allocated for s in item.steps if s.path not in left)
    note = f"the server kept {', '.join(left[:3])}" if left else ""
    return Result(item.target, where, item.steps[0].path not in left, note, moved=moved)
