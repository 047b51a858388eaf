"""Files of the program's own (pins, jobs, known archives): locked while they change, replaced whole."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from cachetui.fs import Fs, open_dir


class OwnFile:
    """One of our files: its folder is made where missing, and locked against other writers while this is entered.

    Entering and writing raise OSError.
    """

    def __init__(self, file: Path, fs: Fs) -> None:
        self._file = file
        self._fs = fs
        self._fd = -1

    def __enter__(self) -> OwnFile:
        missing: list[str] = []
        folder = self._file.parent
        while not folder.exists() and folder != folder.parent:
            missing.insert(0, folder.name)
            folder = folder.parent
        self._fd = open_dir(os.path.realpath(folder))
        try:
            for name in missing:
                self._step_into(name)
            _lock(self._fd)
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def _step_into(self, name: str) -> None:
        try:
            self._fs.mkdir(self._fd, name)
        except FileExistsError:  # another instance was quicker
            pass
        inner = open_dir(name, self._fd)
        os.close(self._fd)
        self._fd = inner

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def write(self, text: str, mode: int = 0o600) -> None:
        """Replace the file: the old content or the new is there at any instant. What a killed writer left goes."""
        fs, name = self._fs, self._file.name
        temporary = f".{name}.new"
        with suppress(FileNotFoundError):
            fs.unlink(self._fd, temporary)
        fd = fs.create(self._fd, temporary, mode)
        try:
            try:
                fs.write_at(fd, text.encode(), 0)
                fs.fsync(fd)
            finally:
                os.close(fd)
            fs.replace(self._fd, temporary, self._fd, name)
        except OSError:
            with suppress(OSError):
                fs.unlink(self._fd, temporary)
            raise
        fs.fsync(self._fd)


def _lock(fd: int) -> None:
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(fd, fcntl.LOCK_EX)
