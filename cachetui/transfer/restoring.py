"""Restoring: copy items back from their archive, prove the copies, put them in the place of the links.

Then the copy in the archive goes, unless it is kept. `execute` is in restore_run.py.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import replace

from cachetui.archived import Links
from cachetui.archives import Entry
from cachetui.ledger import Scan
from cachetui.model import ARCHIVED, OFFLINE
from cachetui.plans import cautions, places
from cachetui.plans.survey import reason
from cachetui.store import Selection
from cachetui.targets import target_of
from cachetui.transfer import links
from cachetui.transfer.drives import MARGIN
from cachetui.transfer.links import Link
from cachetui.transfer.model import Part, TransferItem, TransferPlan
from cachetui.transfer.parts import survey_part
from cachetui.transfer.pieces import Kind
from cachetui.transfer.restore_run import execute
from cachetui.units import size

__all__ = ["execute", "prepare"]

BY_HAND = "it was moved by hand: no hashes of it are known, so the copy is compared with what is read now"
_ELSEWHERE = "it was archived from {}, which may still need it: the copy in the archive stays"


def prepare(scan: Scan, selections: Sequence[Selection], *, keep: bool = False) -> TransferPlan:
    """The plan for bringing these selections back. `keep`: the copy in the archive stays.

    Reads the disk, changes nothing. Never raises for what is on disk.
    """
    linked = Links(scan).linked
    chosen: dict[tuple[str, str], Selection] = {}
    for s in selections:
        homes = linked.get(s.item.key, ()) if scan.by_key.get(s.item.key) and scan.root_of(s.item).root.archive else ()
        for one in (replace(s, item=home) for home in homes) if homes else (s,):
            chosen.setdefault((one.item.root, target_of(one)), one)
    items = tuple(_item(scan, s, keep) for s in chosen.values())
    directory = next((d for i in items if (d := _directory(i))), "")
    roots = tuple(r.root for r in scan.roots)
    plan = TransferPlan("restore", directory, items, None, keep, roots=roots)
    return replace(plan, items=tuple(_with_room(plan, i) for i in items))


def _directory(item: TransferItem) -> str:
    found = links.of(item.selection.item) if not item.refused else ()
    return found[0].directory or os.path.dirname(found[0].real) if found else ""


def _item(scan: Scan, selection: Selection, keep: bool) -> TransferItem:
    item = selection.item
    made = TransferItem(selection, target_of(selection), item.root)
    if why := _refusal(scan, selection):
        return replace(made, refused=why)
    found = links.of(item)
    if not found:
        return replace(made, refused="it is not archived: it is here")
    if missing := [link for link in found if not link.real]:
        return replace(made, refused=links.away(missing[0]))
    entry = links.entry_of(links.manifest_at(found[0].directory), item, found[0])
    try:
        parts = tuple(_part(link) for link in found)
    except OSError as e:
        where = f"{e.filename}: " if isinstance(e.filename, str) else ""
        return replace(made, refused=f"{where}{reason(e)}")
    if not places.choose(scan.root_of(item).root).path:
        return replace(made, refused="no folder on its file system can hold what is exchanged")
    place = entry.path if entry is not None else found[0].place or found[0].real
    asks = tuple(c for c in cautions.of(item, {}))
    return replace(made, place=place, parts=parts, cautions=asks, notes=_notes(found, entry, keep))


def _refusal(scan: Scan, selection: Selection) -> str:
    item = selection.item
    if not selection.is_whole:
        return "only a whole item can be brought back"
    if item.key not in scan.by_key:
        return "it is not there any more: scan again"
    if scan.root_of(item).root.archive:
        return "nothing here links to it: adopt it first"
    if not {ARCHIVED, OFFLINE} & set(item.states):
        return "it is not archived: it is here"
    if not item.path:
        return "its whole folder lies elsewhere: move that back instead"
    return ""


def _part(link: Link) -> Part:
    pieces = survey_part(link.real, os.path.dirname(link.real), links=True)
    files = [p for p in pieces if p.kind is Kind.FILE]
    return Part(link.real, link.path, sum(p.size for p in files), len(files))


def _notes(found: Sequence[Link], entry: Entry | None, keep: bool) -> tuple[str, ...]:
    if entry is None and found[0].directory:
        return ("the archive's list does not name it, so the copy is compared with what is read now",)
    if entry is None:
        return (BY_HAND,)
    if not keep and entry.host != socket.gethostname():
        return (_ELSEWHERE.format(entry.host),)
    return ()


def _with_room(plan: TransferPlan, item: TransferItem) -> TransferItem:
    """Refused where all of the plan does not fit on the root's file system."""
    if item.refused:
        return item
    try:
        room = os.statvfs(item.root)
        dev = os.stat(item.root).st_dev
        needed = sum(i.bytes for i in plan.items if not i.refused and os.stat(i.root).st_dev == dev)
    except OSError as e:
        return replace(item, refused=reason(e))
    free = room.f_bavail * room.f_frsize
    if needed + needed // 100 + MARGIN > free:
        return replace(item, refused=f"there is no room: {size(needed)} are to be written and {size(free)} are free")
    return item
