"""One repo of a hub cache, read in one pass: blobs by one listing, snapshots by their links, refs and trees.

The hot code: a cache can hold a million links. Each link costs two system calls (where it points, how many blocks it
takes) and one dictionary look-up; nothing is opened but folders, refs, tree listings and small configs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from cachetui import hub_layout, walk
from cachetui.folder import Folder
from cachetui.hub_ground import Ground
from cachetui.hub_links import HINTS, MESSAGES, resolve
from cachetui.model import Blob, Problem

REF_CAP = 4096
LINKED = 1 << 30
"""Positions from here on are in `links`; they move behind the blobs once all of those are known."""
_HAS_BLOCKS = hasattr(os.stat_result, "st_blocks")
_Reader = Callable[[Folder, str], None]


@dataclass
class Snapshot:
    """A revision's folder as it was read."""

    commit: str
    path: str
    mtime: float
    names: list[str] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    odd: dict[str, list[str]] = field(default_factory=dict)
    """Problem code to the files it is about."""
    links_only: bool = True
    """It holds no file of its own."""


class Repo:
    """What one repo's folder holds; filled by `read`."""

    def __init__(self, ground: Ground, folder: str) -> None:
        self.ground = ground
        self.folder = folder
        self.blobs: list[Blob] = []
        self.links: list[Blob] = []
        self.linked: dict[str, int] = {}
        self.overhead = 0
        self.problems: list[Problem] = []
        self.by_name: dict[str, int] = {}
        self.weights: dict[int, int] = {}
        """Allocated bytes of a link by the length of its target."""
        self.twins = False
        """Some content has several names."""
        self.size = self.allocated = 0
        """Bytes of `blobs`, each name counted."""
        self.newest = -1.0
        """Newest mtime of `blobs`."""
        self.snapshots: list[Snapshot] = []
        self.refs: list[tuple[str, str]] = []
        self.trees: set[str] = set()
        self.partials: list[int] = []
        self.litter: list[int] = []
        self.strays: set[int] = set()
        self.last_used: float | None = None
        self.damaged = False
        self.whole = True
        """Everything was readable, so a blob without a link is an orphan."""

    def read(self, top: Folder) -> None:
        """Everything below the repo's open folder. Never raises for what is on disk."""
        self.overhead += walk.allocated(top.stat)
        readers: dict[str, _Reader] = {
            "blobs": self._blobs,
            "snapshots": self._snapshots,
            "refs": self._refs,
            "trees": partial(self._small_files, self.trees, "", 0),
            ".no_exist": partial(self._small_files, set(), "", 0),
        }
        found: dict[str, bool] = {}
        try:
            with top.listing() as entries:
                for entry in entries:
                    found[entry.name] = entry.is_dir(follow_symlinks=False)
                    if not found[entry.name]:
                        self._stray(top, entry, entry.name in readers)
        except OSError as e:
            self._unreadable(self.folder, e)
        for name, reader in readers.items():  # blobs before the snapshots that name them
            if found.pop(name, False):
                self._enter(top, name, reader)
        for name, is_folder in found.items():
            if is_folder:
                self._unknown_folder(f"{self.folder}/{name}")

    def _enter(self, parent: Folder, name: str, reader: _Reader, path: str = "") -> None:
        path = path or f"{self.folder}/{name}"
        try:
            with parent.inner(name) as folder:
                if (problem := self.ground.outside(path, folder.stat)) is not None:
                    self.problems.append(problem)
                    self.whole = False
                    return
                self.overhead += walk.allocated(folder.stat)
                reader(folder, path)
        except FileNotFoundError:
            return
        except OSError as e:
            self._unreadable(path, e)

    def _unreadable(self, path: str, error: OSError) -> None:
        self.problems.append(self.ground.unreadable(path, error))
        self.whole = False
        self.damaged = True

    def _stray(self, folder: Folder, entry: os.DirEntry[str], expected: bool) -> None:
        """Something that is no folder at the top of the repo."""
        path = f"{self.folder}/{entry.name}"
        try:
            st = folder.lstat(entry)
        except OSError as e:
            self._unreadable(path, e)
            return
        if stat.S_ISREG(st.st_mode) and entry.name not in hub_layout.IGNORED:
            self.strays.add(self._content(path, st))
        else:
            self.overhead += self.ground.weigh(st)
        if expected:
            self._no_folder(st, path, f"where {entry.name}, a folder, should be")

    def _no_folder(self, st: os.stat_result, path: str, where: str) -> None:
        self.damaged = True
        self.whole = False  # a link may lead to what names any blob
        self._problem("not-a-folder", f"{'a link' if stat.S_ISLNK(st.st_mode) else 'a file'} {where}", path)

    def _content(self, path: str, st: os.stat_result) -> int:
        self._add(walk.blob(path, st))
        if self.last_used is None or st.st_atime > self.last_used:
            self.last_used = st.st_atime
        return len(self.blobs) - 1

    def _add(self, blob: Blob) -> None:
        self.blobs.append(blob)
        self.size += blob.size
        self.allocated += blob.allocated
        self.newest = max(self.newest, blob.mtime)
        self.twins = self.twins or blob.nlink > 1

    def _problem(self, code: str, message: str, path: str, hint: str = "") -> None:
        self.problems.append(Problem(code, message, self.ground.absolute(path), hint))

    def _unknown_folder(self, path: str) -> None:
        tally = self.ground.tree(path)
        self.overhead += tally.overhead
        self.problems += tally.problems
        self.strays.update(range(len(self.blobs), len(self.blobs) + len(tally.files)))
        for blob in tally.files:
            self._add(blob)
        if tally.files:
            self._problem("unknown-folder", "holds files that huggingface_hub did not put there", path)

    def _blobs(self, folder: Folder, path: str) -> None:
        blobs, by_name, prefix, new = self.blobs, self.by_name, path + "/", tuple.__new__
        lstat = None if folder.fd >= 0 else folder.lstat
        total = blocks = 0
        last_used, newest = -1.0, self.newest
        with folder.listing() as entries:
            for entry in entries:
                name = entry.name
                try:
                    if not entry.is_file(follow_symlinks=False):
                        self._odd_blob(folder, entry, prefix + name)
                        continue
                    st = entry.stat(follow_symlinks=False) if lstat is None else lstat(entry)
                except FileNotFoundError:
                    continue
                except OSError as e:
                    self._unreadable(prefix + name, e)
                    continue
                if st.st_atime > last_used:
                    last_used = st.st_atime
                position = by_name[name] = len(blobs)
                if len(name) != 40 and len(name) != 64:
                    self._unusual(name, position)
                if st.st_nlink > 1:
                    self.twins = True
                size, mtime = st.st_size, st.st_mtime
                taken = st.st_blocks * 512 if _HAS_BLOCKS else walk.allocated(st)
                total += size
                blocks += taken
                if mtime > newest:
                    newest = mtime
                blobs.append(new(Blob, (prefix + name, st.st_dev, st.st_ino, size, taken, st.st_nlink, mtime)))
        self.size += total
        self.allocated += blocks
        self.newest = newest
        if last_used >= 0 and (self.last_used is None or last_used > self.last_used):
            self.last_used = last_used

    def _unusual(self, name: str, position: int) -> None:
        """A blob that is not named by a hash."""
        if hub_layout.PARTIAL.fullmatch(name):
            self.partials.append(position)
        elif hub_layout.LITTER.fullmatch(name):
            self.litter.append(position)

    def _blob_link(self, folder: Folder, entry: os.DirEntry[str], path: str) -> None:
        """A blob that is a link: into the shared store, or somewhere odd."""
        st = folder.lstat(entry)
        self.twins = self.twins or st.st_nlink > 1
        self.overhead += self.ground.weigh(st)
        found = resolve(self.ground, path, folder.readlink(entry.name))
        litter = hub_layout.LITTER.fullmatch(entry.name)
        if found.blob is None:
            if not litter:
                self.by_name[entry.name] = -1
                self.damaged = self.damaged or found.code != "outside-link"
                self._problem(found.code, MESSAGES[found.code].format(entry.name), path, HINTS.get(found.code, ""))
            return
        position = self._link(found.blob, found.atime, found.via)
        if not litter:  # a link that was being made: it holds the payload, but names no file
            self.by_name[entry.name] = position

    def _link(self, blob: Blob, atime: float, via: Blob | None) -> int:
        if via is not None and via.path not in self.linked:
            self.linked[via.path] = len(self.links)
            self.links.append(via)
        position = self.linked.get(blob.path)
        if position is None:
            position = self.linked[blob.path] = len(self.links)
            self.links.append(blob)
            if self.last_used is None or atime > self.last_used:
                self.last_used = atime
        return LINKED + position

    def _odd_blob(self, folder: Folder, entry: os.DirEntry[str], path: str) -> None:
        if entry.is_symlink():
            self._blob_link(folder, entry, path)
            return
        if entry.is_dir(follow_symlinks=False):
            self._unknown_folder(path)
            return
        self.overhead += self.ground.weigh(folder.lstat(entry))
        self._problem("special-file", "a pipe, socket or device: not opened", path)

    def _snapshots(self, folder: Folder, path: str) -> None:
        inner: list[str] = []
        with folder.listing() as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
                    continue
                below = f"{path}/{entry.name}"
                try:
                    st = folder.lstat(entry)
                except FileNotFoundError:
                    continue
                if entry.name in hub_layout.IGNORED or not stat.S_ISREG(st.st_mode):
                    self.overhead += self.ground.weigh(st)
                else:
                    self.strays.add(self._content(below, st))
                if entry.name not in hub_layout.IGNORED:
                    self._no_folder(st, below, "where a revision's folder should be")
        for name in sorted(inner):
            snapshot = Snapshot(name if not name.startswith("~") else f"./{name}", f"{path}/{name}", 0.0)
            self._enter(folder, name, partial(self._snapshot, snapshot, "", 0), snapshot.path)

    def _snapshot(self, snapshot: Snapshot, prefix: str, depth: int, folder: Folder, path: str) -> None:
        if depth == 0:
            snapshot.mtime = folder.stat.st_mtime
            self.snapshots.append(snapshot)
        names, index, position_of = snapshot.names, snapshot.index, self.by_name.get
        up = "../" * (depth + 2) + "blobs/"  # what huggingface_hub writes before the blob's name
        readlink, fd, weights = os.readlink, folder.fd, self.weights
        inner: list[str] = []
        overhead = 0
        with folder.listing() as entries:
            for entry in entries:
                name = entry.name
                try:
                    if entry.is_symlink():
                        target = readlink(name, dir_fd=fd) if fd >= 0 else folder.readlink(name)
                        position = position_of(target.removeprefix(up), -1)
                        weight = weights.get(len(target))
                        if position >= 0 and weight is not None and target.isascii():
                            overhead += weight
                        elif position < 0 or not target.isascii():
                            overhead += self.ground.weigh(folder.lstat(entry))
                            position = self._odd_link(snapshot, prefix + name, target)
                        else:
                            overhead += self._weigh_link(folder.lstat(entry), len(target))
                        names.append(prefix + name)
                        index.append(position)
                    elif entry.is_dir(follow_symlinks=False):
                        inner.append(name)
                    else:
                        self._real_file(folder, entry, snapshot, prefix + name)
                except FileNotFoundError:
                    continue
                except OSError as e:
                    self._unreadable(f"{snapshot.path}/{prefix}{name}", e)
        self.overhead += overhead
        for name in inner:
            inner_path = f"{snapshot.path}/{prefix}{name}"
            if depth >= walk.MAX_DEPTH:
                self._too_deep(inner_path)
            else:
                reader = partial(self._snapshot, snapshot, f"{prefix}{name}/", depth + 1)
                self._enter(folder, name, reader, inner_path)

    def _weigh_link(self, st: os.stat_result, length: int) -> int:
        """Allocated bytes of a link, remembered for the others of this repo with a target of that length.

        Asking for each one costs as much as reading it. A file system decides by the length alone (ext4: none up to
        59 bytes, else a block), so one of each length is asked in each repo; all are, where any blob has several
        names, for then its links have too (`cp -al`).
        """
        weight = self.ground.weigh(st)
        if not self.twins and st.st_nlink == 1:
            self.weights[length] = weight
        return weight

    def _odd_link(self, snapshot: Snapshot, name: str, target: str) -> int:
        """A link that is not written as huggingface_hub writes it, or points to nothing."""
        up = "../" * (name.count("/") + 2) + "blobs/"
        blob = target[len(up) :]
        if self.whole and target.startswith(up) and blob not in self.by_name and blob.isalnum():
            snapshot.odd.setdefault("broken-link", []).append(name)  # the listing of blobs/ says so already
            return -1
        found = resolve(self.ground, f"{snapshot.path}/{name}", target)
        own = f"{self.folder}/blobs/"
        if found.named.startswith(own) and (position := self.by_name.get(found.named[len(own) :], -1)) >= 0:
            return position
        if found.blob is not None:
            return self._link(found.blob, found.atime, found.via)
        if name.rpartition("/")[2] not in hub_layout.IGNORED:
            snapshot.odd.setdefault(found.code, []).append(name)
        return -1

    def _real_file(self, folder: Folder, entry: os.DirEntry[str], snapshot: Snapshot, name: str) -> None:
        snapshot.links_only = False
        st = folder.lstat(entry)
        if stat.S_ISREG(st.st_mode):
            snapshot.names.append(name)
            snapshot.index.append(self._content(f"{snapshot.path}/{name}", st))
        else:
            self.overhead += self.ground.weigh(st)
            snapshot.odd.setdefault("special-file", []).append(name)

    def _small_files(self, found: set[str], prefix: str, depth: int, folder: Folder, path: str) -> None:
        """Counts a folder of bookkeeping; `found` gets the names of what is in it and no folder."""
        inner: list[str] = []
        with folder.listing() as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
                    continue
                try:
                    self.overhead += self.ground.weigh(folder.lstat(entry))
                    found.add(prefix + entry.name)
                except FileNotFoundError:
                    continue
        for name in inner:
            if depth >= walk.MAX_DEPTH:
                self._too_deep(f"{path}/{name}")
            else:
                reader = partial(self._small_files, found, f"{prefix}{name}/", depth + 1)
                self._enter(folder, name, reader, f"{path}/{name}")

    def _too_deep(self, path: str) -> None:
        self._problem("too-deep", "folders nested too deeply were not read", path)
        self.whole = False
        self.ground.blind.append(path)

    def _refs(self, folder: Folder, path: str) -> None:
        found: set[str] = set()
        self._small_files(found, "", 0, folder, path)
        for name in sorted(found):
            base = name.rpartition("/")[2]
            if base in hub_layout.IGNORED or hub_layout.REF_LITTER.fullmatch(base):
                continue
            try:
                raw = folder.read(name, REF_CAP)
            except FileNotFoundError:
                continue
            except OSError as e:
                self.damaged = True
                self._problem("bad-ref", f"the ref cannot be read: {e.strerror or e}", f"{path}/{name}")
                continue
            self.refs.append((name, os.fsdecode(raw.strip())))
