"""Restoring: the plan, then a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachetui.jobs.model import Spec
from cachetui.model import ARCHIVED, OFFLINE
from cachetui.tui.handlers import transfer

if TYPE_CHECKING:
    from cachetui.transfer.model import TransferPlan
    from cachetui.tui.screens.main import MainScreen


def ask(main: MainScreen) -> None:
    """Plan bringing the marked (or selected) back."""
    selections = transfer.chosen(main, "bring back")
    scan = main.shelf.scan
    if not selections or scan is None:
        return
    if not any({ARCHIVED, OFFLINE} & set(s.item.states) for s in selections):
        main.tell("Only what was archived can be restored. For what was deleted: u, or T.", severity="warning")
        return

    def make() -> TransferPlan:
        from cachetui.transfer.restoring import prepare

        return prepare(scan, selections)

    def spec(plan: TransferPlan, accept: frozenset[str]) -> Spec:
        from cachetui.jobs import requests

        targets = transfer.targets(plan, accept)
        digest = transfer.digest(plan, accept)
        return requests.restore(main.cachetui.where, targets, accept=accept, digest=digest, archives=(plan.directory,))

    transfer.plan(main, make, spec)
