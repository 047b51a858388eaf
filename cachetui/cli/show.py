"""cachetui show: everything about one item."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from cachetui import units
from cachetui.cli import common
from cachetui.cli.common import Session
from cachetui.cli.use import Users, users_of
from cachetui.model import OK, Item, Problem, Revision
from cachetui.store import Selection, store_named
from cachetui.text import safe

_FILES = 40


@common.verb()
@click.argument("target")
@common.root_option
@click.option("--files", "all_files", is_flag=True, help=f"Every file, also where there are more than {_FILES}.")
@common.where_options
@common.binary_option
@common.json_option
def show(
    target: str,
    root: str | None,
    all_files: bool,
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    binary: bool,
    as_json: bool,
) -> None:
    """Show one item, revision or file.

    What it is, what it holds, who shares its bytes, who has it open, what is wrong with it.

    \b
    Examples:
      cachetui show hf:Qwen/Qwen3-VL-2B-Instruct
      cachetui show ollama:llama3.2:3b --json
      cachetui show ~/.cache/huggingface/hub/models--gpt2
    """
    session = common.begin(common.to_where(cache_dir, search), binary=binary)
    selection = common.find(session, target, common.real_root(session, root))
    users = users_of([selection.item])
    if as_json:
        _print_json(session, selection, users)
    else:
        _print(session, selection, users, all_files)


def _revisions(selection: Selection) -> list[Revision]:
    everything = (*selection.item.revisions, *selection.item.parts)
    return [
        r
        for r in everything
        if (not selection.revision or r.commit == selection.revision)
        and (not selection.file or selection.file in r.names)
    ]


def _print_json(session: Session, selection: Selection, users: Users) -> None:
    from cachetui.cli import data
    from cachetui.targets import target_of

    item = selection.item
    row = data.item_data(item, session.scan.ledger)
    row["in_use"] = users.data(item)
    if row["in_use"]:
        row["states"] = [s for s in row["states"] if s not in (OK, "in-use")] + ["in-use"]
    row["revisions"] = [data.revision_data(item, r) for r in _revisions(selection)]
    if selection.file:
        for r in row["revisions"]:
            r["files"] = [f for f in r["files"] if f["path"] == data.plain(selection.file)]
    row["shared_with"] = [
        {"id": h.item.id, **data.path_fields(h.item.root, "root"), "size": h.size}
        for h in session.scan.ledger.shared_with(item)
    ]
    row["extra"] = {data.plain(k): data.plain(v) for k, v in item.extra}
    row["problems"] += [data.problem(p) for p in users.problems]
    data.emit({"target": target_of(selection), **row})


def _print(session: Session, selection: Selection, users: Users, all_files: bool) -> None:
    from cachetui.cli.data import full_path
    from cachetui.cli.table import fields, out, style
    from cachetui.targets import target_of

    item, ledger = selection.item, session.scan.ledger
    shared = ledger.shared(item)

    def size(n: int) -> str:
        return units.size(n, binary=session.binary)

    out(style(safe(target_of(selection)), bold=True))
    rows = [("kind", f"{item.kind}, {store_named(item.store).title}"), ("path", full_path(item))]
    rows += [("state", ", ".join(item.states)), ("size", f"{size(item.size)} in {item.file_count} files")]
    elsewhere = f", {size(item.away)} elsewhere" if item.away else ""
    rows += [("on disk", f"{size(item.allocated)}, {size(ledger.own(item))} its own, {size(shared)} shared{elsewhere}")]
    up_to = "up to " if session.scan.root_of(item).reflinks else ""
    rows += [("deleting frees", up_to + size(ledger.frees([item])))]
    rows += _traits(item)
    rows += [("last used", _when(item.last_used)), ("modified", _when(item.last_modified))]
    who = users.text(item)
    rows += [("open in", who or ("not checked" if users.problems else "no process that can be seen"))]
    rows += list(item.extra)
    fields(rows)
    _print_revisions(session, selection, all_files)
    holders = ledger.shared_with(item)
    if holders:
        out("\nshares bytes with")
        for holder in holders:
            out(f"  {safe(holder.item.id)}  {size(holder.size)}  in {safe(holder.item.root)}")
    _print_problems([*item.problems, *users.problems])


def _traits(item: Item) -> list[tuple[str, str]]:
    t = item.traits
    rows = [("format", ", ".join(t.formats)), ("quantization", t.quantization), ("family", t.family)]
    rows += [("parameters", t.parameters), ("loads with", ", ".join(t.loads_with)), ("for", t.purpose)]
    rows += [("redundant", ", ".join(t.redundant))]
    return [(label, value) for label, value in rows if value]


def _when(stamp: float | None) -> str:
    if stamp is None:
        return "unknown"
    age = units.age(stamp)
    return f"{units.iso(stamp)} ({age if age == 'now' else age + ' ago'})"


def _print_revisions(session: Session, selection: Selection, all_files: bool) -> None:
    from cachetui.cli.table import Column, out, table

    item = selection.item
    rows: list[Sequence[str]] = []
    hidden = 0
    for r in _revisions(selection):
        if r.commit:
            rows.append([f"@{r.commit} {' '.join(r.refs)}".rstrip(), units.size(r.size, binary=session.binary), ""])
        broken = {p.path: p.code for p in r.problems}
        shown = 0
        for name, at in sorted(zip(r.names, r.index, strict=True)):
            if selection.file and name != selection.file:
                continue
            if shown >= _FILES and not all_files:
                hidden += 1
                continue
            shown += 1
            blob = item.content[at] if at >= 0 else None
            state = broken.get(os.path.join(item.root, r.path, name), "" if blob else "missing")
            rows.append([f"  {name}", units.size(blob.size, binary=session.binary) if blob else "-", state])
    if rows:
        out()
        table([Column("REVISIONS AND FILES", flex=True), Column("SIZE", right=True), Column("")], rows)
    if hidden:
        out(f"  and {hidden} files more: --files")


def _print_problems(problems: Sequence[Problem]) -> None:
    from cachetui.cli.table import out

    if problems:
        out("\nproblems")
    for p in problems:
        out(f"  {safe(p.message)}")
        for line in (p.path, p.hint):
            if line:
                out(f"      {safe(line)}")
