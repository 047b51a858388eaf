"""What a copy is made of: every folder, file, link and second name below a folder, looked at by descriptor.

Nothing is followed: a link is a link, unless the caller says what stands behind it (a payload of the hub's shared
store) or the target cannot hold links, as exFAT. Folders come before what lies in them, in the order of names.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from cachetui.fs import open_below, open_dir
from cachetui.walk import MAX_DEPTH, allocated

Materialise = Callable[[str, str], str | None]
_HOPS = 8


class Kind(StrEnum):
    """What is made of a piece."""

    DIR = "dir"
    FILE = "file"
    LINK = "link"
    TWIN = "twin"
    """A second name of a file that comes before."""
    LEFT = "left"
    """Not copied: a target without links has its bytes elsewhere, or it names nothing."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One name of the copy and what it is made from. Sizes in bytes, times in ns."""

    path: str
    """In the copy and below the surveyed top, with "/"; "" is the top itself."""
    kind: Kind
    base: str
    """Absolute folder whose descriptor the bytes are reached from."""
    inside: str
    """Path of the bytes below `base`; no part of it is a link."""
    dev: int
    ino: int
    size: int
    """Of a file; 0 for everything else."""
    allocated: int
    mtime_ns: int
    atime_ns: int
    mode: int
    uid: int
    gid: int
    link: str = ""
    """LINK: its text. FILE: the text of the link that it is written instead of, empty for a plain file."""
    twin: str = ""
    """TWIN: path of the piece that it is a second name of."""
    flat: bool = False
    """Written without links: a file instead of a link inside the item."""

    @property
    def source(self) -> str:
        """Absolute path of what is read."""
        return posixpath.join(self.base, self.inside) if self.inside else self.base

    @property
    def identity(self) -> tuple[int, int, int]:
        """Inode, size and mtime: what tells that the bytes are still the same. Devices change their numbers."""
        return (self.ino, self.size, self.mtime_ns)


