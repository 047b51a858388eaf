"""The lock that huggingface_hub (WeakFileLock) takes for a file while it downloads it."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

import psutil

from cachetui.fs import Fs

try:
    import fcntl
except ImportError:  # Windows: nothing is downloaded there
    fcntl = None  # type: ignore[assignment]

_LOCK = os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_HELD = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)
_LOCK_MODE = 0o664
"""So that others who share the cache can wait for it too, whatever the umask (WeakFileLock)."""


def take_lock(fs: Fs, folder: int, name: str) -> int | None:
    """The lock file as filelock takes it: flock on a file with mode 0664 that stays. None while it is held."""
    while True:
        try:
            fd = os.open(name, _LOCK, dir_fd=folder)
        except FileNotFoundError:
            try:
                fd = fs.create(folder, name, _LOCK_MODE)
            except FileExistsError:
                continue
        try:
            state = _locked(fs, fd)
        except BaseException:
            os.close(fd)
            raise
        if state == "ours":
            return fd
        os.close(fd)
        if state == "held":
            return None


def holder(folder: int, name: str) -> str:
    """Who holds such a lock, for people, by the kernel's list (Linux); `another program` where it cannot be told."""
    try:
        inode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino
        rows = Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines()
        pids = [int(f[4]) for f in map(str.split, rows) if f[1] == "FLOCK" and f[5].rpartition(":")[2] == str(inode)]
        process = psutil.Process(pids[0])
        ours = any(part.startswith("cachetui.workers") for part in process.cmdline())
        return f"{'another download of cachetui' if ours else process.name()} (process {process.pid})"
    except (OSError, IndexError, ValueError, psutil.Error):
        return "another program"


def _locked(fs: Fs, fd: int) -> str:
    """ours, held (by somebody else), or removed: then there is another file of this name by now. Raises OSError."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        if e.errno in _HELD:
            return "held"
        if e.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise  # elsewhere: no flock here; as with the library, correctness does not depend on it
    st = os.fstat(fd)
    if not st.st_nlink:
        return "removed"
    if stat.S_IMODE(st.st_mode) != _LOCK_MODE and st.st_uid == os.geteuid():
        with suppress(OSError):
            fs.chmod(fd, _LOCK_MODE)
    return "ours"
