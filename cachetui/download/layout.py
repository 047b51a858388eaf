"""Where files of a download go, exactly as huggingface_hub's plain HTTP path leaves them (file_download.py).

A hub cache: blobs/<etag>, snapshots/<commit>/<path> as relative links, refs, trees, .locks. The ref is written last
here, so that a killed update leaves it at the revision that is whole.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import time
from collections.abc import Sequence
from typing import Protocol

from cachetui.download import folders
from cachetui.download.listing import Entry
from cachetui.download.locks import holder, take_lock
from cachetui.fs import Fs, copy_open
from cachetui.hub_layout import LOCKS
from cachetui.plans.moves import Meter, remove_tree

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES)


class Layout(Protocol):
    """A place that downloads go to. All methods raise OSError."""

    fs: Fs

    def begin(self) -> None:
        """Make what has to be there before the first file."""

    def lock(self, paths: Sequence[str], etag: str) -> int | None:
        """The library's lock of this content, as a descriptor; None while somebody else holds it."""

    def holder(self, paths: Sequence[str], etag: str) -> str:
        """Who holds that lock now, for people."""

    def is_there(self, paths: Sequence[str], etag: str, size: int) -> bool:
        """Whether the content lies in its place already."""

    def partial(self, paths: Sequence[str], etag: str) -> tuple[int, str]:
        """(folder, beginning of the name) where the partial of this content grows."""

    def place(self, part: str, paths: Sequence[str], etag: str, *, durable: bool) -> None:
        """Move a whole, durable, hashed partial to where it belongs, with all its names; `durable`: the move too."""

    def name(self, paths: Sequence[str], etag: str) -> None:
        """Content that is there gets the names it lacks."""

    def finish(self) -> None:
        """All is there: make that visible."""

    def close(self) -> None:
        """Let go of the folders."""


