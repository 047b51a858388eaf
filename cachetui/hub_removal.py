"""What removing from a hub cache takes: whole repos, revisions, files, parts, orphan payloads.

References go first (the folder, snapshots, refs, listings, links into the shared store), content last. A payload goes
only when every repo that links it goes, by our own scan and by the hint beside it (utils/_shared_blobs.py).
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Sequence
from functools import cached_property

from cachetui import afar, hub_layout
from cachetui.hub_shared import NEEDED, hinted
from cachetui.ledger import Ledger
from cachetui.model import Blob, Item, Revision
from cachetui.store import Removal, Selection


def removal(selection: Selection, ledger: Ledger, selected: set[int]) -> Removal:
    """Of a whole item, a revision, a part, or one file in one or every revision."""
    work = _Work(selection.item, ledger, selected)
    if selection.is_whole:
        return work.whole()
    item = selection.item
    if why := afar.refuse_part(item):
        return _refuse(why)
    if not selection.revision:
        holding = [r for r in item.revisions if selection.file in r.names]
        return work.files(holding, selection.file)
    for r in (*item.revisions, *item.parts):
        if r.commit == selection.revision:
            if r.is_part:
                return work.part(r, selection.file)
            return work.files([r], selection.file) if selection.file else work.revision(r)
    return _refuse("this revision is not there any more: scan again")


def _refuse(why: str) -> Removal:
    return Removal((), refused=why)


class _Work:
    def __init__(self, item: Item, ledger: Ledger, selected: set[int]) -> None:
        self.item = item
        self.ledger = ledger
        self.content = item.content
        self.me = ledger.positions((item,))
        self.selected = selected
        self.blind = ledger.root_of(item).blind
        self.inside = item.path + "/"

    def whole(self) -> Removal:
        """The folder, then payloads that nobody else links."""
        item = self.item
        if item.kind == "orphan":
            return self._orphan()
        if item.kind == "unknown":
            return Removal((item.path,))
        going = self.selected | self.me
        holders = self._odd_holders([b.path for b in item.blobs], going)
        if holders:
            return _refuse(f"files in it are linked from {holders}: delete that first, or both together")
        outside = [b for b in item.links if not b.path.startswith(self.inside)]
        go, stay = self._payloads(outside, going)
        return Removal((item.path,), tuple(self._with_side_files(go)), tuple(stay))

    def _orphan(self) -> Removal:
        for p in self.item.problems:
            if p.code == NEEDED:
                return _refuse(p.message)
        if self.blind:
            return _refuse(f"{self.blind[0]} could not be read and may need it")
        path = self.item.path
        if holders := self._hinted(path):
            return _refuse(f"linked from {holders} now: scan again")
        return Removal((), tuple(self._with_side_files([path])))

    def revision(self, revision: Revision) -> Removal:
        """A snapshot with its refs, listing and markers; the blobs that only it names."""
        item = self.item
        others = [r for r in item.revisions if r is not revision]
        if not others:  # blobs without a revision are of no use, and a repo without one is damaged
            return self.whole()
        folder = posixpath.basename(revision.path)
        references = [revision.path, *(f"{item.path}/refs/{ref}" for ref in revision.refs)]
        references += self._existing(f"{item.path}/trees/{folder}.json", f"{item.path}/.no_exist/{folder}")
        return self._shares(references, revision, revision.names, others)

    def files(self, revisions: Sequence[Revision], file: str) -> Removal:
        """The links of one file in these revisions, then its blobs where no other link names them."""
        if not any(file in r.names for r in revisions):
            return _refuse("this file is not there any more: scan again")
        links = {f"{r.path}/{file}" for r in revisions}
        taken = {n for r in revisions for name, n in zip(r.names, r.index, strict=True) if name == file}
        kept = {
            n
            for r in self.item.revisions
            for name, n in zip(r.names, r.index, strict=True)
            if n in taken and f"{r.path}/{name}" not in links
        }
        own_links = [link for r in revisions for link in self._blob_links(r, [file], kept)]
        return self._settle([*sorted(links), *own_links], taken, kept)

    def part(self, part: Revision, file: str) -> Removal:
        """Blobs that no revision names, or one of them."""
        rows = [(name, n) for name, n in zip(part.names, part.index, strict=True) if file in ("", name)]
        if not rows:
            return _refuse("this file is not there any more: scan again")
        own = len(self.item.blobs)
        links = [f"{part.path}/{name}" for name, n in rows if n >= own]
        return self._settle(links, {n for _, n in rows}, set())

    def _shares(
        self, references: list[str], revision: Revision, names: Iterable[str], others: Sequence[Revision]
    ) -> Removal:
        kept = {n for r in others for n in r.index}
        references += self._blob_links(revision, names, kept)
        return self._settle(references, set(revision.index), kept)

    def _settle(self, references: Sequence[str], taken: set[int], kept: set[int]) -> Removal:
        """Sorts content into what goes and what stays, by who else names it."""
        own = len(self.item.blobs)
        positions = sorted(taken - {-1})
        inside = [self.content[n] for n in positions if n < own]
        mine = {self.content[n].path for n in positions if n < own and n not in kept}
        holders = self._odd_holders([*mine, *references], self.selected)
        if holders:
            return _refuse(f"files in it are linked from {holders}: delete that first")
        covered = set(references)
        go = [p for p in sorted(mine) if p not in covered and not any(p.startswith(r + "/") for r in references)]
        stays = [b for b in inside if b.path not in mine]
        shared = [self.content[n] for n in positions if n >= own and n not in kept]
        shared_go, shared_stay = self._payloads(shared, self.selected | self.me)
        stays += shared_stay + [self.content[n] for n in positions if n >= own and n in kept]
        return Removal(tuple(dict.fromkeys(references)), (*go, *self._with_side_files(shared_go)), tuple(stays))

    def _payloads(self, blobs: Iterable[Blob], going: set[int]) -> tuple[list[str], list[Blob]]:
        """Content that lies outside: what goes with the last who links it, and what stays."""
        go, stay = [], []
        for b in blobs:
            payload = b.path.startswith(hub_layout.SHARED + "/")
            free = payload and self.ledger.name_goes(self.item.root, b.path, going, link=True)
            if free and not self._hinted(b.path):
                go.append(b.path)
            elif b.size or payload:
                stay.append(b)
        return go, stay

    def _hinted(self, path: str) -> str:
        """Repos that stay and that the payload's hint names, in words; empty when there is none."""
        found = hinted(self.item.root, path, (self.item.path,))
        return ", ".join(sorted(found - self._folders_going)) if found else ""

    @cached_property
    def _folders_going(self) -> frozenset[str]:
        items = self.ledger.root_of(self.item).items
        return frozenset(i.path for i in items if self.ledger.positions((i,)) <= self.selected)

    def _odd_holders(self, paths: Iterable[str], going: set[int]) -> str:
        """Other repos that link these names of ours, in words."""
        names = [*paths]
        if any(b.path.startswith(hub_layout.SHARED + "/") for b in self.item.links):
            names += self._own_links()
        found = {
            holder.id
            for path in names
            for holder in self.ledger.holders_of(self.item.root, path)
            if holder.key != self.item.key and not self.ledger.positions((holder,)) <= going
        }
        return ", ".join(sorted(found))

    def _own_links(self) -> list[str]:
        """Links among our blobs, which others may lead through."""
        path = f"{self.inside}blobs"
        try:
            with os.scandir(f"{self.item.root}/{path}") as entries:
                return [f"{path}/{e.name}" for e in entries if e.is_symlink()]
        except OSError:
            return []

    def _blob_links(self, revision: Revision, names: Iterable[str], kept: set[int]) -> list[str]:
        """Links into the shared store, in blobs/, that only these files of the revision name."""
        wanted = set(names)
        own = len(self.item.blobs)
        found = []
        for name, n in zip(revision.names, revision.index, strict=True):
            if n < own or n in kept or name not in wanted:
                continue
            link = f"{revision.path}/{name}"
            try:
                target = os.readlink(f"{self.item.root}/{link}").replace(os.sep, "/")
            except OSError:
                continue
            blob = posixpath.normpath(posixpath.join(posixpath.dirname(link), target))
            if posixpath.dirname(blob) == f"{self.inside}blobs" and os.path.islink(f"{self.item.root}/{blob}"):
                found.append(blob)
        return found

    def _existing(self, *paths: str) -> list[str]:
        return [p for p in paths if os.path.lexists(f"{self.item.root}/{p}")]

    def _with_side_files(self, payloads: Iterable[str]) -> list[str]:
        found = []
        for path in payloads:
            found += [path, *self._existing(*(path + suffix for suffix in hub_layout.SIDE_FILES))]
        return found
