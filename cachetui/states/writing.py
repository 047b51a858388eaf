"""Writing a state: whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress

from cachetui.fs import DISK, UNABLE, Fs, open_dir
from cachetui.states import form
from cachetui.states.reading import StateInfo, read


def write(info: StateInfo, tensors: Sequence[form.Raw], *, fs: Fs = DISK) -> StateInfo:
    """Write a state to exactly `info.path`: what lay there before or the whole new file is there at any instant.

    The folder must be there; a link is followed. Returns what the file says. Raises OSError, StateError.
    """
    header, ordered = form.packed(info.described(), tensors)
    folder, name = os.path.split(os.path.realpath(info.path))
    parent = open_dir(folder)
    try:
        _lock(parent)
        _put(fs, parent, name, header, ordered)
        fs.fsync(parent)
    finally:
        os.close(parent)
    return read(info.path)


def _put(fs: Fs, parent: int, name: str, header: bytes, tensors: Sequence[form.Raw]) -> None:
    """Where the file system can, the file has no name before it is whole: a killed writer leaves nothing."""
    temporary = temporary_name(name)
    with suppress(FileNotFoundError):
        fs.unlink(parent, temporary)  # what a killed writer left
    try:
        fd, named = fs.create_nameless(parent), False
    except OSError as e:
        if e.errno not in UNABLE:
            raise
        fd, named = fs.create(parent, temporary), True
    try:
        try:
            _fill(fs, fd, header, tensors)
            if not named:
                try:
                    fs.give_name(fd, parent, name)
                    return
                except FileExistsError:
                    fs.give_name(fd, parent, temporary)
        finally:
            os.close(fd)
        fs.replace(parent, temporary, parent, name)
    except OSError:
        with suppress(OSError):
            fs.unlink(parent, temporary)
        raise


def temporary_name(name: str) -> str:
    """What the file is called while it is written, in the same folder: short, and the same at every attempt."""
    return f".cachetui-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}.new"


def _fill(fs: Fs, fd: int, header: bytes, tensors: Sequence[form.Raw]) -> None:
    fs.write_at(fd, header, 0)
    at = len(header)
    for t in tensors:
        data = memoryview(t.data).cast("B")
        fs.write_at(fd, data, at)
        at += data.nbytes
    fs.fsync(fd)


def _lock(parent: int) -> None:
    """One writer for each folder, for the temporary name is always the same."""
    try:
        import fcntl
    except ImportError:
        return
    with suppress(OSError):  # some network file systems lock nothing
        fcntl.flock(parent, fcntl.LOCK_EX)
