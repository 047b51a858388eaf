"""cachetui info: the program, the roots, and every path it uses."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cachetui import __version__, paths, units
from cachetui.cli import common
from cachetui.config import Where
from cachetui.model import Problem, Root
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.quantized_entries.places import Place
    from cachetui.quantized_entries.storage import Storage


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

    where = common.to_where(cache_dir, search)
    roots, problems = find_roots(where)
    common.recover(roots, dry_run=True)
    trashes = sorted({e.trash for e in entries(roots)})
    if as_json:
        _emit(roots, problems, trashes, _archives(where), where)
    else:
        _print(roots, problems, trashes, _archives(where), where, binary or where.config.binary_units)


def _quantized(where: Where) -> tuple[Place, Storage]:
    """Where quantized models are kept, and what kind of drive that is."""
    from cachetui.quantized_entries.places import place
    from cachetui.quantized_entries.storage import storage

    used = place(where)
    return used, storage(used.path)


def _files() -> dict[str, str]:
    """Every file and folder of the program's own, by what it is."""
    files: dict[str, str | os.PathLike[str]] = {
        "config": paths.config_file(),
        "pins": paths.pins_file(),
        "usage_log": paths.usage_file(),
        "history": paths.history_file(),
        "jobs": paths.jobs_file(),
        "archives": paths.archives_file(),
        "states": paths.states_dir(),
        "state_folders": paths.state_folders_file(),
        "verified": paths.verified_file(),
        "fallback_journal": paths.fallback_journal_dir(),
        "program": os.path.dirname(os.path.abspath(common.__file__)),
        "python": sys.executable,
    }
    return {name: str(path) for name, path in files.items()}


def _emit(
    roots: Sequence[Root],
    problems: Sequence[Problem],
    trashes: Sequence[str],
    archives: Sequence[Archive],
    where: Where,
) -> None:
    from cachetui.cli import data
    from cachetui.store import all_stores

    used, drive = _quantized(where)
    data.emit(
        {
            "version": __version__,
            "python_version": sys.version.split()[0],
            "platform": sys.platform,
            "stores": [{"name": s.name, "title": s.title} for s in all_stores()],
            "roots": [_root_row(r) for r in roots],
            "paths": {name: {**data.path_fields(p), "exists": os.path.exists(p)} for name, p in _files().items()},
            "quantized": {
                **data.path_fields(used.path),
                "origin": used.origin,
                "exists": os.path.isdir(used.path),
                "storage": {"kind": drive.kind, "filesystem": data.plain(drive.file_system), "means": drive.words},
            },
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
                for a in archives
            ],
            "problems": [data.problem(p) for p in problems],
        }
    )


def _root_row(root: Root) -> dict[str, Any]:
    from cachetui.cli import data

    disk = None if root.offline else data.disk_of(root.path)
    return {
        "store": root.store,
        **data.path_fields(root.path),
        "given": data.plain(root.given),
        "origin": data.plain(root.origin),
        "group": data.plain(root.group),
        "writable": root.writable,
        "archive": root.archive or None,
        "offline": root.offline,
        "disk_total": disk[0] if disk else None,
        "disk_free": disk[1] if disk else None,
        "problems": [data.problem(p) for p in root.problems],
    }


def _print(
    roots: Sequence[Root],
    problems: Sequence[Problem],
    trashes: Sequence[str],
    archives: Sequence[Archive],
    where: Where,
    binary: bool,
) -> None:
    from cachetui.cli.data import disk_of
    from cachetui.cli.table import Column, fields, out, table

    fields([("cachetui", __version__), ("python", f"{sys.version.split()[0]} on {sys.platform}")])
    out()
    rows = []
    for r in roots:
        disk = None if r.offline else disk_of(r.path)
        free = units.size(disk[1], binary=binary) if disk else "?"
        rows.append((r.path, r.store, free, r.origin, "offline" if r.offline else "" if r.writable else "read-only"))
    if rows:
        table([Column("ROOT"), Column("STORE"), Column("FREE", right=True), Column("BECAUSE OF"), Column("")], rows)
    else:
        out("No root exists yet.")
    for about, p in [*((r.path, p) for r in roots for p in r.problems), *(("", p) for p in problems)]:
        out(f"! {safe(about)}: {safe(p.message)}" if about else f"! {safe(p.message)}")
    out()
    fields([(name.replace("_", " "), p if os.path.exists(p) else f"{p}  (not there)") for name, p in _files().items()])
    used, drive = _quantized(where)
    fields([("quantized models", f"{used.path} ({used.origin})"), ("", drive.words)])
    fields([("trash", t) for t in trashes])
    fields([("archive", _archive_line(a, binary)) for a in archives])


def _archive_line(archive: Archive, binary: bool) -> str:
    away = "" if archive.reachable else f", not there (last seen {units.age(archive.seen)})"
    count = "1 item" if archive.items == 1 else f"{archive.items} items"
    label = f' on "{archive.label}"' if archive.label else ""
    foreign = "" if archive.known else ", foreign: cachetui adopt"
    return f"{archive.path}{label}: {count}, {units.size(archive.size, binary=binary)}{away}{foreign}"


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
