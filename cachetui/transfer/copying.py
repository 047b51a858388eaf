"""Copy what was surveyed into a staging folder, and prove the copy by reading it back.

Every file is read once, hashed beside it and written, holes kept; it is fsynced before the log calls it finished, and
read back from the medium after that. The source is never changed. Whatever stops it (an error, a full drive, cancel,
SIGKILL) leaves a staging folder that the next run goes on with, and nothing at the place where the copy will be.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from cachetui.fs import DISK, Fs, open_below, open_dir
from cachetui.plans.moves import NOT_LINKABLE, Meter, remove_tree
from cachetui.transfer import faults, medium
from cachetui.transfer.checking import Checker, Wanted
from cachetui.transfer.faults import CancelledError, CopyError
from cachetui.transfer.notes import Notes
from cachetui.transfer.pieces import Kind, Piece, changed
from cachetui.transfer.reading import CHUNK, Data, Ended, Failed, Message, Opened, Reading, Skipped, Task
from cachetui.transfer.staging import TREE, Staging

__all__ = ["CancelledError", "Copied", "CopiedFile", "CopyError", "CopyProgress", "changed", "copy", "never"]

_WAIT = 0.1
"""Seconds between two looks at `cancelled` and two reports."""
_BEGIN = 2 * CHUNK
"""Files of this size are noted in the log when they are begun, so that they can be continued."""
_SETTLE_BYTES = 192 << 20
_SETTLE_FILES = 128
_FLUSH = 32 << 20
_WRITE = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class CopyProgress(Protocol):
    """Who listens to a copy."""

    def advance(self, phase: str, done: int, total: int, name: str) -> None:
        """`done` of `total` bytes are copied (phase `copy`) or read back (`check`); `name` is an outside string."""


@dataclass(frozen=True, slots=True)
class CopiedFile:
    """One file or link of the copy. Sizes in bytes."""

    path: str
    """Below the copy; "" where the copy is one file."""
    size: int
    sha256: str
    link: str
    """Text of a symbolic link (then size 0 and no hash)."""
    mode: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Copied:
    """A whole and compared copy."""

    files: tuple[CopiedFile, ...]
    bytes: int
    """Of all its files, each name once."""
    written: int
    """Bytes of data that this run wrote: less than `bytes` after a resume, and where there are holes."""
    proven: bool
    """Every byte was read back from the medium, as far as the system can tell."""
    note: str
    """Why that is not so, and what the target could not keep; empty when there is nothing to say."""


def never() -> bool:
    """Not cancelled."""
    return False


def copy(
    pieces: Sequence[Piece],
    staging: Staging,
    *,
    fs: Fs = DISK,
    progress: CopyProgress | None = None,
    cancelled: Callable[[], bool] = never,
) -> Copied:
    """Make `staging.tree` an exact copy of the pieces of one survey, and read it back.

    Goes on with what an earlier run left there: finished files whose source is unchanged are only read back, the
    interrupted one is continued. Raises CopyError (what stopped it and what to do), CancelledError.
    """
    run = _Run(tuple(pieces), staging, fs, progress, cancelled)
    try:
        return run.all()
    finally:
        run.close()


@dataclass(frozen=True, slots=True)
class _Pending:
    """A file that is written and not yet durable."""

    piece: Piece
    fd: int


class _Run:
    def __init__(
        self,
        pieces: tuple[Piece, ...],
        staging: Staging,
        fs: Fs,
        progress: CopyProgress | None,
        cancelled: Callable[[], bool],
    ) -> None:
        self.pieces = pieces
        self.staging = staging
        self.fs = fs
        self.notes = Notes(pieces)
        self.total = sum(p.size for p in pieces if p.kind is Kind.FILE)
        self.done = 0
        self.written = 0
        self.hashes: dict[str, str] = {}
        self.wanted: list[Wanted] = []
        """Durable files that were not given to a checker yet."""
        self.old: set[str] = set()
        """Files that hold something an earlier run wrote."""
        self._progress = progress
        self._cancelled = cancelled
        self._told = 0.0
        self._ending = False
        self._pending: list[_Pending] = []
        self._folder_fd = -1
        self._folder_path = ""
        self._beside = not medium.rotates(staging.path)

    def all(self) -> Copied:
        with self._at_target(self.pieces[0]):
            self.staging.present()
            self.staging.take_back()
            self.staging.log.reserve(len(self.pieces))
        self._clear_strangers()
        self._make_folders()
        tasks = [t for p in self.pieces if p.kind is Kind.FILE and (t := self._task(p)) is not None]
        different = self._round(tasks)
        if different:
            # An earlier run wrote it, and power may have failed since: once more, from the start.
            self.done -= sum(p.size for p in different)
            for piece in different:
                self.old.discard(piece.path)
            if self._round([Task(p) for p in different]):
                raise _not_equal(different[0])
        self._finish_folders()
        self.staging.present()
        return self._result()

    def close(self) -> None:
        """Let go of what is open."""
        for pending in self._pending:
            os.close(pending.fd)
        self._pending.clear()
        self._leave_folder()

    # The steps

    def _clear_strangers(self) -> None:
        """Remove what an earlier run left in the tree and what is not, or not so, part of this copy."""
        expected: dict[str, Kind] = {_target(p.path): p.kind for p in self.pieces if p.kind is not Kind.LEFT}
        with self._at_target(self.pieces[0]):
            self._clear(self.staging.fd, "", expected)

    def _clear(self, fd: int, folder: str, expected: dict[str, Kind]) -> None:
        for name in (TREE,) if not folder else sorted(os.listdir(fd)):
            path = f"{folder}/{name}" if folder else name
            try:
                mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
            except FileNotFoundError:
                continue
            kind = expected.get(path)
            if not _is_kind(mode, kind):
                remove_tree(self.fs, fd, name, Meter())
            elif kind is Kind.DIR:
                inner = open_dir(name, fd)
                try:
                    self._clear(inner, path, expected)
                finally:
                    os.close(inner)

    def _make_folders(self) -> None:
        for piece in self.pieces:
            if piece.kind is Kind.DIR:
                with self._at_target(piece):
                    parent, name = self._parent(piece.path)
                    try:
                        self.fs.mkdir(parent, name)
                    except FileExistsError:
                        self._make_writable(parent, name)

    def _make_writable(self, parent: int, name: str) -> None:
        fd = open_dir(name, parent)
        try:
            if os.fstat(fd).st_mode & 0o700 != 0o700:
                self.fs.chmod(fd, 0o700)
        finally:
            os.close(fd)

    def _task(self, piece: Piece) -> Task | None:
        """What is to do for a file; None where an earlier run finished it (it is read back)."""
        noted = self.staging.log.files.get(piece.path)
        if noted is None or noted.identity != piece.identity:
            return Task(piece)
        st = self._lstat(piece)
        if st is None:
            return Task(piece)
        if noted.sha256:
            if st.st_size != piece.size:
                return Task(piece)
            self.old.add(piece.path)
            self._whole(piece, noted.sha256)
            self.done += piece.size
            return None
        return Task(piece, min(st.st_size, piece.size) // CHUNK * CHUNK)

    def _round(self, tasks: Sequence[Task]) -> list[Piece]:
        """Copy these files and give all names; returns the files that an earlier run left with other bytes."""
        with Checker(self.staging.fd) as checker:
            self._hand_over(checker)
            self._copy_files(tasks, checker)
            copies = self._give_names()
            if copies:
                self.total += sum(p.size for p in copies)
                self._copy_files([Task(p) for p in copies], checker)
            self._hand_over(checker, last=True)
            return self._wait(checker)

    def _copy_files(self, tasks: Sequence[Task], checker: Checker) -> None:
        with Reading(tasks) as reading:
            try:
                for _ in tasks:
                    self._copy_one(reading)
                    if sum(p.piece.size for p in self._pending) >= _SETTLE_BYTES or len(self._pending) >= _SETTLE_FILES:
                        self._settle(reading)
                        self._hand_over(checker)
                        self._stop_if_different(checker)
                self._settle(reading)
            except (OSError, CancelledError):
                self._ending = True
                with suppress(OSError):  # what is whole stays whole: the next run need not copy it again
                    self._settle(reading)
                raise

    def _copy_one(self, reading: Reading) -> None:
        opened = self._next(reading)
        assert isinstance(opened, Opened)
        piece = opened.task.piece
        self._tell("copy", self.done, self.total, piece)
        with self._at_target(piece):
            fd = self._open_target(opened.task)
        try:
            flushed = end = opened.task.start
            while not isinstance(message := self._next(reading), Ended):
                if isinstance(message, Data):
                    with self._at_target(piece):
                        self.fs.write_at(fd, message.view, message.offset)
                    end = message.offset + len(message.view)
                    self.done += len(message.view)
                    self.written += len(message.view)
                    reading.give_back(message.buffer)
                    if end - flushed >= _FLUSH:
                        medium.drop(fd, max(0, flushed - _FLUSH), end - flushed + _FLUSH)
                        flushed = end
                elif isinstance(message, Skipped):
                    self.done += message.length
                self._tell("copy", self.done, self.total, piece)
            with self._at_target(piece):
                self._dress(fd, opened)
        except BaseException:
            os.close(fd)
            raise
        self._pending.append(_Pending(piece, fd))

    def _next(self, reading: Reading) -> Message:
        while (message := reading.next(_WAIT)) is None:
            self._tell("copy", self.done, self.total, self.pieces[0])
        if isinstance(message, Failed):
            raise message.error
        if self._cancelled():
            raise CancelledError
        return message

    def _open_target(self, task: Task) -> int:
        """The file to write, new or with what is kept of it."""
        piece = task.piece
        parent, name = self._parent(piece.path)
        if task.start:
            fd = os.open(name, _WRITE, dir_fd=parent)
            try:
                self.fs.truncate(fd, task.start)
            except BaseException:
                os.close(fd)
                raise
            self.old.add(piece.path)
            return fd
        remove_tree(self.fs, parent, name, Meter())
        if piece.size >= _BEGIN:
            self.staging.log.note(piece.path, piece.identity)
        return self.fs.create(parent, name)

    def _dress(self, fd: int, opened: Opened) -> None:
        """Length, attributes, owner, mode and times of a file whose bytes are written."""
        piece = opened.task.piece
        if os.fstat(fd).st_size != piece.size:
            self.fs.truncate(fd, piece.size)
        for name, value in opened.attributes:
            with self.notes.kept("attributes", (errno.ENOSPC, errno.E2BIG, errno.ERANGE)):
                self.fs.attribute(fd, name, value)
        parent, name = self._parent(piece.path)
        self._own(parent, name, piece, os.fstat(fd))
        self._mode(fd, piece.mode)
        with self.notes.kept("times"):
            self.fs.times(parent, name, piece.atime_ns, piece.mtime_ns)

    def _own(self, parent: int, name: str, piece: Piece, st: os.stat_result) -> None:
        if (st.st_uid, st.st_gid) != (piece.uid, piece.gid):
            with self.notes.kept("owners"):
                self.fs.owner(parent, name, piece.uid, piece.gid)

    def _mode(self, fd: int, mode: int) -> None:
        if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
            with self.notes.kept("modes"):
                self.fs.chmod(fd, mode)

    def _settle(self, reading: Reading) -> None:
        """Make what was written durable, and say so in the log."""
        for pending in self._pending:
            medium.drop(pending.fd)  # all start to be written out before the first is waited for
        settled = bool(self._pending)
        while self._pending:
            piece, fd = self._pending[0].piece, self._pending[0].fd
            with self._at_target(piece):
                self.fs.fsync(fd)
                while (sha256 := reading.digest(_WAIT)) is None:
                    self._tell("copy", self.done, self.total, piece)
                self.staging.log.note(piece.path, piece.identity, sha256)
            os.close(fd)
            del self._pending[0]
            self._whole(piece, sha256)
        if settled:
            with self._at_target(self.pieces[0]):
                self.staging.log.sync()

    def _whole(self, piece: Piece, sha256: str) -> None:
        self.hashes[piece.path] = sha256
        self.wanted.append(Wanted(_target(piece.path), piece.size, sha256))

    def _hand_over(self, checker: Checker, last: bool = False) -> None:
        """Let the checker have what is durable; on a turning disk only when nothing is written any more."""
        if self._beside or last:
            for wanted in self.wanted:
                checker.add(wanted)
            self.wanted.clear()
        if last:
            checker.close()

    def _give_names(self) -> list[Piece]:
        """Make links and second names; returns second names that must be copies, for the target has none."""
        copies: list[Piece] = []
        for piece in self.pieces:
            if self._cancelled():
                raise CancelledError
            with self._at_target(piece):
                if piece.kind is Kind.LINK:
                    self._link(piece)
                elif piece.kind is Kind.TWIN and not self._twin(piece):
                    copies.append(piece)
        return copies

    def _link(self, piece: Piece) -> None:
        parent, name = self._parent(piece.path)
        st = self._lstat(piece)
        if st is not None and os.readlink(name, dir_fd=parent) != piece.link:
            remove_tree(self.fs, parent, name, Meter())
            st = None
        if st is None:
            self.fs.symlink(piece.link, parent, name)
            st = os.stat(name, dir_fd=parent, follow_symlinks=False)
        self._own(parent, name, piece, st)
        if st.st_mtime_ns != piece.mtime_ns:
            with self.notes.kept("times"):
                self.fs.times(parent, name, piece.atime_ns, piece.mtime_ns)

    def _twin(self, piece: Piece) -> bool:
        """Give a file its second name; False where the target can only hold a copy."""
        first = self._path_stat(piece.twin)
        st = self._lstat(piece)
        if piece.path in self.hashes or (st is not None and first is not None and st.st_ino == first.st_ino):
            return True
        parent, name = self._parent(piece.path)
        if st is not None:
            remove_tree(self.fs, parent, name, Meter())
        folder = open_below(self.staging.fd, posixpath.dirname(_target(piece.twin)))
        try:
            self.fs.link(folder, posixpath.basename(_target(piece.twin)), parent, name)
        except OSError as e:
            if e.errno not in NOT_LINKABLE:
                raise
            self.notes.twins += 1
            return False
        finally:
            os.close(folder)
        return True

    def _finish_folders(self) -> None:
        """Modes and times of folders, innermost first, and all of it durable."""
        for piece in reversed(self.pieces):
            if piece.kind is Kind.DIR:
                with self._at_target(piece):
                    self._finish_folder(piece)
        with self._at_target(self.pieces[0]):
            self.fs.fsync(self.staging.fd)

    def _finish_folder(self, piece: Piece) -> None:
        parent, name = self._parent(piece.path)
        fd = open_dir(name, parent)
        try:
            self._own(parent, name, piece, os.fstat(fd))
            # A folder that its owner may not write cannot be renamed to its place.
            self._mode(fd, piece.mode if piece.path else piece.mode | 0o700)
            with self.notes.kept("times"):
                self.fs.times(parent, name, piece.atime_ns, piece.mtime_ns)
            self.fs.fsync(fd)
        finally:
            os.close(fd)

    # What was read back

    def _wait(self, checker: Checker) -> list[Piece]:
        total = self.total
        while not checker.finished.wait(_WAIT):
            self._tell("check", min(checker.done, total), total, self.pieces[0], checker.current)
        self._stop_if_different(checker)
        if checker.error is not None:
            self.staging.present()
            raise faults.at_target(checker.error, checker.current.partition("/")[2] or self._name(self.pieces[0]))
        self._tell("check", total, total, self.pieces[0], checker.current, always=True)
        self.notes.cached += len(checker.cached)
        by_path = {_target(p.path): p for p in self.pieces}
        return [by_path[path] for path in checker.different]

    def _stop_if_different(self, checker: Checker) -> None:
        for path in checker.different:
            piece = next(p for p in self.pieces if _target(p.path) == path)
            if piece.path not in self.old:
                raise _not_equal(piece)

    def _result(self) -> Copied:
        files: list[CopiedFile] = []
        for p in self.pieces:
            if p.kind is Kind.LINK:
                files.append(CopiedFile(p.path, 0, "", p.link, 0o777, p.mtime_ns))
            elif p.kind in (Kind.FILE, Kind.TWIN):
                sha256 = self.hashes.get(p.path) or self.hashes[p.twin]
                files.append(CopiedFile(p.path, p.size, sha256, "", p.mode, p.mtime_ns))
        doubt = medium.doubt(self.staging.path)
        self.notes.doubt = doubt
        return Copied(
            tuple(files), sum(f.size for f in files), self.written, not doubt and not self.notes.cached, str(self.notes)
        )

    # Small things

    def _tell(self, phase: str, done: int, total: int, piece: Piece, name: str = "", always: bool = False) -> None:
        now = time.monotonic()
        if self._ending or (now - self._told < _WAIT and not always):
            return
        self._told = now
        if self._cancelled():
            raise CancelledError
        self.staging.present()
        if self._progress is not None:
            self._progress.advance(phase, done, total, name.partition("/")[2] or self._name(piece))

    def _name(self, piece: Piece) -> str:
        return piece.path or posixpath.basename(self.pieces[0].source)

    @contextmanager
    def _at_target(self, piece: Piece) -> Iterator[None]:
        try:
            yield
        except CopyError:
            raise
        except OSError as e:
            self.staging.present()
            raise faults.at_target(e, self._name(piece)) from e

    def _parent(self, path: str) -> tuple[int, str]:
        """The open folder that a piece of the copy lies in, and its name there."""
        folder, name = posixpath.split(_target(path))
        if self._folder_fd < 0 or folder != self._folder_path:
            self._leave_folder()
            self._folder_fd = open_below(self.staging.fd, folder)
            self._folder_path = folder
        return self._folder_fd, name

    def _leave_folder(self) -> None:
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
            self._folder_fd = -1

    def _lstat(self, piece: Piece) -> os.stat_result | None:
        return self._path_stat(piece.path)

    def _path_stat(self, path: str) -> os.stat_result | None:
        parent, name = self._parent(path)
        try:
            return os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None


def _target(path: str) -> str:
    """Below the staging folder."""
    return f"{TREE}/{path}" if path else TREE


def _is_kind(mode: int, kind: Kind | None) -> bool:
    """Whether what stands at a name can be part of the copy."""
    if kind is Kind.DIR:
        return stat.S_ISDIR(mode)
    if kind is Kind.LINK:
        return stat.S_ISLNK(mode)
    return kind in (Kind.FILE, Kind.TWIN) and stat.S_ISREG(mode)


def _not_equal(piece: Piece) -> CopyError:
    advice = "do not trust this drive (or this memory): check both, then try again"
    return CopyError(errno.EIO, "what was read back is not what was written", piece.path or piece.source, advice)
