"""What was read before: hashes by device, inode, size and times, so that verifying again reads only what changed.

It is a help, never a condition: where it is damaged, locked or cannot be written, that is said and everything is read.
A hash is trusted for a year; after that the bytes are read again, for a drive can lose them without a trace.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection, Mapping
from contextlib import suppress

from cachetui import filesystem, paths
from cachetui.fs import Fs
from cachetui.verify.reading import Stamp

YEAR = 365 * 86400.0
_BATCH = 200
_WAIT = 2.0
_SCHEMA = """CREATE TABLE IF NOT EXISTS hashed (
    dev INTEGER, ino INTEGER, algorithm TEXT, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
    digest TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (dev, ino, algorithm)) WITHOUT ROWID"""
_RECALL = """SELECT algorithm, digest FROM hashed
    WHERE dev=? AND ino=? AND size=? AND mtime_ns=? AND ctime_ns=? AND at>?"""
_UNSTABLE = frozenset(("vfat", "msdos", "exfat", "ntfs", "ntfs3", "ntfs-3g", "hfs", "iso9660", "udf"))
"""File systems that make up inode numbers, or do not note when an inode changed."""


class Memory:
    """The table, or nothing where it cannot be used; `notes` says why. Used by one thread."""

    def __init__(self, fs: Fs) -> None:
        self.notes: list[str] = []
        self._db: sqlite3.Connection | None = None
        self._waiting: list[tuple[object, ...]] = []
        self._trusted: dict[int, bool] = {}
        path = str(paths.verified_file())
        try:
            fs.make_path(os.path.dirname(path))
            fs.append(path, b"")  # made here, so that nobody else may read it
            self._db = _connect(path)
        except sqlite3.OperationalError as e:
            self._drop(f"what was verified before is not remembered in this run: {e}")
        except sqlite3.DatabaseError as e:
            self._start_over(fs, path, str(e))
        except OSError as e:
            self._drop(f"what was verified before is not remembered: {(e.strerror or str(e)).lower()}")

    def _start_over(self, fs: Fs, path: str, why: str) -> None:
        self.notes.append(f"the memory of what was verified is damaged ({why}): it starts anew and everything is read")
        try:
            fd = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0))
            try:
                fs.truncate(fd, 0)
            finally:
                os.close(fd)
            self._db = _connect(path)
        except (OSError, sqlite3.Error) as e:
            self._drop(f"it cannot be made anew: {e}")

    def _drop(self, why: str) -> None:
        self.notes.append(why)
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
        self._db = None

    def recall(self, path: str, was: Stamp, algorithms: Collection[str]) -> dict[str, str] | None:
        """The hashes of a file that has not changed since; None where one of them is not known."""
        if self._db is None or not self._trusts(path, was.dev):
            return None
        try:
            rows = self._db.execute(_RECALL, (*_key(was), time.time() - YEAR)).fetchall()
        except sqlite3.Error as e:
            self._drop(f"what was verified before cannot be read ({e}): everything is read")
            return None
        found = {a: d for a, d in rows if isinstance(a, str) and isinstance(d, str)}
        return found if found.keys() >= set(algorithms) else None

    def keep(self, path: str, was: Stamp, digests: Mapping[str, str]) -> None:
        """Remember what was just read."""
        if self._db is None or not self._trusts(path, was.dev):
            return
        dev, ino, size, mtime_ns, ctime_ns = _key(was)
        now = time.time()
        self._waiting += [(dev, ino, a, size, mtime_ns, ctime_ns, d, now) for a, d in digests.items()]
        if len(self._waiting) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        rows, self._waiting = self._waiting, []
        if self._db is None or not rows:
            return
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO hashed VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as e:
            self._drop(f"what is verified now cannot be remembered: {e}")

    def close(self) -> None:
        """Write what waits, forget what is too old."""
        self.flush()
        if self._db is not None:
            with suppress(sqlite3.Error), self._db:
                self._db.execute("DELETE FROM hashed WHERE at < ?", (time.time() - YEAR,))
            with suppress(sqlite3.Error):
                self._db.close()
        self._db = None

    def _trusts(self, path: str, dev: int) -> bool:
        """Whether device, inode and times tell files apart there."""
        known = self._trusted.get(dev)
        if known is None:
            mount = filesystem.mount_of(path)
            apart = mount is not None and (mount.network or mount.type in _UNSTABLE or mount.type.startswith("fuse"))
            known = self._trusted[dev] = not apart
        return known


def _connect(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_WAIT, check_same_thread=False)
    try:
        db.execute("PRAGMA synchronous=NORMAL")
        with db:
            db.execute(_SCHEMA)
        db.execute("SELECT dev, ino, algorithm, size, mtime_ns, ctime_ns, digest, at FROM hashed LIMIT 1").fetchone()
    except sqlite3.Error:
        db.close()
        raise
    return db


def _key(was: Stamp) -> tuple[int, int, int, int, int]:
    """As SQLite's signed 64 bits hold it."""
    dev, ino, size, mtime_ns, ctime_ns = (n - (1 << 64) if n >= 1 << 63 else n for n in was)
    return dev, ino, size, mtime_ns, ctime_ns
