"""cachetui move-root: a whole cache moves to another drive."""

from __future__ import annotations

import click

from cachetui.cli import choose, common, transfer, transfer_plan


@common.verb("move-root")
@click.argument("root")
@click.option("--to", required=True, metavar="DIR", help="A folder on another drive; where it exists: a folder in it.")
@click.option("--keep-original", is_flag=True, help="The original goes to the trash instead of being freed at once.")
@click.option("--print-env", is_flag=True, help="At the end print the line that makes programs look there themselves.")
@choose.include_option(transfer.INCLUDE, "move")
@common.where_options
@common.changing_options
@common.binary_option
@common.json_option
def move_root(
    root: str,
    to: str,
    keep_original: bool,
    print_env: bool,
    include: tuple[str, ...],
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    binary: bool,
    as_json: bool,
) -> int:
    """Move a whole cache to another drive, leaving a link.

    ROOT is one of those that `info` lists, e.g. a hub cache or an Ollama store. Everything in it is copied as it is,
    read back from the drive and compared; then the folder is exchanged with a link. Interrupted, the same command
    again goes on where it stopped.

    \b
    Examples:
      cachetui move-root ~/.cache/huggingface --to /mnt/big --dry-run
      cachetui move-root ~/.ollama/models --to /mnt/big/ollama --print-env
    """
    from cachetui.jobs import requests
    from cachetui.transfer.moving import prepare

    where = common.to_where(cache_dir, search)
    session = common.begin(where, dry_run=dry_run, binary=binary)
    path = common.real_root(session, root)
    chosen = next(r for r in session.roots if r.path == path)
    plan = prepare(where, chosen, to, keep_original=keep_original, dry_run=dry_run)
    offer = transfer.Offer(
        "move-root",
        transfer_plan.move_data(plan),
        transfer_plan.move_lines(plan, session.binary),
        not plan.refused,
        plan.asks,
        (),
        f"Move {chosen.path}?",
        lambda accept: requests.move_root(
            where, chosen.path, plan.place, keep_original=keep_original, accept=accept, digest=plan.digest
        ),
    )
    code = transfer.go(offer, include, (dry_run, yes, as_json), binary=session.binary)
    if print_env and code == 0 and not as_json and plan.line:
        click.echo(plan.line)
    return code
