"""Adopting: an archive that is mounted elsewhere now, one of another machine, or what was moved by hand.

`prepare` looks and changes nothing; `execute` is in adopt_run.py.
"""

from __future__ import annotations

import os
import posixpath
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from cachetui import archives
from cachetui.archives import HUB, OLLAMA, Entry, Manifest, ManifestError
from cachetui.ledger import Scan
from cachetui.model import OFFLINE, Item, Root
from cachetui.ollama_layout import MAX_MANIFEST
from cachetui.plans.survey import reason
from cachetui.store import Selection
from cachetui.text import encode_target
from cachetui.transfer import byhand, links
from cachetui.transfer.adopt_run import execute
from cachetui.transfer.model import AdoptPlan, Part, TransferItem
from cachetui.walk import read_small

__all__ = ["execute", "prepare"]

_NO_ROOT = {
    "hf": "there is no hub cache here yet: make the folder `hub` in HF_HOME (~/.cache/huggingface)",
    "ollama": "there is no Ollama store here yet: start Ollama once, or make ~/.ollama/models/manifests and blobs",
    "dir": "there is no folder for models here: set CUSTOM_MODEL_DIR, or make ~/models",
}


def prepare(scan: Scan, what: str | Sequence[Selection]) -> AdoptPlan:
    """The plan for taking up an archive at a folder, or what these selections are.

    Items that are not there: their links are led to where their archive is now. Items of an archive that nothing
    here links to: links are set where nothing stands. Items moved by hand: a manifest is written beside them, and
    shared payloads that the move broke are brought back. Never raises for what is on disk.
    """
    roots = tuple(r.root for r in scan.roots)
    directory = os.path.realpath(what) if isinstance(what, str) else _directory(scan, what)
    plan = AdoptPlan("adopt", directory, (), roots=roots)
    if not directory:
        return replace(plan, refused="nothing of it lies in an archive, or was moved to another drive by hand")
    try:
        manifest = archives.read(directory)
    except ManifestError as e:
        return replace(plan, refused=f"the archive's own list there cannot be used: {e}")
    chosen = None if isinstance(what, str) else {s.item.key for s in what}
    try:
        items = tuple(_Taker(scan, directory, manifest).items(chosen)) if manifest is not None else ()
        hand = tuple(byhand.items(scan, directory, manifest, chosen))
    except OSError as e:
        return replace(plan, refused=reason(e))
    if not items and not hand:
        why = "everything in it is linked already" if manifest is not None else "no archive, and nothing links to it"
        return replace(plan, refused=why)
    return replace(plan, items=(*items, *hand))


def _directory(scan: Scan, selections: Sequence[Selection]) -> str:
    """The archive that the first of the selections lies in, or will lie in."""
    there = {r.root.archive: os.path.dirname(r.root.path) for r in scan.roots if r.root.archive}
    for s in selections:
        root = scan.root_of(s.item).root if s.item.key in scan.by_key else None
        if root is not None and root.archive:
            return there[root.archive]
        found = links.of(s.item)
        for link in found:
            if not link.real and (known := archives.by_link(link.text)) is not None and known[0].id in there:
                return there[known[0].id]
        if real := byhand.place_of(scan, s.item):
            return byhand.archive_for(real)
    return ""


