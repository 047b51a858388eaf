"""Folders of a download's target, by descriptor: made where missing, never reached through a link (I3)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cachetui.fs import Fs, open_dir
from cachetui.plans.moves import Meter, remove_tree

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = "cac4e701"
TAG_TEXT = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This file is a cache directory tag created by huggingface_hub.\n"
    "# For information about cache directory tags, see:\n"
    "#\thttps://bford.info/cachedir/\n"
)
"""_local_folder.CACHEDIR_TAG_CONTENT."""


def make_path(fs: Fs, path: str) -> int:
    """A descriptor of a folder given by a path of the user's, made with the user's usual mode where it is missing.

    Links on the way are the user's own and followed. Raises OSError.
    """
    if not os.path.isdir(path):
        above, name = os.path.split(path.rstrip("/"))
        parent = make_path(fs, above or "/")
        try:
            with suppress(FileExistsError):
                fs.mkdir(parent, name, 0o777)
                fs.fsync(parent)
        finally:
            os.close(parent)
    return open_dir(os.path.realpath(path))


def make_below(fs: Fs, top: int, path: str) -> int:
    """A descriptor of the folder `path` below `top`, each part made where it is missing. Raises OSError."""
    fd = os.dup(top)
    try:
        for part in path.split("/"):
            if part in ("", "."):
                continue
            try:
                inner = open_dir(part, fd)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    fs.mkdir(fd, part, 0o777)
                    fs.fsync(fd)
                inner = open_dir(part, fd)
            os.close(fd)
            fd = inner
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextmanager
def alone(folder: int) -> Iterator[None]:
    """No other download of this program is between these lines for the same folder, where folders can be locked."""
    fd = os.open(".", os.O_RDONLY, dir_fd=folder)
    try:
        with suppress(OSError):
            if fcntl is not None:
                fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def write_new(fs: Fs, folder: int, name: str, text: str, *, mode: int = 0o666) -> None:
    """Write a file whole: the old content or the new is there at any instant. Raises OSError.

    What a killed writer left goes: the temporary name is always the same, and looks like the library's own.
    """
    temporary = f"{name}.{_TEMPORARY}.tmp"
    remove_tree(fs, folder, temporary, Meter())
    fd = fs.create(folder, temporary, mode)
    try:
        try:
            fs.write_at(fd, text.encode(), 0)
            fs.fsync(fd)
        finally:
            os.close(fd)
        fs.replace(folder, temporary, folder, name)
    except OSError:
        with suppress(OSError):
            remove_tree(fs, folder, temporary, Meter())
        raise
    fs.fsync(folder)


def tag(fs: Fs, folder: int) -> None:
    """CACHEDIR.TAG, so that backups leave the folder out; as the library, nothing is said where that fails."""
    with suppress(OSError):
        if not os.access("CACHEDIR.TAG", os.F_OK, dir_fd=folder):
            write_new(fs, folder, "CACHEDIR.TAG", TAG_TEXT)


def tree_text(entries: dict[str, dict[str, object]]) -> str:
    """trees/<commit>.json as _tree_cache.write_tree_cache writes it."""
    return json.dumps({"format_version": 1, "files": {path: entries[path] for path in sorted(entries)}}, indent=1)
