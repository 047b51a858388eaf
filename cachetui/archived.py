"""Archives in a scan: the roots they are, what of this machine lies in them, and what nothing here links to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cachetui import afar, archives, filesystem, leftovers
from cachetui.archives import Known, Manifest, ManifestError
from cachetui.config import Where
from cachetui.ledger import Scan
from cachetui.manifest import FOLDERS, HUB, MANIFEST, OLLAMA, Entry, read
from cachetui.model import (
    ARCHIVE_GROUP,
    ARCHIVED,
    FOREIGN,
    LIES_IN,
    OFFLINE,
    OK,
    Item,
    OfflineArchive,
    Problem,
    Root,
    RootScan,
)
from cachetui.store import make_root
from cachetui.units import iso

LINKED_FROM, BACKUP_OF = "linked from", "backup of"
"""Labels of rows (`Item.extra`) of what lies in an archive."""
_DRIVE, _RECORD, _SEEN = "on drive", "archive", "last seen"
_ROWS = frozenset((LINKED_FROM, BACKUP_OF, _DRIVE, _RECORD, _SEEN))
_HAND_MADE, _FOREIGN, _MOVED = "hand-made-archive", "foreign", "moved-root"
_CODES = frozenset((_HAND_MADE, _FOREIGN, _MOVED, leftovers.CODE))
_PARTS = ((HUB, "hf"), (OLLAMA, "ollama"), (FOLDERS, "dir"))
Key = tuple[str, str]


def archive_roots(where: Where) -> Iterator[Root]:
    """The folders of every archive that can be reached now, each as a root of the store whose layout it has."""
    there = archives.locate(where)
    names = _names([found.directory for found in there], [found.manifest.id for found in there])
    for found in there:
        group = ARCHIVE_GROUP + names[found.directory]
        for name, store in _PARTS:
            path = os.path.join(found.directory, name)
            if os.path.islink(path) or not os.path.isdir(path):
                continue
            root = make_root(store, path, f"archive {found.manifest.id[:8]} at {found.directory}", group=group)
            if root is not None:
                yield replace(root, archive=found.manifest.id)


def _names(directories: Sequence[str], ids: Sequence[str]) -> dict[str, str]:
    """What each archive is called: the label of its drive, else the last name of its mount point.

    Its whole path where there is neither, or where two drives would be called alike.
    """
    registry = archives.known()
    mounts = filesystem.mounts()
    found: dict[str, tuple[str, str]] = {}
    for directory, id_ in zip(directories, ids, strict=True):
        mount = filesystem.mount_of(directory, mounts)
        point = mount.point if mount is not None else ""
        known = registry.get(id_)
        label = filesystem.identity(directory)[0] or (known.label if known is not None else "")
        found[directory] = label or os.path.basename(point) or directory, point
    taken = Counter(name for name, _ in set(found.values()))
    return {d: name if taken[name] == 1 else d for d, (name, _) in found.items()}


class Links:
    """Which items of a scan are links to which others: an archived item, and the same where it really lies."""

    def __init__(self, scan: Scan) -> None:
        self.home: dict[Key, Item] = {}
        """By the key of an archived item: the item that holds its bytes."""
        self.linked: dict[Key, tuple[Item, ...]] = {}
        """By the key of an item: the items that are links to it."""
        far = [(i, lies_in) for i in scan.items if ARCHIVED in i.states and (lies_in := place_of(i))]
        if not far:
            return
        there = {(i.root, i.path): i for i in scan.items if ARCHIVED not in i.states and OFFLINE not in i.states}
        tops = sorted((r.root.path for r in scan.roots), key=len, reverse=True)
        for item, lies_in in far:
            top = next((t for t in tops if lies_in.startswith(f"{t}/")), None)
            path = item.path if item.store == "ollama" else lies_in[len(top or "") + 1 :]
            if top is not None and (home := there.get((top, path))) is not None and home.key != item.key:
                self.home[item.key] = home
                self.linked[home.key] = (*self.linked.get(home.key, ()), item)


def place_of(item: Item) -> str:
    """Absolute path of where an archived or offline item really is; empty for others."""
    return dict(item.extra).get(LIES_IN, "")


def with_archives(scan: Scan, *, partial: bool = False) -> Scan:
    """The scan in which what lies elsewhere says where, offline items have their size, and archives say who links.

    `partial`: not all roots were read, so that nothing can be said to be foreign. Can be applied again.
    """
    registry = archives.known()
    far = any(ARCHIVED in i.states or OFFLINE in i.states for i in scan.items)
    if not (registry or far or any(r.root.archive or r.root.given for r in scan.roots)):
        return scan
    marker = _Marker(scan, registry, partial)
    there = {r.root.archive for r in scan.roots}
    offline = tuple(_offline(k) for k in registry.values() if k.id not in there and k.entries)
    return replace(scan, roots=tuple(marker.root(r) for r in scan.roots), offline=() if partial else offline)


def _offline(known: Known) -> OfflineArchive:
    size = sum(e.size for e in known.entries)
    return OfflineArchive(known.id, known.label or known.path, known.path, known.seen, size, len(known.entries))


@dataclass
class _Marker:
    scan: Scan
    registry: Mapping[str, Known]
    partial: bool
    manifests: dict[str, Manifest | None] = field(default_factory=dict)
    drives: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.links = Links(self.scan)
        self.mounts = filesystem.mounts()
        self.roots = {r.root.path: r.root for r in self.scan.roots}

    def root(self, r: RootScan) -> RootScan:
        """The root with its items and problems as they are with archives in mind."""
        root = r.root
        manifest = self._manifest(os.path.dirname(root.path)) if root.archive else None
        items = []
        for item in r.items:
            plain = _without_ours(item)
            if ARCHIVED in item.states:
                plain = self._archived(plain)
            elif OFFLINE in item.states:
                plain = self._offline(plain)
            if linked := self.links.linked.get(item.key):
                rows = ((LINKED_FROM, f"{i.id} in {i.root}") for i in linked)
                plain = replace(plain, extra=(*plain.extra, *rows))
            elif manifest is not None:
                plain = self._in_archive(root, plain, manifest)
            items.append(plain)
        kept = tuple(p for p in r.problems if p.code not in _CODES)
        return replace(r, items=tuple(items), problems=(*kept, *_root_problems(root), *self._unfinished(root)))

    def _unfinished(self, root: Root) -> Iterator[Problem]:
        """Copies into the folder that a root lies in; told once, with the first root there."""
        directory = os.path.dirname(root.path)
        if not root.offline and next(p for p in self.roots if os.path.dirname(p) == directory) == root.path:
            yield from leftovers.problems(directory)

    def _manifest(self, directory: str) -> Manifest | None:
        if directory not in self.manifests:
            try:
                self.manifests[directory] = read(directory)
            except ManifestError:
                self.manifests[directory] = None
        return self.manifests[directory]

    def _drive(self, real: str) -> str:
        mount = filesystem.mount_of(real, self.mounts)
        if mount is None:
            return ""
        if mount.point not in self.drives:
            label = filesystem.identity(mount.point)[0]
            self.drives[mount.point] = f"{label} at {mount.point}" if label else mount.point
        return self.drives[mount.point]

    def _archived(self, item: Item) -> Item:
        real, link = place_of(item), os.path.join(item.root, item.path)
        if not real:
            return item
        home = self.links.home.get(item.key)
        top = self.roots.get(home.root) if home is not None else None
        directory = os.path.dirname(top.path) if top is not None and top.archive else afar.archive_above(real)
        manifest = self._manifest(directory) if directory else None
        rows = [(_DRIVE, self._drive(real))]
        if not item.size and (found := archives.by_link(real, self.registry)) is not None:
            item = item.with_away(found[1].size)
        if manifest is not None and _knows(manifest, real[len(directory) + 1 :], item):
            rows.append((_RECORD, f"in the manifest of archive {manifest.id[:8]} at {directory}"))
        else:
            rows.append((_RECORD, "made by hand, no manifest knows it"))
            message = "was moved there by hand: no manifest tells what it was when it was whole"
            hand_made = Problem(_HAND_MADE, message, link, f"cachetui adopt {item.id} records it")
            item = replace(item, problems=(*item.problems, hand_made))
        return replace(item, extra=(*item.extra, *rows))

    def _offline(self, item: Item) -> Item:
        target = place_of(item)
        if not target:
            return item
        found = archives.by_link(target, self.registry)
        if found is None:
            rows = [(_RECORD, "no record of it" if item.size else "no record of it: its size is not known")]
            return replace(item, extra=(*item.extra, *rows))
        known, entry = found
        rows = [(_DRIVE, known.label or known.path), (_SEEN, iso(known.seen) or "")]
        rows.append((_RECORD, f"archive {known.id[:8]}, last at {known.path}"))
        if not item.size:
            item = item.with_away(entry.size)
        return replace(item, extra=(*item.extra, *rows))

    def _in_archive(self, root: Root, item: Item, manifest: Manifest) -> Item:
        """What lies in an archive, when no item of this scan links to it."""
        entry = manifest.at(f"{os.path.basename(root.path)}/{item.path}")
        if entry is None or self.partial or not root.only_archive:
            return item
        if (original := self._original(manifest, entry)) is not None:
            return replace(item, extra=(*item.extra, (BACKUP_OF, original)))
        directory = os.path.dirname(root.path)
        message = "lies in an archive, and nothing on this machine links to it"
        foreign = Problem(_FOREIGN, message, os.path.join(root.path, item.path), f"cachetui adopt {directory}")
        return replace(item, problems=(*item.problems, foreign)).with_states(FOREIGN)

    def _original(self, manifest: Manifest, entry: Entry) -> str | None:
        """What a backup is a backup of, in words; None for what is none of this machine's."""
        there = os.path.join(entry.root, entry.origin)
        if manifest.id not in self.registry or afar.is_silent(there):
            return None
        if os.path.lexists(there) and not os.path.islink(there):
            return f"{entry.target} in {entry.root}"
        return (
            f"{entry.target} in {entry.root}, which is not there any more" if entry.kept and not entry.linked else None
        )


