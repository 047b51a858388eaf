"""Models in plain folders as items: shared by stores that keep no books (folders, LM Studio).

loose_spots.py says where they lie. What holds no model is shown when it is large, and counted always.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from cachetui import afar, manifest, state_items, walk
from cachetui.filesystem import shares_extents
from cachetui.formats import traits
from cachetui.hub_layout import IGNORED, OURS
from cachetui.loose_spots import Rest, Spot, link_problem, spots
from cachetui.model import (
    ARCHIVED,
    FOREIGN_OWNER,
    LIES_IN,
    OK,
    PARTIAL,
    PARTIALS,
    READ_ONLY,
    Blob,
    Item,
    Problem,
    Reporter,
    Revision,
    Root,
    RootScan,
    Stub,
)  # fmt: skip
from cachetui.provenance import RECORDS, downloads
from cachetui.store import Removal, Selection

Identify = Callable[[Root, str], str]
"""The id of what lies at a path of a root."""

WORTH_A_ROW = 1_000_000
"""Bytes from which something that is no model is shown as `unknown` instead of only counted."""


def stubs(root: Root, identify: Identify) -> Sequence[Stub]:
    """The names of the models in a root, from listings alone. Never raises."""
    return [_stub(root, spot, identify) for spot in spots(root, frozenset(), Rest(), _entries(root))]


def _entries(root: Root) -> set[str]:
    """What the manifest says of a root that is the `folders` of an archive: paths of its entries."""
    try:
        found = manifest.read(os.path.dirname(root.path)) if root.archive else None
    except manifest.ManifestError:
        return set()
    prefix = os.path.basename(root.path) + "/"
    return {e.path[len(prefix) :] for e in found.entries if e.path.startswith(prefix)} if found else set()


def _stub(root: Root, spot: Spot, identify: Identify) -> Stub:
    if spot.kind == "state":
        return Stub(state_items.identify(spot.path), state_items.KIND, state_items.title(spot.path), spot.path)
    kind = "file" if spot.kind == "file" else "folder"
    return Stub(identify(root, spot.path), kind, spot.path or os.path.basename(root.path), spot.path)


def scan(store: str, root: Root, nested: frozenset[tuple[int, int]], report: Reporter, identify: Identify) -> RootScan:
    """Every model in a root, and the blocks of all else. Never raises for what is on disk."""
    rest = Rest()
    items: list[Item] = []
    complete = True
    maker = _Maker(store, root, nested, report, identify, rest)
    for spot in spots(root, nested, rest, _entries(root)):
        item = None if report.cancelled() else maker.model(spot)
        if item is None or report.cancelled():
            complete = False
            break
        items.append(item)
        report.sized(root, item)
    other = rest.overhead
    if complete:
        inodes = {(b.dev, b.ino) for item in items for b in item.blobs if b.nlink > 1}
        unknown, other = maker.rest(inodes)
        items += unknown
        for item in unknown:
            report.sized(root, item)
        complete = not report.cancelled()
    return RootScan(
        root, tuple(items), other, tuple(rest.nested), tuple(rest.problems), tuple(rest.blind),
        shares_extents(root.dev), complete, sum(item.away for item in items),
    )  # fmt: skip


def removal(selection: Selection, nested: Iterable[str]) -> Removal:
    """What removing a model takes: its folder, its files, or the one file. `nested`: of the root's scan."""
    item, name = selection.item, selection.file
    if not selection.is_whole and (why := afar.refuse_part(item)):
        return Removal((), refused=why)
    if item.kind == "unknown":
        return Removal(
            (), refused="no model was recognised in it: remove it with your file manager if you do not need it"
        )
    inside = f"{item.path}/" if item.path and item.kind == "folder" else ""
    if name or selection.revision.startswith("~"):
        groups = [r for r in item.revisions + item.parts if selection.revision in ("", r.commit)]
        paths = {item.content[at].path for r in groups for n, at in zip(r.names, r.index, strict=True)
                 if at >= 0 and name in ("", n)}  # fmt: skip
        return Removal(tuple(sorted(paths))) if paths else Removal((), refused=f"it has no file {name}")
    if item.kind == "folder" and item.path:
        if any(path.startswith(inside) for path in nested):
            return Removal((), refused="another cache lies inside this folder: delete what is in that one first")
        return Removal((item.path,))
    return Removal(tuple(b.path for b in item.blobs))


