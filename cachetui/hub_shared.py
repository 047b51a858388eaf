"""Who else needs a payload of the shared store, by its `.refs` hint and the links that hint names.

Follows utils/_shared_blobs.py: a line counts only where the link it names leads to the payload. Stricter here: a line
into a repo that lies elsewhere and cannot be looked at now counts too, for that drive may come back.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Collection

from cachetui import afar, hub_layout, walk

NEEDED = "needed-elsewhere"
"""Code of the Problem of a payload whose holder lies elsewhere: it is kept."""
MAX_REFS = 1 << 20
UNKNOWN = "?"
"""Stands for a holder when the hint is there and cannot be read."""


def hinted(root: str, payload: str, gone: Collection[str] = ()) -> frozenset[str]:
    """Folders of repos, other than `gone`, whose links the payload's hint names and that are or may be there."""
    try:
        raw = walk.read_small(f"{root}/{payload}.refs", MAX_REFS)
    except FileNotFoundError:
        return frozenset()
    except OSError:
        return frozenset((UNKNOWN,))
    if len(raw) >= MAX_REFS:
        return frozenset((UNKNOWN,))
    found = set()
    for line in set(raw.split(b"\n")):
        parts = os.fsdecode(line.rstrip(b"\r")).split("/")
        if len(parts) != 3 or parts[1] != "blobs" or not hub_layout.REPO_FOLDER.fullmatch(parts[0]):
            continue
        if parts[0] not in gone and ".." not in parts and "" not in parts and _needs(root, parts, payload):
            found.add(parts[0])
    return frozenset(found)


def _needs(root: str, parts: list[str], payload: str) -> bool:
    if _is_link(f"{root}/{parts[0]}") and afar.is_silent(f"{root}/{parts[0]}"):
        return True
    try:
        target = os.readlink("/".join((root, *parts)))
    except FileNotFoundError:
        return _is_link(f"{root}/{parts[0]}") and not os.path.exists(f"{root}/{parts[0]}")
    except OSError:
        return not _is_file("/".join((root, *parts)))
    absolute = posixpath.join(root, parts[0], parts[1], target.replace(os.sep, "/"))
    return posixpath.normpath(absolute) == posixpath.normpath(f"{root}/{payload}")


def _is_link(path: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except OSError:
        return False


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False
