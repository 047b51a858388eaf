"""cachetui ls: what is on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from cachetui.cli import common
from cachetui.cli.common import Session
from cachetui.cli.upstream import Newer, newer
from cachetui.cli.use import Users, users_of
from cachetui.filters import asks_upstream
from cachetui.model import OK, Item, Revision
from cachetui.text import safe
from cachetui.units import iso

Row = tuple[Item, tuple[Revision, ...]]

_SORTS: dict[str, tuple[Callable[[Session, Item], Any], bool]] = {
    "size": (lambda s, i: i.size, True),
    "own": (lambda s, i: s.scan.ledger.own(i), True),
    "frees": (lambda s, i: s.scan.ledger.frees([i]), True),
    "last-used": (lambda s, i: i.last_used or 0.0, True),
    "modified": (lambda s, i: i.last_modified or 0.0, True),
    "files": (lambda s, i: i.file_count, True),
    "name": (lambda s, i: i.name.lower(), False),
}
_SECOND_NAMES = {"accessed": "last-used", "used": "last-used"}


@dataclass(frozen=True)
class Listing:
    """What was asked for."""

    sort: str
    limit: int | None
    filters: tuple[str, ...]
    store: str | None
    root: str | None
    revisions: bool
    files: bool
    problems: bool
    in_use: bool
    outdated: bool


@common.verb()
@click.option(
    "--sort",
    default="size",
    metavar="KEY[:asc|:desc]",
    help="size (the default), own, frees, last-used, modified, files or name.",
)
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Only the first N.")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="EXPR",
    help="Only what passes, e.g. 'size>10GB', 'accessed>6mo', type=model, quant=GPTQ, or words (repeatable).",
)
@click.option("--store", metavar="NAME", help="Only of this store, e.g. hf or ollama.")
@click.option("--root", metavar="DIR", help="Only in this root.")
@click.option("--revisions", is_flag=True, help="With the revisions of each.")
@click.option("--files", is_flag=True, help="With the files of each revision.")
@click.option("--problems", is_flag=True, help="Say what is wrong, and what to do about it.")
@click.option("--in-use", is_flag=True, help="Look which processes have a model open.")
@click.option("--outdated", is_flag=True, help="Ask the Hub: only repos whose main is newer there (-f state=outdated).")
@common.where_options
@common.binary_option
@click.option("-q", "--quiet", is_flag=True, help="Only the TARGETs, one a line.")
@common.json_option
def ls(
    cache_dir: tuple[str, ...], search: tuple[str, ...], binary: bool, quiet: bool, as_json: bool, **asked: Any
) -> None:
    """List what is on this machine and what it costs.

    `list` is its second name. SIZE is what its files hold, FREES what deleting it alone gives back: what others share
    stays.

    \b
    Examples:
      cachetui ls --sort size --limit 10
      cachetui ls --filter 'accessed>6mo' --filter type=model
      cachetui ls --outdated
      cachetui ls --json | jq '.items[] | select(.states | index("damaged")) | .id'
    """
    listing = Listing(**asked)
    order(listing.sort)
    session = common.begin(common.to_where(cache_dir, search), binary=binary)
    if not quiet:
        common.say_about_roots(session)
    late = tuple(f for f in listing.filters if asks_upstream(f))
    now = tuple(f for f in listing.filters if f not in late)
    rows = chosen(session, replace(listing, limit=None, filters=now))
    upstream = newer(item for item, _ in rows) if listing.outdated or late else None
    if upstream is not None:
        tests = common.filters_of(session, late, upstream.__contains__)
        rows = [r for r in rows if (r[0] in upstream or not listing.outdated) and all(test(r[0]) for test in tests)]
        upstream.say()
    rows = rows[: listing.limit] if listing.limit is not None else rows
    users = users_of([i for i, _ in rows]) if listing.in_use else None
    if as_json:
        _print_json(session, listing, rows, users, upstream)
    elif quiet:
        _print_targets(listing, rows)
    else:
        from cachetui.cli.ls_table import print_table

        print_table(session, listing, rows, users, upstream)


def order(text: str) -> tuple[Callable[[Session, Item], Any], bool]:
    """The key function and direction of --sort."""
    key, _, way = text.lower().replace("_", "-").partition(":")
    key = _SECOND_NAMES.get(key, key)
    if key not in _SORTS or way not in ("", "asc", "desc"):
        raise click.UsageError(f"--sort {text}: write one of {', '.join(_SORTS)}, with :asc or :desc if you like")
    function, down = _SORTS[key]
    return function, down if not way else way == "desc"


def chosen(session: Session, listing: Listing) -> list[Row]:
    """The items to list, each with the revisions to list, sorted and cut."""
    store, root = listing.store, common.real_root(session, listing.root)
    if store is not None:
        common.must_be_store(store)
    tests = common.filters_of(session, listing.filters)
    rows: list[Row] = []
    for item in session.scan.items:
        if (store is not None and item.store != store) or (root is not None and item.root != root):
            continue
        if listing.revisions and item.revisions and tests:
            revisions = tuple(r for r in item.revisions if all(t.revision(item, r) for t in tests))
            if revisions:
                rows.append((item, revisions))
        elif all(test(item) for test in tests):
            rows.append((item, item.revisions))
    key, down = order(listing.sort)
    rows.sort(key=lambda row: row[0].name.lower())
    rows.sort(key=lambda row: key(session, row[0]), reverse=down)
    return rows[: listing.limit] if listing.limit is not None else rows


def _print_targets(listing: Listing, rows: Sequence[Row]) -> None:
    from cachetui.cli.table import out
    from cachetui.store import Selection
    from cachetui.targets import target_of

    for item, revisions in rows:
        if listing.files:
            for r in (*revisions, *item.parts):
                for name in r.names:
                    out(safe(target_of(Selection(item, r.commit, name))))
        elif listing.revisions:
            for r in revisions:
                out(safe(target_of(Selection(item, r.commit))))
        else:
            out(safe(item.id))


def _print_json(
    session: Session, listing: Listing, rows: Sequence[Row], users: Users | None, upstream: Newer | None
) -> None:
    from cachetui.cli import data

    items = []
    for item, revisions in rows:
        row = data.item_data(item, session.scan.ledger)
        if listing.revisions or listing.files:
            parts = item.parts if listing.files else ()
            row["revisions"] = [data.revision_data(item, r, files=listing.files) for r in (*revisions, *parts)]
        if users is not None:
            row["in_use"] = users.data(item)
            if row["in_use"] and "in-use" not in row["states"]:
                row["states"] = [s for s in row["states"] if s != OK] + ["in-use"]
        if upstream is not None and item in upstream:
            row["upstream"] = upstream.data(item)
            row["states"] = [s for s in row["states"] if s != OK] + ["outdated"]
        items.append(row)
    size, allocated = data.totals(session.scan)
    listed = [item for item, _ in rows]
    data.emit(
        {
            "generated": iso(time.time()),
            "complete": session.scan.complete,
            "roots": [data.root_data(r) for r in session.scan.roots],
            "items": items,
            "offline_archives": [data.offline_archive(a) for a in session.scan.offline],
            "totals": {
                "items": len(session.scan.items),
                "size": size,
                "allocated": allocated,
                "listed": {
                    "items": len(items),
                    "size": sum(i.size - i.away for i in listed),
                    "away": sum(i.away for i in listed),
                    "frees": session.scan.ledger.frees(listed),
                },
            },
            "problems": [data.problem(p) for p in session.scan.problems]
            + ([data.problem(p) for p in users.problems] if users else []),
            **({"upstream_unknown": upstream.unknown_data()} if upstream is not None else {}),
        }
    )
