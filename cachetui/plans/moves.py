"""The few changes everything is made of: a name into an entry, back to its place, a second name, a tree unlinked.

Each is safe to repeat: what is already done is seen on the disk and left. None overwrites anything, follows a link or
leaves the root's mount (I3).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from cachetui.fs import Fs, open_dir
from cachetui.plans.exchange import ChangedError, Exchange, Stands, check, is_unchanged
from cachetui.plans.record import Intent, Kept, Move
from cachetui.plans.survey import is_there, lstat_below, measure, mount_points, mounted_below, parent_of
from cachetui.plans.vault import Slot
from cachetui.walk import allocated

NOT_LINKABLE = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass
class Place:
    """A root and an entry of its trash, both open: where the changes happen."""

    fs: Fs
    root: int
    root_path: str
    slot: Slot

    @property
    def exchange(self) -> Exchange:
        """For moves that have a replacement."""
        return Exchange(self.fs, self.root, self.root_path, self.slot)

    def trash(self, move: Move) -> None:
        """Rename a name into the entry, after looking once more that it is what was planned (I2).

        Raises ChangedError, OSError.
        """
        if move.replacement is not None:
            self.exchange.swap(move)
            return
        with parent_of(self.root, move.source) as (parent, name):
            check(parent, name, move, self.root_path)
            self.fs.rename(parent, name, self.slot.files, move.slot)
            moved = os.stat(move.slot, dir_fd=self.slot.files, follow_symlinks=False)
            if (moved.st_dev, moved.st_ino) != (move.was.dev, move.was.ino):
                self.fs.rename(self.slot.files, move.slot, parent, name)
                raise ChangedError("it was replaced at this very moment")

    def holds(self, move: Move) -> bool:
        """Whether the move is made: the entry holds what it is about."""
        if move.replacement is not None:
            return self.exchange.made(move)
        return is_there(self.slot.files, move.slot)

    def back(self, move: Move) -> None:
        """Rename a name from the entry to where it was, if the entry holds it. Raises FileExistsError, OSError."""
        if move.replacement is not None:
            self.exchange.back(move)
        elif self.holds(move):
            with parent_of(self.root, move.source) as (parent, name):
                self.fs.rename(self.slot.files, move.slot, parent, name)

    def again(self, move: Move) -> None:
        """Take back what `back` did: into the entry again, if it is the same file or folder."""
        if move.replacement is not None:
            self.exchange.again(move)
            return
        found = lstat_below(self.root, move.source)
        if found is not None and found.st_ino == move.was.ino and not self.holds(move):
            with parent_of(self.root, move.source) as (parent, name):
                self.fs.rename(parent, name, self.slot.files, move.slot)

    def gone(self, move: Move) -> bool:
        """Whether a new look finds it gone, and what takes its place where that was planned (I9)."""
        if move.replacement is not None:
            return self.exchange.holds_up(move)
        return lstat_below(self.root, move.source) is None

    def in_the_way(self, move: Move) -> bool:
        """Whether something stands where a move would go back to. Raises OSError."""
        if move.replacement is not None:
            return self.exchange.stands(move) is Stands.OTHER
        return self.holds(move) and lstat_below(self.root, move.source) is not None

    def dangles(self, move: Move) -> bool:
        """Whether a link that took its place leads nowhere now. Raises OSError."""
        if move.replacement is None or self.exchange.stands(move) is not Stands.REPLACEMENT:
            return False
        return not self.exchange.holds_up(move)

    def intact(self, move: Move) -> bool:
        """Whether the entry holds all of what was there, or never took it. Raises OSError."""
        if move.was.type == "none" or is_unchanged(self.slot.files, move):
            return True
        if move.replacement is not None:
            return self.exchange.stands(move) is Stands.ORIGINAL
        return not is_there(self.slot.files, move.slot) and lstat_below(self.root, move.source) is not None

    def grew(self, move: Move) -> bool:
        """Whether a folder that took its place is another one now than when it was staged. Raises OSError."""
        if move.staged is None or self.exchange.stands(move) is not Stands.REPLACEMENT:
            return False
        with parent_of(self.root, move.source) as (parent, name):
            return measure(parent, name)[0] != replace(move.staged, dev=os.fstat(parent).st_dev)

    def lost(self, move: Move) -> bool:
        """Whether neither the root nor the entry has it any more. Raises OSError."""
        if move.replacement is None:
            return not self.holds(move) and lstat_below(self.root, move.source) is None
        missing = self.exchange.stands(move) is not Stands.ORIGINAL and not self.holds(move)
        return missing and move.was.type != "none"

    def unmake(self, moves: Iterable[Move]) -> None:
        """Remove the replacements that wait in the entry, once what they stood for is back for good. Raises OSError."""
        if sum(self.exchange.unmake(m) for m in moves if m.replacement is not None):
            self.fs.fsync(self.slot.files)

    def keep(self, kept: Kept) -> bool:
        """Give content that stays a second name in the entry; False where links are impossible. Raises OSError."""
        try:
            with parent_of(self.root, kept.source) as (parent, name):
                if os.stat(name, dir_fd=parent, follow_symlinks=False).st_ino != kept.ino:
                    raise ChangedError(f"{kept.source} was replaced")
                self.fs.link(parent, name, self.slot.kept, kept.slot)
        except FileNotFoundError:
            raise ChangedError(f"{kept.source} is gone") from None
        except OSError as e:
            if e.errno in NOT_LINKABLE:
                return False
            raise
        return True

    def give(self, kept: Kept) -> None:
        """Link kept content to where it was, where nothing is there. Raises OSError."""
        if lstat_below(self.root, kept.source) is None and is_there(self.slot.kept, kept.slot):
            with parent_of(self.root, kept.source) as (parent, name):
                self.fs.link(self.slot.kept, kept.slot, parent, name)

    def take_again(self, kept: Kept) -> None:
        """Take back what `give` did: the name goes, its bytes are still in the entry."""
        found = lstat_below(self.root, kept.source)
        if found is None or not is_there(self.slot.kept, kept.slot):
            return
        mine = os.stat(kept.slot, dir_fd=self.slot.kept, follow_symlinks=False)
        if (mine.st_dev, mine.st_ino) == (found.st_dev, found.st_ino):
            with parent_of(self.root, kept.source) as (parent, name):
                self.fs.unlink(parent, name)

    def drop(self, kept: Kept) -> bool:
        """Remove a second name that is needed no more; only while the same bytes stand at the original place (I1).

        False where they do not: then the second name stays. Raises OSError.
        """
        if not is_there(self.slot.kept, kept.slot):
            return True
        if not self.stands(kept):
            return False
        self.fs.unlink(self.slot.kept, kept.slot)
        return True

    def stands(self, kept: Kept) -> bool:
        """Whether the original place holds the same inode, or durable content that hashes equal."""
        found = lstat_below(self.root, kept.source)
        if found is None:
            return False
        mine = os.stat(kept.slot, dir_fd=self.slot.kept, follow_symlinks=False)
        if (mine.st_dev, mine.st_ino) == (found.st_dev, found.st_ino):
            return True
        if mine.st_size != found.st_size or not stat.S_ISREG(mine.st_mode) or not stat.S_ISREG(found.st_mode):
            return False
        with parent_of(self.root, kept.source) as (parent, name):
            return _digest(self.fs, parent, name) == _digest(self.fs, self.slot.kept, kept.slot)

    def sync(self, moves: Iterable[Move]) -> None:
        """Make renames durable: the folders they left or came to, and the entry's (I6)."""
        self.sync_folders(m.source for m in moves)
        self.fs.fsync(self.slot.files)

    def sync_folders(self, paths: Iterable[str]) -> None:
        """Make the entries of the folders that these paths lie in durable."""
        for folder in dict.fromkeys(p.rpartition("/")[0] for p in paths):
            self._sync_folder(folder)

    def _sync_folder(self, folder: str) -> None:
        try:
            with parent_of(self.root, f"{folder}/x" if folder else "x") as (fd, _):
                self.fs.fsync(fd)
        except (FileNotFoundError, NotADirectoryError):
            pass  # it went along with a folder above it