@dataclass
class _Maker:
    """Makes items of spots, and counts the rest."""

    store: str
    root: Root
    nested: frozenset[tuple[int, int]]
    report: Reporter
    identify: Identify
    left: Rest

    def model(self, spot: Spot) -> Item:
        """The item at a spot."""
        if spot.kind == "state":
            ((path, st),) = spot.files
            if spot.lead is not None:
                return state_items.linked(self.root, path, st, spot.lead)
            return state_items.make(self.root, path, st)
        if spot.lead is not None:
            return self._elsewhere(spot, spot.lead)
        if spot.kind == "folder":
            return self._folder(spot)
        tally = walk.Tally()
        for path, st in spot.files:
            self._add(tally, path, st)
        return self._item(spot, "", tally)

    def _add(self, tally: walk.Tally, path: str, st: os.stat_result) -> None:
        if stat.S_ISREG(st.st_mode):
            tally.files.append(walk.blob(path, st))
            tally.last_used = max(tally.last_used or 0.0, st.st_atime)
            return
        tally.overhead += walk.allocated(st)
        if stat.S_ISLNK(st.st_mode):
            tally.links.append((path, ""))

    def _elsewhere(self, spot: Spot, lead: afar.Lead) -> Item:
        """A folder that is only a link: what is there is shown, and counts there."""
        ((path, st),) = spot.files
        stub = _stub(self.root, spot, self.identify)
        base = Item(
            stub.id, self.store, self.root.path, stub.kind, stub.name, path,
            overhead=walk.allocated(st), last_modified=st.st_mtime, uid=st.st_uid, gid=st.st_gid,
            states=self._states(st),
        )  # fmt: skip
        link = f"{self.root.path}/{path}"
        if lead.stat is None:
            return afar.offline(base, lead, link)
        top, name = os.path.split(lead.real)
        far = Root(self.store, top, lead.stat.st_dev, -1, "archive")
        maker = _Maker(self.store, far, self.nested, self.report, self.identify, Rest())
        late = afar.slow(base, lead, link)
        item = afar.patiently(lead.real, lambda: maker.model(Spot(name, "folder")), late)
        return item if item is late else afar.archived(base, item, lead.real)

    def _states(self, st: os.stat_result | None) -> tuple[str, ...]:
        states = [] if self.root.writable else [READ_ONLY]
        if hasattr(os, "geteuid") and os.geteuid() not in (0, st.st_uid if st else -1):
            states.append(FOREIGN_OWNER)
        return tuple(states) or (OK,)

    def _reached(self, tally: walk.Tally, problems: list[Problem]) -> list[tuple[str, afar.Lead]]:
        """Files that are only links, with where they lead; from here on they are content with the size that has."""
        found = []
        root = self.root
        for path, _ in tally.links:
            full = f"{root.path}/{path}"
            lead, st = afar.follow(full), _lstat(full)
            is_file = lead.stat is None or stat.S_ISREG(lead.stat.st_mode)
            if st is not None and is_file and afar.leaves(root.path, root.dev, lead):
                tally.overhead -= walk.allocated(st)
                tally.files.append(walk.blob(path, st)._replace(size=lead.stat.st_size if lead.stat else 0))
                found.append((path, lead))
            elif (problem := link_problem(root.path, path, lead)) is not None:
                problems.append(problem)
        return found

    def _folder(self, spot: Spot) -> Item:
        tally = walk.tree(self.root.path, spot.path, nested=self.nested, cancelled=self.report.cancelled)
        self.left.nested += tally.nested
        self.left.blind += [f"{self.root.path}/{path}" for path in tally.blind]
        return self._item(spot, f"{spot.path}/", tally)

    def _item(self, spot: Spot, prefix: str, tally: walk.Tally) -> Item:
        """`prefix`: what names of files are relative to."""
        root, path = self.root.path, spot.path
        problems = list(tally.problems)
        reached = self._reached(tally, problems)
        blobs, partial, overhead = _sorted_out(tally, prefix)
        names = tuple(b.path[len(prefix) :] for b in blobs[: len(blobs) - len(partial)])
        links = tuple(p[len(prefix) :] for p, _ in tally.links)
        folder = f"{root}/{prefix}".rstrip("/")
        records = downloads(folder, names) if spot.kind != "file" else {}
        commits = [commit for commit, _ in Counter(r.commit for r in records.values()).most_common()]
        st = _lstat(f"{root}/{path}")
        stub = _stub(self.root, spot, self.identify)
        newest = max((b.mtime for b in blobs), default=None)
        revision = Revision(
            commits[0] if commits else "", (), prefix.rstrip("/"), names, array("i", range(len(names))),
            _size(blobs[: len(names)]), newest,
        )  # fmt: skip
        parts: tuple[Revision, ...] = ()
        if partial:
            of = tuple(b.path[len(prefix) :] for b in partial)
            at = array("i", range(len(names), len(blobs)))
            parts = (Revision(PARTIALS, (), prefix.rstrip("/"), of, at, _size(partial), newest),)
        item = Item(
            stub.id, self.store, root, stub.kind, stub.name, path,
            blobs=tuple(blobs),
            overhead=overhead,
            revisions=(revision,),
            parts=parts,
            file_count=len(blobs),
            last_used=tally.last_used,
            last_modified=newest,
            states=self._states(st),
            problems=tuple(problems),
            traits=traits(names + links, lambda name, cap: _read(f"{folder}/{name}", cap)),
            uid=st.st_uid if st else -1,
            gid=st.st_gid if st else -1,
            extra=tuple((("downloaded from commit", "also from commit")[n > 0], c) for n, c in enumerate(commits[:3])),
        )  # fmt: skip
        return _with_reached(item.with_states(*([PARTIAL] if partial else [])).with_sizes(), reached)

    def rest(self, inodes: set[tuple[int, int]]) -> tuple[list[Item], int]:
        """(large things that are no model, blocks of all else). `inodes`: counted already."""
        items: list[Item] = []
        other = self.left.overhead
        for path, st in self.left.files:
            tally = walk.Tally(files=[walk.blob(path, st)], last_used=st.st_atime)
            other += self._unknown(path, tally, items, inodes)
        for path in self.left.folders:
            if self.report.cancelled():
                break
            tally = walk.tree(self.root.path, path, nested=self.nested, cancelled=self.report.cancelled)
            self.left.nested += tally.nested
            self.left.problems += tally.problems
            other += self._unknown(path, tally, items, inodes)
        return items, other

    def _unknown(self, path: str, tally: walk.Tally, items: list[Item], inodes: set[tuple[int, int]]) -> int:
        """An item where it is large; else its blocks, each inode once."""
        base = path.rsplit("/", 1)[-1]
        if sum(b.size for b in tally.files) >= WORTH_A_ROW and not base.startswith(OURS):
            st = _lstat(f"{self.root.path}/{path}")
            item = Item(
                self.identify(self.root, path), self.store, self.root.path, "unknown", path, path,
                blobs=tuple(tally.files), overhead=tally.overhead, file_count=len(tally.files),
                last_used=tally.last_used, last_modified=max(b.mtime for b in tally.files),
                states=(OK,) if self.root.writable else (READ_ONLY,),
                uid=st.st_uid if st else -1, gid=st.st_gid if st else -1,
            )  # fmt: skip
            items.append(item.with_sizes())
            inodes.update((b.dev, b.ino) for b in tally.files if b.nlink > 1)
            return 0
        total = tally.overhead
        for b in tally.files:
            if b.nlink == 1 or (b.dev, b.ino) not in inodes:
                total += b.allocated
                inodes.add((b.dev, b.ino))
        return total


