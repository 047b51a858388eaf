"""The tree a copy is written to: its folders, files, links and names, all below the staging folder's descriptor."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from cachetui.fs import Fs, open_below, open_dir
from cachetui.plans.moves import NOT_LINKABLE, Meter, remove_tree
from cachetui.transfer import faults
from cachetui.transfer.faults import CopyError
from cachetui.transfer.notes import Notes
from cachetui.transfer.pieces import Kind, Piece
from cachetui.transfer.reading import Task
from cachetui.transfer.staging import TREE, Staging

_WRITE = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_ATTRIBUTE = (errno.ENOSPC, errno.E2BIG, errno.ERANGE)
"""What file systems say that hold smaller attributes than the source's."""


def at(path: str) -> str:
    """Where a path of the copy lies, below the staging folder."""
    return f"{TREE}/{path}" if path else TREE


class Target:
    """Writes one copy. Every method raises OSError; `errors` turns it into a CopyError."""

    def __init__(self, staging: Staging, fs: Fs, pieces: Sequence[Piece]) -> None:
        self.notes = Notes(pieces)
        self._staging = staging
        self._fs = fs
        self._pieces = pieces
        self._fd = -1
        self._folder = ""

    def close(self) -> None:
        """Let go of the folder that is open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def name_of(self, piece: Piece) -> str:
        """A piece for people: its path, or the name of what is copied."""
        return piece.path or posixpath.basename(self._pieces[0].source)

    @contextmanager
    def errors(self, piece: Piece) -> Iterator[None]:
        """Say which file an error is about, and whether the drive is gone. Raises CopyError."""
        try:
            yield
        except CopyError:
            raise
        except OSError as e:
            self._staging.present()
            raise faults.at_target(e, self.name_of(piece)) from e

    def lstat(self, path: str) -> os.stat_result | None:
        """What stands at a path of the copy, or None."""
        parent, name = self._parent(path)
        try:
            return os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def prepare(self) -> None:
        """Remove what an earlier run left and what is not, or not so, part of this copy; make all folders."""
        expected: dict[str, Kind] = {at(p.path): p.kind for p in self._pieces if p.kind is not Kind.LEFT}
        with self.errors(self._pieces[0]):
            self._clear(self._staging.fd, "", expected)
        for piece in self._pieces:
            if piece.kind is Kind.DIR:
                with self.errors(piece):
                    parent, name = self._parent(piece.path)
                    try:
                        self._fs.mkdir(parent, name)
                    except FileExistsError:
                        self._make_writable(parent, name)

    def _clear(self, fd: int, folder: str, expected: Mapping[str, Kind]) -> None:
        for name in sorted(os.listdir(fd)) if folder else (TREE,):
            path = f"{folder}/{name}" if folder else name
            try:
                mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
            except FileNotFoundError:
                continue
            kind = expected.get(path)
            if not _is_kind(mode, kind):
                remove_tree(self._fs, fd, name, Meter())
            elif kind is Kind.DIR:
                inner = open_dir(name, fd)
                try:
                    self._clear(inner, path, expected)
                finally:
                    os.close(inner)

    def _make_writable(self, parent: int, name: str) -> None:
        fd = open_dir(name, parent)
        try:
            if os.fstat(fd).st_mode & 0o700 != 0o700:
                self._fs.chmod(fd, 0o700)
        finally:
            os.close(fd)

    def open(self, task: Task) -> int:
        """A descriptor of the file to write: new, or with the first `task.start` bytes that are there."""
        parent, name = self._parent(task.piece.path)
        if not task.start:
            remove_tree(self._fs, parent, name, Meter())
            return self._fs.create(parent, name)
        fd = os.open(name, _WRITE, dir_fd=parent)
        try:
            self._fs.truncate(fd, task.start)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def dress(self, fd: int, piece: Piece, attributes: Sequence[tuple[str, bytes]]) -> None:
        """Length, attributes, owner, mode and times of a file whose bytes are written."""
        st = os.fstat(fd)
        if st.st_size != piece.size:
            self._fs.truncate(fd, piece.size)
        for name, value in attributes:
            with self.notes.kept("attributes", _ATTRIBUTE):
                self._fs.attribute(fd, name, value)
        parent, name = self._parent(piece.path)
        self._own(parent, name, piece, st)
        self._mode(fd, piece.mode)
        with self.notes.kept("times"):
            self._fs.times(parent, name, piece.atime_ns, piece.mtime_ns)

    def link(self, piece: Piece) -> None:
        """Make a symbolic link, if it is not there."""
        parent, name = self._parent(piece.path)
        st = self.lstat(piece.path)
        if st is not None and os.readlink(name, dir_fd=parent) != piece.link:
            remove_tree(self._fs, parent, name, Meter())
            st = None
        if st is None:
            self._fs.symlink(piece.link, parent, name)
            st = os.stat(name, dir_fd=parent, follow_symlinks=False)
        self._own(parent, name, piece, st)
        if st.st_mtime_ns != piece.mtime_ns:
            with self.notes.kept("times"):
                self._fs.times(parent, name, piece.atime_ns, piece.mtime_ns)

    def twin(self, piece: Piece) -> bool:
        """Give a file its second name, if it has not; False where the file system has no such thing."""
        first = self.lstat(piece.twin)
        st = self.lstat(piece.path)
        if st is not None and first is not None and st.st_ino == first.st_ino:
            return True
        parent, name = self._parent(piece.path)
        if st is not None:
            remove_tree(self._fs, parent, name, Meter())
        folder = open_below(self._staging.fd, posixpath.dirname(at(piece.twin)))
        try:
            self._fs.link(folder, posixpath.basename(at(piece.twin)), parent, name)
        except OSError as e:
            if e.errno not in NOT_LINKABLE:
                raise
            self.notes.twins += 1
            return False
        finally:
            os.close(folder)
        return True

    def finish(self) -> None:
        """Modes and times of folders, innermost first, and all names durable."""
        for piece in reversed(self._pieces):
            if piece.kind is Kind.DIR:
                with self.errors(piece):
                    self._finish_folder(piece)
        with self.errors(self._pieces[0]):
            self._fs.fsync(self._staging.fd)

    def _finish_folder(self, piece: Piece) -> None:
        parent, name = self._parent(piece.path)
        fd = open_dir(name, parent)
        try:
            self._own(parent, name, piece, os.fstat(fd))
            # A folder that its owner may not write cannot be renamed to its place.
            self._mode(fd, piece.mode if piece.path else piece.mode | 0o700)
            with self.notes.kept("times"):
                self._fs.times(parent, name, piece.atime_ns, piece.mtime_ns)
            self._fs.fsync(fd)
        finally:
            os.close(fd)

    def _own(self, parent: int, name: str, piece: Piece, st: os.stat_result) -> None:
        if (st.st_uid, st.st_gid) != (piece.uid, piece.gid):
            with self.notes.kept("owners"):
                self._fs.owner(parent, name, piece.uid, piece.gid)

    def _mode(self, fd: int, mode: int) -> None:
        if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
            with self.notes.kept("modes"):
                self._fs.chmod(fd, mode)

    def _parent(self, path: str) -> tuple[int, str]:
        """The open folder that a path of the copy lies in, and its name there."""
        folder, name = posixpath.split(at(path))
        if self._fd < 0 or folder != self._folder:
            self.close()
            self._fd = open_below(self._staging.fd, folder)
            self._folder = folder
        return self._fd, name


def _is_kind(mode: int, kind: Kind | None) -> bool:
    """Whether what stands at a name can be part of the copy."""
    if kind is Kind.DIR:
        return stat.S_ISDIR(mode)
    if kind is Kind.LINK:
        return stat.S_ISLNK(mode)
    return kind in (Kind.FILE, Kind.TWIN) and stat.S_ISREG(mode)
