"""cachetui undo, cachetui trash: bring back what was deleted, or give its space back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cachetui import units
from cachetui.cli import choose, common
from cachetui.cli.common import Failed
from cachetui.cli.help import CONTEXT, VerbGroup
from cachetui.config import Where
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.plans.halves import Half
    from cachetui.plans.model import Outcome, Progress, TrashEntry


def _entries(where: Where, *, dry_run: bool = False) -> tuple[TrashEntry, ...]:
    """What lies in the trash of every root, newest first, after recovery."""
    from cachetui.plans.trash import entries
    from cachetui.scan import find_roots

    roots, _ = find_roots(where)
    common.recover(roots, dry_run=dry_run)
    return entries(roots)


def _of_operation(entries: Sequence[TrashEntry], operation: str) -> list[TrashEntry]:
    """The entries of one operation (its id or the beginning of it), in every root."""
    ids = {e.id for e in entries if e.id == operation} or {e.id for e in entries if e.id.startswith(operation)}
    if len(ids) > 1:
        raise Failed(f"{safe(operation)} is the beginning of several: {', '.join(safe(i) for i in sorted(ids))}")
    if not ids:
        known = ", ".join(dict.fromkeys(safe(e.id) for e in entries[:8])) or "the trash is empty"
        raise Failed(f"nothing in the trash is called {safe(operation)}; there is: {known}")
    return [e for e in entries if e.id in ids]


def _describe(entry: TrashEntry) -> str:
    """What an entry holds, on one line; safe."""
    shown = ", ".join(safe(i.target) for i in entry.items[:4])
    if len(entry.items) > 4:
        shown += f" and {len(entry.items) - 4} more"
    return f"{safe(entry.id)}  {units.age(entry.deleted)}  {shown}{_how(entry)}  ({safe(entry.root)})"


def _how(entry: TrashEntry) -> str:
    """In brackets what was done, where it is not a deletion."""
    from cachetui.cli.plan import DONE

    return "" if entry.verb == "delete" else f" ({DONE.get(entry.verb, entry.verb).lower()})"


def _entry_data(entry: TrashEntry) -> dict[str, Any]:
    from cachetui.cli import data

    return {
        "id": data.plain(entry.id),
        "store": entry.store,
        "verb": data.plain(entry.verb),
        **data.path_fields(entry.root, "root"),
        **data.path_fields(entry.path),
        "deleted": units.iso(entry.deleted),
        "by": data.plain(entry.by),
        "frees": entry.frees,
        "items": [
            {
                "number": i.number,
                "target": data.plain(i.target),
                "name": data.plain(i.name),
                "size": i.size,
                "allocated": i.allocated,
                "frees": i.frees,
            }
            for i in entry.items
        ],
    }


@dataclass(frozen=True)
class Obstacles:
    """What bringing back would meet."""

    refused: tuple[tuple[str, str, str], ...] = ()
    """(target, root, why it cannot come back)."""
    missing: tuple[str, ...] = ()
    """Paths that would be missing afterwards."""


def _obstacles(entries: Sequence[TrashEntry], numbers: frozenset[int] | None) -> Obstacles:
    from cachetui.plans.trash import check

    refused: list[tuple[str, str, str]] = []
    missing: list[str] = []
    for entry in entries:
        why, lost = check(entry, numbers)
        refused += [(i.target, entry.root, why[i.number]) for i in entry.items if i.number in why]
        missing += lost
    return Obstacles(tuple(refused), tuple(missing))


def _finish(
    verb: str,
    entries: Sequence[TrashEntry],
    outcomes: Sequence[Outcome] | None,
    as_json: bool,
    obstacles: Obstacles | None = None,
) -> int:
    """Say what was done; `outcomes` is None for a dry run."""
    if as_json:
        from cachetui.cli import data
        from cachetui.cli.plan import outcome_data

        found = {
            "verb": verb,
            "dry_run": outcomes is None,
            "entries": [_entry_data(e) for e in entries],
            "outcomes": None if outcomes is None else [outcome_data(o) for o in outcomes],
        }
        if obstacles is not None:
            found["refused"] = [
                {"target": data.plain(t), **data.path_fields(root, "root"), "reason": data.plain(why)}
                for t, root, why in obstacles.refused
            ]
            found["missing"] = [data.plain(path) for path in obstacles.missing]
        data.emit(found)
    else:
        from cachetui.cli.plan import outcome_lines

        for outcome in outcomes or ():
            for line in outcome_lines(outcome, False):
                click.echo(line)
    return 0 if outcomes is None or all(o.ok for o in outcomes) else 1


def _act(
    verb: str,
    entries: Sequence[TrashEntry],
    run: Callable[[Progress], list[Outcome]],
    how: tuple[bool, bool, bool],
    *,
    question: str,
    obstacles: Obstacles | None = None,
) -> int:
    """Show, ask, do, say. `how`: dry_run, yes, as_json."""
    from cachetui.cli.progress import Doing

    dry_run, yes, as_json = how
    if not as_json:
        for entry in entries:
            click.echo(_describe(entry))
        if obstacles is not None:
            for target, _, why in obstacles.refused:
                click.echo(f"Cannot come back: {safe(target)}: {safe(why)}")
            for path in obstacles.missing:
                click.echo(f"Would still be missing: {safe(path)}")
    if dry_run:
        return _finish(verb, entries, None, as_json, obstacles)
    if not common.must_agree(question, yes=yes, as_json=as_json):
        common.say("Nothing was done.")
        return 1
    with Doing(verb) as progress:
        outcomes = run(progress)
    return _finish(verb, entries, outcomes, as_json, obstacles)


def _bring_back(
    verb: str, entries: Sequence[TrashEntry], numbers: frozenset[int] | None, how: tuple[bool, bool, bool]
) -> int:
    from cachetui.plans.trash import restore as run

    return _act(
        verb,
        entries,
        lambda progress: [run(e, numbers, progress=progress) for e in entries],
        how,
        question="Put it back?",
        obstacles=_obstacles(entries, numbers),
    )


@common.verb()
@click.argument("operation", required=False)
@common.where_options
@common.changing_options
@common.json_option
def undo(
    operation: str | None,
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Bring back what the last deletion took.

    Or what OPERATION took (see: cachetui trash). Never overwrites anything.

    \b
    Examples:
      cachetui undo
      cachetui undo 20261121T101500-a1b2c3 -y
    """
    entries = _entries(common.to_where(cache_dir, search), dry_run=dry_run)
    if not entries and operation is None:
        raise Failed("there is nothing to undo: the trash is empty")
    chosen = _of_operation(entries, operation if operation is not None else entries[0].id)
    return _bring_back("undo", chosen, None, (dry_run, yes, as_json))


