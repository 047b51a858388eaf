"""Putting items of one entry back: folders that are missing, content, references last. Never over anything (I18).

The same function serves undo and the recovery of an undo that was killed: what is done already is seen on the disk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from cachetui.plans import hubrefs
from cachetui.plans.deletion import StuckError
from cachetui.plans.moves import Place
from cachetui.plans.record import Intent, Kept, Move
from cachetui.plans.survey import is_there, lstat_below, parent_of, reason


@dataclass
class Restoration:
    """One entry, of which items are put back. Items are their numbers in the intent."""

    place: Place
    intent: Intent
    advance: Callable[[str], None] = lambda name: None
    failed: dict[int, str] = field(default_factory=dict)
    patient: bool = False
    """An error of the disk leaves all of it to the next start (recovery), instead of giving up the one item."""

    def conflict(self, number: int) -> str:
        """Why an item cannot be put back; empty when it can."""
        home = self.intent.homes[number]
        try:
            if home and lstat_below(self.place.root, home) is None:
                return f"{home}, which it was part of, is gone; bring that back first"
            for move in self.intent.moves_of([number]):
                if self.place.in_the_way(move):
                    return f"something else is at {move.source} now; move that away first"
                if not self.patient and self.place.grew(move):
                    return f"{move.source} was changed since: that would be lost from sight"
            for kept in self.intent.kept_of([number]):
                there = lstat_below(self.place.root, kept.source) is not None
                if there and is_there(self.place.slot.kept, kept.slot) and not self.place.stands(kept):
                    return f"{kept.source} is there with other content now; move that away first"
        except OSError as e:
            return reason(e)
        return ""

    def missing(self, number: int) -> tuple[str, ...]:
        """Paths of an item that neither the root nor the entry has any more."""
        found = [m.source for m in self.intent.moves_of([number]) if self._lost(m)]
        return (*found, *(k.source for k in self.intent.kept_of([number]) if self._lost(k)))

    def _lost(self, name: Move | Kept) -> bool:
        try:
            if isinstance(name, Move):
                return self.place.lost(name)
            return not is_there(self.place.slot.kept, name.slot) and lstat_below(self.place.root, name.source) is None
        except OSError:
            return True

    def begin(self, items: Iterable[int]) -> None:
        """Write down what will be put back. Raises OSError; then nothing was changed."""
        chosen = frozenset(items)
        sources = [m.source for m in self.intent.moves_of(chosen) if self.place.holds(m)]
        linked = []
        for kept in self.intent.kept_of(chosen):
            if lstat_below(self.place.root, kept.source) is None and is_there(self.place.slot.kept, kept.slot):
                linked.append(kept.slot)
                sources.append(kept.source)
        folders = [f for f in _folders_above(sources) if lstat_below(self.place.root, f) is None]
        record = self.place.slot.record
        try:
            record.append(self.place.fs, "restore", chosen, folders, linked)
        except OSError as e:
            try:
                record.append(self.place.fs, "cancelled")  # the line may have reached the disk nevertheless
            except OSError:
                raise StuckError(reason(e)) from e
            raise

    def run(self) -> frozenset[int]:
        """Put back what the record says, and return what came back; the rest is in `failed`. Raises StuckError."""
        record = self.place.slot.record
        pending = record.pending
        try:
            self._make_folders(record.folders)
            for number in sorted(pending):
                self._one(number, pending)
            back = pending - self.failed.keys()
            self._remove_empty(record.folders)
            self._sync(pending)
            self.place.unmake(self.intent.moves_of(back))
            if not back:
                record.append(self.place.fs, "cancelled")
                return back
        except OSError as e:
            raise StuckError(reason(e)) from e
        with suppress(OSError):  # all is back and durable: where this cannot be noted, the next start does it
            record.append(self.place.fs, "restored", back)
            tidy(self.place, self.intent)
        return back

    def _make_folders(self, folders: Iterable[str]) -> None:
        for folder in folders:
            with parent_of(self.place.root, folder) as (parent, name):
                if not is_there(parent, name):
                    self.place.fs.mkdir(parent, name, 0o755)
                    self.place.fs.fsync(parent)

    def _one(self, number: int, pending: frozenset[int]) -> None:
        linked = self.place.slot.record.linked
        kept = [k for k in self.intent.kept_of([number]) if k.slot in linked]
        try:
            if why := self.conflict(number):
                raise FileExistsError(errno.EEXIST, why)
            for k in kept:
                if not k.reference:
                    self.place.give(k)
            for move in reversed(self.intent.moves_of([number])):
                self.place.back(move)
                self.advance(move.source)
            for k in kept:
                if k.reference:
                    self.place.give(k)
            if self.intent.store == "hf":
                hubrefs.complete(self.place.fs, self.place.root, self._repo_folders(number))
        except OSError as e:
            if self.patient and not isinstance(e, FileExistsError):
                raise
            self.failed[number] = e.strerror or str(e)
            self._take_again(number, pending - self.failed.keys(), kept)

    def _repo_folders(self, number: int) -> set[str]:
        sources = [m.source for m in self.intent.moves_of([number])]
        return {s.split("/", 1)[0] for s in sources} | {self.intent.homes[number].split("/", 1)[0]} - {""}

    def _take_again(self, number: int, others: frozenset[int], kept: Iterable[Kept]) -> None:
        """Back into the entry, references first; not what others need that came back or will."""
        for k in kept:
            if not others.intersection(k.items):
                self.place.take_again(k)
        for move in self.intent.moves_of([number]):
            if not others.intersection((move.item, *move.needs)):
                self.place.again(move)

    def _remove_empty(self, folders: Iterable[str]) -> None:
        """Folders that were made for an item which then could not come back."""
        for folder in reversed(list(folders)):
            with suppress(OSError), parent_of(self.place.root, folder) as (parent, name):
                if is_there(parent, name) and not _has_entries(parent, name):
                    self.place.fs.rmdir(parent, name)

    def _sync(self, pending: frozenset[int]) -> None:
        moves: list[Move] = list(self.intent.moves_of(pending))
        self.place.sync(moves)
        self.place.sync_folders(k.source for k in self.intent.kept_of(pending))


def tidy(place: Place, intent: Intent) -> None:
    """Drop second names that no item in the entry needs, and free the entry when nothing is left. Raises OSError."""
    record = place.slot.record
    clean = True
    for kept in intent.kept:
        if not record.present.intersection(kept.items):
            clean &= place.drop(kept)
    if not record.present and clean and place.slot.is_empty():
        record.clear(place.fs)


def _folders_above(sources: Iterable[str]) -> list[str]:
    """Every folder above these paths, outermost first."""
    found: dict[str, None] = {}
    for source in sources:
        parts = source.split("/")[:-1]
        for n in range(1, len(parts) + 1):
            found["/".join(parts[:n])] = None
    return sorted(found, key=lambda f: f.count("/"))


def _has_entries(parent: int, name: str) -> bool:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        return bool(os.listdir(fd))
    finally:
        os.close(fd)
