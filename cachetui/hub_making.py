"""Files laid out as huggingface_hub has them: blobs by hash, a snapshot of links, a ref; so they are found by name.

For what no Hub ever had: conversions that were made here. The commit is made from names and hashes, so equal content
has an equal one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
from collections.abc import Mapping

from cachetui import hub_layout
from cachetui.download import folders
from cachetui.fs import UNABLE, Fs, copy_open, open_below
from cachetui.plans.moves import Meter, remove_tree
from cachetui.walk import open_regular

REVISION = "main"
_CANNOT_LINK = (*UNABLE, errno.EXDEV, errno.EPERM, errno.EMLINK)
_STAGING = f"{hub_layout.OURS}-making-"


class NameTakenError(Exception):
    """Something else is known by that name; the message says what to do."""


def commit_of(files: Mapping[str, str]) -> str:
    """40 hex of files, given as path: sha256."""
    rows = "".join(f"{path}\0{digest}\n" for path, digest in sorted(files.items()))
    return hashlib.sha1(rows.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


def lay_out(fs: Fs, source: str, files: Mapping[str, str], repo: int) -> str:
    """Fill the empty folder `repo` from `source`/path of each of `files` (path: sha256); returns the commit.

    Content gets a second name where the file system can do that, and is copied otherwise. Durable when this returns.
    Raises OSError; what was written then is for the caller to take away.
    """
    commit = commit_of(files)
    blobs = folders.make_below(fs, repo, "blobs")
    snapshot = folders.make_below(fs, repo, f"snapshots/{commit}")
    refs = folders.make_below(fs, repo, "refs")
    try:
        for path, digest in sorted(files.items()):
            above, name = posixpath.split(path)
            _content(fs, f"{source}/{path}", blobs, digest)
            inner = folders.make_below(fs, snapshot, above)
            try:
                fs.symlink(f"{'../' * (2 + path.count('/'))}blobs/{digest}", inner, name)
                fs.fsync(inner)
            finally:
                os.close(inner)
        folders.write_new(fs, refs, REVISION, commit)
        for fd in (blobs, snapshot, refs, repo):
            fs.fsync(fd)
    finally:
        for fd in (blobs, snapshot, refs):
            os.close(fd)
    return commit


def _content(fs: Fs, path: str, blobs: int, digest: str) -> None:
    if os.access(digest, os.F_OK, dir_fd=blobs):
        return  # two names of the same content
    above = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fs.link(above, os.path.basename(path), blobs, digest)
    except OSError as e:
        if e.errno not in _CANNOT_LINK:
            raise
        _copy(fs, path, blobs, digest)
    finally:
        os.close(above)


def _copy(fs: Fs, path: str, blobs: int, digest: str) -> None:
    old = open_regular(path)
    try:
        copy_open(fs, old, blobs, digest, 0o644)
    finally:
        os.close(old)


def there(cache: str, name: str) -> str:
    """The commit that `name` (ORG/NAME) has in a hub cache; empty where there is no such folder. Raises NameTakenError
    for a folder without a ref.
    """
    path = f"{cache}/{folder_of(name)}"
    if not os.path.lexists(path):
        return ""
    try:
        fd = open_regular(os.path.realpath(f"{path}/refs/{REVISION}"))
    except OSError as e:
        raise NameTakenError(f"{name} is in {cache} already: choose another --name") from e
    try:
        return os.read(fd, 100).decode("ascii", "replace").strip()
    finally:
        os.close(fd)


def folder_of(name: str) -> str:
    """`models--ORG--NAME`."""
    return "models--" + name.replace("/", "--")


def publish(fs: Fs, cache: str, name: str, source: str, files: Mapping[str, str]) -> str:
    """Make the files known as `name` in a hub cache; returns the path of the snapshot.

    It appears whole, by one rename. Where it is there with the same content, nothing is done. Raises NameTakenError,
    OSError.
    """
    commit, folder = commit_of(files), folder_of(name)
    path = f"{cache}/{folder}/snapshots/{commit}"
    known = there(cache, name)
    if known == commit:
        return path
    if known:
        raise NameTakenError(f"{name} is in {cache} already, with other content: choose another --name")
    top = folders.make_path(fs, cache)
    try:
        folders.tag(fs, top)
        staging = _STAGING + folder
        remove_tree(fs, top, staging, Meter())
        fs.mkdir(top, staging, 0o755)
        try:
            repo = open_below(top, staging)
            try:
                lay_out(fs, source, files, repo)
            finally:
                os.close(repo)
            fs.rename(top, staging, top, folder)
        except BaseException:
            remove_tree(fs, top, staging, Meter())
            raise
        fs.fsync(top)
    finally:
        os.close(top)
    return path