@click.group(cls=VerbGroup, invoke_without_command=True, context_settings=dict(CONTEXT))
@common.where_options
@common.binary_option
@common.json_option
@click.pass_context
def trash(ctx: click.Context, cache_dir: tuple[str, ...], search: tuple[str, ...], binary: bool, as_json: bool) -> None:
    """List what was deleted and can be brought back.

    `trash restore` brings back, `trash empty` frees the space.

    \b
    Examples:
      cachetui trash
      cachetui trash restore 20261121T101500-a1b2c3 --item 2
      cachetui trash empty --older-than 30d
    """
    if ctx.invoked_subcommand is not None:
        if cache_dir or search or as_json or binary:
            raise click.UsageError(f"write the options after {ctx.invoked_subcommand!r}")
        return
    entries = _entries(common.to_where(cache_dir, search))
    frees = sum(e.frees for e in entries)
    if as_json:
        from cachetui.cli import data

        data.emit({"entries": [_entry_data(e) for e in entries], "frees": frees})
        return
    from cachetui.cli.table import Column, out, table

    rows = [
        (e.id, units.age(e.deleted), str(i.number), units.size(i.frees, binary=binary), e.root, i.target + _how(e))
        for e in entries
        for i in e.items
    ]
    if rows:
        heads = [Column("OPERATION"), Column("DELETED"), Column("ITEM", right=True), Column("FREES", right=True)]
        table([*heads, Column("ROOT", flex=True), Column("TARGET", flex=True)], rows)
        out()
    what = "1 item" if len(rows) == 1 else f"{len(rows)} items"
    out(f"{what} in the trash, emptying it frees {units.size(frees, binary=binary)}")


