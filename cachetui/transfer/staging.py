"""Where a copy grows: a locked folder with the tree, and a log of what of it is whole.

    <parent>/<key>/lock   held while somebody works on it
                   log    checksummed JSON lines: the header, then what was begun, finished, published
                   tree   the copy: a folder or one file

A file is named as finished only after its bytes were made durable; a line that was lost costs copying that file again.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from cachetui import lines, walk
from cachetui.fs import Fs, open_dir
from cachetui.plans import lock
from cachetui.plans.moves import Meter, remove_tree
from cachetui.plans.survey import is_there
from cachetui.transfer import faults

TREE, LOG = "tree", "log"
_VERSION = 1
_RESERVED = 1 << 20
_LINE = 256
"""About the bytes of a line, for reserving room."""
_MAX = 1 << 30
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Noted:
    """What the log says of one file: what it was copied from, and its hash where it is whole."""

    identity: tuple[int, int, int]
    """Inode, size and mtime_ns of the source."""
    sha256: str
    """Empty: begun only."""


@dataclass
class Log:
    """The log file of a staging folder."""

    fd: int
    fs: Fs
    header: dict[str, Any] | None = None
    files: dict[str, Noted] = field(default_factory=dict)
    published: int = 0
    """Inode of the tree when it was about to be renamed to its place; 0 before."""
    place: str = ""
    """The place, relative to the staging folder."""
    _end: int = 0
    _count: int = 0

    def read(self) -> None:
        """Take in what was written before; lines end where they stop making sense."""
        for line in lines.read(self.fd, _MAX):
            body = lines.decode(line)
            if body is None or body.get("n") != self._count or not self._take(body):
                return
            self._end += len(line) + 1
            self._count += 1

    def _take(self, body: dict[str, Any]) -> bool:
        try:
            if self._count == 0:
                self.header = dict(body["header"]) if body["version"] == _VERSION else None
                return self.header is not None
            if "place" in body:
                self.published, self.place = int(body["ino"]), str(body["place"])
            else:
                ino, size, mtime = (int(n) for n in body["from"])
                self.files[str(body["file"])] = Noted((ino, size, mtime), str(body["sha256"]))
        except (KeyError, TypeError, ValueError):
            return False
        return True

    def begin(self, header: Mapping[str, Any]) -> None:
        """Write the header and make it durable. Raises OSError."""
        self._write({"version": _VERSION, "header": dict(header)})
        self.sync()

    def note(self, path: str, identity: tuple[int, int, int], sha256: str = "") -> None:
        """A file was begun, or is whole and durable. The line itself is durable after `sync`. Raises OSError."""
        self._write({"file": path, "from": identity, "sha256": sha256})

    def publishing(self, ino: int, place: str) -> None:
        """The tree is about to be renamed to `place`. Durable when this returns. Raises OSError."""
        self._write({"place": place, "ino": ino})
        self.sync()

    def reserve(self, files: int) -> None:
        """Give the log blocks for about so many lines, so that it can be written on a full drive. Raises OSError."""
        size = os.fstat(self.fd).st_size
        missing = min(_RESERVED, self._end + _LINE * (files + 2)) - size
        if missing > 0:
            self.fs.write_at(self.fd, bytes(missing), size)

    def sync(self) -> None:
        """Make all lines durable. Raises OSError."""
        self.fs.fsync(self.fd)

    def _write(self, body: dict[str, Any]) -> None:
        line = lines.encode({"n": self._count, **body})
        self.fs.write_at(self.fd, line, self._end)
        self._take({"n": self._count, **body})
        self._end += len(line)
        self._count += 1


class Staging:
    """An open, locked staging folder. `tree` is the absolute path of the copy."""

    def __init__(self, fs: Fs, parent: int, parent_path: str, key: str, fd: int, log: Log) -> None:
        self.fs = fs
        self.key = key
        self.path = os.path.join(parent_path, key)
        self.tree = os.path.join(self.path, TREE)
        self.fd = fd
        """Of the staging folder: everything is written below it, so nothing lands elsewhere after an unmount."""
        self.log = log
        self._parent = parent
        self._discarded = False

    def present(self) -> None:
        """Raise CopyError when the folder is no longer at its path: its drive was unmounted or unplugged."""
        try:
            here = os.stat(self.path)
        except OSError:
            raise faults.gone(self.path) from None
        mine = os.fstat(self.fd)
        if (here.st_dev, here.st_ino) != (mine.st_dev, mine.st_ino):
            raise faults.gone(self.path)

    def publish(self, destination: str, name: str) -> str:
        """Rename the copy to `destination`/`name` on the same file system and make that durable; returns the path.

        Never over something: FileExistsError. The folder is made where it is missing. Raises CopyError, OSError.
        What was published can be copied again with the same staging folder until that is discarded: it is taken back.
        """
        self.present()
        ensure_folder(self.fs, destination)
        target = open_dir(destination)
        try:
            if os.fstat(target).st_dev != os.fstat(self.fd).st_dev:
                raise faults.gone(destination)
            path = os.path.join(destination, name)
            tree = os.stat(TREE, dir_fd=self.fd, follow_symlinks=False)
            self.log.publishing(tree.st_ino, os.path.relpath(path, self.path))
            self.fs.rename(self.fd, TREE, target, name)
            self.fs.fsync(target)
            self.fs.fsync(self.fd)
            return path
        finally:
            os.close(target)

    def take_back(self) -> None:
        """Undo a `publish` after which the program was killed, where the very same tree still lies there.

        Raises OSError.
        """
        if not self.log.published or is_there(self.fd, TREE):
            return
        folder, name = os.path.split(os.path.normpath(os.path.join(self.path, self.log.place)))
        try:
            place = open_dir(folder)
        except OSError:
            return
        try:
            with suppress(FileNotFoundError):
                st = os.stat(name, dir_fd=place, follow_symlinks=False)
                if (st.st_ino, st.st_dev) == (self.log.published, os.fstat(self.fd).st_dev):
                    self.fs.rename(place, name, self.fd, TREE)
                    self.fs.fsync(self.fd)
                    self.fs.fsync(place)
        finally:
            os.close(place)

    def discard(self) -> None:
        """Remove the staging folder and what of the copy still lies in it. Raises OSError."""
        meter = Meter()
        for name in (TREE, LOG):
            remove_tree(self.fs, self.fd, name, meter)
        for name in os.listdir(self.fd):
            remove_tree(self.fs, self.fd, name, meter)
        remove_tree(self.fs, self._parent, self.key, meter)
        self._discarded = True

    @property
    def discarded(self) -> bool:
        """Whether the folder was removed."""
        return self._discarded


@contextmanager
def open_staging(fs: Fs, parent_dir: str, key: str, header: Mapping[str, Any]) -> Iterator[Staging]:
    """The staging folder `parent_dir`/`key`, locked; both are made where they are missing.

    A copy that was begun with an equal header (any JSON object) goes on; one with another header is removed first.
    Raises lock.HeldError while another process works on it, OSError.
    """
    if os.path.basename(key) != key or key in ("", ".", ".."):
        raise ValueError(f"not a folder name: {key!r}")
    wanted = json.loads(json.dumps(dict(header)))
    fs.make_path(parent_dir)
    parent = open_dir(parent_dir)
    try:
        with _locked(fs, parent, key) as fd:
            if (log := _log(fs, fd)) is None or log.header != wanted:
                if log is not None:
                    os.close(log.fd)
                log = _start_over(fs, parent, fd, wanted)
            try:
                yield Staging(fs, parent, parent_dir, key, fd, log)
            finally:
                os.close(log.fd)
    finally:
        os.close(parent)


@contextmanager
def _locked(fs: Fs, parent: int, key: str) -> Iterator[int]:
    """The folder, held by nobody else. Whoever discards it removes it under the lock: then it is made again."""
    for _ in range(_TRIES):
        with suppress(FileExistsError):
            fs.mkdir(parent, key)
            fs.fsync(parent)
        with ExitStack() as stack:
            try:
                fd = open_dir(key, parent)
                stack.callback(os.close, fd)
                stack.enter_context(lock.exclusive(fs, fd))
                if os.stat(key, dir_fd=parent, follow_symlinks=False).st_ino != os.fstat(fd).st_ino:
                    continue
            except FileNotFoundError:
                continue
            yield fd
            return
    raise OSError(errno.EBUSY, "the folder comes and goes", key)


def _log(fs: Fs, fd: int) -> Log | None:
    """The log of a staging folder, read; None where there is none."""
    try:
        opened = os.open(LOG, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    except OSError:
        return None
    log = Log(opened, fs)
    try:
        if stat.S_ISREG(os.fstat(opened).st_mode):
            log.read()
    except BaseException:
        os.close(opened)
        raise
    return log


def _start_over(fs: Fs, parent: int, fd: int, header: Mapping[str, Any]) -> Log:
    # The log goes first: without it nobody takes what is left of an old tree for a part of the new one.
    for name in (LOG, TREE):
        remove_tree(fs, fd, name, Meter())
    log = Log(fs.create(fd, LOG), fs)
    try:
        log.begin(header)
        fs.fsync(fd)
        fs.fsync(parent)
    except BaseException:
        os.close(log.fd)
        raise
    return log


def leftovers(parent_dir: str) -> tuple[tuple[str, dict[str, Any]], ...]:
    """(key, header) of every staging folder nobody works on; an empty header where there is none. Changes nothing."""
    try:
        parent = open_dir(parent_dir)
    except OSError:
        return ()
    found: list[tuple[str, dict[str, Any]]] = []
    try:
        for key in sorted(os.listdir(parent)):
            try:
                fd = open_dir(key, parent)
            except OSError:
                continue
            try:
                if lock.holder(fd):
                    continue
                log = _log(Fs(), fd)
                found.append((key, {} if log is None else log.header or {}))
                if log is not None:
                    os.close(log.fd)
            finally:
                os.close(fd)
    finally:
        os.close(parent)
    return tuple(found)


def taken(parent_dir: str, key: str) -> int:
    """Bytes of disk blocks that an unfinished copy has already; 0 where there is none."""
    tally = walk.tree(os.path.join(parent_dir, key))
    return sum(b.allocated for b in tally.files)


def ensure_folder(fs: Fs, path: str) -> None:
    """Make a folder and what is missing above it, durably, with the user's usual mode. It may exist. Raises OSError."""
    if os.path.isdir(path):
        return
    above, name = os.path.split(path)
    ensure_folder(fs, above)
    parent = open_dir(above)
    try:
        with suppress(FileExistsError):
            fs.mkdir(parent, name, 0o777)
        fs.fsync(parent)
    finally:
        os.close(parent)
