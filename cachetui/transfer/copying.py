"""Copy what was surveyed into a staging folder, and prove the copy by reading it back.

Every file is read once, hashed beside it and written, holes kept; it is fsynced before the log calls it finished, and
read back from the medium after that. The source is never changed. Whatever stops it (an error, a full drive, cancel,
SIGKILL) leaves a staging folder that the next run goes on with, and nothing at the place where the copy will be.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from cachetui.fs import DISK, Fs
from cachetui.transfer import faults, medium
from cachetui.transfer.checking import Checker, Wanted
from cachetui.transfer.faults import CancelledError, CopyError
from cachetui.transfer.pieces import Kind, Piece, changed
from cachetui.transfer.reading import CHUNK, Data, Ended, Failed, Message, Opened, Reading, Task
from cachetui.transfer.staging import Noted, Staging
from cachetui.transfer.target import Target, at

__all__ = ["CancelledError", "Copied", "CopiedFile", "CopyError", "CopyProgress", "changed", "copy", "never"]

_WAIT = 0.1
"""Seconds between two looks at `cancelled`, and between two reports."""
_BEGIN = 2 * CHUNK
"""Files of this size are noted in the log when they are begun, so that they can be continued."""
_SETTLE_BYTES = 192 << 20
_SETTLE_FILES = 128
_FLUSH = 32 << 20
_MANY = 8
_SYNCERS = 16


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
    """Of all its files, each name counted."""
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
    number: int
    """Among the tasks of its reading."""


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
        self.target = Target(staging, fs, pieces)
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
        self._beside = not medium.rotates(staging.path)

    def all(self) -> Copied:
        with self.target.errors(self.pieces[0]):
            self.staging.present()
            self.staging.take_back()
            self.staging.log.reserve(len(self.pieces))
        self.target.prepare()
        tasks = [t for p in self.pieces if p.kind is Kind.FILE and (t := self._task(p)) is not None]
        if different := self._round(tasks):
            # An earlier run wrote these, and the power may have failed since: once more, from the start.
            self.done -= sum(p.size for p in different)
            self.old.difference_update(p.path for p in different)
            if self._round([Task(p) for p in different]):
                raise _not_equal(different[0])
        self.target.finish()
        self.staging.present()
        return self._result()

    def close(self) -> None:
        """Let go of what is open."""
        for pending in self._pending:
            os.close(pending.fd)
        self._pending.clear()
        self.target.close()

    def _task(self, piece: Piece) -> Task | None:
        """What is to do for a file; None where an earlier run finished it (then it is only read back)."""
        noted = self.staging.log.files.get(piece.path)
        if noted is None or noted.identity != piece.identity:
            return Task(piece)
        with self.target.errors(piece):
            st = self.target.lstat(piece.path)
        if st is None:
            return Task(piece)
        if self._take_over(piece, noted, st):
            self.done += piece.size
            return None
        start = 0 if noted.sha256 else min(st.st_size, piece.size) // CHUNK * CHUNK
        if start:
            self.old.add(piece.path)
        return Task(piece, start)

    def _take_over(self, piece: Piece, noted: Noted, st: os.stat_result) -> bool:
        """Whether a file is one that an earlier run finished."""
        if not noted.sha256 or noted.identity != piece.identity or st.st_size != piece.size:
            return False
        self.old.add(piece.path)
        self._whole(piece, noted.sha256)
        return True

    def _round(self, tasks: Sequence[Task]) -> list[Piece]:
        """Copy these files, give all names, read back; returns the files that an earlier run left with other bytes."""
        with Checker(self.staging.fd) as checker:
            self._hand_over(checker)
            self._copy_files(tasks, checker)
            if copies := self._give_names():
                self.total += sum(p.size for p in copies)
                self._copy_files([Task(p) for p in copies], checker)
            self._hand_over(checker, last=True)
            return self._wait(checker)

    def _copy_files(self, tasks: Sequence[Task], checker: Checker) -> None:
        with Reading(tasks) as reading:
            try:
                for number in range(len(tasks)):
                    self._copy_one(reading, number)
                    waiting = sum(p.piece.size for p in self._pending)
                    if waiting >= _SETTLE_BYTES or len(self._pending) >= _SETTLE_FILES:
                        self._settle(reading)
                        self._hand_over(checker)
                        self._stop_if_different(checker)
                self._settle(reading)
            except (OSError, CancelledError):
                self._ending = True
                with suppress(OSError):  # what is whole stays whole: the next run need not copy it again
                    self._settle(reading)
                raise

    def _copy_one(self, reading: Reading, number: int) -> None:
        opened = self._next(reading)
        assert isinstance(opened, Opened)
        piece = opened.task.piece
        self._tell("copy", self.done, self.total, piece.path)
        with self.target.errors(piece):
            if piece.size >= _BEGIN:
                self.staging.log.note(piece.path, piece.identity)
            fd = self.target.open(opened.task)
        try:
            flushed = opened.task.start
            while not isinstance(message := self._next(reading), Ended):
                if isinstance(message, Data):
                    with self.target.errors(piece):
                        self.fs.write_at(fd, message.view, message.offset)
                    length = len(message.view)
                    self.written += length
                    reading.give_back(message.buffer)
                    if message.offset + length - flushed >= _FLUSH:
                        with self.target.errors(piece):
                            flushed = _write_out(fd, flushed, message.offset + length)
                else:
                    assert not isinstance(message, Opened | Failed)
                    length = message.length
                self.done += length
                self._tell("copy", self.done, self.total, piece.path)
            with self.target.errors(piece):
                self.target.dress(fd, piece, opened.attributes)
        except BaseException:
            os.close(fd)
            raise
        self._pending.append(_Pending(piece, fd, number))

    def _next(self, reading: Reading) -> Message:
        while (message := reading.next(_WAIT)) is None:
            self._tell("copy", self.done, self.total, "")
        if isinstance(message, Failed):
            raise message.error
        if self._cancelled():
            raise CancelledError
        return message

    def _settle(self, reading: Reading) -> None:
        """Make what was written durable, and say so in the log."""
        batch, self._pending = self._pending, []  # whatever happens: after a failed fsync a second one proves nothing
        try:
            for pending, error in zip(batch, self._sync(batch), strict=True):
                piece = pending.piece
                with self.target.errors(piece):
                    if error is not None:
                        raise error
                    while (sha256 := reading.digest(pending.number, _WAIT)) is None:
                        self._tell("copy", self.done, self.total, piece.path)
                    self.staging.log.note(piece.path, piece.identity, sha256)
                self._whole(piece, sha256)
            if batch:
                with self.target.errors(self.pieces[0]):
                    self.staging.log.sync()
        finally:
            for pending in batch:
                os.close(pending.fd)

    def _sync(self, batch: Sequence[_Pending]) -> Iterable[OSError | None]:
        """fsync each of these; many at once, for a file system then writes its journal once for all of them."""
        for pending in batch:
            medium.drop(pending.fd)  # all begin to be written out before the first is waited for
        if len(batch) < _MANY:
            return map(self._sync_one, batch)
        with ThreadPoolExecutor(_SYNCERS) as pool:
            return list(pool.map(self._sync_one, batch))

    def _sync_one(self, pending: _Pending) -> OSError | None:
        try:
            self.fs.fsync(pending.fd)
        except OSError as e:
            return e
        return None

    def _whole(self, piece: Piece, sha256: str) -> None:
        self.hashes[piece.path] = sha256
        self.wanted.append(Wanted(at(piece.path), piece.size, sha256))

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
            if piece.kind not in (Kind.LINK, Kind.TWIN):
                continue
            self._tell("copy", self.done, self.total, piece.path)
            with self.target.errors(piece):
                if piece.kind is Kind.LINK:
                    self.target.link(piece)
                elif piece.path not in self.hashes and not self._copied_twin(piece) and not self.target.twin(piece):
                    copies.append(piece)
        return copies

    def _copied_twin(self, piece: Piece) -> bool:
        """Whether an earlier run had to copy this second name, and finished."""
        noted, st = self.staging.log.files.get(piece.path), self.target.lstat(piece.path)
        if noted is None or st is None or not self._take_over(piece, noted, st):
            return False
        self.total += piece.size
        self.done += piece.size
        self.target.notes.twins += 1
        return True

    def _wait(self, checker: Checker) -> list[Piece]:
        while not checker.finished.wait(_WAIT):
            self._tell("check", min(checker.done, self.total), self.total, _below(checker.current))
        self._stop_if_different(checker)
        if checker.error is not None:
            self.staging.present()
            raise faults.at_target(checker.error, _below(checker.current) or self.target.name_of(self.pieces[0]))
        self._tell("check", self.total, self.total, _below(checker.current), always=True)
        self.target.notes.cached += len(checker.cached)
        by_path = {at(p.path): p for p in self.pieces}
        return [by_path[path] for path in checker.different]

    def _stop_if_different(self, checker: Checker) -> None:
        for path in checker.different:
            piece = next(p for p in self.pieces if at(p.path) == path)
            if piece.path not in self.old:
                raise _not_equal(piece)

    def _result(self) -> Copied:
        files: list[CopiedFile] = []
        for p in self.pieces:
            if p.kind is Kind.LINK:
                files.append(CopiedFile(p.path, 0, "", p.link, 0o777, p.mtime_ns))
            elif p.kind in (Kind.FILE, Kind.TWIN):
                sha256 = self.hashes.get(p.path) or self.hashes[p.twin]
                files.append(CopiedFile(p.path, p.size, sha256, "", stat.S_IMODE(p.mode), p.mtime_ns))
        notes = self.target.notes
        notes.doubt = medium.doubt(self.staging.path)
        proven = not notes.doubt and not notes.cached
        return Copied(tuple(files), sum(f.size for f in files), self.written, proven, str(notes))

    def _tell(self, phase: str, done: int, total: int, path: str, *, always: bool = False) -> None:
        """Report, ten times a second; look whether it was cancelled and whether the drive is still there."""
        now = time.monotonic()
        if self._ending or (now - self._told < _WAIT and not always):
            return
        self._told = now
        if self._cancelled():
            raise CancelledError
        self.staging.present()
        if self._progress is not None:
            self._progress.advance(phase, done, total, path or self.target.name_of(self.pieces[0]))


def _write_out(fd: int, start: int, end: int) -> int:
    """Begin to write these bytes out, and drop the stretch before, once it is out; returns `end`. Raises OSError.

    So at most two stretches are in memory: progress is true, and the last fsync takes no minutes on a slow drive.
    """
    medium.drop(fd, start, end - start)
    before = max(0, start - _FLUSH)
    if before < start:
        medium.wait_written(fd, before, start - before)
        medium.drop(fd, before, start - before)
    return end


def _below(path: str) -> str:
    return path.partition("/")[2]


def _not_equal(piece: Piece) -> CopyError:
    advice = "do not trust this drive (or this machine's memory): check both, then try again"
    return CopyError(errno.EIO, "what was read back is not what was written", piece.path or piece.source, advice)