class HubCache:
    """A repo's folder in a hub cache."""

    def __init__(
        self, fs: Fs, cache: str, folder: str, revision: str, commit: str, entries: Sequence[Entry], *, links: bool
    ) -> None:
        self.fs, self._cache, self._folder = fs, cache, folder
        self._revision, self._commit, self._entries, self._links = revision, commit, entries, links
        self._top = self._repo = self._blobs = self._snapshot = self._locks = -1

    def begin(self) -> None:
        """Folders, CACHEDIR.TAG and the listing of the commit."""
        fs = self.fs
        self._top = folders.make_path(fs, self._cache)
        self._repo = folders.make_below(fs, self._top, self._folder)
        self._blobs = folders.make_below(fs, self._repo, "blobs")
        self._snapshot = folders.make_below(fs, self._repo, f"snapshots/{self._commit}")
        self._locks = folders.make_below(fs, self._top, f"{LOCKS}/{self._folder}")
        with folders.alone(self._repo):
            folders.tag(fs, self._top)
            self._links = self._links and self._can_link()
            write_tree(fs, self._repo, self._commit, self._entries)

    def _can_link(self) -> bool:
        """Whether this file system has symbolic links (are_symlinks_supported tries it too)."""
        name = "probe.cachetui-part"
        remove_tree(self.fs, self._blobs, name, Meter())
        try:
            self.fs.symlink("probe", self._blobs, name)
        except OSError as e:
            if e.errno not in _NO_LINKS:
                raise
            return False
        remove_tree(self.fs, self._blobs, name, Meter())
        return True

    @property
    def links(self) -> bool:
        """Whether the snapshot is made of links."""
        return self._links

    def lock(self, paths: Sequence[str], etag: str) -> int | None:
        """`.locks/<repo>/<etag>.lock`."""
        return take_lock(self.fs, self._locks, f"{etag}.lock")

    def holder(self, paths: Sequence[str], etag: str) -> str:
        """By `.locks/<repo>/<etag>.lock`."""
        return holder(self._locks, f"{etag}.lock")

    def is_there(self, paths: Sequence[str], etag: str, size: int) -> bool:
        """Whether the blob (through links too) or all its snapshot names have the right size."""
        if _size(self._blobs, etag) == size:
            return True
        return all(_size(self._snapshot, path) == size for path in paths)

    def partial(self, paths: Sequence[str], etag: str) -> tuple[int, str]:
        """Beside the blobs."""
        return self._blobs, etag

    def place(self, part: str, paths: Sequence[str], etag: str, *, durable: bool) -> None:
        """The blob, then its links; without links the file itself goes into the snapshot, as the library moves it."""
        fs = self.fs
        if self._links:
            # What had this name was damaged or a link to nothing, or the plan would not have fetched it.
            fs.replace(self._blobs, part, self._blobs, etag)
            self._settle(self._blobs, durable)
            self.name(paths, etag)
            return
        first, *more = paths
        folder, base = self._place_of(first)
        try:
            fs.replace(self._blobs, part, folder, base)
            self._settle(folder, durable)
        finally:
            os.close(folder)
        for path in more:
            self._copy(self._snapshot, first, path, etag)

    def from_shared_store(self, paths: Sequence[str], etag: str, size: int, xet: str) -> bool:
        """Link the blob to a payload of the shared store, by the library's own rules; False where it is not usable."""
        from huggingface_hub.utils._shared_blobs import shared_blobs_enabled, try_link_from_shared_store

        if not self._links or not shared_blobs_enabled() or _size(self._blobs, etag) is not None:
            return False
        cache = os.path.realpath(self._cache)
        blob = os.path.join(cache, self._folder, "blobs", etag)
        if not try_link_from_shared_store(blob_path=blob, xet_hash=xet, cache_dir=cache, expected_size=size):
            return False
        self.name(paths, etag)
        return True

    def name(self, paths: Sequence[str], etag: str) -> None:
        """Links of the snapshot to a blob that is there; copies where links cannot be made."""
        for path in paths:
            if _size(self._snapshot, path) is not None:
                continue
            folder, base = self._place_of(path)
            try:
                self._link(folder, base, path, etag)
            finally:
                os.close(folder)

    def _link(self, folder: int, base: str, path: str, etag: str) -> None:
        fs = self.fs
        if not self._links:
            self._copy(self._blobs, etag, path, etag)
            return
        target = posixpath.relpath(f"blobs/{etag}", posixpath.dirname(f"snapshots/{self._commit}/{path}"))
        temporary = f"{etag}.link.cachetui-part"
        remove_tree(fs, self._blobs, temporary, Meter())
        fs.symlink(target, self._blobs, temporary)
        fs.replace(self._blobs, temporary, folder, base)  # over a link to nothing, if one is there

    def _copy(self, source: int, name: str, path: str, etag: str) -> None:
        folder, base = self._place_of(path)
        try:
            temporary = f"{etag}.copy.cachetui-part"
            copy_file(self.fs, source, name, self._blobs, temporary)
            self.fs.replace(self._blobs, temporary, folder, base)
        finally:
            os.close(folder)

    def _settle(self, folder: int, durable: bool) -> None:
        if durable:
            self.fs.fsync(folder)
            self.fs.fsync(self._blobs)

    def _place_of(self, path: str) -> tuple[int, str]:
        above, _, base = path.rpartition("/")
        return folders.make_below(self.fs, self._snapshot, above), base

    def finish(self) -> None:
        """The ref, where a name was asked for and not a commit."""
        for folder in (self._blobs, self._snapshot):
            self.fs.fsync(folder)
        if self._revision == self._commit:
            return
        above, _, base = f"refs/{self._revision}".rpartition("/")
        folder = folders.make_below(self.fs, self._repo, above)
        try:
            with folders.alone(self._repo):
                if _text(folder, base) != self._commit:
                    folders.write_new(self.fs, folder, base, self._commit)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let go of the folders."""
        for fd in (self._top, self._repo, self._blobs, self._snapshot, self._locks):
            if fd >= 0:
                os.close(fd)


class LocalFolder:
    """A folder that gets the files themselves, with the library's records (_local_folder.py)."""

    def __init__(self, fs: Fs, folder: str, commit: str, entries: Sequence[Entry]) -> None:
        self.fs, self._folder, self._commit, self._entries = fs, folder, commit, entries
        self._top = self._records = self._downloads = -1

    def begin(self) -> None:
        """Folders, CACHEDIR.TAG, .gitignore and the listing of the commit."""
        fs = self.fs
        self._top = folders.make_path(fs, self._folder)
        self._records = folders.make_below(fs, self._top, ".cache/huggingface")
        self._downloads = folders.make_below(fs, self._records, "download")
        with folders.alone(self._records):
            folders.tag(fs, self._records)
            if _text(self._records, ".gitignore") is None:
                folders.write_new(fs, self._records, ".gitignore", "*")
            write_tree(fs, self._records, self._commit, self._entries)

    def lock(self, paths: Sequence[str], etag: str) -> int | None:
        """`.cache/huggingface/download/<path>.lock`."""
        above, _, base = paths[0].rpartition("/")
        folder = folders.make_below(self.fs, self._downloads, above)
        try:
            return take_lock(self.fs, folder, f"{base}.lock")
        finally:
            os.close(folder)

    def holder(self, paths: Sequence[str], etag: str) -> str:
        """By `.cache/huggingface/download/<path>.lock`."""
        return holder(self._downloads, f"{paths[0]}.lock")

    def is_there(self, paths: Sequence[str], etag: str, size: int) -> bool:
        """Whether each file's record says that it is this content, unchanged."""
        return all(self._recorded(path, etag, size) for path in paths)

    def _recorded(self, path: str, etag: str, size: int) -> bool:
        text = _text(self._downloads, f"{path}.metadata")
        lines = (text or "").split("\n")
        try:
            st = os.stat(path, dir_fd=self._top)
            return lines[1].strip() == etag and st.st_size == size and st.st_mtime - 1 <= float(lines[2])
        except (OSError, IndexError, ValueError):
            return False

    def partial(self, paths: Sequence[str], etag: str) -> tuple[int, str]:
        """Among the records, so that the folder itself holds nothing unfinished."""
        return self._downloads, etag

    def place(self, part: str, paths: Sequence[str], etag: str, *, durable: bool) -> None:
        """The file in its place, over an older one that the plan showed."""
        first, *more = paths
        above, _, base = first.rpartition("/")
        folder = folders.make_below(self.fs, self._top, above)
        try:
            self.fs.replace(self._downloads, part, folder, base)
            if durable:
                self.fs.fsync(folder)
                self.fs.fsync(self._downloads)
        finally:
            os.close(folder)
        self._record(first, etag)
        for path in more:
            above, _, base = path.rpartition("/")
            folder = folders.make_below(self.fs, self._top, above)
            try:
                copy_file(self.fs, self._top, first, self._downloads, f"{etag}.copy.cachetui-part")
                self.fs.replace(self._downloads, f"{etag}.copy.cachetui-part", folder, base)
            finally:
                os.close(folder)
            self._record(path, etag)

    def name(self, paths: Sequence[str], etag: str) -> None:
        """The record of the commit it is at now."""
        for path in paths:
            self._record(path, etag)

    def _record(self, path: str, etag: str) -> None:
        above, _, base = path.rpartition("/")
        folder = folders.make_below(self.fs, self._downloads, above)
        try:
            folders.write_new(self.fs, folder, f"{base}.metadata", f"{self._commit}\n{etag}\n{time.time()}\n")
        finally:
            os.close(folder)

    def finish(self) -> None:
        """Nothing more: the library's ref in the cache names no content there."""

    def close(self) -> None:
        """Let go of the folders."""
        for fd in (self._top, self._records, self._downloads):
            if fd >= 0:
                os.close(fd)


