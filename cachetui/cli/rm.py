"""cachetui rm: delete, undoably."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cachetui.cli import choose, common
from cachetui.cli.common import Session
from cachetui.model import PINNED
from cachetui.plans import model as plans
from cachetui.plans.model import Outcome, Plan
from cachetui.store import Selection
from cachetui.text import safe

INCLUDE = (plans.IN_USE, plans.LOCKED, plans.YOUNG, plans.UNCHECKED, plans.NO_UNDO, plans.SERVER, plans.LINKED_FROM)


@common.verb()
@choose.targets_argument
@choose.filter_option
@common.root_option
@click.option("--permanent", is_flag=True, help="Not into the trash: gone for good, the space is free at once.")
@click.option("--with-archive", is_flag=True, help="Of what is archived also the archive's copy, not only the link.")
@choose.include_option(INCLUDE, "delete")
@common.where_options
@common.changing_options
@common.binary_option
@common.json_option
def rm(
    targets: tuple[str, ...],
    filters: tuple[str, ...],
    root: str | None,
    permanent: bool,
    with_archive: bool,
    include: tuple[str, ...],
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    binary: bool,
    as_json: bool,
) -> int:
    """Delete items, revisions or files, undoably.

    They go to the trash: `undo` brings them back, `trash empty` frees the space. Shows first what goes, what stays
    and who needs it. What is pinned is refused.

    \b
    Examples:
      cachetui rm hf:Qwen/Qwen3-VL-2B-Instruct
      cachetui rm hf:org/name@a1b2c3d ollama:llama3.2:3b
      cachetui rm hf:org/name-GGUF:model-Q8_0.gguf
      cachetui rm --filter 'accessed>6mo' --filter 'size>5GB' --dry-run
    """
    if not targets and not filters:
        raise click.UsageError("name what to delete: a TARGET (see: cachetui ls) or --filter EXPR")
    session = common.begin(common.to_where(cache_dir, search), dry_run=dry_run, binary=binary)
    chosen = choose.selections(session, targets, filters, common.real_root(session, root))
    selections = chosen if targets or root or with_archive else _outside_archives(session, chosen)
    if not selections:
        return _nothing(as_json, dry_run)
    from cachetui.plans.removal import prepare

    bulk = bool(filters) or len(selections) > 1
    plan = prepare(session.scan, selections, permanent=permanent, bulk=bulk, with_archive=with_archive)
    if not as_json:
        _show(session, plan)
    if dry_run or not plan.accepted:
        if as_json:
            _emit(plan, None, dry_run)
        return 0 if dry_run else _code(plan, None, bool(filters))
    accept = _agree(plan, include, yes=yes, as_json=as_json)
    if accept is None:
        common.say("Nothing was deleted.")
        return 1
    outcome = _execute(plan, accept)
    if as_json:
        _emit(plan, outcome, dry_run)
    else:
        from cachetui.cli.plan import outcome_lines

        for line in outcome_lines(outcome, session.binary):
            click.echo(line)
    return _code(plan, outcome, bool(filters))


def _outside_archives(session: Session, selections: Sequence[Selection]) -> list[Selection]:
    """A filter alone leaves what lies in archives: it was put there to be kept."""
    kept = [s for s in selections if not session.scan.root_of(s.item).root.only_archive]
    if left := len(selections) - len(kept):
        common.say(f"{left} in archives pass too and are left: give --with-archive, or --root DIR to mean them.")
    return kept


def _nothing(as_json: bool, dry_run: bool) -> int:
    if as_json:
        from cachetui.cli import data

        data.emit({"verb": "rm", "dry_run": dry_run, "plan": None, "outcome": None})
    common.say("Nothing passes the filter; nothing was deleted.")
    return 0


def _show(session: Session, plan: Plan) -> None:
    from cachetui.cli.plan import plan_lines

    for line in plan_lines(plan, session.binary):
        click.echo(line)


def _agree(plan: Plan, include: Sequence[str], *, yes: bool, as_json: bool) -> frozenset[str] | None:
    """The cautions accepted; None when the user said no."""
    count = len(plan.accepted)
    asks = {c.code: c.message for i in reversed(plan.accepted) for c in reversed(i.cautions)}
    if not plan.permanent:
        return choose.agree(f"Delete {count}?", asks, include, does="delete", how=(yes, as_json))
    asks.pop(plans.PERMANENT, None)
    question = f"{count} will be gone for good. Type delete to go ahead"
    accept = choose.agree(question, asks, include, does="delete", how=(yes, as_json), word="delete")
    return None if accept is None else accept | {plans.PERMANENT}


def _execute(plan: Plan, accept: frozenset[str]) -> Outcome:
    from cachetui.cli.progress import Doing
    from cachetui.plans.executor import execute

    with Doing("deleting") as progress:
        outcome = execute(plan, accept=accept, progress=progress)
    if plan.permanent:
        from cachetui.transfer.dropping import drop_deleted

        for trouble in drop_deleted(plan, outcome):
            common.say(safe(trouble))
    return outcome


def _emit(plan: Plan, outcome: Outcome | None, dry_run: bool) -> None:
    from cachetui.cli import data
    from cachetui.cli.plan import outcome_data, plan_data

    done = outcome_data(outcome) if outcome is not None else None
    data.emit({"verb": "rm", "dry_run": dry_run, "plan": plan_data(plan), "outcome": done})


def _code(plan: Plan, outcome: Outcome | None, filtered: bool) -> int:
    """1 when something asked for was not done. A pinned item that a filter happened to catch was not asked for."""
    excused = {
        (i.target, i.selection.item.root) for i in plan.refused if filtered and PINNED in i.selection.item.states
    }
    if outcome is None:
        return 1 if len(excused) < len(plan.refused) else 0
    return 0 if all(r.done or (r.target, r.root) in excused for r in outcome.results) else 1
