"""cachetui jobs: what was interrupted and can go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cachetui.cli import common, transfer
from cachetui.cli.common import Failed
from cachetui.cli.help import CONTEXT, VerbGroup
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.cli.data import Json
    from cachetui.jobs.model import Spec


@click.group(cls=VerbGroup, invoke_without_command=True, context_settings=dict(CONTEXT))
@common.json_option
@click.pass_context
def jobs(ctx: click.Context, as_json: bool) -> None:
    """List copies that were interrupted and can go on.

    `jobs resume` goes on with one, `jobs forget` discards what it copied so far.

    \b
    Examples:
      cachetui jobs
      cachetui jobs resume archive-0f3a
      cachetui jobs forget archive-0f3a
    """
    if ctx.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError(f"write the options after {ctx.invoked_subcommand!r}")
        return
    from cachetui.jobs import unfinished

    found = unfinished.offered()
    if as_json:
        from cachetui.cli import data

        data.emit({"unfinished": [_data(s) for s in found]})
        return
    for spec in found:
        click.echo(f"{safe(spec.id)}  {safe(spec.title)}")
    if not found:
        click.echo("Nothing was interrupted.")


def _data(spec: Spec) -> Json:
    from cachetui.cli.data import plain

    return {"id": spec.id, "kind": spec.kind, "title": plain(spec.title), "drives": [plain(d) for d in spec.drives]}


def _one(found: Sequence[Spec], id_: str) -> Spec:
    """The job that an id, or the beginning of one, names. Raises Failed."""
    hits = [s for s in found if s.id == id_] or [s for s in found if s.id.startswith(id_)]
    if len(hits) != 1:
        known = ", ".join(safe(s.id) for s in found) or "none"
        raise Failed(f"{safe(id_)} names {len(hits) or 'no'} interrupted jobs; there are: {known}")
    return hits[0]


@jobs.command(context_settings=dict(CONTEXT))
@click.argument("id_", metavar="ID")
@common.binary_option
@common.json_option
def resume(id_: str, binary: bool, as_json: bool) -> int:
    """Go on where a job stopped.

    \b
    Examples:
      cachetui jobs resume archive-0f3a
    """
    from cachetui.jobs import unfinished

    spec = _one(unfinished.offered(), id_)
    ended = transfer.run(spec, binary=binary)
    if as_json:
        transfer.emit(spec.kind, False, None, ended)
    else:
        transfer.show(ended, spec.id, binary)
    return transfer.code_of(ended)


@jobs.command(context_settings=dict(CONTEXT))
@click.argument("id_", metavar="ID")
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Needed where there is no terminal to ask on.")
def forget(id_: str, yes: bool) -> int:
    """Discard what a job copied so far; the originals are not touched.

    \b
    Examples:
      cachetui jobs forget archive-0f3a
    """
    from cachetui.jobs import unfinished
    from cachetui.jobs.discarding import discard

    spec = _one(unfinished.offered(), id_)
    if not common.must_agree(f"{spec.title}: discard what was copied so far?", yes=yes, as_json=False):
        common.say("Nothing was done.")
        return 1
    try:
        count, why = discard(spec, common.to_where())
    except unfinished.TakenError as e:
        raise Failed(str(e)) from None
    except OSError as e:
        raise Failed(f"{safe(spec.title)}: {e.strerror or e}") from None
    if why:
        raise Failed(why)
    click.echo(f"Forgotten: {safe(spec.title)}; {count} unfinished copies discarded.")
    return 0
