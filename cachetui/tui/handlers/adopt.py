"""Adopting: links to archives that moved, came from elsewhere or were made by hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cachetui.jobs.model import Spec
from cachetui.store import Selection
from cachetui.tui.handlers import marks, operation, transfer
from cachetui.tui.rows import GROUP, ROOT

if TYPE_CHECKING:
    from cachetui.transfer.model import TransferPlan
    from cachetui.tui.screens.main import MainScreen


def ask(main: MainScreen) -> None:
    """Plan taking up the marked or selected; on an archive's heading the whole archive, elsewhere the first found."""
    if not operation.is_free(main):
        return
    scan, where = main.shelf.scan, main.cachetui.where
    assert scan is not None
    selections = marks.selected(main)
    directory = "" if selections else _heading(main)

    def make() -> TransferPlan:
        from cachetui import archives
        from cachetui.transfer.adopting import prepare

        if selections:
            return prepare(scan, selections)
        if directory:
            return prepare(scan, directory)
        plans = [prepare(scan, found.directory) for found in archives.locate(where)]
        return next((p for p in plans if p.accepted), plans[0] if plans else prepare(scan, ()))

    transfer.plan(main, make, lambda plan, accept: _spec(main, plan, selections, accept))


def _heading(main: MainScreen) -> str:
    """The archive that the heading under the cursor stands for."""
    row = main.models.row
    if row is None or row.kind not in (GROUP, ROOT):
        return ""
    roots = [r for r in main.shelf.roots.values() if r.archive and row.title in (r.group, r.path)]
    return os.path.dirname(roots[0].path) if roots else ""


def _spec(main: MainScreen, plan: TransferPlan, selections: Sequence[Selection], accept: frozenset[str]) -> Spec:
    from cachetui.jobs import requests

    targets = [(s.item.root, s.item.id) for s in selections]
    directory = "" if selections else plan.directory
    return requests.adopt(main.cachetui.where, targets, directory, accept=accept, digest=plan.digest)
