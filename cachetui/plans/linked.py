"""What deleting means for what lies elsewhere: the link only, or the archive's copy too; and who links to a copy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cachetui import filesystem
from cachetui.archived import Links, place_of
from cachetui.ledger import Scan
from cachetui.model import ARCHIVED, OFFLINE
from cachetui.plans.model import LINKED_FROM, NO_UNDO, Caution, DiskShare, PlannedItem
from cachetui.store import Selection
from cachetui.units import size


def with_homes(scan: Scan, selections: Sequence[Selection]) -> tuple[Selection, ...]:
    """The selections, and for each whole archived item the same where it really lies."""
    home = Links(scan).home
    found = list(selections)
    for s in selections:
        there = home.get(s.item.key)
        if s.is_whole and there is not None and not any(o.item.key == there.key and o.is_whole for o in found):
            found.append(Selection(there))
    return tuple(found)


def cautioned(scan: Scan, items: Sequence[PlannedItem]) -> tuple[PlannedItem, ...]:
    """The items, those that others link to with the question whether those links may lead nowhere."""
    linked = Links(scan).linked
    found = []
    for i in items:
        names = ", ".join(f"{item.id} in {item.root}" for item in linked.get(i.selection.item.key, ()))
        if names and not i.refused:
            asks = Caution(LINKED_FROM, f"it holds what {names} is a link to: that can be loaded no more")
            i = replace(i, cautions=(*i.cautions, asks))
        found.append(i)
    return tuple(found)


def notes(items: Iterable[PlannedItem]) -> tuple[str, ...]:
    """For each item that is only a link: what stays, and where."""
    items = [i for i in items if not i.refused]
    going = {(i.selection.item.root, i.selection.item.path) for i in items}
    found = []
    for i in items:
        item = i.selection.item
        place = place_of(item)
        if not place or any(place == f"{root}/{path}" for root, path in going):
            continue
        if item.store == "ollama" and any(p == item.path and place.startswith(f"{r}/") for r, p in going):
            continue
        what = f"{size(item.away)} stay" if item.away else "its files stay"
        if OFFLINE in item.states:
            found.append(f"{i.target}: only the link goes; {what} at {place}, which is not there, with no link to them")
        elif ARCHIVED in item.states:
            found.append(f"{i.target}: only the link goes; {what} at {place}")
    return tuple(found)


def by_disk(items: Iterable[PlannedItem], permanent: bool) -> tuple[DiskShare, ...]:
    """What comes back on each file system."""
    table = filesystem.mounts()
    shares: dict[str, tuple[int, int]] = {}
    for i in items:
        if not i.refused:
            mount = filesystem.mount_of(i.selection.item.root, table)
            point = mount.point if mount is not None else ""
            now, later = shares.get(point, (0, 0))
            at_once = permanent or any(c.code == NO_UNDO for c in i.cautions)
            shares[point] = (now + (i.frees if at_once else 0), later + i.frees)
    return tuple(DiskShare(point, now, later) for point, (now, later) in shares.items())
