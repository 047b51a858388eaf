"""Saved states and the models they belong to: which is whose, and whether the model is still the one it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from cachetui.ledger import Scan
from cachetui.model import Item, Problem
from cachetui.state_items import AGAIN, COMMIT, MODEL, STORE

STALE = "stale-state"
"""Code of the problem that a state's model is another one now."""
_NO_MODELS = frozenset(("dataset", "space", "kernel", "orphan", "partial", "unknown", "cache"))
_SHORT = 7
Key = tuple[str, str]


def with_models(scan: Scan) -> Scan:
    """The scan in which every state whose model has changed since says so. Can be applied again."""
    if not any(r.root.store == STORE or any(i.store == STORE for i in r.items) for r in scan.roots):
        return scan
    models = models_by_target(scan.items)
    roots = []
    for r in scan.roots:
        items = tuple(_judged(i, models) if i.store == STORE else i for i in r.items)
        roots.append(replace(r, items=items) if items != r.items else r)
    return replace(scan, roots=tuple(roots))


def models_by_target(items: Iterable[Item]) -> Mapping[str, Item]:
    """Items that a state may belong to, by TARGET and by absolute path; where one lies in several roots, the first."""
    found: dict[str, Item] = {}
    for item in items:
        if item.store != STORE and item.kind not in _NO_MODELS:
            found.setdefault(item.id, item)
            found.setdefault(f"{item.root}/{item.path}" if item.path else item.root, item)
    return found


def model_of(state: Item) -> str:
    """The TARGET of the model that a state belongs to; empty where it does not say."""
    return dict(state.extra).get(MODEL, "")


def present_commit(model: Item) -> str:
    """The commit that a program takes of a model when none is named; empty where there are none."""
    for revision in model.revisions:
        if "main" in revision.refs:
            return revision.commit
    return model.revisions[0].commit if len(model.revisions) == 1 else ""


def _judged(state: Item, models: Mapping[str, Item]) -> Item:
    kept = tuple(p for p in state.problems if p.code != STALE)
    rows = dict(state.extra)
    model, then = models.get(rows.get(MODEL, "")), rows.get(COMMIT, "")
    if model is not None and rows[MODEL] != model.id:  # a path: from here on by the name that it has here
        rows[MODEL] = model.id
        state = replace(state, extra=tuple(rows.items()))
    now = present_commit(model) if model is not None else ""
    if model is None or not then or not now or then == now:
        return state if kept == state.problems else replace(state, problems=kept)
    message = f"it was made with {then[:_SHORT]} of {model.name}, whose main is {now[:_SHORT]} now: "
    if any(r.commit == then for r in model.revisions):
        message += "only that revision, which is still here, can go on from it"
    else:
        message += "nothing here can go on from it"
    problem = Problem(STALE, message, f"{state.root}/{state.path}", rows.get(AGAIN, ""))
    return replace(state, problems=(*kept, problem))
