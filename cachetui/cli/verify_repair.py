"""cachetui verify --repair and --quarantine: the plan, the question, what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cachetui.cli import common
from cachetui.cli.common import Session
from cachetui.cli.verify_show import Report, emit
from cachetui.text import safe
from cachetui.verify.model import DAMAGED

if TYPE_CHECKING:
    from cachetui.plans.model import Outcome, Plan
    from cachetui.verify.repair import Repairs


def act(session: Session, report: Report, *, repair: bool, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Show what would be done about what is damaged, ask, do it. Returns the exit code."""
    from cachetui.verify import repair as core

    repairs = core.prepare(session.scan, report.verdicts) if repair else None
    plan = repairs.plan if repairs is not None else core.quarantine(session.scan, report.verdicts)
    if not as_json:
        _show(session, plan, repairs)
    outcome: Outcome | None = None
    if plan.accepted and not dry_run:
        accept = _agree(plan, repair=repair, yes=yes, as_json=as_json)
        if accept is None:
            common.say("Nothing was changed.")
            return 1
        outcome = _execute(plan, repairs, accept)
    if as_json:
        _emit(report, plan, outcome, dry_run)
    elif outcome is not None:
        from cachetui.cli.plan import outcome_lines

        for line in outcome_lines(outcome, session.binary):
            click.echo(line)
    if outcome is None:
        return 1 if not dry_run and any(v.outcome == DAMAGED for v in report.verdicts) else 0
    return 0 if outcome.ok and not plan.refused else 1


def _show(session: Session, plan: Plan, repairs: Repairs | None) -> None:
    from cachetui.cli.plan import plan_lines

    if not plan.items:
        click.echo("Nothing is damaged: nothing to do.")
        return
    for line in plan_lines(plan, session.binary):
        click.echo(line)
    for r in repairs.repairs if repairs is not None else ():
        click.echo(f"  {safe(r.planned.target)} comes from {safe(r.finding.copy)}, compared with its hash first")


def _agree(plan: Plan, *, repair: bool, yes: bool, as_json: bool) -> frozenset[str] | None:
    """The cautions accepted; None when the user said no."""
    count = len(plan.accepted)
    question = f"Repair {count}?" if repair else f"Move {count} to the trash?"
    if not common.must_agree(question, yes=yes, as_json=as_json):
        return None
    accept: set[str] = set()
    if not yes:
        for code in sorted(plan.cautions):
            why = next(c.message for i in plan.accepted for c in i.cautions if c.code == code)
            if common.must_agree(f"{safe(why)}: go ahead all the same? [{code}]", yes=False, as_json=as_json):
                accept.add(code)
    return frozenset(accept)


def _execute(plan: Plan, repairs: Repairs | None, accept: frozenset[str]) -> Outcome:
    from cachetui.cli.progress import Doing
    from cachetui.plans.executor import execute
    from cachetui.verify.repair import carry_out

    if repairs is None:
        with Doing("moving") as progress:
            return execute(plan, accept=accept, progress=progress)
    with Doing("repairing") as progress:
        return carry_out(repairs, accept=accept, progress=progress)


def _emit(report: Report, plan: Plan, outcome: Outcome | None, dry_run: bool) -> None:
    from cachetui.cli.plan import outcome_data, plan_data

    done = outcome_data(outcome) if outcome is not None else None
    emit(report, {"dry_run": dry_run, "plan": plan_data(plan), "outcome": done})
