"""cachetui adopt: take up archives that lie elsewhere now, come from elsewhere, or were made by hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cachetui.cli import choose, common, transfer, transfer_plan
from cachetui.cli.common import Failed, Session
from cachetui.store import Selection
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.transfer.model import AdoptPlan


@common.verb()
@click.argument("what", nargs=-1, metavar="[DIR | TARGET...]")
@common.root_option
@choose.include_option(transfer.INCLUDE, "adopt")
@common.where_options
@common.changing_options
@common.binary_option
@common.json_option
def adopt(
    what: tuple[str, ...],
    root: str | None,
    include: tuple[str, ...],
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    binary: bool,
    as_json: bool,
) -> int:
    """Take up an archive: DIR, or the one that TARGETs lie in.

    Links that lead nowhere are led to where the drive is now; an archive of another machine gets links here; what was
    moved by hand (mv, then ln -s) gets a manifest, and shared files that the move broke come back where a copy exists.
    A model that lies directly in models--ORG--NAME, as mlx_lm.convert leaves one, is moved into snapshots and refs.
    Without DIR or TARGET: the archives that can be reached and have something to take up.

    \b
    Examples:
      cachetui adopt
      cachetui adopt /media/me/big/models
      cachetui adopt hf:Qwen/Qwen3-VL-8B-Instruct
      cachetui adopt hf:me/Qwen3-4B-4bit
    """
    from cachetui.jobs import requests
    from cachetui.transfer.adopting import prepare
    from cachetui.transfer.flat import is_flat

    where = common.to_where(cache_dir, search)
    session = common.begin(where, dry_run=dry_run, binary=binary)
    folder = where.resolve(what[0]) if len(what) == 1 and root is None else ""
    chosen: Sequence[Selection] = ()
    if not what:
        plan = _only(session)
        folder = plan.directory
    elif os.path.isdir(folder) and not _names_item(session, what[0]):
        plan = prepare(session.scan, folder)
    else:
        folder = ""
        chosen = choose.selections(session, what, (), common.real_root(session, root))
        if any(is_flat(s.item) for s in chosen):
            return _flat(session, chosen, include, (dry_run, yes, as_json))
        plan = prepare(session.scan, chosen)
    targets = [] if folder else [(s.item.root, s.item.id) for s in chosen]
    offer = transfer_plan.offer(
        plan,
        session.binary,
        f"Adopt {len(plan.accepted)}?",
        lambda accept: requests.adopt(
            where, targets, plan.directory if folder else "", accept=accept, digest=plan.digest
        ),
    )
    return transfer.go(offer, include, (dry_run, yes, as_json), binary=session.binary)


def _flat(session: Session, chosen: Sequence[Selection], include: tuple[str, ...], how: tuple[bool, bool, bool]) -> int:
    """Models that lie directly in a repo's folder: shown, asked, moved into snapshots and refs."""
    from cachetui.cli import data
    from cachetui.cli.plan import outcome_data, outcome_lines, plan_data, plan_lines
    from cachetui.cli.progress import Doing
    from cachetui.transfer import flat

    dry_run, yes, as_json = how
    if others := [s.item.id for s in chosen if not flat.is_flat(s.item)]:
        raise Failed(f"{safe(others[0])} is no model that lies directly in a repo's folder: adopt it by itself")
    plan = flat.prepare(session.scan, [s.item for s in chosen])
    if not as_json:
        for line in plan_lines(plan, session.binary):
            click.echo(line)
    outcome = None
    if plan.accepted and not dry_run:
        if not common.must_agree(f"Adopt {len(plan.accepted)}?", yes=yes, as_json=as_json):
            common.say("Nothing was changed.")
            return 1
        accept = set(include)
        for code in sorted(plan.cautions - accept) if not yes else ():
            why = next(c.message for i in plan.accepted for c in i.cautions if c.code == code)
            if common.must_agree(f"{safe(why)}: go ahead all the same? [{code}]", yes=False, as_json=as_json):
                accept.add(code)
        with Doing("adopting") as progress:
            outcome = flat.carry_out(plan, accept=frozenset(accept), progress=progress)
    if as_json:
        done = outcome_data(outcome) if outcome is not None else None
        data.emit({"verb": "adopt", "dry_run": dry_run, "plan": plan_data(plan), "outcome": done})
    else:
        for line in outcome_lines(outcome, session.binary) if outcome is not None else ():
            click.echo(line)
    if outcome is None:
        return 1 if plan.refused and not dry_run else 0
    return 0 if outcome.ok and not plan.refused else 1


def _names_item(session: Session, text: str) -> bool:
    return any(text == i.id for i in session.scan.items)


def _only(session: Session) -> AdoptPlan:
    """The plan for the one reachable archive that has something to take up. Raises Failed with what there is."""
    from cachetui import archives
    from cachetui.transfer.adopting import prepare

    plans = [prepare(session.scan, found.directory) for found in archives.locate(session.where)]
    useful = [p for p in plans if p.accepted]
    if len(useful) == 1:
        return useful[0]
    if not useful:
        seen = "".join(f"\n  {safe(p.directory)}: {safe(p.refused)}" for p in plans)
        raise Failed("there is nothing to adopt; name the folder of an archive" + (f". Seen:{seen}" if seen else ""))
    rows = "\n".join(f"  cachetui adopt {safe(p.directory)}" for p in useful)
    raise Failed(f"there are several archives; say which one:\n{rows}")