@dataclass
class _Taker:
    """Links that are to be set for the entries of an archive."""

    scan: Scan
    directory: str
    manifest: Manifest
    done: set[tuple[str, str]] = field(default_factory=set)
    """(root, path) of names that are dealt with."""

    def __post_init__(self) -> None:
        known = archives.known().get(self.manifest.id)
        places = () if known is None else (known.path, *known.former)
        self.former = tuple(p for p in dict.fromkeys(places) if p != self.directory)
        self.roots = [r.root for r in self.scan.roots if not r.root.archive and not r.root.offline]

    def items(self, chosen: set[tuple[str, str]] | None) -> Iterator[TransferItem]:
        """One for each entry, and for each link that leads to where the archive was."""
        for item in self.scan.items:
            if OFFLINE in item.states and (chosen is None or item.key in chosen) and (made := self._moved(item)):
                yield made
        followed: set[str] = set()
        if chosen is None:
            for root in dict.fromkeys(e.root for e in self.manifest.entries if e.host == socket.gethostname()):
                if made := self._moved_root(root):
                    followed.add(root)
                    yield made
        for entry in self._entries():
            if entry.root in followed:
                continue
            if chosen is None or self._is_chosen(entry, chosen):
                yield from self._entry(entry)

    def _moved(self, item: Item) -> TransferItem | None:
        """An item whose links lead to where this archive was mounted before."""
        parts = []
        for link in links.of(item):
            rel = next((link.text[len(p) + 1 :] for p in self.former if link.text.startswith(f"{p}/")), "")
            target = f"{self.directory}/{rel}"
            if rel and (item.root, link.path) not in self.done and os.path.lexists(target):
                parts.append(Part(target, link.path))
                self.done.add((item.root, link.path))
        if not parts:
            return None
        return TransferItem(Selection(item), item.id, item.root, self._place(item, parts[0]), tuple(parts))

    def _moved_root(self, root: str) -> TransferItem | None:
        """A whole root that is a link to where this archive was mounted before."""
        if not os.path.islink(root) or os.path.exists(root):
            return None
        above, name = os.path.split(root)
        text = posixpath.normpath(posixpath.join(above, os.readlink(root)))
        rel = next((text[len(p) + 1 :] for p in self.former if text.startswith(f"{p}/")), "")
        if not rel or not os.path.isdir(f"{self.directory}/{rel}"):
            return None
        item = Item(f"root:{encode_target(root)}", "dir", above, "root", root, name)
        return TransferItem(Selection(item), item.id, above, "", (Part(f"{self.directory}/{rel}", name),))

    def _place(self, item: Item, part: Part) -> str:
        place = posixpath.relpath(part.source, self.directory)
        if item.store != OLLAMA:
            return place
        return next((e.path for e in self.manifest.entries if e.store == OLLAMA and e.origin == item.path), place)

    def _entries(self) -> Iterator[Entry]:
        """Those of the manifest, then repos that programs put into the archive's hub themselves."""
        yield from self.manifest.entries
        listed = {e.path for e in self.manifest.entries}
        for item in self.scan.items:
            root = self.scan.root_of(item).root
            place = f"{HUB}/{item.path}"
            if root.archive == self.manifest.id and item.store == "hf" and "--" in item.path and place not in listed:
                yield Entry(
                    item.id, item.name, item.kind, "hf", place, root.path, item.path, "", 0.0, item.size,
                    item.allocated, (), False,
                )  # fmt: skip

    def _is_chosen(self, entry: Entry, chosen: set[tuple[str, str]]) -> bool:
        top, _, rest = entry.path.partition("/")
        return (f"{self.directory}/{top}", entry.target) in chosen or any(
            root == f"{self.directory}/{top}" and (item := self.scan.by_key.get((root, target))) and item.path == rest
            for root, target in chosen
        )

    def _entry(self, entry: Entry) -> Iterator[TransferItem]:
        home = self._home(entry)
        item = Item(entry.target, entry.store, "", entry.kind, entry.name, entry.origin)
        if home is None:
            if not entry.kept:
                yield TransferItem(
                    Selection(item), entry.target, self.directory, entry.path, refused=_NO_ROOT[_store(entry)]
                )
            return
        root, path = home
        made = TransferItem(Selection(replace(item, root=root, path=path)), entry.target, root, entry.path)
        parts: list[Part] = []
        for name, place, copied in self._names(entry, path):
            why = self._free(root, name, place)
            if why is None:
                if copied:
                    size = os.path.getsize(f"{self.directory}/{place}")
                    parts.append(Part(f"{self.directory}/{place}", name, size, 1))
                else:
                    parts.append(Part(f"{self.directory}/{place}", name))
            elif (
                why and not entry.kept and not (entry.store == OLLAMA and (not copied or self._same(root, name, place)))
            ):
                yield replace(made, refused=why)
                return
        if parts and not (entry.kept and os.path.lexists(f"{root}/{path}")):
            self.done |= {(root, p.place) for p in parts}
            yield replace(made, parts=tuple(parts))

    def _names(self, entry: Entry, path: str) -> Iterator[tuple[str, str, bool]]:
        """(name in the root, place in the archive, copied instead of linked) of what an entry needs."""
        if entry.store != OLLAMA:
            yield path, entry.path, False
            return
        for file in entry.files:
            if file.path == entry.path:
                yield path, file.path, True
            else:
                yield f"blobs/{posixpath.basename(file.path)}", file.path, False

    def _free(self, root: str, name: str, place: str) -> str | None:
        """None where a link is to be set; else why not, empty where that is no matter."""
        full, target = f"{root}/{name}", f"{self.directory}/{place}"
        if (root, name) in self.done:
            return ""
        if not os.path.lexists(target):
            return f"{place} is missing in the archive"
        if not os.path.lexists(full):
            return None if os.path.isdir(root) else f"{root} is not there"
        if not os.path.islink(full):
            return f"something else is at {full}"
        text = posixpath.normpath(posixpath.join(posixpath.dirname(full), os.readlink(full)))
        if os.path.realpath(full) == os.path.realpath(target):
            return ""
        if any(text.startswith(f"{p}/") for p in self.former) or not os.path.exists(full):
            return None
        return f"a link to elsewhere is at {full}"

    def _same(self, root: str, name: str, place: str) -> bool:
        """Whether a manifest of Ollama's is here with the same content."""
        try:
            mine, there = (read_small(p, MAX_MANIFEST) for p in (f"{root}/{name}", f"{self.directory}/{place}"))
        except OSError:
            return False
        return mine == there

    def _home(self, entry: Entry) -> tuple[str, str] | None:
        """(root, path) where an entry belongs on this machine; None where there is no root for it."""
        if entry.host == socket.gethostname() and any(r.path == entry.root for r in self.roots):
            return entry.root, entry.origin
        found = self._first(_store(entry))
        if found is None:
            return None
        return found.path, entry.origin if entry.store == OLLAMA else posixpath.basename(entry.path)

    def _first(self, store: str) -> Root | None:
        """The root that programs use: the first of its store that can be written and belongs to no project."""
        mine = [r for r in self.roots if r.store == store and r.writable and not r.group]
        return mine[0] if mine else None


def _store(entry: Entry) -> str:
    """Of which store a root is that can take an entry."""
    if entry.store == OLLAMA:
        return "ollama"
    return "hf" if entry.path.startswith(f"{HUB}/") else "dir"
