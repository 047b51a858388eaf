"""A file on its way: a sparse file beside the blobs, and a journal of the ranges of it that are durable.

    <name>.cachetui-part            the content, holes where nothing came yet
    <name>.journal.cachetui-part    checksummed JSON lines: what it is, then ranges

A range is journalled only after the data was fsynced, by a thread of its own so that the network does not wait;
whoever writes may be one segment ahead of that. After a kill or a power cut only journalled ranges are believed.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Sequence
from typing import Any

from cachetui import lines
from cachetui.download.ranges import Ranges
from cachetui.fs import Fs
from cachetui.plans.moves import Meter, remove_tree

SUFFIX = ".cachetui-part"
JOURNAL = ".journal" + SUFFIX
_VERSION = 1
_MAX_JOURNAL = 64 << 20
_OPEN = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class Partial:
    """An open partial of one file; whoever opens it holds the file's lock.

    `name`: of the blob. `content`: what it will be, e.g. the hash; a partial of something else is started over.
    Raises OSError.
    """

    def __init__(self, fs: Fs, folder: int, name: str, size: int, content: str) -> None:
        self._fs = fs
        self._folder = folder
        self.name, self.size = name + SUFFIX, size
        self._journal_name = name + JOURNAL
        self._content = content
        self.changed = threading.Condition()
        self.written = Ranges()
        """In the file, durable or not."""
        self.durable = Ranges()
        self.tag = ""
        """ETag of the server the bytes come from."""
        self.error: BaseException | None = None
        self._pending: list[tuple[int, int]] = []
        self._closing = False
        self.fd = self._journal = -1
        self._end = 0
        if not self._resume():
            self._start()
        self._keeper = threading.Thread(target=self._keep, name=f"durable {name[:8]}", daemon=True)
        self._keeper.start()

    def _resume(self) -> bool:
        """Open what an earlier run left, where it is a part of the same content."""
        try:
            self.fd = os.open(self.name, _OPEN, dir_fd=self._folder)
            self._journal = os.open(self._journal_name, _OPEN, dir_fd=self._folder)
            here, log = os.fstat(self.fd), os.fstat(self._journal)
            good = stat.S_ISREG(here.st_mode) and here.st_nlink == 1 and here.st_size == self.size
            if good and stat.S_ISREG(log.st_mode) and log.st_size <= _MAX_JOURNAL:
                return self._read()
        except OSError:
            pass
        return False

    def _read(self) -> bool:
        found = lines.read(self._journal, _MAX_JOURNAL)
        head = lines.decode(found[0]) if found else None
        if head is None or [head.get(k) for k in ("v", "content", "size")] != [_VERSION, self._content, self.size]:
            return False
        self.durable, self.tag, length = _ranges(found[1:], self.size)
        self._end = len(found[0]) + 1 + length
        for start, end in self.durable:
            self.written.add(start, end)
        return True

    def _start(self) -> None:
        """Begin anew. The journal goes first: without it nobody believes what lies in the old file."""
        self._close()
        for name in (self._journal_name, self.name):
            remove_tree(self._fs, self._folder, name, Meter())
        self.durable, self.written, self.tag, self._end = Ranges(), Ranges(), "", 0
        self.fd = self._fs.create(self._folder, self.name, 0o666)
        self._fs.truncate(self.fd, self.size)
        self._journal = self._fs.create(self._folder, self._journal_name, 0o666)
        self._append({"v": _VERSION, "content": self._content, "size": self.size})
        self._fs.fsync(self._folder)

    def _append(self, body: dict[str, Any]) -> None:
        line = lines.encode(body)
        self._fs.write_at(self._journal, line, self._end)
        self._end += len(line)

    def remember(self, tag: str) -> None:
        """Note the ETag of the server, for If-Range; durable with the next range."""
        with self.changed:
            if tag != self.tag:
                self.tag = tag
                self._append({"tag": tag})

    def write(self, data: memoryview, offset: int) -> None:
        """Put bytes in their place. Raises OSError."""
        self._fs.write_at(self.fd, data, offset)
        with self.changed:
            self.written.add(offset, offset + len(data))
            self.changed.notify_all()

    def commit(self, start: int, end: int, *, before: tuple[int, int] | None = None) -> None:
        """Have a written range made durable soon; wait until the one `before` is. Raises what that raised."""
        with self.changed:
            self._pending.append((start, end))
            self.changed.notify_all()
            while before is not None and self.error is None and not self._is_durable(*before):
                self.changed.wait()
            if self.error is not None:
                raise self.error

    def _is_durable(self, start: int, end: int) -> bool:
        return any(s <= start and end <= e for s, e in self.durable)

    def flush(self) -> None:
        """Wait until everything committed is durable. Raises what that raised."""
        with self.changed:
            while self.error is None and (self._pending or self._busy):
                self.changed.wait()
            if self.error is not None:
                raise self.error

    _busy = False

    def _keep(self) -> None:
        """The thread that makes ranges durable, all that wait at once."""
        while True:
            with self.changed:
                while not self._pending and not self._closing:
                    self.changed.wait()
                if not self._pending:
                    return
                batch, self._pending, self._busy = self._pending, [], True
            try:
                self._fs.fsync(self.fd)
                with self.changed:
                    self._append({"ranges": batch})
                self._fs.fsync(self._journal)
            except BaseException as e:  # whatever it is: others wait for this thread
                with self.changed:
                    self.error, self._busy, self._pending = e, False, []
                    self.changed.notify_all()
                return
            with self.changed:
                for start, end in batch:
                    self.durable.add(start, end)
                self._busy = False
                self.changed.notify_all()

    def fail(self, error: Exception) -> None:
        """Wake whoever waits for this file: it will not become whole now."""
        with self.changed:
            self.error = self.error or error
            self.changed.notify_all()

    def restart(self) -> None:
        """Forget all that came: it is not what was asked for. Nobody writes meanwhile. Raises OSError."""
        self._stop()
        self._start()
        self.error, self._closing = None, False
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def drop_journal(self) -> None:
        """The content is whole and placed."""
        self.close()
        remove_tree(self._fs, self._folder, self._journal_name, Meter())

    def discard(self) -> None:
        """Remove both files."""
        self.close()
        for name in (self._journal_name, self.name):
            remove_tree(self._fs, self._folder, name, Meter())

    def close(self) -> None:
        """Stop, with what is committed made durable."""
        self._stop()
        self._close()

    def _stop(self) -> None:
        with self.changed:
            self._closing = True
            self.changed.notify_all()
        self._keeper.join()

    def _close(self) -> None:
        for fd in (self.fd, self._journal):
            if fd >= 0:
                os.close(fd)
        self.fd = self._journal = -1


def clear(fs: Fs, folder: int, name: str) -> None:
    """Remove what a killed run left beside content that is whole; the caller holds its lock. Raises OSError."""
    for part in (name + JOURNAL, name + SUFFIX):
        remove_tree(fs, folder, part, Meter())


def peek(folder: str, name: str, size: int) -> int:
    """How many durable bytes an earlier run left of a content, without touching it; 0 where there are none."""
    from cachetui import walk

    try:
        if os.lstat(f"{folder}/{name}{SUFFIX}").st_size != size:
            return 0
        found = walk.read_small(f"{folder}/{name}{JOURNAL}", _MAX_JOURNAL).split(b"\n")[:-1]
    except OSError:
        return 0
    head = lines.decode(found[0]) if found else None
    if head is None or [head.get(k) for k in ("v", "content", "size")] != [_VERSION, name, size]:
        return 0
    return _ranges(found[1:], size)[0].total


def _ranges(journal: Sequence[bytes], size: int) -> tuple[Ranges, str, int]:
    """(ranges, last tag, bytes of journal that make sense) of the lines after the first."""
    found, tag, length = Ranges(), "", 0
    for line in journal:
        body = lines.decode(line)
        if body is None:
            break
        tag = body["tag"] if isinstance(body.get("tag"), str) else tag
        for pair in body.get("ranges", ()):
            start, end = pair
            if type(start) is int and type(end) is int and 0 <= start < end <= size:
                found.add(start, end)
        length += len(line) + 1
    return found, tag, length
