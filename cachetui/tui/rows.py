"""The tree as a flat list of its visible rows: groups, roots, items, revisions, files. No Textual in here.

Rows of files are made when they are looked at, so that opening a folder of a hundred thousand files costs nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cachetui.model import OFFLINE, Item, Revision, Root
from cachetui.store import Selection, store_named
from cachetui.tui.shelf import Held, Shelf
from cachetui.tui.under import arrange
from cachetui.tui.under import note as item_note

Key = tuple[str, ...]
"""What a row stands for, stable over every rebuild; the first word is the row's kind."""

GROUP, ROOT, ITEM, REVISION, FILE = "group", "root", "item", "revision", "file"

SORTS = ("size", "own", "last used", "name", "files")
GROUPINGS = ("store", "kind", "family")

AWAY = "not there now"
"""Of a root on a drive that is not plugged in."""
_SORTED_FILES = 20_000
"""Up to here files are sorted by size when a revision opens; beyond, they stay in the store's order."""


class Row(NamedTuple):
    """One line of the tree."""

    key: Key
    level: int
    open: bool | None
    """Whether it shows what is below it; None where nothing can be."""
    title: str
    """An outside string."""
    size: int | None
    """Apparent bytes; None until known. Of items it is looked up when painted, see `Shelf.get`."""
    note: str = ""
    """What else stands in the line, behind the title. An outside string."""

    @property
    def kind(self) -> str:
        """group, root, item, revision or file."""
        return self.key[0]


@dataclass
class View:
    """How the person wants to see it."""

    sort: str = "size"
    reverse: bool = False
    grouping: str = "store"
    test: Callable[[Item], bool] | None = None
    """The filter; None lets everything pass."""
    words: tuple[str, ...] = ()
    """What a name must contain while it is all that is known of an item."""
    toggled: set[Key] = field(default_factory=set)
    """Rows that are open against their nature (items) or closed against it (groups and roots)."""

    def is_open(self, key: Key) -> bool:
        """Groups and roots are open unless closed, everything else the other way round."""
        return (key in self.toggled) != (key[0] in (GROUP, ROOT))


class Files(Sequence[Row]):
    """The files of one revision as rows, made one at a time."""

    def __init__(self, item: Item, revision: Revision, level: int) -> None:
        self.item = item
        self.revision = revision
        self._level = level
        self._content = item.content
        names, index, content = revision.names, revision.index, self._content
        self._order: Sequence[int] = range(len(names))
        if len(names) <= _SORTED_FILES:
            self._order = sorted(
                self._order, key=lambda n: (-(content[index[n]].size if index[n] >= 0 else 0), names[n])
            )

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, position: int) -> Row:  # type: ignore[override]  # no slices needed
        n = self._order[position]
        name, at = self.revision.names[n], self.revision.index[n]
        size = self._content[at].size if at >= 0 else None
        note = "" if at >= 0 else "missing"
        key = (FILE, self.item.root, self.item.id, self.revision.commit, name)
        return Row(key, self._level, None, name, size, note)

    def position(self, name: str) -> int | None:
        """Where a file stands, or None."""
        try:
            return self._order.index(self.revision.names.index(name))
        except ValueError:
            return None


class Rows(Sequence[Row]):
    """All visible rows. Asking for one row or for the place of a key is quick however many there are."""

    def __init__(self, segments: Sequence[Row | Files]) -> None:
        self._segments = segments
        self._starts: list[int] = []
        self._places: dict[Key, int] = {}
        self._files: dict[Key, tuple[int, Files]] = {}
        at = 0
        for segment in segments:
            self._starts.append(at)
            if isinstance(segment, Row):
                self._places[segment.key] = at
                at += 1
            else:
                self._files[segment.item.root, segment.item.id, segment.revision.commit] = (at, segment)
                at += len(segment)
        self._length = at
        self._plain = not self._files

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> Row:  # type: ignore[override]  # no slices needed
        if not 0 <= position < self._length:
            raise IndexError(position)
        n = position if self._plain else bisect_right(self._starts, position) - 1
        segment = self._segments[n]
        return segment if isinstance(segment, Row) else segment[position - self._starts[n]]

    def find(self, key: Key) -> int | None:
        """The position of a row, or None where it is not visible."""
        if key and key[0] == FILE:
            place = self._files.get(key[1:4])
            if place is None:
                return None
            start, files = place
            inside = files.position(key[4])
            return None if inside is None else start + inside
        return self._places.get(key)

    def all_keys(self) -> Iterable[Key]:
        """Keys of all rows that are not files."""
        return self._places.keys()


