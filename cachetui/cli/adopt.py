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
    Without DIR or TARGET: the archives that can be reached and have something to take up.

    \b
    Examples:
      cachetui adopt
      cachetui adopt /media/me/big/models
      cachetui adopt hf:Qwen/Qwen3-VL-8B-Instruct
    """
    from cachetui.jobs import requests
    from cachetui.transfer.adopting import prepare

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
