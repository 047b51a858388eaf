"""One name exchanged with what takes its place, and back: a folder with a link, a link with a staged folder.

The replacement is made in the entry's files/ under the move's number before anything is touched. Then one rename does
it, so that the path resolves at every instant (I5), and what was there lies under that number. How far it got is not
written down: what stands where tells. Where the file system cannot exchange two names it takes three renames, and the
original waits in `N.was` meanwhile:

    files/N      files/N.was  the path
    replacement               original       before
    replacement  original                    the window: it goes back
                 original     replacement    it goes on, then back
    original                  replacement    after
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto

from cachetui import afar
from cachetui.fs import UNABLE, Fs
from cachetui.plans.record import Move
from cachetui.plans.survey import is_there, kind_of, measure, mount_points, mounted_below, parent_of
from cachetui.plans.vault import Slot

_ASIDE = ".was"
NOWHERE = "the link that takes its place leads nowhere: is the drive still there?"
_REPLACED = "it was replaced at this very moment"


class ChangedError(Exception):
    """What stands on disk is not what the plan or the record says; nothing was done."""


class Stands(Enum):
    """What is found under a name."""

    NOTHING = auto()
    ORIGINAL = auto()
    """What the plan saw there."""
    REPLACEMENT = auto()
    """What takes its place."""
    OTHER = auto()


@dataclass(frozen=True)
class Exchange:
    """A root and an entry of its trash, both open, for moves that have a replacement."""

    fs: Fs
    root: int
    root_path: str
    slot: Slot

    def make(self, move: Move) -> None:
        """Have the replacement ready in the entry: a new link, or what was staged. Raises ChangedError, OSError."""
        assert move.replacement is not None
        if move.replacement.kind == "link":
            self.fs.symlink(move.replacement.target, self.slot.files, move.slot)
            return
        with self._staging(move) as (parent, name):
            if _look(parent, name, move) is not Stands.REPLACEMENT:
                raise ChangedError("what was staged to take its place is gone")
            self.fs.rename(parent, name, self.slot.files, move.slot)
            self.fs.fsync(parent)

    def unmake(self, move: Move) -> bool:
        """Remove a replacement that waits in the entry: the link goes, what was staged goes back to where it was.

        False where none waits there. Raises OSError.
        """
        assert move.replacement is not None
        if self._held(move) is not Stands.REPLACEMENT:
            return False
        if move.replacement.kind == "link":
            self.fs.unlink(self.slot.files, move.slot)
            return True
        self._make_staging(move)
        with self._staging(move) as (parent, name):
            if is_there(parent, name):
                raise OSError(errno.ENOTEMPTY, f"something else lies at {move.replacement.target} in the trash folder")
            self.fs.rename(self.slot.files, move.slot, parent, name)
            self.fs.fsync(parent)
        return True

    def swap(self, move: Move) -> None:
        """Exchange, after looking once more that it is what was planned, and before and after that the path resolves.

        Raises ChangedError, OSError.
        """
        if not _leads(self.slot.files, move.slot, move):
            raise ChangedError(NOWHERE)
        with parent_of(self.root, move.source) as (parent, name):
            check(parent, name, move, self.root_path)
            if move.was.type == "none":
                self.fs.rename(self.slot.files, move.slot, parent, name)
                return
            self._exchange(parent, name, move)
            if not is_unchanged(self.slot.files, move):
                self._exchange(parent, name, move)
                raise ChangedError(_REPLACED)

    def made(self, move: Move) -> bool:
        """Whether it was exchanged: the entry has what was there, or a replacement went where nothing was."""
        if move.was.type == "none":
            return self._held(move) is Stands.NOTHING and self.stands(move) is Stands.REPLACEMENT
        return self._held(move) is Stands.ORIGINAL

    def stands(self, move: Move) -> Stands:
        """What is at the path now. Raises OSError."""
        try:
            with parent_of(self.root, move.source) as (parent, name):
                return _look(parent, name, move)
        except (FileNotFoundError, NotADirectoryError):
            return Stands.NOTHING

    def holds_up(self, move: Move) -> bool:
        """Whether the replacement stands at the path and leads to something."""
        try:
            with parent_of(self.root, move.source) as (parent, name):
                return _look(parent, name, move) is Stands.REPLACEMENT and _leads(parent, name, move)
        except OSError:
            return False

    def back(self, move: Move) -> None:
        """Exchange back; where the replacement is gone, a plain rename. The replacement then waits in the entry.

        Does nothing where that is done already. Raises FileExistsError where something else stands there, OSError.
        """
        self._heal(move)
        if not self.made(move):
            return
        with parent_of(self.root, move.source) as (parent, name):
            there = _look(parent, name, move)
            if move.was.type == "none":
                self.fs.rename(parent, name, self.slot.files, move.slot)
            elif there is Stands.NOTHING:
                self.fs.rename(self.slot.files, move.slot, parent, name)
            elif there is Stands.REPLACEMENT:
                self._exchange(parent, name, move)
                if self._held(move) is not Stands.REPLACEMENT:
                    self._exchange(parent, name, move)
                    raise FileExistsError(errno.EEXIST, _REPLACED)
            else:
                raise FileExistsError(errno.EEXIST, f"something else is at {move.source} now")

    def again(self, move: Move) -> None:
        """Take back what `back` did."""
        self._heal(move)
        held, there = self._held(move), self.stands(move)
        with parent_of(self.root, move.source) as (parent, name):
            if move.was.type == "none":
                if held is Stands.REPLACEMENT and there is Stands.NOTHING:
                    self.fs.rename(self.slot.files, move.slot, parent, name)
            elif there is Stands.ORIGINAL and held is Stands.REPLACEMENT:
                self._exchange(parent, name, move)
            elif there is Stands.ORIGINAL and held is Stands.NOTHING:
                self.fs.rename(parent, name, self.slot.files, move.slot)

    def _heal(self, move: Move) -> None:
        """Close the window of an exchange that was interrupted between its renames. Raises OSError."""
        aside = move.slot + _ASIDE
        if not is_there(self.slot.files, aside):
            return
        if self._held(move) is Stands.REPLACEMENT and self.stands(move) is Stands.NOTHING:
            with parent_of(self.root, move.source) as (parent, name):
                self.fs.rename(self.slot.files, aside, parent, name)
            return
        self.unmake(move)  # somebody used the window: what was there stays in the entry
        self.fs.rename(self.slot.files, aside, self.slot.files, move.slot)

    def _held(self, move: Move) -> Stands:
        return _look(self.slot.files, move.slot, move)

    def _exchange(self, parent: int, name: str, move: Move) -> None:
        try:
            self.fs.exchange(parent, name, self.slot.files, move.slot)
            return
        except OSError as e:
            if e.errno not in UNABLE:
                raise
        aside = move.slot + _ASIDE
        if self._held(move) is not Stands.REPLACEMENT:
            self.fs.rename(self.slot.files, move.slot, self.slot.files, aside)
            self.fs.rename(parent, name, self.slot.files, move.slot)
            self.fs.rename(self.slot.files, aside, parent, name)
        else:
            self.fs.rename(parent, name, self.slot.files, aside)
            self.fs.rename(self.slot.files, move.slot, parent, name)
            self.fs.rename(self.slot.files, aside, self.slot.files, move.slot)

    @contextmanager
    def _staging(self, move: Move) -> Iterator[tuple[int, str]]:
        assert move.replacement is not None
        with parent_of(self.slot.top, move.replacement.target) as found:
            yield found

    def _make_staging(self, move: Move) -> None:
        assert move.replacement is not None
        parts = move.replacement.target.split("/")[:-1]
        for n in range(1, len(parts) + 1):
            with parent_of(self.slot.top, "/".join(parts[:n])) as (parent, name):
                if not is_there(parent, name):
                    self.fs.mkdir(parent, name)
                    self.fs.fsync(parent)


def check(parent: int, name: str, move: Move, root_path: str) -> None:
    """Raise ChangedError where a name is no longer what was planned, OSError where that cannot be told."""
    try:
        was, found = measure(parent, name)
    except FileNotFoundError:
        if move.was.type == "none":
            return
        raise ChangedError("it is gone") from None
    if move.was.type == "none":
        raise ChangedError("something is there now")
    if was != move.was or found.entries != move.entries:
        raise ChangedError("it changed on disk after the plan was made")
    if was.type == "dir" and mounted_below(f"{root_path}/{move.source}", mount_points()):
        raise ChangedError("a file system is mounted inside")


def is_unchanged(files: int, move: Move) -> bool:
    """Whether what was exchanged into the entry is all that was planned: something may have been written just then."""
    try:
        was, found = measure(files, move.slot)
    except OSError:
        return False
    top = os.stat(move.slot, dir_fd=files, follow_symlinks=False).st_mtime_ns
    times = (move.was.mtime_ns, top)  # some file systems touch a folder that is renamed
    return (was.dev, was.ino, was.type, was.size, found.entries) == (
        move.was.dev,
        move.was.ino,
        move.was.type,
        move.was.size,
        move.entries,
    ) and was.mtime_ns in times


def _look(folder: int, name: str, move: Move) -> Stands:
    try:
        st = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return Stands.NOTHING
    if _is_original(st, move):
        return Stands.ORIGINAL
    assert move.replacement is not None
    if move.replacement.kind == "tree":
        return Stands.REPLACEMENT if move.staged is not None and st.st_ino == move.staged.ino else Stands.OTHER
    ours = stat.S_ISLNK(st.st_mode) and os.readlink(name, dir_fd=folder) == move.replacement.target
    return Stands.REPLACEMENT if ours else Stands.OTHER


def _is_original(st: os.stat_result, move: Move) -> bool:
    """The device may have another number since: the drive was plugged in again."""
    if st.st_ino != move.was.ino or kind_of(st) != move.was.type:
        return False
    return move.was.type != "link" or st.st_mtime_ns == move.was.mtime_ns  # numbers are used again, soon for links


def _leads(folder: int, name: str, move: Move) -> bool:
    """Whether a replacement leads to something: not into an empty folder, which a mount point without its drive is."""
    assert move.replacement is not None
    if move.replacement.kind == "tree":
        return True
    if afar.is_silent(move.replacement.target):
        return False
    try:
        st = os.stat(name, dir_fd=folder)
        return not stat.S_ISDIR(st.st_mode) or move.entries < 2 or bool(os.listdir(move.replacement.target))
    except OSError:
        return False
