"""cachetui info: the program, the roots, and every path it uses."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from cachetui import __version__, paths, units
from cachetui.cli import common
from cachetui.config import Where
from cachetui.text import safe


@common.verb()
@common.where_options
@common.binary_option
@common.json_option
def info(cache_dir: tuple[str, ...], search: tuple[str, ...], binary: bool, as_json: bool) -> None:
    """Show version, roots and every path used.

    \b
    Examples:
      cachetui info --json
    """
    from cachetui.plans.trash import entries
    from cachetui.scan import find_roots
    from cachetui.store import all_stores

    where = common.to_where(cache_dir, search)
    binary = binary or where.config.binary_units
    roots, problems = find_roots(where)
    common.recover(roots, dry_run=True)
    trashes = sorted({e.trash for e in entries(roots)})
    kept = _archives(where)
    files: dict[str, str | os.PathLike[str]] = {
        "config": paths.config_file(),
        "pins": paths.pins_file(),
        "usage_log": paths.usage_file(),
        "history": paths.history_file(),
        "jobs": paths.jobs_file(),
        "archives": paths.archives_file(),
        "verified": paths.verified_file(),
        "fallback_journal": paths.fallback_journal_dir(),
        "program": os.path.dirname(os.path.abspath(common.__file__)),
        "python": sys.executable,
    }
    if as_json:
        from cachetui.cli import data

        rows: list[dict[str, Any]] = []
        for r in roots:
            disk = None if r.offline else data.disk_of(r.path)
            rows.append(
                {
                    "store": r.store,
                    **data.path_fields(r.path),
                    "given": data.plain(r.given),
                    "origin": data.plain(r.origin),
                    "group": data.plain(r.group),
                    "writable": r.writable,
                    "archive": r.archive or None,
                    "offline": r.offline,
                    "disk_total": disk[0] if disk else None,
                    "disk_free": disk[1] if disk else None,
                    "problems": [data.problem(p) for p in r.problems],
                }
            )
        data.emit(
            {
                "version": __version__,
                "python_version": sys.version.split()[0],
                "platform": sys.platform,
                "stores": [{"name": s.name, "title": s.title} for s in all_stores()],
                "roots": rows,
                "paths": {name: {**data.path_fields(str(p)), "exists": os.path.exists(p)} for name, p in files.items()},
                "trash": [data.path_fields(t) for t in trashes],
                "archives": [
                    {
                        "id": a.id,
                        **data.path_fields(a.path),
                        "reachable": a.reachable,
                        "known": a.known,
                        "label": data.plain(a.label),
                        "filesystem": data.plain(a.filesystem),
                        "items": a.items,
                        "size": a.size,
                        "last_seen": units.iso(a.seen),
                    }
                    for a in kept
                ],
                "problems": [data.problem(p) for p in problems],
            }
        )
        return
    from cachetui.cli.data import disk_of
    from cachetui.cli.table import Column, fields, out, table

    fields([("cachetui", __version__), ("python", f"{sys.version.split()[0]} on {sys.platform}")])
    out()
    rows_ = []
    for r in roots:
        disk = None if r.offline else disk_of(r.path)
        free = units.size(disk[1], binary=binary) if disk else "?"
        rows_.append((r.path, r.store, free, r.origin, "offline" if r.offline else "" if r.writable else "read-only"))
    if rows_:
        table([Column("ROOT"), Column("STORE"), Column("FREE", right=True), Column("BECAUSE OF"), Column("")], rows_)
    else:
        out("No root exists yet.")
    for about, p in [*((r.path, p) for r in roots for p in r.problems), *(("", p) for p in problems)]:
        out(f"! {safe(about)}: {safe(p.message)}" if about else f"! {safe(p.message)}")
    out()
    fields(
        [(name.replace("_", " "), str(p) if os.path.exists(p) else f"{p}  (not there)") for name, p in files.items()]
    )
    fields([("trash", t) for t in trashes])
    for a in kept:
        where_ = "" if a.reachable else f", not there (last seen {units.age(a.seen)})"
        held = f"{'1 item' if a.items == 1 else f'{a.items} items'}, {units.size(a.size, binary=binary)}"
        label = f' on "{a.label}"' if a.label else ""
        fields([("archive", f"{a.path}{label}: {held}{where_}{'' if a.known else ', foreign: cachetui adopt'}")])


@dataclass(frozen=True)
class Archive:
    """An archive that this machine used, or that lies on a drive which is there. Sizes in bytes."""

    id: str
    path: str
    reachable: bool
    known: bool
    label: str
    filesystem: str
    items: int
    size: int
    seen: float
    """When it was last there, POSIX seconds."""


def _archives(where: Where) -> list[Archive]:
    from cachetui import archives, filesystem

    now = time.time()
    known = archives.known()
    rows = []
    for found in archives.locate(where):
        entries, former = found.manifest.entries, known.pop(found.manifest.id, None)
        names = filesystem.identity(found.directory)
        size = sum(e.size for e in entries)
        is_known = found.known or former is not None
        rows.append(
            Archive(found.manifest.id, found.directory, True, is_known, names[0], names[1], len(entries), size, now)
        )
    for k in known.values():
        size = sum(e.size for e in k.entries)
        rows.append(Archive(k.id, k.path, False, True, k.label, k.filesystem, len(k.entries), size, k.seen))
    return rows
