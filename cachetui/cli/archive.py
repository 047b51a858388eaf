"""cachetui archive: put items on another drive; they still load from where they were."""

from __future__ import annotations

import click

from cachetui.cli import choose, common, transfer, transfer_plan


@common.verb()
@choose.targets_argument
@click.option(
    "--to", metavar="DIR", help="The archive: a folder on another drive (default: archive_dir of config.toml)."
)
@choose.filter_option
@common.root_option
@click.option("--keep", is_flag=True, help="Copy only: a backup. The originals stay as they are.")
@click.option("--keep-original", is_flag=True, help="The originals go to the trash instead of being freed at once.")
@choose.include_option(transfer.INCLUDE, "archive")
@common.where_options
@common.changing_options
@common.binary_option
@common.json_option
def archive(
    targets: tuple[str, ...],
    to: str | None,
    filters: tuple[str, ...],
    root: str | None,
    keep: bool,
    keep_original: bool,
    include: tuple[str, ...],
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    binary: bool,
    as_json: bool,
) -> int:
    """Put items on another drive; they still load.

    Everything is copied, read back from the drive and compared; then a link takes the place of the original, whose
    space comes back. `restore` brings it back. Interrupted, the same command again goes on where it stopped.

    \b
    Examples:
      cachetui archive hf:Qwen/Qwen3-VL-8B-Instruct --to /mnt/big/models
      cachetui archive --filter 'accessed>6mo' --to /mnt/big/models --dry-run
      cachetui archive ollama:llama3.2:3b --to /mnt/big/models --keep
    """
    if not targets and not filters:
        raise click.UsageError("name what to archive: a TARGET (see: cachetui ls) or --filter EXPR")
    if keep and keep_original:
        raise click.UsageError("--keep leaves the originals where they are; --keep-original puts them into the trash")
    where = common.to_where(cache_dir, search)
    to = to or where.config.archive_dir
    if not to:
        raise click.UsageError('say where to: --to DIR, or archive_dir = "DIR" in config.toml')
    session = common.begin(where, dry_run=dry_run, binary=binary)
    selections = choose.selections(session, targets, filters, common.real_root(session, root))
    if not selections:
        if as_json:
            transfer.emit("archive", dry_run, None, None)
        common.say("Nothing passes the filter; nothing was archived.")
        return 0
    from cachetui.jobs import requests
    from cachetui.transfer.archiving import prepare

    bulk = bool(filters) or len(selections) > 1
    plan = prepare(
        session.scan,
        selections,
        where.resolve(to),
        keep=keep,
        keep_original=keep_original,
        bulk=bulk,
        dry_run=dry_run,
    )
    offer = transfer_plan.offer(
        plan,
        session.binary,
        f"{'Back up' if keep else 'Archive'} {len(plan.accepted)}?",
        lambda accept: requests.archive(
            where,
            [(i.root, i.target) for i in plan.items],
            plan.directory,
            keep=keep,
            keep_original=keep_original,
            bulk=bulk,
            accept=accept,
            digest=plan.digest,
        ),
    )
    return transfer.go(offer, include, (dry_run, yes, as_json), binary=session.binary)
