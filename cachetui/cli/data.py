"""The JSON views: one object, "schema": 1; sizes in bytes, times ISO 8601 with offset.

Other programs rely on these names. Paths are strings; where one holds bytes that are not UTF-8 they stand as
`\\xNN` and `path_bytes` has all of it in base64. Output is ASCII, so that no name can act on a terminal.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from cachetui.ledger import Ledger, Scan
from cachetui.model import LIES_IN, PINNED, Blob, Item, OfflineArchive, Problem, Revision, RootScan
from cachetui.text import is_lossy
from cachetui.units import iso

Json = dict[str, Any]
SCHEMA = 1
_PIECE = 1 << 15


def emit(data: Mapping[str, Any]) -> None:
    """Print one JSON object: readable on a terminal, one line in a pipe."""
    text = json.dumps({"schema": SCHEMA, **data}, indent=2 if sys.stdout.isatty() else None, default=_refuse)
    for start in range(0, len(text), _PIECE):  # one huge write would be cut short without an error where a pipe ends
        sys.stdout.write(text[start : start + _PIECE])
    sys.stdout.write("\n")


def _refuse(value: object) -> None:
    raise TypeError(f"{type(value).__name__} has no place in the JSON contract")


def plain(text: str) -> str:
    """A name as JSON text: undecodable bytes as `\\xNN`."""
    if not is_lossy(text):
        return text
    return "".join(f"\\x{ord(c) - 0xDC00:02x}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)


def path_fields(path: str, key: str = "path") -> Json:
    """`path`, and `path_bytes` in base64 where text cannot carry it."""
    found: Json = {key: plain(path)}
    if is_lossy(path):
        found[f"{key}_bytes"] = base64.b64encode(os.fsencode(path)).decode()
    return found


def problem(p: Problem) -> Json:
    """One oddity."""
    return {"code": p.code, "message": plain(p.message), **path_fields(p.path), "hint": plain(p.hint)}


def full_path(item: Item, path: str | None = None) -> str:
    """Absolute path of the item, or of something in its root."""
    inside = item.path if path is None else path
    return os.path.join(item.root, inside) if inside else item.root


def item_data(item: Item, ledger: Ledger) -> Json:
    """One item as `ls` lists it."""
    shared, lies_in = ledger.shared(item), dict(item.extra).get(LIES_IN)
    t = item.traits
    return {
        "id": item.id,
        "store": item.store,
        **path_fields(item.root, "root"),
        "kind": item.kind,
        "name": plain(item.name),
        **path_fields(full_path(item)),
        **(path_fields(lies_in, "lies_in") if lies_in else {"lies_in": None}),
        "size": item.size,
        "allocated": item.allocated,
        "away": item.away,
        "own": ledger.own(item),
        "shared": shared,
        "frees": ledger.frees([item]),
        "files": item.file_count,
        "last_used": iso(item.last_used),
        "last_modified": iso(item.last_modified),
        "states": list(item.states),
        "pinned": PINNED in item.states,
        "problems": [problem(p) for p in item.problems],
        "traits": {
            "formats": list(t.formats),
            "quantization": plain(t.quantization),
            "family": plain(t.family),
            "parameters": plain(t.parameters),
            "loads_with": list(t.loads_with),
            "purpose": t.purpose,
            "redundant": [plain(name) for name in t.redundant],
        },
        "uid": item.uid,
        "gid": item.gid,
        "owner": _user(item.uid),
        "group": _group(item.gid),
    }


@cache
def _user(uid: int) -> str | None:
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError, OverflowError):
        return None


@cache
def _group(gid: int) -> str | None:
    try:
        import grp

        return grp.getgrgid(gid).gr_name
    except (ImportError, KeyError, OverflowError):
        return None


def disk_of(path: str) -> tuple[int, int] | None:
    """(total, free for this user) of the disk a path is on, in bytes."""
    try:
        if not hasattr(os, "statvfs"):
            import shutil

            usage = shutil.disk_usage(path)
            return usage.total, usage.free
        st = os.statvfs(path)
    except OSError:
        return None
    return st.f_blocks * st.f_frsize, st.f_bavail * st.f_frsize


def mount_of(path: str) -> str:
    """The folder that the file system of `path` is mounted on."""
    while not os.path.ismount(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def root_data(r: RootScan) -> Json:
    """One root as `ls` and `info` list it."""
    disk = None if r.root.offline else disk_of(r.root.path)
    return {
        "store": r.root.store,
        **path_fields(r.root.path),
        "given": plain(r.root.given),
        "origin": plain(r.root.origin),
        "group": plain(r.root.group),
        "writable": r.root.writable,
        "archive": r.root.archive or None,
        "offline": r.root.offline,
        "size": r.size,
        "allocated": r.allocated,
        "other": r.other,
        "items": len(r.items),
        "nested": [plain(n) for n in r.nested],
        "complete": r.complete,
        "reflinks": r.reflinks,
        "disk_total": disk[0] if disk else None,
        "disk_free": disk[1] if disk else None,
        "problems": [problem(p) for p in r.root.problems + r.problems],
    }


def offline_archive(archive: OfflineArchive) -> Json:
    """An archive of this machine that is not there now."""
    return {
        "id": archive.id,
        "label": plain(archive.label),
        **path_fields(archive.path),
        "last_seen": iso(archive.seen),
        "size": archive.size,
        "items": archive.items,
    }


def totals(scan: Scan) -> tuple[int, int]:
    """(apparent, allocated) bytes of everything, what several roots share counted once."""
    size, allocated = sum(r.size for r in scan.roots), sum(r.allocated for r in scan.roots)
    if len(scan.roots) > 1:
        first: dict[tuple[int, int], str] = {}
        counted: set[tuple[tuple[int, int], str]] = set()
        for item in scan.items:
            for b in item.content:
                if b.nlink > 1:
                    inode = (b.dev, b.ino)
                    where = first.setdefault(inode, item.root)
                    if where != item.root and (inode, item.root) not in counted:
                        counted.add((inode, item.root))
                        size -= b.size
                        allocated -= b.allocated
    return size, allocated


def revision_data(item: Item, r: Revision, *, files: bool = True) -> Json:
    """One revision; `files` as {path, size, allocated, blob, problem}."""
    found: Json = {
        "commit": plain(r.commit),
        "refs": [plain(ref) for ref in r.refs],
        "last_modified": iso(r.last_modified),
        "size": r.size,
        "problems": [problem(p) for p in r.problems],
    }
    if files:
        content = item.content
        broken = {os.path.relpath(p.path, full_path(item, r.path)): p.code for p in r.problems if p.path}
        found["files"] = [
            _file(name, content[at] if at >= 0 else None, broken.get(name))
            for name, at in sorted(zip(r.names, r.index, strict=True))
        ]
    return found


def _file(name: str, blob: Blob | None, trouble: str | None) -> Json:
    return {
        **path_fields(name),
        "size": blob.size if blob else None,
        "allocated": blob.allocated if blob else None,
        "blob": plain(blob.path) if blob else None,
        "problem": trouble if blob else trouble or "missing",
    }
