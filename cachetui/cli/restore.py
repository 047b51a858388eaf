"""cachetui restore: bring archived items back."""

from __future__ import annotations

import os

import click

from cachetui.cli import choose, common, transfer, transfer_plan


@common.verb()
@choose.targets_argument
@choose.filter_option
@common.root_option
@click.option("--keep", is_flag=True, help="The copies in the archive stay.")
@choose.include_option(transfer.INCLUDE, "restore")
@common.where_options
@common.changing_options
@common.binary_option
@common.json_option
def restore(
    targets: tuple[str, ...],
    filters: tuple[str, ...],
    root: str | None,
    keep: bool,
    include: tuple[str, ...],
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    binary: bool,
    as_json: bool,
) -> int:
    """Bring archived items back to where they were.

    Everything is copied back, compared with the archive's own hashes and read back; then it takes the place of the
    link. After that the copy in the archive goes, unless --keep. (What was deleted comes back with `undo`.)

    \b
    Examples:
      cachetui restore hf:Qwen/Qwen3-VL-8B-Instruct
      cachetui restore --filter 'state=archived' --keep --dry-run
    """
    if not targets and not filters:
        raise click.UsageError("name what to bring back: a TARGET (see: cachetui ls) or --filter EXPR")
    where = common.to_where(cache_dir, search)
    session = common.begin(where, dry_run=dry_run, binary=binary)
    selections = choose.selections(session, targets, filters, common.real_root(session, root))
    if not selections:
        if as_json:
            transfer.emit("restore", dry_run, None, None)
        common.say("Nothing passes the filter; nothing was restored.")
        return 0
    from cachetui.jobs import requests
    from cachetui.transfer.restoring import prepare

    plan = prepare(session.scan, selections, keep=keep)
    archives = sorted({os.path.dirname(p.source) for i in plan.accepted for p in i.parts})
    offer = transfer_plan.offer(
        plan,
        session.binary,
        f"Bring {len(plan.accepted)} back?",
        lambda accept: requests.restore(
            where,
            [(i.root, i.target) for i in plan.items],
            keep=keep,
            accept=accept,
            digest=plan.digest,
            archives=archives,
        ),
    )
    return transfer.go(offer, include, (dry_run, yes, as_json), binary=session.binary)
