"""What of an item is copied, from where to where in the archive, and whether a copy is there already."""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import stat
from collections.abc import Callable, Sequence

from cachetui.fs import open_below, open_dir
from cachetui.transfer import medium
from cachetui.transfer.copying import CancelledError, CopiedFile, CopyProgress, never
from cachetui.transfer.pieces import Kind, Materialise, Piece, open_folder, survey

_CHUNK = 4 << 20
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class DifferentError(Exception):
    """What stands at a place in an archive is not a copy of the item; the message names a path."""


def materialiser(root: str, top: str) -> Materialise:
    """Which links of the folder `top` in `root` are written as files: those that would break when it lies elsewhere.

    These are the payloads of the hub's shared store, and other links to files of the same root. Absolute links that
    leave the root stay what they are. Raises (from `survey`) OSError(EPERM) where a relative link leaves the root.
    """

    def behind(path: str, text: str) -> str | None:
        there = posixpath.normpath(posixpath.join(top, posixpath.dirname(path), text))
        if there.startswith(f"{top}/"):
            return None
        real = os.path.realpath(there)
        if not os.path.lexists(real):
            return None
        inside = real.startswith(f"{root}/")
        if inside and stat.S_ISREG(os.lstat(real).st_mode):
            return real
        if text.startswith("/"):
            return None
        raise OSError(errno.EPERM, f"it is a link that leads out to {there}, which would break", f"{top}/{path}")

    return behind


def survey_part(source: str, root: str, *, links: bool) -> tuple[Piece, ...]:
    """The pieces of one folder or file of an item. Raises OSError."""
    return survey(source, materialiser(root, source), links=links)


def looks_equal(pieces: Sequence[Piece], place: str, *, links: bool) -> bool:
    """Whether names, sizes and links at an absolute path are those of the pieces; no content is read."""
    try:
        there = {p.path: p for p in survey(place)}
    except OSError:
        return False
    mine = {p.path: p for p in pieces if p.kind is not Kind.LEFT}
    return there.keys() == mine.keys() and all(_alike(p, there[p.path]) for p in mine.values())


def _alike(mine: Piece, there: Piece) -> bool:
    if mine.kind in (Kind.FILE, Kind.TWIN):
        return there.kind in (Kind.FILE, Kind.TWIN) and there.size == mine.size
    return mine.kind is there.kind and mine.link == there.link


def compare(
    pieces: Sequence[Piece],
    place: str,
    *,
    links: bool,
    progress: CopyProgress | None = None,
    cancelled: Callable[[], bool] = never,
) -> tuple[CopiedFile, ...]:
    """Read the pieces and what stands at an absolute path, and prove them equal.

    Raises DifferentError, CancelledError, OSError.
    """
    if not looks_equal(pieces, place, links=links):
        raise DifferentError(place)
    base, top = os.path.split(place)
    fd = open_dir(base)
    files: list[CopiedFile] = []
    done, total = 0, sum(p.size for p in pieces if p.kind in (Kind.FILE, Kind.TWIN))
    try:
        for piece in pieces:
            if piece.kind is Kind.LINK:
                files.append(CopiedFile(piece.path, 0, "", piece.link, 0o777, piece.mtime_ns))
            elif piece.kind in (Kind.FILE, Kind.TWIN):
                if progress is not None:
                    progress.advance("check", done, total, piece.path or top)
                copy = posixpath.join(top, piece.path) if piece.path else top
                digest = hash_file(open_source(piece), cancelled)
                if digest != hash_file(open_file(fd, copy), cancelled):
                    raise DifferentError(f"{base}/{copy}")
                done += piece.size
                files.append(CopiedFile(piece.path, piece.size, digest, "", piece.mode, piece.mtime_ns))
    finally:
        os.close(fd)
    return tuple(files)


def open_source(piece: Piece) -> int:
    """A descriptor of the file that a piece is made from. Raises OSError."""
    folder = open_folder(piece)
    try:
        return _regular(os.open(posixpath.basename(piece.inside), _READ, dir_fd=folder))
    finally:
        os.close(folder)


def open_file(base: int, path: str) -> int:
    """A descriptor of a regular file below an open folder, following no link. Raises OSError."""
    folder = open_below(base, posixpath.dirname(path))
    try:
        return _regular(os.open(posixpath.basename(path), _READ, dir_fd=folder))
    finally:
        os.close(folder)


def _regular(fd: int) -> int:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file")
    return fd


def hash_file(fd: int, cancelled: Callable[[], bool] = never) -> str:
    """sha256 of an open file, read from the medium where the system allows; closes it.

    Raises CancelledError, OSError.
    """
    try:
        medium.drop(fd)
        digest = hashlib.sha256()
        with os.fdopen(os.dup(fd), "rb", buffering=0) as f:
            while chunk := f.read(_CHUNK):
                if cancelled():
                    raise CancelledError
                digest.update(chunk)
        return digest.hexdigest()
    finally:
        os.close(fd)
