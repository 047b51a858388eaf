"""Quantized models and the models they were made from: which of them have moved on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cachetui.ledger import Scan
from cachetui.model import Item, Problem
from cachetui.quant_items import AGAIN, COMMIT, SOURCE, STORE
from cachetui.state_models import models_by_target, present_commit

STALE = "stale-entry"
"""Code of the problem that an entry's model has another commit now."""
_SHORT = 7


def with_sources(scan: Scan) -> Scan:
    """The scan in which every entry whose model has a new commit says so. Can be applied again."""
    if not any(r.root.store == STORE for r in scan.roots):
        return scan
    models = models_by_target(i for i in scan.items if i.store != STORE)
    roots = []
    for r in scan.roots:
        items = tuple(_judged(i, models) for i in r.items) if r.root.store == STORE else r.items
        roots.append(replace(r, items=items) if items != r.items else r)
    return replace(scan, roots=tuple(roots))


def _judged(entry: Item, models: Mapping[str, Item]) -> Item:
    kept = tuple(p for p in entry.problems if p.code != STALE)
    rows = dict(entry.extra)
    model, then = models.get(rows.get(SOURCE, "")), rows.get(COMMIT, "")
    now = present_commit(model) if model is not None and then else ""
    if model is None or not now or then == now:
        return entry if kept == entry.problems else replace(entry, problems=kept)
    message = f"it was made from {then[:_SHORT]} of {model.name}, which is at {now[:_SHORT]} now"
    hint = f"{rows.get(AGAIN, 'cachetui quantize')} makes one of the new commit; this one may go then"
    return replace(entry, problems=(*kept, Problem(STALE, message, f"{entry.root}/{entry.path}", hint)))
