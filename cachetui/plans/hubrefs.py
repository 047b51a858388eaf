"""The shared store's hints, after a repo came back.

huggingface_hub (utils/_shared_blobs.py) lists in `blobs/<2hex>/<hash>.refs` who links to a payload and sweeps it when
the listed links are gone. A repo that is back must be listed again, else the next deletion of another repo would take
its payload.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable

from cachetui.fs import Fs
from cachetui.plans.survey import lstat_below, parent_of
from cachetui.walk import read_small

_TARGET = re.compile(r"\.\./\.\./(blobs/([0-9a-f]{2})/\2[0-9a-f]{62})")
_CAP = 1 << 24


def complete(fs: Fs, root: int, repos: Iterable[str]) -> None:
    """List every link of these repo folders in the hints of its payload. Raises OSError."""
    for repo in repos:
        try:
            with parent_of(root, f"{repo}/blobs/x") as (blobs, _):
                links = [(name, os.readlink(name, dir_fd=blobs)) for name in os.listdir(blobs) if _is_link(blobs, name)]
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name, target in links:
            match = _TARGET.fullmatch(target)
            if match is not None and lstat_below(root, match[1]) is not None:
                _list(fs, root, match[1] + ".refs", f"{repo}/blobs/{name}")


def _list(fs: Fs, root: int, hints: str, link: str) -> None:
    line = os.fsencode(link) + b"\n"
    with parent_of(root, hints) as (folder, name):
        try:
            before = read_small(name, _CAP, dir_fd=folder)
        except FileNotFoundError:
            before = b""
            os.close(fs.create(folder, name, 0o666))
        if line in before.splitlines(keepends=True):
            return
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        fd = os.open(name, flags, dir_fd=folder)
        try:
            separator = b"" if not before or before.endswith(b"\n") else b"\n"
            fs.write_at(fd, separator + line, len(before))
            fs.fsync(fd)
        finally:
            os.close(fd)


def _is_link(folder: int, name: str) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
