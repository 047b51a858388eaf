"""Where the trash of a root is: on the root's own mount, outside of what the store looks at."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress

from cachetui import afar, paths
from cachetui.fs import Fs, open_dir
from cachetui.model import Root
from cachetui.plans.model import TrashPlace
from cachetui.plans.survey import mount_points, same_mount

NAME = ".cachetui-trash"
NO_PLACE = "there is no folder on its file system that could hold a trash, so it can only be deleted permanently"
_INSIDE = "its trash lies inside it, in .locks, because nothing beside it is on the same file system and writable"
_AMONG = "its trash lies inside it, because nothing beside it is on the same file system and writable"
_TOP = "its trash lies at the top of its file system"


def candidates(root: Root) -> Iterator[tuple[str, str, str]]:
    """(absolute path, kind, note) of every place where the trash of a root may be, best first."""
    if root.path != "/":
        yield os.path.join(os.path.dirname(root.path), NAME), "sibling", ""
    top = _mount_top(root.path)
    if top and (top != root.path or root.store != "hf"):  # the hub warns about any folder at its top
        yield os.path.join(top, f"{NAME}-{os.geteuid()}"), "mount-top", f"{_TOP}: {top}"
    if root.store == "hf":
        yield os.path.join(root.path, ".locks", NAME), "inside", _INSIDE
    if root.store == "state":
        yield os.path.join(root.path, NAME), "inside", _AMONG


def choose(root: Root) -> TrashPlace:
    """The best place that works, as far as can be told without changing anything."""
    if root.offline:
        return TrashPlace(root.path, "", "none", "it is not there now")
    try:
        fd = open_dir(root.path)
    except OSError:
        return TrashPlace(root.path, "", "none", NO_PLACE)
    try:
        for path, kind, note in candidates(root):
            if _works(fd, path):
                return TrashPlace(root.path, path, kind, note)
    finally:
        os.close(fd)
    return TrashPlace(root.path, "", "none", NO_PLACE)


def fallback(root: str) -> str:
    """The folder for the journal of permanent deletion where no trash works: on another file system. Raises OSError."""
    st = os.stat(root)
    return str(paths.fallback_journal_dir() / f"{st.st_dev:x}-{st.st_ino:x}")


def beside(parent: str) -> str:
    """The trash folder of roots that lie in this folder."""
    return os.path.join(parent, NAME)


def existing(roots: Sequence[Root]) -> dict[str, list[Root]]:
    """Every trash or journal folder that exists for these roots, with the roots it may hold entries of.

    Also those beside links that lead to a root, and beside roots that were moved: the drive may not be there now.
    """
    found: dict[str, list[Root]] = {}
    for root in roots:
        for path in (*_all(root), *_beside_links(root.given)):
            if _is_ours(path, root.path) and root not in found.setdefault(path, []):
                found[path].append(root)
    for path in _remembered():
        if _is_ours(path, os.path.dirname(path)):
            found.setdefault(path, [])
    return found


def _beside_links(given: str) -> Iterator[str]:
    """Trash folders beside a path and the folders above it, wherever that is a link."""
    while os.path.isabs(given) and given != os.path.dirname(given) and not afar.is_silent(given):
        if os.path.islink(given):
            yield beside(os.path.realpath(os.path.dirname(given)))
        given = os.path.dirname(given)


def remember(fs: Fs, trash: str) -> None:
    """Note that a root is moved away from beside this trash folder: while its drive is not there, nothing else tells.

    Best effort: with the drive there, the link leads to it.
    """
    if trash in _remembered():
        return
    with suppress(OSError):
        file = paths.moved_file()
        fs.make_path(str(file.parent))
        fs.append(str(file), json.dumps(trash).encode("ascii") + b"\n")


def _remembered() -> list[str]:
    try:
        lines = paths.moved_file().read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        with suppress(ValueError):
            found.append(json.loads(line))
    return [path for path in found if isinstance(path, str) and os.path.basename(path) == NAME]


def belongs(trash: str, root: str, store: str) -> bool:
    """Whether a trash folder is one of the places of a root: a record found there may speak only of such a root."""
    try:
        st = os.stat(root)
    except OSError:
        return False
    known = Root(store, root, st.st_dev, st.st_ino, "")
    return _is_ours(trash, root) and trash in _all(known)


def belongs_beside(trash: str, parent: str) -> bool:
    """Whether a record in a trash folder may speak of a root as a whole that lies in `parent`."""
    return trash == beside(parent) and _is_ours(trash, parent)


def _all(root: Root) -> list[str]:
    found = [path for path, _, _ in candidates(root)]
    try:
        found.append(fallback(root.path))
    except OSError:
        pass  # the root is gone: nothing was erased in it either
    return found


def _is_ours(path: str, root: str) -> bool:
    """A real folder of this user; for root also one of the user who owns the root folder."""
    if afar.is_silent(path):
        return False
    try:
        st = os.lstat(path)
        return stat.S_ISDIR(st.st_mode) and _trusted(st.st_uid, root)
    except (OSError, ValueError):
        return False


def _trusted(uid: int, root: str) -> bool:
    me = os.geteuid()
    return uid == me or (me == 0 and uid == os.stat(root).st_uid)


def _works(root_fd: int, path: str) -> bool:
    try:
        container = open_dir(os.path.dirname(path))
    except OSError:
        return False
    try:
        if not same_mount(root_fd, container):
            return False
        try:
            trash = open_dir(os.path.basename(path), container)
        except FileNotFoundError:
            return _writable(container)
        try:
            owner = os.fstat(trash).st_uid
            return (
                same_mount(root_fd, trash)
                and _writable(trash)
                and (owner == os.geteuid() or (os.geteuid() == 0 and owner == os.fstat(root_fd).st_uid))
            )
        finally:
            os.close(trash)
    except OSError:
        return False
    finally:
        os.close(container)


def _writable(fd: int) -> bool:
    return os.access(".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True)


def _mount_top(path: str) -> str:
    """The mount point a path lies on; empty where unknown."""
    inside = [p for p in mount_points() if p == path or path.startswith(p.rstrip("/") + "/")]
    return max(inside, key=len, default="")
