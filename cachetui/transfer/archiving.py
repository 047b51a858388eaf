"""Archiving: copy items to another drive, prove the copy, put links in their place, free the originals.

`prepare` looks and changes nothing (but for trying out the drive); `execute` (archive_run.py) carries it out.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cachetui import hub_layout
from cachetui.archives import FOLDERS, HUB, INCOMING, OLLAMA, ManifestError, read
from cachetui.fs import DISK, Fs
from cachetui.ledger import Scan
from cachetui.model import ARCHIVED, OFFLINE, Item
from cachetui.model import DAMAGED as DAMAGED_STATE
from cachetui.model import PARTIAL as PARTIAL_STATE
from cachetui.model import PINNED as PINNED_STATE
from cachetui.plans import cautions
from cachetui.plans.model import PERMANENT, Caution, PlannedItem
from cachetui.plans.survey import reason
from cachetui.store import Selection, store_named
from cachetui.targets import target_of
from cachetui.transfer import drives, staging, swaps
from cachetui.transfer.archive_run import execute
from cachetui.transfer.model import DAMAGED, NETWORK, PARTIAL, PINNED, ArchivePlan, Drive, Part, TransferItem
from cachetui.transfer.parts import looks_equal, survey_part
from cachetui.transfer.pieces import Kind, Piece

__all__ = ["ArchivePlan", "execute", "prepare"]

_WHOLE = "only a whole item can be archived: all its revisions go along, for they share files"
_MADE_AGAIN = "it is fetched or made again when needed: delete it instead"
_CACHES = frozenset(("xet", "assets", "modules", "accelerate"))
"""Folders of HF_HOME that programs fill by themselves."""
_SHOWN = 3
_NOT_ITEMS = frozenset(("orphan", "partial", "unknown"))


def prepare(
    scan: Scan,
    selections: Sequence[Selection],
    to: str,
    *,
    keep: bool = False,
    keep_original: bool = False,
    bulk: bool = False,
    dry_run: bool = False,
    fs: Fs = DISK,
) -> ArchivePlan:
    """The plan for archiving these selections to the folder `to`.

    `keep`: only a backup, the originals stay. `keep_original`: they go to the trash. `bulk`: they were chosen as many,
    e.g. by a filter. `dry_run`: nothing is written, not even to try out the drive. Never raises for what is on disk.
    """
    roots = tuple(r.root for r in scan.roots)
    chosen = list({(s.item.root, target_of(s)): s for s in selections}.values())
    sources = {s.item.root for s in chosen}
    drive = drives.look(to, roots, 0, sources=sources, dry_run=dry_run, fs=fs)
    plan = ArchivePlan("archive", drive.directory, (), drive, keep, keep_original, roots=roots, notes=drive.notes)
    work = _Planner(scan, drive, keep, bulk)
    refused = {n: why for n, s in enumerate(chosen) if (why := _refusal(scan, s))}
    going = [s.item for n, s in enumerate(chosen) if n not in refused]
    planned = {} if keep else work.removals(going, keep_original)
    items = tuple(
        TransferItem(s, target_of(s), s.item.root, refused=refused[n]) if n in refused else work.item(s, planned)
        for n, s in enumerate(chosen)
    )
    if not keep and any(i.refused and n not in refused for n, i in enumerate(items)):
        planned = work.removals([i.selection.item for i in items if not i.refused], keep_original)
    plan = replace(plan, items=tuple(work.with_steps(i, planned) for i in items), refused=drive.refused)
    if not plan.refused and (why := drives.too_small(drive, plan.bytes - work.written(plan.accepted))):
        plan = replace(plan, refused=why)
    if drive.network:
        said = f"it is on a network ({drive.filesystem}): what is archived there cannot be loaded while it is away"
        plan = replace(plan, asks=(Caution(NETWORK, said),))
    return plan


@dataclass
class _Planner:
    scan: Scan
    drive: Drive
    keep: bool
    bulk: bool

    def __post_init__(self) -> None:
        directory = self.drive.directory
        self._taken: dict[str, tuple[str, str]] = {}
        self._begun: dict[str, tuple[str, str]] = {}
        incoming = os.path.join(directory, INCOMING)
        self._written: dict[str, int] = {}
        for key, header in staging.leftovers(incoming):
            self._begun[str(header.get("place"))] = (str(header.get("root")), str(header.get("origin")))
            self._written[str(header.get("place"))] = staging.taken(incoming, key)
        try:
            self._manifest = read(directory)
        except ManifestError:
            self._manifest = None

    def written(self, items: Sequence[TransferItem]) -> int:
        """Bytes that an interrupted run wrote of these: they need no room any more."""
        return sum(min(self._written.get(p.place, 0), p.bytes) for i in items for p in i.parts)

    def removals(self, items: Sequence[Item], keep_original: bool) -> dict[tuple[str, str], PlannedItem]:
        """What goes here with each of these items, all together: shared content goes with its last holder."""
        archived = swaps.archived_tags(self._manifest)
        found = swaps.removals(self.scan, items, archived, permanent=not keep_original)
        return {i.selection.item.key: i for i in found.items}

    def item(self, selection: Selection, planned: Mapping[tuple[str, str], PlannedItem]) -> TransferItem:
        """One item: what would be copied, where to, what to ask."""
        item = selection.item
        made = TransferItem(selection, target_of(selection), item.root)
        removal = planned.get(item.key)
        if removal is not None and removal.refused:
            return replace(made, refused=removal.refused, stays=removal.stays)
        archived = item.store == OLLAMA and (item.root, item.path) in swaps.archived_tags(self._manifest)
        if archived and (removal is None or not removal.steps):
            away = any(os.path.islink(f"{item.root}/{b.path}") for b in item.links)
            if away or removal is None or not removal.stays:
                return replace(made, refused="it is archived already")
        if removal is not None and (why := _all_stays(removal, planned)):
            return replace(made, refused=why, stays=removal.stays)
        try:
            found = self._parts(item)
        except OSError as e:
            where = f"{e.filename}: " if isinstance(e.filename, str) else ""
            return replace(made, refused=f"{where}{reason(e)}")
        if isinstance(found, str):
            return replace(made, refused=found)
        place, parts, notes = found
        return replace(made, place=place, parts=parts, notes=notes, cautions=self._cautions(item, removal))

    def with_steps(self, item: TransferItem, planned: Mapping[tuple[str, str], PlannedItem]) -> TransferItem:
        """The same with what is exchanged, what stays for others, and what comes back."""
        removal = planned.get(item.selection.item.key)
        if item.refused or removal is None:
            return item
        links = swaps.links(item, self.drive.directory)
        steps = swaps.with_links(removal.steps, links)
        return replace(item, steps=steps, stays=removal.stays, frees=removal.frees)

    def _cautions(self, item: Item, removal: PlannedItem | None) -> tuple[Caution, ...]:
        found = cautions.of(item, {}) if removal is None else removal.cautions
        asks = [c for c in found if c.code != PERMANENT]
        if DAMAGED_STATE in item.states:
            asks.append(Caution(DAMAGED, "it is damaged, and so would its copy be"))
        if PARTIAL_STATE in item.states:
            asks.append(Caution(PARTIAL, "it is not complete, and a download cannot go on in an archive"))
        if self.bulk and PINNED_STATE in item.states:
            asks.append(Caution(PINNED, "it is pinned; archived, it loads only while the drive is there"))
        return tuple(asks)

    def _parts(self, item: Item) -> tuple[str, tuple[Part, ...], tuple[str, ...]] | str:
        """(place, parts, notes), or why it cannot be archived. Raises OSError."""
        if item.store == OLLAMA:
            return self._tag(item)
        names = store_named(item.store).removal(
            swaps.unpinned(item), self.scan.ledger, self.scan.ledger.positions([item])
        )
        if names.refused:
            return names.refused
        if not names.references or not names.references[0]:
            return "it is the folder that is looked at itself: move it as a whole instead"
        surveyed = {r: survey_part(f"{item.root}/{r}", item.root, links=self.drive.links) for r in names.references}
        place = self._place(item, surveyed)
        if not place:
            return f"something else of that name is in {self.drive.directory} already"
        places = _places(place, names.references)
        parts = [self._part(item, r, places[r], pieces) for r, pieces in surveyed.items()]
        for pieces in surveyed.values():
            if why := drives.unfit(self.drive, pieces):
                return why
        return place, tuple(parts), self._notes(parts)

    def _tag(self, item: Item) -> tuple[str, tuple[Part, ...], tuple[str, ...]] | str:
        """An Ollama tag: its manifest and every blob that it names."""
        prefix = self._prefix(OLLAMA, item, f"{OLLAMA}/{item.path}", survey_part(f"{item.root}/{item.path}", item.root,
                                                                             links=True))  # fmt: skip
        if prefix is None:
            return f"another {item.name} is in {self.drive.directory} already"
        place = f"{prefix}/{item.path}"
        parts = []
        for path in dict.fromkeys((item.path, *(b.path for b in item.links))):
            source = os.path.realpath(f"{item.root}/{path}")
            if not os.path.exists(source):
                continue
            pieces = survey_part(source, item.root, links=True)
            if why := drives.unfit(self.drive, [replace(p, path=path) for p in pieces]):
                return why
            parts.append(self._part(item, path, f"{prefix}/{path}", pieces, source))
        return place, tuple(parts), self._notes(parts)

    def _part(self, item: Item, path: str, place: str, pieces: Sequence[Piece], source: str = "") -> Part:
        files = [p for p in pieces if p.kind is Kind.FILE]
        there = os.path.lexists(f"{self.drive.directory}/{place}") and place not in self._begun
        return Part(source or f"{item.root}/{path}", place, sum(p.size for p in files), len(files), there)

    def _notes(self, parts: Sequence[Part]) -> tuple[str, ...]:
        if any(p.there for p in parts):
            return ("a copy is there already: it is read, compared and used",)
        return ()

    def _place(self, item: Item, surveyed: dict[str, tuple[Piece, ...]]) -> str:
        """Where it goes: under its own name where that is free, else under its origin."""
        first = next(iter(surveyed))
        single = surveyed[first] if len(surveyed) == 1 else None
        hub = item.store == "hf" and hub_layout.decode_folder(item.path) is not None
        name = posixpath.basename(item.path) or posixpath.basename(item.root)
        origin = hashlib.sha256(os.fsencode(item.root)).hexdigest()[:8]
        whole = hashlib.sha256(os.fsencode(f"{item.root}\0{item.path}")).hexdigest()[:8]
        top = HUB if hub else FOLDERS
        for place in (f"{top}/{name}", f"{FOLDERS}/{origin}/{name}", f"{FOLDERS}/{whole}/{name}"):
            if self._free(place, item, single):
                self._taken[place] = (item.root, item.path)
                return place
        return ""

    def _prefix(self, top: str, item: Item, place: str, pieces: tuple[Piece, ...]) -> str | None:
        """Which Ollama store of the archive takes the tag: the common one unless another tag of that name is there."""
        origin = hashlib.sha256(os.fsencode(item.root)).hexdigest()[:8]
        for prefix in (top, f"{FOLDERS}/{origin}/{top}"):
            place = f"{prefix}/{item.path}"
            if self._free(place, item, pieces):
                self._taken[place] = (item.root, item.path)
                return prefix
        return None

    def _free(self, place: str, item: Item, pieces: tuple[Piece, ...] | None) -> bool:
        """Whether a place is empty, or holds a copy of this very item."""
        me = (item.root, item.path)
        if self._taken.get(place, me) != me:
            return False
        path = f"{self.drive.directory}/{place}"
        entry = self._manifest.at(place) if self._manifest is not None else None
        if entry is not None:
            same = (entry.host, entry.root, entry.origin) == (socket.gethostname(), *me)
            return same and (not os.path.lexists(path) or self._is_copy(place, pieces, me))
        return not os.path.lexists(path) or self._is_copy(place, pieces, me)

    def _is_copy(self, place: str, pieces: tuple[Piece, ...] | None, me: tuple[str, str]) -> bool:
        if self._begun.get(place) == me:
            return True
        return pieces is not None and looks_equal(pieces, f"{self.drive.directory}/{place}", links=self.drive.links)


def _refusal(scan: Scan, selection: Selection) -> str:
    item = selection.item
    if not selection.is_whole:
        return _WHOLE
    if item.key not in scan.by_key:
        return "it is not there any more: scan again"
    root = scan.root_of(item)
    if root.root.archive:
        return "it lies in an archive already"
    if OFFLINE in item.states:
        return "it is archived already, and its drive is not there"
    if ARCHIVED in item.states and not _has_own_blobs(item):
        return "it is archived already"
    if item.kind in _NOT_ITEMS:
        return "it is not a model or a data set that could be loaded: delete it instead"
    if item.store == "hf-home" and (item.kind == "cache" or item.name in _CACHES):
        return _MADE_AGAIN
    if not root.complete:
        return "its folder was not read to the end: scan again"
    return ""


def _all_stays(removal: PlannedItem, planned: Mapping[tuple[str, str], PlannedItem]) -> str:
    """Why archiving an Ollama tag would set no link and free nothing; empty where it does, or for other stores."""
    item = removal.selection.item
    if item.store != OLLAMA or not removal.stays:
        return ""
    going = {s.path for p in planned.values() if p.selection.item.root == item.root for s in p.steps}
    if any(b.path in going for b in item.links):
        return ""
    holders = list(dict.fromkeys(h for s in removal.stays for h in s.holders))
    shown = ", ".join(holders[:_SHOWN]) + (f" and {len(holders) - _SHOWN} more" if len(holders) > _SHOWN else "")
    return f"every layer is needed by {shown}: archive them together, or --keep for a backup"


def _has_own_blobs(item: Item) -> bool:
    """Whether layers of an Ollama tag are still here, when others are in an archive with a tag that shares them."""
    paths = (f"{item.root}/{b.path}" for b in item.links) if item.store == OLLAMA else ()
    return any(os.path.isfile(p) and not os.path.islink(p) for p in paths)


def _places(place: str, references: Sequence[str]) -> dict[str, str]:
    """Where each folder or file of an item goes; several files (a model in parts) go into one folder."""
    if len(references) == 1:
        return {references[0]: place}
    return {r: f"{place}/{posixpath.basename(r)}" for r in references}
