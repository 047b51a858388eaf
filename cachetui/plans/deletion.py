"""Deleting from one root: second names first, then references, then content; each item whole or not at all.

Where something takes the place of what goes (archive, restore ...), that is made and durable before the first exchange.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from cachetui.fs import Fs
from cachetui.plans.exchange import NOWHERE, ChangedError, check
from cachetui.plans.moves import Meter, Place, empty_slot, put_back, remove_tree
from cachetui.plans.record import Act, Intent, Move
from cachetui.plans.survey import parent_of, reason
from cachetui.plans.vault import ENTRIES, Slot, Vault

NOT_KEPT = "content that stays for others could not be linked into the trash: undo will not bring it back"

CROSSED = "its file system cannot rename it into a trash; it can only be deleted permanently"
NOT_EXCHANGED = "its file system cannot put something else in its place by a rename"
FULL = (errno.ENOSPC, errno.EDQUOT)


class StuckError(Exception):
    """What was begun could neither be finished nor taken back now; the journal keeps it for the next start."""


@dataclass
class Deletion:
    """One intent, carried out. Items are their numbers in the intent."""

    place: Place
    intent: Intent
    advance: Callable[[str], None]
    make_room: Callable[[], bool] = lambda: False
    """Gives up a reserve for what has to be created on a full disk; False where none is left."""
    failed: dict[int, str] = field(default_factory=dict)
    """Why an item was left, or put back."""
    notes: dict[int, str] = field(default_factory=dict)
    """What else to say about an item that was done."""
    back: dict[int, str] = field(default_factory=dict)
    """Items of which something is there again after they went."""
    crossed: set[int] = field(default_factory=set)
    """Items that failed because the system cannot rename them into the trash, although it lies on the same mount."""
    freed: dict[int, int] = field(default_factory=dict)
    """Measured, permanent deletion only."""
    left: set[str] = field(default_factory=set)
    """Shared content that was not moved because somebody still needs it."""

    @property
    def fs(self) -> Fs:
        """The disk."""
        return self.place.fs

    @property
    def slot(self) -> Slot:
        """The entry."""
        return self.place.slot

    @property
    def done(self) -> frozenset[int]:
        """Items that went."""
        return frozenset(i.number for i in self.intent.items) - self.failed.keys()

    def begin(self) -> None:
        """Write the intent. Raises OSError; then nothing was changed and the entry is free again if that worked."""
        try:
            self.slot.record.begin(self.fs, self.intent)
        except OSError:
            with suppress(OSError):
                self.slot.record.clear(self.fs)
            raise

    def into_trash(self) -> None:
        """Move everything, put back what fails, and commit. Raises StuckError."""
        try:
            self._make_all()
            self.keep_all()
            own = [m for m in self.intent.moves if not m.needs]
            for content in (False, True):
                for number in dict.fromkeys(m.item for m in own if m.content == content):
                    self._move_all(number, [m for m in own if m.item == number and m.content == content])
            for move in self.intent.moves:
                if move.needs and self.failed.keys() & {move.item, *move.needs}:
                    self.left.add(move.source)
                elif move.needs:
                    self._move_all(move.item, [move])
            self.commit("empty" if self.intent.act is Act.DESTROY else "done")
        except OSError as e:
            raise StuckError(reason(e)) from e
        self._verify()

    def _make_all(self) -> None:
        """What takes the place of what goes, durable in the entry (I6). Raises OSError when stuck."""
        swaps = [m for m in self.intent.moves if m.replacement is not None]
        for move in swaps:
            if not self.failed.keys() & {move.item, *move.needs}:
                try:
                    self._make(move)
                except (ChangedError, OSError) as e:
                    self.fail(move.item, e)
        if swaps:
            self.fs.fsync(self.slot.files)

    def _make(self, move: Move) -> None:
        try:
            self.place.exchange.make(move)
        except OSError as e:
            if e.errno not in FULL or not self.make_room():
                raise
            self._make(move)

    def keep_all(self) -> None:
        """Second names of what stays. An item whose content changed fails. Raises OSError when stuck."""
        for kept in self.intent.kept:
            try:
                if not self.place.keep(kept):
                    self.notes.update(dict.fromkeys(kept.items, NOT_KEPT))
            except (ChangedError, OSError) as e:
                for number in kept.items:
                    self.fail(number, e)
        if self.intent.kept:
            self.fs.fsync(self.slot.kept)

    def _move_all(self, number: int, moves: list[Move]) -> None:
        if number in self.failed:
            return
        try:
            for move in moves:
                self.place.trash(move)
                self.advance(move.source)
            self.place.sync(moves)
            if not all(self.place.gone(m) for m in moves if m.replacement is not None):
                raise ChangedError(NOWHERE)
        except (ChangedError, OSError) as e:
            self.fail(number, e)

    def fail(self, number: int, error: Exception) -> None:
        """Put an item back, with the shared content that it needs. Raises OSError where that fails too."""
        self.failed.setdefault(number, reason(error) if isinstance(error, OSError) else str(error))
        if isinstance(error, OSError) and error.errno == errno.EXDEV:
            swapped = any(m.replacement is not None for m in self.intent.moves_of([number]))
            self.failed[number] = NOT_EXCHANGED if swapped else CROSSED
            self.crossed.add(number)
        self.left |= {m.source for m in self.intent.moves if number in m.needs}
        put_back(self.place, self.intent, [number])

    def commit(self, line: str) -> None:
        """From here the state on disk is "after". A failure takes everything back. Raises OSError when stuck."""
        done = self.done
        if done:
            try:
                self.slot.record.append(self.fs, line, done)
            except OSError as e:
                if not self._take_back_line():
                    return  # everything went, and that is what the next start will find, with the line or without
                self.failed.update(dict.fromkeys(done, reason(e)))
        if not self.done:
            put_back(self.place, self.intent, self.failed)
            with suppress(OSError):
                self.slot.record.clear(self.fs)
        elif self.failed:
            for kept in self.intent.kept:
                if self.failed.keys() >= set(kept.items):
                    self.place.drop(kept)

    def _take_back_line(self) -> bool:
        """Void a line that may have reached the disk although writing it failed. Raises OSError when stuck."""
        try:
            self.slot.record.append(self.fs, "undone")
        except OSError:
            if self.failed or self.intent.act is Act.DESTROY:
                raise
            return False
        return True

    def _verify(self) -> None:
        """Success is claimed only for what a new look finds gone (I9)."""
        for move in self.intent.moves:
            if move.item in self.done and move.source not in self.left and not self.place.gone(move):
                self.back[move.item] = f"{move.source} is there again: something wrote it meanwhile"

    def empty(self, vault: Vault) -> None:
        """After `into_trash` of a permanent deletion: unlink all of it and free the entry. Raises StuckError."""
        try:
            for move in self.intent.moves:
                if move.item in self.done and move.source not in self.left:
                    meter = Meter(self.advance)
                    remove_tree(self.fs, self.slot.files, move.slot, meter)
                    self.freed[move.item] = self.freed.get(move.item, 0) + meter.freed
            empty_slot(self.fs, self.slot, os.path.join(vault.path, ENTRIES, self.slot.name), Meter())
        except OSError as e:
            raise StuckError(f"it is out of the store, but unlinking it failed: {reason(e)}") from e
        with suppress(OSError):
            self.slot.record.clear(self.fs)

    def erase(self) -> None:
        """Unlink in place what no trash can take: looked at once more, references first. Raises StuckError."""
        try:
            for number in [i.number for i in self.intent.items]:
                for move in self.intent.moves:
                    if move.item == number and not move.needs:
                        self._look_again(move)
            for move in self.intent.moves:
                if self.failed.keys() & {move.item, *move.needs}:
                    self.left.add(move.source)
                else:
                    self._erase(move)
        except OSError as e:
            raise StuckError(reason(e)) from e
        with suppress(OSError):
            self.slot.record.clear(self.fs)
        self._verify()

    def _look_again(self, move: Move) -> None:
        try:
            with parent_of(self.place.root, move.source) as (parent, name):
                check(parent, name, move, self.place.root_path)
        except (ChangedError, OSError) as e:
            self._skip(move.item, e)

    def _skip(self, number: int, error: Exception) -> None:
        if number not in self.failed:
            self.slot.record.append(self.fs, "skip", [number])
            self.failed[number] = reason(error) if isinstance(error, OSError) else str(error)

    def _erase(self, move: Move) -> None:
        meter = Meter(self.advance)
        try:
            with parent_of(self.place.root, move.source) as (parent, name):
                check(parent, name, move, self.place.root_path)
                remove_tree(self.fs, parent, name, meter)
                self.fs.fsync(parent)
        except (ChangedError, OSError) as e:
            if move.item in self.freed or meter.count:  # half gone: only forward from here
                raise StuckError(reason(e) if isinstance(e, OSError) else str(e)) from e
            self._skip(move.item, e)
            return
        self.freed[move.item] = self.freed.get(move.item, 0) + meter.freed
