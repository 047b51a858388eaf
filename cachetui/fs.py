"""Every call that changes the disk, in one object.

All renames, links, unlinks and writes of the program go through `Fs`, relative to directory descriptors (I3), so
that tests can make any of them fail or kill the process there (`_call` is the one point they override). Reading is
not here: see walk.py. Of these calls, only plans/ may use those that remove or move what this operation did not
itself create.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")

_PIECE = 4 << 20
"""Bytes that are copied at once."""

_NO_REPLACE, _EXCHANGE = (4, 2) if sys.platform == "darwin" else (1, 2)
"""renameat2(2): RENAME_NOREPLACE, RENAME_EXCHANGE; renameatx_np(2) of macOS: RENAME_EXCL, RENAME_SWAP."""
UNABLE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""How a system or file system says that it has no such rename."""

HAS_DIR_FD = os.open in os.supports_dir_fd and os.rename in os.supports_dir_fd
DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def _find_renameat2() -> Callable[..., int] | None:
    """The call that renames with flags: Linux and macOS have one, of the same form."""
    name = {"linux": "renameat2", "darwin": "renameatx_np"}.get(sys.platform)
    if name is None:
        return None
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    function.restype = ctypes.c_int
    return cast("Callable[..., int]", function)


_renameat2 = _find_renameat2()


def _renameat2_call(src_fd: int, src: str, dst_fd: int, dst: str, flags: int) -> None:
    assert _renameat2 is not None
    if _renameat2(src_fd, os.fsencode(src), dst_fd, os.fsencode(dst), flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), src, None, dst)


