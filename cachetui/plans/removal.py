"""Making a plan: what the stores say, what the disk says, what to ask. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from cachetui import fs as fs_module
from cachetui import inuse
from cachetui.config import Where
from cachetui.fs import open_dir
from cachetui.inuse import Unchecked
from cachetui.ledger import Scan
from cachetui.model import Item, Root
from cachetui.ollama_server import Kind, Server, probe
from cachetui.plans import cautions, linked, places, reflinks
from cachetui.plans.model import NO_UNDO, PERMANENT, SERVER, UNCHECKED, Caution, Plan, PlannedItem, TrashPlace
from cachetui.plans.planner import draft
from cachetui.plans.preflight import Found, content_paths, look
from cachetui.plans.survey import Inode
from cachetui.plans.vault import ENTRIES, KEPT
from cachetui.store import Selection
from cachetui.units import size

_NO_TRASH = "choose permanent deletion"


def prepare(
    scan: Scan,
    selections: Sequence[Selection],
    *,
    permanent: bool = False,
    bulk: bool = False,
    with_archive: bool = False,
) -> Plan:
    """The plan for deleting these selections. `bulk`: they were chosen as many, e.g. by a filter.

    Of an archived item the link goes, and `with_archive` its copy in the archive too. Reads the disk and the process
    table, changes nothing.
    """
    if with_archive:
        selections = linked.with_homes(scan, selections)
    drafts = draft(scan, selections, bulk=bulk)
    roots = {r.root.path: r.root for r in scan.roots}
    chosen = tuple(places.choose(roots[p]) for p in dict.fromkeys(d.key[0] for d in drafts) if p in roots)
    by_root = {p.root: p for p in chosen}
    if not fs_module.HAS_DIR_FD:
        drafts = tuple(replace(d, refused="this system lacks the calls that deleting safely needs") for d in drafts)
    found = look(drafts, {} if permanent else _kept_names([p.path for p in chosen if p.path]))
    _check_roots(found, roots)
    servers = _servers(scan, found)
    users = inuse.users([f.draft.selection.item for f in found if not f.refused])
    items = tuple(_item(f, by_root.get(f.draft.key[0]), users, permanent, servers.get(f.draft.key[0])) for f in found)
    items = _ask_once(items if with_archive else linked.cautioned(scan, items))
    up_to, notes = _reflinked(scan, found)
    notes = (*_notes(chosen, permanent), *notes, *linked.notes(items))
    return Plan("delete", items, chosen, permanent, up_to, notes, linked.by_disk(items, permanent))


def _check_roots(found: Sequence[Found], roots: dict[str, Root]) -> None:
    """A root that is another folder than the one that was scanned is not touched."""
    for f in found:
        if f.refused:
            continue
        root = roots[f.draft.key[0]]
        try:
            st = os.stat(root.path, follow_symlinks=False)
        except OSError:
            f.refused = "its folder is gone: scan again"
            continue
        if (st.st_dev, st.st_ino) != (root.dev, root.ino):
            f.refused = "its folder was replaced: scan again"


def _servers(scan: Scan, found: Sequence[Found]) -> dict[str, Server]:
    """What is known about a server, for each Ollama store that the plan touches."""
    touched = {f.draft.key[0] for f in found if f.draft.selection.item.store == "ollama" and f.steps}
    stores = [r for r in scan.roots if r.root.store == "ollama"]
    where = Where(dict(os.environ), home="/", cwd="/")  # only its OLLAMA_HOST is asked for
    return {r.root.path: probe(r, where, stores) for r in stores if r.root.path in touched}


def _item(
    found: Found, place: TrashPlace | None, users: cautions.Users, permanent: bool, server: Server | None
) -> PlannedItem:
    draft_ = found.draft
    item: Item = draft_.selection.item
    served = server is not None and server.kind is Kind.SERVES
    through = served and item.kind == "model" and (found.forbidden or not found.refused)
    refused = found.refused if not through else ""
    has_trash = place is not None and bool(place.path)
    if server is not None and server.kind is Kind.DOUBT and not refused:
        refused = f"{server.reason}: stop the server, or set OLLAMA_HOST, then try again"
    if not refused and not permanent and not has_trash and not through:
        refused = f"{places.NO_PLACE}: {_NO_TRASH}"
    if refused:
        return PlannedItem(draft_.selection, draft_.target, refused=refused, stays=tuple(found.stays))
    asks = cautions.of(item, users)
    if served and not through:
        asks = (*asks, Caution(SERVER, "an Ollama server serves this folder and may be writing to it"))
    if through and not permanent and (found.forbidden or not has_trash):
        asks = (*asks, Caution(NO_UNDO, "it is deleted by the server and cannot be undone: its files cannot be kept"))
    if permanent:
        asks = (*asks, Caution(PERMANENT, "it cannot be brought back"))
    url = server.url if through and server is not None else ""
    return PlannedItem(
        draft_.selection,
        draft_.target,
        tuple(found.steps),
        tuple(found.stays),
        asks,
        tuple(u for u in users.get(item.key, ()) if u != Unchecked),
        via_server=url,
    )


def _ask_once(items: tuple[PlannedItem, ...]) -> tuple[PlannedItem, ...]:
    """That another user's processes could not be checked is said once in a plan, by its first item."""
    said = False
    result = []
    for i in items:
        if said:
            i = replace(i, cautions=tuple(c for c in i.cautions if c.code != UNCHECKED))
        said = said or any(c.code == UNCHECKED for c in i.cautions)
        result.append(i)
    return tuple(result)


def _notes(chosen: Sequence[TrashPlace], permanent: bool) -> tuple[str, ...]:
    return () if permanent else tuple(f"{p.root}: {p.note}" for p in chosen if p.note)


def _reflinked(scan: Scan, found: Sequence[Found]) -> tuple[bool, tuple[str, ...]]:
    """Whether what comes back is an upper bound, and how much of it other files share."""
    sharing = {r.root.path for r in scan.roots if r.reflinks}
    mine = [f for f in found if f.draft.key[0] in sharing]
    if not mine:
        return False, ()
    shared = sum(reflinks.shared_bytes(path) for path in content_paths(mine))
    if not shared:
        return True, ()
    return True, (f"{size(shared)} of it share their blocks with other files and come back only with those",)


def _kept_names(trashes: Sequence[str]) -> dict[Inode, int]:
    """How many second names inodes have in these trash folders."""
    found: dict[Inode, int] = {}
    for trash in trashes:
        try:
            top = open_dir(os.path.join(trash, ENTRIES))
        except OSError:
            continue
        try:
            for name in os.listdir(top):
                _count_kept(top, f"{name}/{KEPT}", found)
        finally:
            os.close(top)
    return found


def _count_kept(top: int, path: str, found: dict[Inode, int]) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    except OSError:
        return
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                st = entry.stat(follow_symlinks=False)
                found[st.st_dev, st.st_ino] = found.get((st.st_dev, st.st_ino), 0) + 1
    finally:
        os.close(fd)