@trash.command(context_settings=dict(CONTEXT))
@click.argument("operation", metavar="ID")
@click.option("--item", "numbers", type=int, multiple=True, metavar="N", help="Only this item of it (repeatable).")
@common.where_options
@common.changing_options
@common.json_option
def restore(
    operation: str,
    numbers: tuple[int, ...],
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Put an entry of the trash, or single items of it, back where they were.

    \b
    Examples:
      cachetui trash restore 20261121T101500-a1b2c3 --item 2
    """
    entries = _of_operation(_entries(common.to_where(cache_dir, search), dry_run=dry_run), operation)
    wanted = frozenset(numbers)
    if wanted:
        known = {i.number for e in entries for i in e.items}
        if not wanted <= known:
            raise Failed(f"there is no item {min(wanted - known)} in {safe(operation)}; it has {sorted(known)}")
        if len(entries) > 1:
            raise Failed(f"{safe(operation)} deleted from {len(entries)} roots; restore all of it, without --item")
    return _bring_back("restore", entries, wanted or None, (dry_run, yes, as_json))


@trash.command(context_settings=dict(CONTEXT))
@click.argument("operations", nargs=-1, metavar="[ID]...")
@click.option("--older-than", metavar="AGE", help="Only what was deleted longer ago, e.g. 30d or 6mo.")
@choose.include_option(("offline",), "empty")
@common.where_options
@common.changing_options
@common.json_option
def empty(
    operations: tuple[str, ...],
    older_than: str | None,
    include: tuple[str, ...],
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Free the space of what was deleted, for good.

    Without ID all of the trash.

    \b
    Examples:
      cachetui trash empty --older-than 30d -y
    """
    where = common.to_where(cache_dir, search)
    entries: Sequence[TrashEntry] = _entries(where, dry_run=dry_run)
    if len(operations) == 1 and (waiting := _waiting(where, operations[0])):
        return _let_go(waiting, include, (dry_run, yes, as_json))
    if operations:
        entries = [e for o in dict.fromkeys(operations) for e in _of_operation(entries, o)]
    if older_than is not None:
        try:
            limit = time.time() - units.parse_age(older_than)
        except ValueError as e:
            raise click.UsageError(str(e)) from None
        entries = [e for e in entries if e.deleted < limit]
    if not entries:
        common.say("Nothing to empty.")
        return _finish("empty", (), None if dry_run else (), as_json)
    return _empty(tuple(dict.fromkeys(entries)), include, (dry_run, yes, as_json))


def _waiting(where: Where, operation: str) -> Sequence[Half]:
    """What of an operation waits for a drive that is away."""
    from cachetui.plans.halves import halves
    from cachetui.scan import find_roots

    return halves(find_roots(where)[0], operation)


def _let_go(waiting: Sequence[Half], include: Sequence[str], how: tuple[bool, bool, bool]) -> int:
    """Free what is left of originals that were freed in part, after a question of its own."""
    from cachetui.plans.halves import let_go

    dry_run, yes, as_json = how
    names = ", ".join(safe(i.target) for half in waiting for i in half.intent.items[:4])
    common.say(f"! {names}: freed in part, and the drive with the copy is not there [offline]")
    if dry_run:
        return _finish("empty", (), None, as_json)
    if yes and "offline" not in include:
        common.say("Nothing was done; --include offline frees what is left all the same")
        return 1
    if not common.must_agree("What is left here goes for good. Go on?", yes=yes, as_json=as_json):
        common.say("Nothing was done.")
        return 1
    return _finish("empty", (), [let_go(waiting)], as_json)


def _empty(entries: Sequence[TrashEntry], include: Sequence[str], how: tuple[bool, bool, bool]) -> int:
    """Free them; those whose only other copy is on a drive that is away only with a confirmation of its own."""
    from cachetui.transfer.emptying import OFFLINE, offline
    from cachetui.transfer.emptying import empty as run

    dry_run, yes, as_json = how
    chosen = list(entries)
    for entry, why in offline(entries).items():
        common.say(f"! {safe(why)} [{OFFLINE}]")
        agreed = OFFLINE in include or dry_run
        if not agreed and not yes:
            agreed = common.must_agree(f"{safe(entry.id)}: empty all the same?", yes=False, as_json=as_json)
        if not agreed:
            common.say(f"{safe(entry.id)} stays; --include {OFFLINE} empties it all the same")
            chosen.remove(entry)
    if not chosen:
        _finish("empty", (), (), as_json)
        return 1
    frees = units.size(sum(e.frees for e in chosen))
    code = _act(
        "empty",
        chosen,
        lambda progress: [run(chosen, progress=progress)],
        how,
        question=f"Gone for good, frees {frees}. Empty?",
    )
    return code or int(len(chosen) < len(entries))