def survey(
    top: str,
    materialise: Materialise | None = None,
    progress: Callable[[int], None] | None = None,
    *,
    links: bool = True,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[Piece, ...]:
    """Everything at and below `top`, an absolute path of a folder or of one file (never of a link).

    `materialise(path, text)` may name, for a link, the absolute path of a regular file whose bytes are written in its
    place. `progress` hears how many names were seen. With `links=False` files are written instead of links: those of
    a hub's snapshots, whose blobs are then not copied a second time. `cancelled` ends it early, with what it has.

    Raises OSError: unreadable, a socket, pipe or device (EINVAL), another file system mounted inside (EXDEV), nested
    too deeply (ELOOP), with `links=False` a link that cannot be written as a file (EPERM).
    """
    found: list[Piece] = []
    firsts: dict[tuple[int, int], str] = {}
    for path, st, text in _walk(top):
        found.append(_piece(top, path, st, text, materialise, firsts))
        if progress is not None and len(found) % 256 == 0:
            progress(len(found))
        if cancelled is not None and cancelled():
            break
    if progress is not None:
        progress(len(found))
    return tuple(found if links else _without_links(top, found))


def changed(pieces: Sequence[Piece]) -> tuple[str, ...]:
    """Absolute paths that are not any more what was surveyed: another inode, size or mtime, new, or gone."""
    if not pieces:
        return ()
    top = pieces[0].source
    expected = {p.path: p for p in pieces}
    different: list[str] = []
    try:
        for path, st, text in _walk(top):
            piece = expected.pop(path, None)
            if piece is None or not _same(piece, st, text):
                different.append(posixpath.join(top, path) if path else top)
    except OSError as e:
        different.append(e.filename if isinstance(e.filename, str) else top)
    different += [posixpath.join(top, path) for path in expected]
    return tuple(dict.fromkeys(different))


def open_folder(piece: Piece) -> int:
    """A descriptor of the folder that a piece's bytes lie in. Raises OSError."""
    base = open_dir(piece.base)
    try:
        return open_below(base, posixpath.dirname(piece.inside))
    finally:
        os.close(base)


def _walk(top: str) -> Iterator[tuple[str, os.stat_result, str]]:
    """(path, lstat, text of a link) of `top` and everything below. Raises OSError."""
    st = os.lstat(top)
    if not stat.S_ISDIR(st.st_mode):
        if not stat.S_ISREG(st.st_mode):
            raise OSError(errno.EINVAL, "not a folder or a regular file", top)
        yield "", st, ""
        return
    fd = open_dir(top)
    try:
        st = os.fstat(fd)
        yield "", st, ""
        yield from _below(fd, top, "", st.st_dev, 0)
    finally:
        os.close(fd)


def _below(fd: int, top: str, folder: str, dev: int, depth: int) -> Iterator[tuple[str, os.stat_result, str]]:
    if depth > MAX_DEPTH:
        raise OSError(errno.ELOOP, "folders are nested too deeply", f"{top}/{folder}")
    folders: list[tuple[str, os.stat_result]] = []
    for name in sorted(os.listdir(fd)):
        path = f"{folder}/{name}" if folder else name
        st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(st.st_mode):
            folders.append((name, st))
        elif stat.S_ISLNK(st.st_mode):
            yield path, st, os.readlink(name, dir_fd=fd)
        elif stat.S_ISREG(st.st_mode):
            yield path, st, ""
        else:
            raise OSError(errno.EINVAL, "a socket, pipe or device cannot be copied", f"{top}/{path}")
    for name, st in folders:
        path = f"{folder}/{name}" if folder else name
        if st.st_dev != dev:
            raise OSError(errno.EXDEV, "another file system is mounted inside", f"{top}/{path}")
        yield path, st, ""
        inner = open_dir(name, fd)
        try:
            yield from _below(inner, top, path, dev, depth + 1)
        finally:
            os.close(inner)


def _piece(
    top: str,
    path: str,
    st: os.stat_result,
    text: str,
    materialise: Materialise | None,
    firsts: dict[tuple[int, int], str],
) -> Piece:
    if stat.S_ISDIR(st.st_mode):
        return _made(path, Kind.DIR, top, path, st)
    base, inside = (top, path) if path else posixpath.split(top)
    linked = st.st_nlink > 1
    if stat.S_ISLNK(st.st_mode):
        behind = materialise(path, text) if materialise is not None else None
        if behind is None:
            return _made(path, Kind.LINK, base, inside, st, link=text)
        st = os.lstat(behind)
        if not stat.S_ISREG(st.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", behind)
        base, inside = posixpath.split(behind)
        linked = True  # several links may lead to it
    if linked:
        first = firsts.setdefault((st.st_dev, st.st_ino), path)
        if first != path:
            return _made(path, Kind.TWIN, base, inside, st, link=text, twin=first)
    return _made(path, Kind.FILE, base, inside, st, link=text)


def _made(
    path: str, kind: Kind, base: str, inside: str, st: os.stat_result, *, link: str = "", twin: str = ""
) -> Piece:
    return Piece(
        path=path,
        kind=kind,
        base=base,
        inside=inside,
        dev=st.st_dev,
        ino=st.st_ino,
        size=st.st_size if stat.S_ISREG(st.st_mode) else 0,
        allocated=allocated(st),
        mtime_ns=st.st_mtime_ns,
        atime_ns=st.st_atime_ns,
        mode=stat.S_IMODE(st.st_mode),
        uid=st.st_uid,
        gid=st.st_gid,
        link=link,
        twin=twin,
    )


def _same(piece: Piece, st: os.stat_result, text: str) -> bool:
    """Whether what stands at a name is still what the piece was made from."""
    if piece.kind is Kind.DIR:
        return stat.S_ISDIR(st.st_mode) and st.st_ino == piece.ino
    if piece.link != text:
        return False
    if piece.kind in (Kind.LINK, Kind.LEFT) and piece.link:
        return True
    if piece.link:  # the bytes lie elsewhere
        try:
            st = os.lstat(piece.source)
        except OSError:
            return False
    return stat.S_ISREG(st.st_mode) and (st.st_ino, st.st_size, st.st_mtime_ns) == piece.identity


@dataclass
class _Flattener:
    """Writes files instead of links."""

    top: str
    found: dict[str, Piece]
    used: set[str] = field(default_factory=set)
    """Paths of files that are written where links led to them."""

    def flat(self, piece: Piece) -> Piece:
        """The file that is written instead of a link, or LEFT where the link leads nowhere."""
        behind = self._behind(piece.path, piece.link)
        if behind is None:
            return replace(piece, kind=Kind.LEFT)
        self.used.add(behind.path)
        return replace(behind, path=piece.path, kind=Kind.FILE, link=piece.link, twin="", flat=True)

    def _behind(self, path: str, text: str) -> Piece | None:
        for _ in range(_HOPS):
            absolute = posixpath.normpath(posixpath.join(self.top, posixpath.dirname(path), text))
            if not absolute.startswith(f"{self.top}/"):
                if os.path.lexists(absolute):
                    break
                return None
            path = absolute[len(self.top) + 1 :]
            target = self.found.get(path)
            if target is None:
                return None
            if target.kind is Kind.DIR:
                break
            if target.kind is not Kind.LINK:
                return target
            text = target.link
        raise OSError(errno.EPERM, "a link to a folder or to outside cannot be kept where there are no links", path)


def _without_links(top: str, found: Sequence[Piece]) -> list[Piece]:
    """The same tree in files only; blobs that a snapshot holds then are not written a second time."""
    flattener = _Flattener(top, {p.path: p for p in found})
    flat = {p.path: flattener.flat(p) for p in found if p.kind is Kind.LINK}
    whole: list[Piece] = []
    for p in found:
        if p.kind is Kind.LINK:
            whole.append(flat[p.path])
        elif p.kind is not Kind.DIR and p.path in flattener.used and p.path.startswith("blobs/"):
            whole.append(replace(p, kind=Kind.LEFT, twin=""))
        else:
            whole.append(replace(p, kind=Kind.FILE, twin="") if p.kind is Kind.TWIN else p)
    return whole
