"""cachetui history: what this program did."""

from __future__ import annotations

import click

from cachetui import units
from cachetui.cli import common


@common.verb()
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Only the last N.")
@common.binary_option
@common.json_option
def history(limit: int | None, binary: bool, as_json: bool) -> None:
    """List what was deleted, restored and emptied, newest first.

    \b
    Examples:
      cachetui history --limit 20
    """
    from cachetui.plans.history import records

    found = records()[:limit]
    if as_json:
        from cachetui.cli import data

        rows = [
            {
                "when": units.iso(r.when),
                "verb": r.verb,
                "operation": data.plain(r.operation),
                "targets": [data.plain(t) for t in r.targets],
                **data.path_fields(r.root, "root"),
                "moved": r.moved,
                "freed": r.freed,
                "ok": r.ok,
            }
            for r in found
        ]
        data.emit({"records": rows})
        return
    from cachetui.cli.table import Column, out, table

    if not found:
        out("Nothing yet.")
        return
    heads = [Column("WHEN"), Column("VERB"), Column("OPERATION"), Column("MOVED", right=True)]
    heads += [Column("FREED", right=True), Column(""), Column("ROOT", flex=True), Column("TARGETS", flex=True)]

    def size(n: int) -> str:
        return units.size(n, binary=binary) if n else "-"

    table(
        heads,
        [
            (
                units.age(r.when),
                r.verb,
                r.operation,
                size(r.moved),
                size(r.freed),
                "" if r.ok else "failed",
                r.root,
                ", ".join(r.targets),
            )
            for r in found
        ],
    )
