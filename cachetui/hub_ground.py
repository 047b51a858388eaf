"""What reading one hub cache has in common: its root, the shared store's payloads, and what belongs to no item."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from cachetui import hub_layout, walk
from cachetui.folder import Folder
from cachetui.model import Blob, Problem, Root


@dataclass
class Ground:
    """One root while it is read. Paths are relative to it."""

    root: Root
    nested: frozenset[tuple[int, int]] = frozenset()
    """(device, inode) of other roots."""
    payloads: dict[str, Blob] = field(default_factory=dict)
    """Of the shared store, by path."""
    atimes: dict[str, float] = field(default_factory=dict)
    """When each payload was last read."""
    other: int = 0
    """Allocated bytes of what is no item."""
    twins: dict[tuple[int, int], int] = field(default_factory=dict)
    """Allocated bytes of inodes with several names, at least one of which is no content."""
    wanted: dict[str, str] = field(default_factory=dict)
    """Payloads that a repo which was moved away by hand needs, with its folder."""
    nested_paths: list[str] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def absolute(self, path: str) -> str:
        """A path inside the root as the system takes it."""
        return f"{self.root.path}/{path}" if path else self.root.path

    def weigh(self, st: os.stat_result) -> int:
        """Allocated bytes of a name that is no content; 0 for one of several names, which is counted at the end."""
        size = walk.allocated(st)
        if st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode):
            self.twins[st.st_dev, st.st_ino] = size
            return 0
        return size

    def unreadable(self, path: str, error: OSError) -> Problem:
        """Marks the path as blind and says so."""
        self.blind.append(path)
        return Problem(
            "unreadable",
            f"cannot be read: {error.strerror or error}",
            self.absolute(path),
            "check its permissions and the disk",
        )

    def outside(self, path: str, st: os.stat_result) -> Problem | None:
        """Why a folder is left to others: it is a root of its own (silently), or another file system."""
        if (st.st_dev, st.st_ino) in self.nested:
            self.nested_paths.append(path)
            return Problem("nested-root", "a root of its own", self.absolute(path))
        if st.st_dev != self.root.dev:
            self.blind.append(path)
            return Problem(
                "other-filesystem",
                "another file system is mounted here; it is not counted and nothing in it is touched",
                self.absolute(path),
                "give it as a root of its own with --cache-dir",
            )
        return None

    def tree(self, path: str) -> walk.Tally:
        """Everything below a folder; nested roots, blind spots and problems are noted."""
        tally = walk.tree(self.root.path, path, nested=self.nested)
        self.nested_paths += tally.nested
        self.blind += tally.blind
        return tally

    def leave(self, path: str) -> None:
        """Counts a folder and everything below it as `other`."""
        self.absorb(self.tree(path))

    def absorb(self, tally: walk.Tally) -> None:
        """Counts what a walk found as `other`."""
        self.problems += tally.problems
        self.other += tally.overhead
        for b in tally.files:
            if b.nlink > 1:
                self.twins[b.dev, b.ino] = b.allocated
            else:
                self.other += b.allocated


def read_shared(ground: Ground, top: Folder) -> None:
    """The shared store: payloads into `ground.payloads`, its folders, hints and locks into `other`.

    Follows utils/_shared_blobs.py. A file that is no hint, lock or temporary is a payload whatever its name.
    """
    try:
        with top.inner(hub_layout.SHARED) as store:
            ground.other += walk.allocated(store.stat)
            _check_version(ground, store)
            _read_level(ground, store, hub_layout.SHARED, deeper=True)
    except FileNotFoundError:
        return
    except OSError as e:
        ground.problems.append(ground.unreadable(hub_layout.SHARED, e))


def _check_version(ground: Ground, store: Folder) -> None:
    path = f"{hub_layout.SHARED}/{hub_layout.SHARED_MARKER}"
    try:
        version = store.read(hub_layout.SHARED_MARKER, 64)
    except OSError as e:
        ground.problems.append(ground.unreadable(path, e))
        return
    if version != hub_layout.SHARED_VERSION:
        ground.blind.append(path)
        ground.problems.append(
            Problem(
                "shared-store-version",
                "the shared store is of a version this program does not know; nothing in it will be deleted",
                ground.absolute(path),
                "look for a newer cachetui",
            )
        )


def _read_level(ground: Ground, folder: Folder, prefix: str, *, deeper: bool) -> None:
    inner: list[str] = []
    with folder.listing() as entries:
        for entry in entries:
            name = entry.name
            path = f"{prefix}/{name}"
            try:
                st = folder.lstat(entry)
            except FileNotFoundError:
                continue
            except OSError as e:
                ground.problems.append(ground.unreadable(path, e))
                continue
            if stat.S_ISDIR(st.st_mode):
                inner.append(name)
            elif not stat.S_ISREG(st.st_mode) or hub_layout.is_side_file(name):
                ground.other += ground.weigh(st)
            else:
                ground.payloads[path] = walk.blob(path, st)
                ground.atimes[path] = st.st_atime
    for name in inner:
        path = f"{prefix}/{name}"
        try:
            with folder.inner(name) as below:
                if (problem := ground.outside(path, below.stat)) is not None:
                    if problem.code != "nested-root":
                        ground.problems.append(problem)
                elif deeper:
                    ground.other += walk.allocated(below.stat)
                    _read_level(ground, below, path, deeper=False)
                else:
                    ground.leave(path)
        except FileNotFoundError:
            continue
        except OSError as e:
            ground.problems.append(ground.unreadable(path, e))