def parent_keys(key: Key) -> list[Key]:
    """Rows that a revision or file lies below, nearest first."""
    if key[0] == FILE:
        return [(REVISION, *key[1:4]), (ITEM, *key[1:3])]
    return [(ITEM, *key[1:3])] if key[0] == REVISION else []


def selection_of(key: Key, shelf: Shelf) -> Selection | None:
    """What a row stands for as something to act on; None for headings and for what is only a name yet."""
    if key[0] not in (ITEM, REVISION, FILE):
        return None
    item = shelf.item((key[1], key[2]))
    if item is None:
        return None
    if key[0] == ITEM:
        return Selection(item)
    revision = next((r for r in item.revisions + item.parts if r.commit == key[3]), None)
    if revision is None:
        return None
    if key[0] == REVISION:
        return Selection(item, revision.commit)
    return Selection(item, revision.commit, key[4]) if key[4] in revision.names else None


def build(shelf: Shelf, view: View) -> Rows:
    """The visible rows."""
    out: list[Row | Files] = []
    grouped = _by_store if view.grouping == "store" else _by_trait
    grouped(shelf, view, out)
    return Rows(out)


def _by_store(shelf: Shelf, view: View, out: list[Row | Files]) -> None:
    shown = {path: _chosen(shelf, view, path) for path in shelf.roots}
    under = arrange(shelf, shown)
    groups: dict[str, list[Root]] = {}
    for root in shelf.roots.values():
        if shown[root.path] or not root.ours_only:  # of a folder of the user's nothing is said but what is ours
            groups.setdefault(heading(root), []).append(root)
    for title, roots in groups.items():
        chosen = {r.path: shown[r.path] for r in roots}
        if view.test is not None and not any(chosen.values()):
            continue
        key: Key = (GROUP, title)
        is_open = view.is_open(key)
        several = len(roots) > 1
        note = f"{len(roots)} folders" if several else _place(roots[0])
        if moved := sum(len(held) - len(under.rest(path, held)) for path, held in chosen.items()):
            note += f", {moved:,} below {'its model' if moved == 1 else 'their models'}"
        sizes = [_root_size(shelf, view, r.path, chosen[r.path]) for r in roots]
        out.append(Row(key, 0, is_open, title, _total(sizes), note))
        if not is_open:
            continue
        for root, size in zip(roots, sizes, strict=True):
            held, rest = chosen[root.path], under.rest(root.path, chosen[root.path])
            if several:
                if (view.test is not None and not held) or (held and not rest):
                    continue
                root_key: Key = (ROOT, root.path)
                root_open = view.is_open(root_key)
                note = AWAY if root.offline else _count(len(held))
                out.append(Row(root_key, 1, root_open, root.path, size, note))
                if not root_open:
                    continue
            for _, one in _sorted(shelf, view, [(root.path, h) for h in rest]):
                states = _sorted(shelf, view, under.states.get((root.path, one.id), []))
                _item(view, root.path, one, 2 if several else 1, out, states)


def heading(root: Root) -> str:
    """The group that a root stands under."""
    return root.group or store_named(root.store).title


def _place(root: Root) -> str:
    return f"{AWAY}: {root.path}" if root.offline else root.path


def _by_trait(shelf: Shelf, view: View, out: list[Row | Files]) -> None:
    groups: dict[str, list[tuple[str, Held]]] = {}
    for path in shelf.roots:
        for held in _chosen(shelf, view, path):
            title = held.kind
            if view.grouping == "family":
                title = (isinstance(held, Item) and held.traits.family) or "family not known"
            groups.setdefault(title, []).append((path, held))
    totals = {title: sum(_here(h)[0] for _, h in members) for title, members in groups.items()}
    for title in sorted(groups, key=lambda t: (-totals[t], t)):
        key: Key = (GROUP, title)
        is_open = view.is_open(key)
        members = groups[title]
        out.append(Row(key, 0, is_open, title, totals[title], _count(len(members))))
        if is_open:
            for path, held in _sorted(shelf, view, members):
                _item(view, path, held, 1, out)


