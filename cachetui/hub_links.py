"""Where a link of a hub cache leads when it is not simply a blob of the same repo; nothing is opened."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from typing import NamedTuple

from cachetui import hub_layout, walk
from cachetui.hub_ground import Ground
from cachetui.model import Blob

MESSAGES = {
    "broken-link": "{} points to content that is not there",
    "link-loop": "{} points to itself through other links",
    "outside-link": "{} points out of this cache; what lies there is not counted and never deleted",
    "linked-folder": "{} points to a folder; what lies there is not counted",
    "no-content": "{} points to a file that the cache keeps for itself",
    "unreadable": "{} points to what cannot be read",
    "special-file": "{} is a pipe, socket or device: not opened",
}
"""By problem code; the place is for what it is about."""
HINTS = {
    "broken-link": "download it again, or delete the repo or that revision",
    "link-loop": "delete that revision",
    "unreadable": "check its permissions and the disk",
}


class Found(NamedTuple):
    """Where a link leads."""

    named: str
    """Path inside the root that it names, links on the way not resolved; empty when it names something outside."""
    blob: Blob | None = None
    """The content, when it lies inside the root."""
    atime: float = 0.0
    via: Blob | None = None
    """A link in another repo that it leads through: nothing of its own, but needed."""
    code: str = ""
    """Of the problem, when there is no blob."""


def resolve(ground: Ground, link: str, target: str) -> Found:
    """Where the link (path inside the root) with this text leads. Never raises."""
    named = _named(ground, link, target)
    payload = ground.payloads.get(named)
    if payload is not None:
        return Found(named, payload, ground.atimes[named])
    start = target if os.path.isabs(target) else ground.absolute(posixpath.join(posixpath.dirname(link), target))
    try:
        real = os.path.realpath(start, strict=True)
        st = os.lstat(real)
    except OSError as e:
        return Found(named, code=_code(e))
    except ValueError:
        return Found(named, code="broken-link")
    if not stat.S_ISREG(st.st_mode):
        return Found(named, code="linked-folder" if stat.S_ISDIR(st.st_mode) else "special-file")
    inside = _inside(ground, real)
    if not inside or st.st_dev != ground.root.dev or _is_nested(ground, inside):
        return Found(named, code="outside-link")
    if not hub_layout.is_content(inside):
        return Found(named, code="no-content")
    payload = ground.payloads.get(inside)
    via = _via(ground, link, named) if named != inside else None
    if payload is not None:
        return Found(named, payload, ground.atimes[inside], via)
    return Found(named, walk.blob(inside, st), st.st_atime, via)


def _named(ground: Ground, link: str, target: str) -> str:
    if os.path.isabs(target):
        return _inside(ground, posixpath.normpath(target.replace(os.sep, "/")))
    named = posixpath.normpath(posixpath.join(posixpath.dirname(link), target))
    return "" if named in (".", "..") or named.startswith("../") else named


def _inside(ground: Ground, path: str) -> str:
    top = ground.root.path.replace(os.sep, "/").rstrip("/") + "/"
    path = path.replace(os.sep, "/")
    return path[len(top) :] if path.startswith(top) else ""


def _is_nested(ground: Ground, path: str) -> bool:
    """Whether it lies in another root inside this one."""
    while ground.nested and (path := posixpath.dirname(path)):
        try:
            st = os.lstat(ground.absolute(path))
        except OSError:
            return False
        if (st.st_dev, st.st_ino) in ground.nested:
            return True
    return False


def _via(ground: Ground, link: str, named: str) -> Blob | None:
    if not named or named.partition("/")[0] == link.partition("/")[0]:
        return None
    try:
        st = os.lstat(ground.absolute(named))
    except OSError:
        return None
    return Blob(named, st.st_dev, st.st_ino, 0, 0, 1, st.st_mtime) if stat.S_ISLNK(st.st_mode) else None


def _code(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "link-loop"
    return "broken-link" if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG) else "unreadable"