def _with_reached(item: Item, reached: Sequence[tuple[str, afar.Lead]]) -> Item:
    """The item with what its links to elsewhere say about its state."""
    gone = [(path, lead) for path, lead in reached if lead.stat is None]
    if gone:
        path, lead = gone[0]
        item = afar.offline(item, lead, f"{item.root}/{path}")
    elif reached:
        lies_in = reached[0][1].real
        item = replace(item, extra=(*item.extra, (LIES_IN, lies_in))).with_states(ARCHIVED)
    return replace(item, away=sum(lead.stat.st_size for _, lead in reached if lead.stat)) if reached else item


def _sorted_out(tally: walk.Tally, prefix: str) -> tuple[list[Blob], list[Blob], int]:
    """(content with what is partial last, what is partial, blocks of all else)."""
    content: list[Blob] = []
    partial: list[Blob] = []
    overhead = tally.overhead
    records = f"{prefix}{RECORDS}/"
    for b in sorted(tally.files):
        if b.path.startswith(records) and b.path.endswith((".incomplete", ".cachetui-part")):
            partial.append(b)
        elif b.nlink == 1 and (b.path.startswith(records) or b.path.rsplit("/", 1)[-1] in IGNORED):
            overhead += b.allocated
        else:
            content.append(b)
    return content + partial, partial, overhead


def _size(blobs: Iterable[Blob]) -> int:
    return sum({(b.dev, b.ino): b.size for b in blobs}.values())


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _read(path: str, cap: int) -> bytes | None:
    try:
        return walk.read_small(path, cap)
    except OSError:
        return None