def put_back(place: Place, intent: Intent, items: Iterable[int]) -> None:
    """Revert a delete: content first, references last, then the second names. Raises OSError where it cannot."""
    chosen = frozenset(items)
    moves = intent.moves_of(chosen)
    for move in reversed(moves):
        place.back(move)
    place.sync(moves)
    place.unmake(moves)
    for kept in intent.kept_of(chosen):
        place.give(kept)  # somebody else may have removed it meanwhile; what needs it is back
        if chosen.issuperset(kept.items):
            place.drop(kept)


class Meter:
    """What unlinking really freed: blocks of inodes whose last name went (I9)."""

    def __init__(self, on_entry: Callable[[str], None] = lambda name: None) -> None:
        self.freed = 0
        self.count = 0
        self._on_entry = on_entry

    def gone(self, st: os.stat_result, name: str) -> None:
        """One name went; `st` is from just before."""
        self.count += 1
        if stat.S_ISDIR(st.st_mode) or st.st_nlink == 1:
            self.freed += allocated(st)
        self._on_entry(name)


def remove_tree(fs: Fs, parent: int, name: str, meter: Meter, newest_ns: int | None = None) -> bool:
    """Unlink a name and everything below it, by descriptor, following nothing.

    With `newest_ns`, what was modified later stays, and the folders above it: it came after the user's decision.
    Returns whether everything went. Raises OSError; EXDEV at another file system.
    """
    try:
        st = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return True
    if not stat.S_ISDIR(st.st_mode):
        if newest_ns is not None and st.st_mtime_ns > newest_ns:
            return False
        fs.unlink(parent, name)
        meter.gone(st, name)
        return True
    if st.st_dev != os.fstat(parent).st_dev:
        raise OSError(errno.EXDEV, "another file system is mounted inside", name)
    fd = _open_to_empty(fs, parent, name)
    try:
        everything = True
        for inner in sorted(os.listdir(fd)):
            everything &= remove_tree(fs, fd, inner, meter, newest_ns)
    finally:
        os.close(fd)
    if everything:
        fs.rmdir(parent, name)
        meter.gone(st, name)
    return everything


def _open_to_empty(fs: Fs, parent: int, name: str) -> int:
    fd = open_dir(name, parent)
    try:
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True):
            fs.chmod(fd, 0o700)
    except BaseException:
        os.close(fd)
        raise
    return fd


def remove_empty(fs: Fs, parent: int, name: str) -> None:
    """Remove a folder if nothing is in it (or if it is not there). Raises OSError."""
    with suppress(FileNotFoundError):
        try:
            fs.rmdir(parent, name)
        except OSError as e:
            if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def empty_slot(place_fs: Fs, slot: Slot, slot_path: str, meter: Meter) -> None:
    """Unlink all that an entry holds. Raises OSError; what is left goes the next time."""
    if mounted := mounted_below(slot_path, mount_points()):
        raise OSError(errno.EXDEV, "a file system is mounted inside", mounted)
    for folder in (slot.files, slot.kept):
        for name in sorted(os.listdir(folder)):
            remove_tree(place_fs, folder, name, meter)
        place_fs.fsync(folder)


def _digest(fs: Fs, parent: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        fs.fsync(fd)
        with os.fdopen(os.dup(fd), "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    finally:
        os.close(fd)