def write_tree(fs: Fs, above: int, commit: str, entries: Sequence[Entry]) -> None:
    """trees/<commit>.json, where it is not there."""
    folder = folders.make_below(fs, above, "trees")
    try:
        if _size(folder, f"{commit}.json") is None:
            folders.write_new(fs, folder, f"{commit}.json", folders.tree_text(tree_rows(entries)), mode=0o600)
    finally:
        os.close(folder)


def tree_rows(entries: Sequence[Entry]) -> dict[str, dict[str, object]]:
    """The rows of a listing (TreeCacheEntry.to_json)."""
    rows: dict[str, dict[str, object]] = {}
    for e in entries:
        row: dict[str, object] = {"size": e.listed, "blob_id": e.oid}
        if e.sha256:
            row |= {"lfs_sha256": e.sha256, "lfs_size": e.linked}
        if e.xet:
            row["xet_hash"] = e.xet
        rows[e.path] = row
    return rows


def copy_file(fs: Fs, source: int, name: str, folder: int, new: str) -> None:
    """A durable copy under a new name of our own. Raises OSError."""
    remove_tree(fs, folder, new, Meter())
    old = os.open(name, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0), dir_fd=source)
    try:
        copy_open(fs, old, folder, new, 0o666)
    finally:
        os.close(old)


def _size(folder: int, path: str) -> int | None:
    """Bytes of the regular file that a name leads to; None where there is none."""
    try:
        st = os.stat(path, dir_fd=folder)
    except OSError:
        return None
    return st.st_size if stat.S_ISREG(st.st_mode) else None


def _text(folder: int, path: str) -> str | None:
    """A small text; None where it cannot be read."""
    from cachetui import walk

    try:
        return walk.read_small(path, 4096, dir_fd=folder).decode("utf-8", "replace")
    except OSError:
        return None