def _count(items: int) -> str:
    return "empty" if not items else "1 item" if items == 1 else f"{items:,} items"


def _chosen(shelf: Shelf, view: View, path: str) -> list[Held]:
    held = shelf.held.get(path, {}).values()
    if view.test is None:
        return list(held)
    return [h for h in held if (view.test(h) if isinstance(h, Item) else _may_pass(view, h.name))]


def _may_pass(view: View, name: str) -> bool:
    lower = name.lower()
    return bool(view.words) and all(w in lower for w in view.words)


def _root_size(shelf: Shelf, view: View, path: str, chosen: list[Held]) -> int | None:
    done = shelf.done.get(path)
    if done is not None and view.test is None:
        return done.size
    if done is None and chosen and not any(isinstance(h, Item) for h in chosen):
        return None
    return sum(_here(h)[0] for h in chosen)


def _total(sizes: list[int | None]) -> int | None:
    known = [s for s in sizes if s is not None]
    return sum(known) if known or not sizes else None


def _sorted(shelf: Shelf, view: View, members: list[tuple[str, Held]]) -> list[tuple[str, Held]]:
    members = sorted(members, key=lambda m: m[1].name.lower(), reverse=view.reverse and view.sort == "name")
    if view.sort == "name":
        return members
    measure = _MEASURES[view.sort]
    members.sort(key=lambda m: measure(shelf, m[0], m[1]), reverse=not view.reverse)
    return members


def _last_used(shelf: Shelf, path: str, held: Held) -> float:
    if isinstance(held, Item) and OFFLINE in held.states:
        return math.inf  # not known: nothing to look at first
    return (isinstance(held, Item) and held.last_used) or 0.0


def _here(held: Held) -> tuple[int, int]:
    """What lies elsewhere comes after everything that takes room here."""
    return (held.size - held.away, held.size) if isinstance(held, Item) else (0, 0)


_MEASURES: dict[str, Callable[[Shelf, str, Held], float | tuple[int, int]]] = {
    "size": lambda shelf, path, held: _here(held),
    "own": lambda shelf, path, held: shelf.own((path, held.id)) or 0,
    "last used": lambda shelf, path, held: -_last_used(shelf, path, held),
    "files": lambda shelf, path, held: held.file_count if isinstance(held, Item) else 0,
}


def _item(
    view: View, path: str, held: Held, level: int, out: list[Row | Files], states: Sequence[tuple[str, Held]] = ()
) -> None:
    """One item; open, its revisions and the states that were made with it. A filter is looked through."""
    key: Key = (ITEM, path, held.id)
    if not isinstance(held, Item):
        out.append(Row(key, level, None, held.name, None))
        return
    revisions = held.revisions + held.parts
    is_open = view.is_open(key) if revisions or states else None
    out.append(Row(key, level, is_open, held.name, held.size, item_note(held, len(states))))
    if is_open:
        for revision in revisions:
            _revision(view, held, revision, level + 1, out)
    if is_open or view.test is not None:
        for root, state in states:
            _item(view, root, state, level + 1, out)


def _revision(view: View, item: Item, revision: Revision, level: int, out: list[Row | Files]) -> None:
    if not revision.commit:
        out.append(Files(item, revision, level))
        return
    key: Key = (REVISION, item.root, item.id, revision.commit)
    is_open = view.is_open(key) if revision.names else None
    out.append(Row(key, level, is_open, revision_title(revision), revision.size, revision_note(revision)))
    if is_open:
        out.append(Files(item, revision, level + 1))


_PARTS = {"~orphan": "orphan blobs", "~partial": "unfinished downloads", "~litter": "leftovers of crashes"}


def revision_title(revision: Revision) -> str:
    """A short commit, or what a part is. May hold outside strings."""
    if revision.is_part:
        return _PARTS.get(revision.commit, revision.commit)
    digest = revision.commit.removeprefix("sha256:")
    return digest[: 12 if len(digest) == 64 else 7]


def revision_note(revision: Revision) -> str:
    """Its refs, or that it has none. May hold outside strings."""
    if revision.is_part:
        return "no revision names them"
    return ", ".join(revision.refs) or "no ref"