def _without_ours(item: Item) -> Item:
    """The item without what an earlier run of this module said of it."""
    if FOREIGN not in item.states and not any(label in _ROWS for label, _ in item.extra):
        return item
    return replace(
        item,
        states=tuple(s for s in item.states if s != FOREIGN) or (OK,),
        extra=tuple(row for row in item.extra if row[0] not in _ROWS),
        problems=tuple(p for p in item.problems if p.code not in _CODES),
    )


def _knows(manifest: Manifest, path: str, item: Item) -> bool:
    """Whether a manifest has an entry for what lies at a path inside its archive."""
    if item.store == "ollama":
        return manifest.at(f"{OLLAMA}/{item.path}") is not None
    return any(path == e.path or path.startswith(f"{e.path}/") for e in manifest.entries)


def _root_problems(root: Root) -> Sequence[Problem]:
    """What is odd about a root for archives' sake: that it was moved by hand."""
    found: list[Problem] = []
    directory = os.path.dirname(root.path)
    if root.archive or root.offline or not os.path.isabs(root.given) or not os.path.islink(root.given):
        return found
    try:
        moved = os.stat(os.path.dirname(root.given)).st_dev != root.dev
    except OSError:
        return found
    if moved and os.path.realpath(root.given) == root.path and not os.path.lexists(os.path.join(directory, MANIFEST)):
        message = f"the whole cache was moved to another drive by hand; {root.given} is a link to it"
        found.append(Problem(_MOVED, message, root.path, f"cachetui adopt {root.path} records what is in it"))
    return found
