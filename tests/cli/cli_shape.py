"""A schema check of a few lines: shapes are types, [shape], {key: shape}, or (shape, shape) for either."""

from __future__ import annotations

import datetime as dt
from typing import Any


def fits(value: Any, shape: Any, where: str = "$") -> None:
    """Raise AssertionError naming the place where a value does not have its shape. Keys beyond the shape are fine."""
    if isinstance(shape, tuple):
        errors = []
        for one in shape:
            try:
                return fits(value, one, where)
            except AssertionError as e:
                errors.append(str(e))
        raise AssertionError("; or ".join(errors))
    if isinstance(shape, list):
        assert isinstance(value, list), f"{where}: {value!r} is no list"
        for n, one in enumerate(value):
            fits(one, shape[0], f"{where}[{n}]")
    elif isinstance(shape, dict):
        assert isinstance(value, dict), f"{where}: {value!r} is no object"
        for key, inner in shape.items():
            assert key in value, f"{where}.{key} is missing"
            fits(value[key], inner, f"{where}.{key}")
    elif shape is TIME:
        assert dt.datetime.fromisoformat(value).tzinfo is not None, f"{where}: {value!r} has no offset"
    elif shape is BYTES:
        assert type(value) is int and value >= 0, f"{where}: {value!r} is no number of bytes"
    elif shape is None:
        assert value is None, f"{where}: {value!r} is not null"
    else:
        assert type(value) is shape, f"{where}: {value!r} is no {shape.__name__}"
    return None


TIME, BYTES = object(), object()
PROBLEM = {"code": str, "message": str, "path": str, "hint": str}
ROOT = {
    "store": str, "path": str, "given": str, "origin": str, "writable": bool, "size": BYTES, "allocated": BYTES,
    "other": BYTES, "nested": [str], "disk_total": (BYTES, None), "disk_free": (BYTES, None), "problems": [PROBLEM],
    "archive": (str, None), "offline": bool,
}  # fmt: skip
ITEM = {
    "id": str, "store": str, "root": str, "kind": str, "name": str, "path": str, "size": BYTES, "allocated": BYTES,
    "own": BYTES, "shared": BYTES, "away": BYTES, "lies_in": (str, None), "frees": BYTES, "files": int,
    "last_used": (TIME, None), "last_modified": (TIME, None), "states": [str], "pinned": bool,
    "problems": [PROBLEM], "uid": int, "gid": int,
    "owner": (str, None), "group": (str, None),
    "traits": {
        "formats": [str], "quantization": str, "family": str, "parameters": str, "loads_with": [str], "purpose": str,
        "redundant": [str],
    },
}  # fmt: skip
USER = {"pid": (int, None), "name": str, "how": str}
FILE = {"path": str, "size": (BYTES, None), "allocated": (BYTES, None), "blob": (str, None), "problem": (str, None)}
REVISION = {"commit": str, "refs": [str], "last_modified": (TIME, None), "size": BYTES, "problems": [PROBLEM]}
LS = {
    "schema": int,
    "generated": TIME,
    "complete": bool,
    "roots": [ROOT],
    "items": [ITEM],
    "totals": {
        "items": int,
        "size": BYTES,
        "allocated": BYTES,
        "listed": {"items": int, "size": BYTES, "away": BYTES, "frees": BYTES},
    },
    "offline_archives": [
        {"id": str, "label": str, "path": str, "last_seen": TIME, "size": BYTES, "items": int},
    ],
    "problems": [PROBLEM],
}
SHOW = {
    "schema": int,
    "target": str,
    **ITEM,
    "in_use": [USER],
    "revisions": [{**REVISION, "files": [FILE]}],
    "shared_with": [{"id": str, "root": str, "size": BYTES}],
    "extra": {},
}
STEP = {"path": str, "phase": str, "type": str, "entries": int, "size": BYTES, "allocated": BYTES, "frees": BYTES}
PLAN = {
    "verb": str, "digest": str, "permanent": bool, "frees_now": BYTES, "frees_when_emptied": BYTES, "up_to": bool,
    "cautions": [str], "notes": [str],
    "disks": [{"mount": str, "frees_now": BYTES, "frees_when_emptied": BYTES}],
    "places": [{"root": str, "path": str, "kind": str, "note": str}],
    "items": [
        {
            "target": str, "id": str, "store": str, "root": str, "refused": (str, None), "via_server": (str, None),
            "frees": BYTES, "in_use": [USER], "goes": [STEP],
            "stays": [{"path": str, "size": BYTES, "needed_by": [str]}],
            "cautions": [{"code": str, "message": str}],
        }
    ],
}  # fmt: skip
OUTCOME = {
    "verb": str, "operation": (str, None), "ok": bool, "freed": BYTES, "moved": BYTES, "messages": [str],
    "results": [{"target": str, "root": str, "done": bool, "message": str, "freed": BYTES, "moved": BYTES}],
}  # fmt: skip
RM = {"schema": int, "verb": str, "dry_run": bool, "plan": (PLAN, None), "outcome": (OUTCOME, None)}
ENTRY = {
    "id": str, "store": str, "verb": str, "root": str, "path": str, "deleted": TIME, "by": str, "frees": BYTES,
    "items": [{"number": int, "target": str, "name": str, "size": BYTES, "allocated": BYTES, "frees": BYTES}],
}  # fmt: skip
TRASH = {"schema": int, "entries": [ENTRY], "frees": BYTES}
RESTORE = {
    "schema": int, "verb": str, "dry_run": bool, "entries": [ENTRY], "outcomes": ([OUTCOME], None), "missing": [str],
    "refused": [{"target": str, "root": str, "reason": str}],
}  # fmt: skip
HISTORY = {
    "schema": int,
    "records": [
        {
            "when": TIME, "verb": str, "operation": str, "targets": [str], "root": str, "moved": BYTES, "freed": BYTES,
            "ok": bool,
        }
    ],
}  # fmt: skip
PINS = {
    "schema": int,
    "verb": str,
    "dry_run": bool,
    "changed": int,
    "items": [{"id": str, "root": str, "pinned": bool}],
}
INFO = {
    "schema": int,
    "version": str,
    "python_version": str,
    "platform": str,
    "stores": [{"name": str, "title": str}],
    "roots": [{"store": str, "path": str, "origin": str, "writable": bool, "disk_total": BYTES, "disk_free": BYTES}],
    "paths": {
        name: {"path": str, "exists": bool}
        for name in ("config", "pins", "usage_log", "history", "fallback_journal", "program", "python")
    },
    "trash": [{"path": str}],
    "problems": [PROBLEM],
}
