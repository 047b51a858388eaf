"""The listing for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cachetui import units
from cachetui.cli import common
from cachetui.cli.common import Session
from cachetui.cli.data import disk_of, mount_of, totals
from cachetui.cli.table import Column, bar, on_terminal, out, style, table
from cachetui.cli.use import Users
from cachetui.model import OK, Item, Problem, Revision
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.cli.ls import Listing, Row
    from cachetui.cli.upstream import Newer

_SHORT = 12


def print_table(
    session: Session, listing: Listing, rows: Sequence[Row], users: Users | None, upstream: Newer | None = None
) -> None:
    """Items, then the total and what is free on each disk."""
    if rows:
        _items(session, listing, rows, users, upstream)
    if listing.problems:
        _problems(session, rows, users)
    _summary(session, rows)


def _items(
    session: Session, listing: Listing, rows: Sequence[Row], users: Users | None, upstream: Newer | None
) -> None:
    roots = _roots_to_tell(session, rows)
    with_bar = on_terminal()
    biggest = max(item.size for item, _ in rows)
    heads = [Column("ID", flex=True), Column("SIZE", right=True), Column("FREES", right=True), Column("USED")]
    heads += [Column("STATE")]
    if with_bar:
        heads.insert(1, Column("", spare=True))
    if roots:
        heads.append(Column("ROOT"))
    lines: list[list[str]] = []

    def add(name: str, size: int, rest: tuple[str, str, str, str]) -> None:
        frees, used, state, root = rest
        cells = [name, units.size(size, binary=session.binary), frees, used, state]
        if with_bar:
            cells.insert(1, bar(size, biggest))
        lines.append([*cells, root] if roots else cells)

    for item, revisions in rows:
        frees = units.size(session.scan.ledger.frees([item]), binary=session.binary)
        where = roots.get(item.root, "")
        add(item.id, item.size, (frees, units.age(item.last_used), _state(item, users, upstream), where))
        if listing.revisions or listing.files:
            for r in (*revisions, *(item.parts if listing.files else ())):
                add("  " + _revision(r), r.size, ("", "", ", ".join(p.code for p in r.problems), ""))
                if listing.files:
                    for name, at in sorted(zip(r.names, r.index, strict=True)):
                        size = item.content[at].size if at >= 0 else 0
                        add("    " + name, size, ("", "", "" if at >= 0 else "missing", ""))
    table(heads, lines)
    if on_terminal() and roots:
        out()
        for path, number in roots.items():
            out(f"root {number}: {safe(path)}")


def _roots_to_tell(session: Session, rows: Sequence[Row]) -> dict[str, str]:
    """What stands for each root in the ROOT column, when an id alone does not tell: a number on a terminal."""
    twice = {i for i, n in Counter(item.id for item in session.scan.items).items() if n > 1}
    if not any(item.id in twice for item, _ in rows):
        return {}
    used = dict.fromkeys(item.root for item, _ in rows)
    return {path: str(n) if on_terminal() else path for n, path in enumerate(used, 1)}


def _revision(r: Revision) -> str:
    commit = r.commit[:_SHORT] if on_terminal() else r.commit
    return f"@{commit} {' '.join(r.refs)}".rstrip()


def _state(item: Item, users: Users | None, upstream: Newer | None) -> str:
    words = [s for s in item.states if s != OK]
    if users is not None and (who := users.text(item)):
        words = [w for w in words if w != "in-use"] + [f"in use by {who}"]
    if upstream is not None and item in upstream:
        words.append(upstream.text(item))
    if item.problems and not words:
        words.append("1 problem" if len(item.problems) == 1 else f"{len(item.problems)} problems")
    return ", ".join(words)


def _problems(session: Session, rows: Sequence[Row], users: Users | None) -> None:
    found: list[tuple[str, Problem]] = [("", p) for p in session.scan.problems]
    found += [("", p) for p in (users.problems if users else ())]
    for r in session.scan.roots:
        found += [(r.root.path, p) for p in r.root.problems + r.problems]
    for item, revisions in rows:
        found += [(item.id, p) for p in item.problems]
        found += [(item.id, p) for r in revisions for p in r.problems if p not in item.problems]
    if rows:
        out()
    if not found:
        out("No problems.")
    for about, p in found:
        out(style(f"{safe(about)}: " if about else "", bold=True) + safe(p.message))
        if p.path:
            out(f"    {safe(p.path)}")
        if p.hint:
            out(f"    {safe(p.hint)}")


def _summary(session: Session, rows: Sequence[Row]) -> None:
    size, _ = totals(session.scan)
    everything = len(session.scan.items)

    def of(count: int, size: int) -> str:
        return f"{count} {'item' if count == 1 else 'items'}, {units.size(size, binary=session.binary)}"

    if rows:
        out()
    away = sum(i.away for i, _ in rows)
    elsewhere = f", {units.size(away, binary=session.binary)} elsewhere" if away else ""
    if len(rows) == everything:
        out(f"{of(everything, size)} in {_count(len(session.scan.roots), 'root')}{elsewhere}")
    else:
        out(f"{of(len(rows), sum(i.size - i.away for i, _ in rows))}{elsewhere} of {of(everything, size)}")
    if not session.scan.complete:
        out("Not everything could be read: see --problems.")
    if any(r.reflinks for r in session.scan.roots):
        out("FREES is an upper bound: a file system here can share blocks between files.")
    seen: set[int] = set()
    for r in session.scan.roots:
        if not r.root.offline and r.root.dev not in seen and (disk := disk_of(r.root.path)) is not None:
            seen.add(r.root.dev)
            total, free = (units.size(n, binary=session.binary) for n in disk)
            out(f"{safe(mount_of(r.root.path))}: {free} free of {total}")
    for a in session.scan.offline:
        size_there = units.size(a.size, binary=session.binary)
        last = "" if a.label == a.path else f", last at {safe(a.path)}"
        out(f"offline: {safe(a.label)} {size_there} in {_count(a.items, 'item')}{last}")
    if not everything:
        looked = "".join(f"\n  {safe(r.path)}  ({safe(r.origin)})" for r in session.roots) or " no folder that exists"
        common.say(f"No models found. Looked in:{looked}\nTry: cachetui ls --cache-dir DIR, or cachetui demo")


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"