class Fs:
    """The disk. Descriptors are of directories, names are single components unless said otherwise."""

    def _call(self, operation: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Do one file-changing call. Tests override this to count, fail or kill."""
        return function(*args, **kwargs)

    def mkdir(self, parent: int, name: str, mode: int = 0o700) -> None:
        """Create a folder. Raises FileExistsError where it exists."""
        self._call("mkdir", os.mkdir, name, mode, dir_fd=parent)

    def create(self, parent: int, name: str, mode: int = 0o600) -> int:
        """Create a new file and return a read-write descriptor. Raises FileExistsError where it exists."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        return self._call("create", os.open, name, flags, mode, dir_fd=parent)

    def create_nameless(self, parent: int, mode: int = 0o600) -> int:
        """Create a file that has no name yet and is gone with this process; returns a read-write descriptor.

        Raises OSError (an errno of UNABLE) where the system or file system has no such files (Linux: O_TMPFILE).
        """
        flag = getattr(os, "O_TMPFILE", 0)
        if not flag or not os.path.isdir("/proc/self/fd"):
            raise OSError(errno.EOPNOTSUPP, "this system has no files without a name")
        flags = os.O_RDWR | flag | getattr(os, "O_CLOEXEC", 0)
        try:
            return self._call("create", os.open, ".", flags, mode, dir_fd=parent)
        except IsADirectoryError as e:  # how an old kernel says it
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP)) from e

    def give_name(self, fd: int, parent: int, name: str) -> None:
        """Let a file of `create_nameless` appear, whole. Raises FileExistsError where the name is taken."""
        self._call("link", os.link, f"/proc/self/fd/{fd}", name, dst_dir_fd=parent, follow_symlinks=True)

    def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        """Write all of `data` at `offset`; short writes are continued. Raises OSError."""
        view = memoryview(data)
        while view:
            written = self._call("pwrite", os.pwrite, fd, view, offset)
            if written == 0:
                raise OSError(errno.EIO, "the system writes nothing and does not say why")
            view = view[written:]
            offset += written

    def truncate(self, fd: int, length: int) -> None:
        """Set the length of a file this program created."""
        self._call("ftruncate", os.ftruncate, fd, length)

    def fsync(self, fd: int) -> None:
        """Make a file's data or a folder's entries durable. File systems that cannot sync a folder are accepted."""
        try:
            self._call("fsync", os.fsync, fd)
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
                raise

    def rename(self, src_fd: int, src: str, dst_fd: int, dst: str) -> None:
        """Rename, never over something that exists: raises FileExistsError instead (RENAME_NOREPLACE, RENAME_EXCL).

        Where the system has no such call the check and the rename are two steps: callers hold the root's lock.
        """
        if _renameat2 is not None:
            try:
                self._call("rename", _renameat2_call, src_fd, src, dst_fd, dst, _NO_REPLACE)
                return
            except OSError as e:
                if e.errno not in UNABLE:
                    raise
        try:
            os.stat(dst, dir_fd=dst_fd, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), dst)
        self._call("rename", os.rename, src, dst, src_dir_fd=src_fd, dst_dir_fd=dst_fd)

    def replace(self, src_fd: int, src: str, dst_fd: int, dst: str) -> None:
        """Rename over what is there, atomically: for files this program wrote (pins, config, records)."""
        self._call("replace", os.rename, src, dst, src_dir_fd=src_fd, dst_dir_fd=dst_fd)

    def exchange(self, a_fd: int, a: str, b_fd: int, b: str) -> None:
        """Swap two names atomically. Raises OSError (UNABLE) where the system or file system cannot."""
        if _renameat2 is None:
            raise OSError(errno.ENOSYS, "this system cannot exchange two names")
        self._call("exchange", _renameat2_call, a_fd, a, b_fd, b, _EXCHANGE)

    def link(self, src_fd: int, src: str, dst_fd: int, dst: str) -> None:
        """Give an inode a second name (a symlink itself is linked, never followed)."""
        self._call("link", os.link, src, dst, src_dir_fd=src_fd, dst_dir_fd=dst_fd, follow_symlinks=False)

    def symlink(self, target: str, parent: int, name: str) -> None:
        """Create a symbolic link."""
        self._call("symlink", os.symlink, target, name, dir_fd=parent)

    def unlink(self, parent: int, name: str) -> None:
        """Remove a name of a file or link."""
        self._call("unlink", os.unlink, name, dir_fd=parent)

    def rmdir(self, parent: int, name: str) -> None:
        """Remove an empty folder."""
        self._call("rmdir", os.rmdir, name, dir_fd=parent)

    def chmod(self, fd: int, mode: int) -> None:
        """Set the mode of an open file or folder."""
        self._call("fchmod", os.fchmod, fd, mode)

    def times(self, parent: int, name: str, atime_ns: int, mtime_ns: int) -> None:
        """Set the times of a file, folder or link (of the link itself)."""
        self._call("utime", os.utime, name, ns=(atime_ns, mtime_ns), dir_fd=parent, follow_symlinks=False)

    def owner(self, parent: int, name: str, uid: int, gid: int) -> None:
        """Give a file, folder or link (the link itself) to another user and group."""
        self._call("chown", os.chown, name, uid, gid, dir_fd=parent, follow_symlinks=False)

    def attribute(self, fd: int, name: str, value: bytes) -> None:
        """Set an extended attribute of an open file or folder."""
        self._call("setxattr", os.setxattr, fd, name, value)

    def make_path(self, path: str) -> None:
        """Create a folder of the program's own, and what is missing above it. It may exist."""
        if not os.path.isdir(path):
            self.make_path(os.path.dirname(path))
            try:
                self._call("mkdir", os.mkdir, path, 0o700)
            except FileExistsError:
                if not os.path.isdir(path):
                    raise

    def append(self, path: str, data: bytes) -> None:
        """Add to the end of a file of the program's own, which is made where it is missing."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        fd = self._call("create", os.open, path, flags, 0o600)
        try:
            self._call("append", os.write, fd, data)
        finally:
            os.close(fd)


DISK = Fs()
"""The real disk."""


def open_dir(path: str, parent: int | None = None) -> int:
    """A descriptor of a folder, for the calls above. A link is refused (NotADirectoryError or ELOOP)."""
    return os.open(path, DIRECTORY, dir_fd=parent)


def open_below(root_fd: int, path: str) -> int:
    """A descriptor of the folder `path` ("a/b/c", or "" for the root) below `root_fd`, following no link (I3)."""
    fd = os.dup(root_fd)
    try:
        for part in path.split("/"):
            if part in ("", "."):
                continue
            if part == "..":
                raise PermissionError(errno.EPERM, "a path inside a root must not contain ..", path)
            inner = open_dir(part, fd)
            os.close(fd)
            fd = inner
    except BaseException:
        os.close(fd)
        raise
    return fd


def copy_open(fs: Fs, source: int, parent: int, name: str, mode: int, *, durable: bool = True) -> None:
    """What an open file holds, under a new name in the folder `parent`. Raises OSError."""
    new = fs.create(parent, name, mode)
    try:
        at = 0
        while piece := os.pread(source, _PIECE, at):
            fs.write_at(new, piece, at)
            at += len(piece)
        if durable:
            fs.fsync(new)
    finally:
        os.close(new)
