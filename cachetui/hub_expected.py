"""What the content of a hub cache ought to be: by the names of blobs, the links into the shared store, the listings.

Nothing of this opens a blob. An archived repo, a link to a folder elsewhere, is judged by what lies there.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections import defaultdict
from collections.abc import Iterator

from cachetui import afar, hub_layout, walk
from cachetui.expected import (
    Digest,
    Expected,
    ExpectedFile,
    TreeRow,
    missing_files,
    named_digest,
    plain_files,
    read_tree,
)
from cachetui.folder import Folder
from cachetui.hub_ground import Ground
from cachetui.hub_item import read_repo
from cachetui.hub_shared import MAX_REFS
from cachetui.model import Item, Problem, Revision, Root
from cachetui.subsets import known

_LINKED_BLOB = "the name of the link to it"
_OWN = frozenset(("broken-link", "partial"))
"""Codes of a scan's problems that are told more exactly here."""


def expected(item: Item) -> Expected:
    """Of one item of a hub cache. Never raises."""
    if item.kind == "orphan":
        return _payload(item)
    if item.kind == "unknown":
        return plain_files(item, item.root)
    base = os.path.join(item.root, item.path)
    if not os.path.islink(base):
        return _Repo(item, base).expected()
    lead = afar.follow(base)
    there = _elsewhere(item, lead)
    if there is None:
        found = Expected()
        found.sort_in(item.problems)
        if not found.unknown and not found.damaged:
            found.unknown.append(Problem("offline", f"lies at {lead.path}, which {lead.state}", base))
        return found
    found = _Repo(there, lead.real).expected()
    found.sort_in(p for p in item.problems if p.code == "left-behind")
    return found


def _elsewhere(item: Item, lead: afar.Lead) -> Item | None:
    """The repo at the other end of a link, read now; None where it cannot be."""
    if lead.stat is None or not stat.S_ISDIR(lead.stat.st_mode):
        return None
    far, name = os.path.split(lead.real)
    try:
        with Folder(far) as top:
            ground = Ground(Root(item.store, far, lead.stat.st_dev, -1, "archive"))
            return read_repo(ground, top, name, item.kind, item.name, item.id)
    except OSError:
        return None


def _payload(item: Item) -> Expected:
    """A payload that no repo links: its own name is no hash of the bytes, the hint beside it may know one."""
    found = Expected()
    path = os.path.join(item.root, item.path)
    hints: set[str] = set()
    try:
        raw = walk.read_small(f"{path}.refs", MAX_REFS)
    except OSError:
        raw = b""
    for line in raw.split(b"\n"):
        etag = os.fsdecode(line.rstrip(b"\r")).rpartition("/blobs/")[2]
        if len(etag) == 64 and named_digest(etag):
            hints.add(etag)
    source = "the hint beside it"
    digests = tuple(d._replace(firm=False) for d in named_digest(hints.pop(), source)) if len(hints) == 1 else ()
    found.files.append(ExpectedFile(path, item.name, digests=digests))
    found.sort_in(item.problems, ("needed-elsewhere",))
    return found


class _Repo:
    def __init__(self, item: Item, base: str) -> None:
        self.item = item
        self.base = base
        self.root = os.path.dirname(base)
        self.found = Expected()
        self.names: dict[str, list[str]] = defaultdict(list)
        """What revisions call each content, by absolute path."""
        self.digests: dict[str, dict[tuple[str, str], Digest]] = defaultdict(dict)
        self.sizes: dict[str, int] = {}
        self.etags: dict[str, set[str]] = defaultdict(set)
        """Names of blobs through which each content is reached."""
        self.dangling: dict[str, str] = {}
        """Blobs that are links to nothing: where they lead, by path of the link."""

    def expected(self) -> Expected:
        self._links()
        for b in self.item.content:
            path = f"{self.item.root}/{b.path}"
            if posixpath.dirname(path) == f"{self.base}/blobs":
                self._add(path, named_digest(posixpath.basename(path)))
                self.etags[path].add(posixpath.basename(path))
        for revision in self.item.revisions:
            self._revision(revision)
        self._files()
        self.found.sort_in(self.item.problems, _OWN)
        return self.found

    def _add(self, path: str, digests: tuple[Digest, ...]) -> None:
        for d in digests:
            self.digests[path].setdefault((d.algorithm, d.value), d)

    def _links(self) -> None:
        """Blobs that are links: the name of each promises the hash of what it leads to."""
        for name, target in _links_in(f"{self.base}/blobs"):
            if not hub_layout.ETAG.fullmatch(name):
                continue
            link = f"{self.base}/blobs/{name}"
            path = posixpath.normpath(posixpath.join(f"{self.base}/blobs", target))
            if not os.path.lexists(path):
                self.dangling[link] = path
            elif not os.path.isfile(path) or os.path.islink(path):
                path = os.path.realpath(path)
            if path.startswith(f"{self.root}/"):
                self._add(path, named_digest(name, _LINKED_BLOB))
                self.etags[path].add(name)

    def _revision(self, revision: Revision) -> None:
        folder = f"{self.item.root}/{revision.path}"
        listed = read_tree(f"{self.base}/trees/{posixpath.basename(revision.path)}.json")
        content = self.item.content
        for name, at in zip(revision.names, revision.index, strict=True):
            row = listed.get(name)
            path = f"{self.item.root}/{content[at].path}" if at >= 0 else self._broken(f"{folder}/{name}")
            if path:
                self.names[path].append(name)
                if row is not None:
                    self._listed(path, f"{folder}/{name}", name, row)
        asked = known(self.root, posixpath.basename(self.base), revision.commit) if listed else ()
        if (problem := missing_files(listed, revision.names, folder, asked)) is not None:
            self.found.incomplete.append(problem)

    def _broken(self, entry: str) -> str:
        """The content that a broken link of a snapshot ought to reach; empty where that cannot be said."""
        try:
            target = os.readlink(entry)
        except OSError:
            return ""
        if os.path.exists(entry):
            return ""  # it leads elsewhere, which the scan says
        path = posixpath.normpath(posixpath.join(posixpath.dirname(entry), target))
        blob = posixpath.basename(path)
        if posixpath.dirname(path) != f"{self.base}/blobs" or not hub_layout.ETAG.fullmatch(blob):
            self.found.damaged.append(Problem("broken-link", "points to content that is not there", entry))
            return ""
        path = self.dangling.get(path, path)
        if not path.startswith(f"{self.root}/"):
            self.found.unknown.append(Problem("outside-link", "points out of this cache", entry))
            return ""
        self._add(path, named_digest(blob, _LINKED_BLOB))
        self.etags[path].add(blob)
        return path

    def _listed(self, path: str, entry: str, name: str, row: TreeRow) -> None:
        """What the listing says about a file; the content may be right and the link name another one."""
        if row.digest is not None:
            wrong = [e for e in self.etags.get(path, ()) if len(e) == len(row.digest.value) and e != row.digest.value]
            if wrong and row.digest.value not in self.etags[path]:
                message = f"{name} names the content {wrong[0]}, where the repo's listing says {row.digest.value}"
                self.found.damaged.append(Problem("wrong-content", message, entry))
                return
            if row.digest.algorithm not in {a for a, _ in self.digests[path]}:
                self._add(path, (row.digest,))
        if row.size >= 0:
            self.sizes.setdefault(path, row.size)

    def _files(self) -> None:
        parts = {n for r in self.item.parts if r.commit != "~orphan" for n in r.index}
        seen: set[str] = set()
        for n, b in enumerate(self.item.content):
            path = f"{self.item.root}/{b.path}"
            if n not in parts and path not in seen and not os.path.islink(path):
                seen.add(path)
                self._file(path)
        for path in (*self.names, *self.dangling.values()):
            if path not in seen and path.startswith(f"{self.root}/"):
                seen.add(path)
                self._file(path)

    def _file(self, path: str) -> None:
        names = self.names.get(path)
        name = names[0] if names else posixpath.basename(path)
        digests = tuple(self.digests[path].values()) if path in self.digests else ()
        self.found.files.append(ExpectedFile(path, name, self.sizes.get(path, -1), digests))


def _links_in(folder: str) -> Iterator[tuple[str, str]]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.is_symlink())
    except OSError:
        return
    for name in names:
        try:
            yield name, os.readlink(f"{folder}/{name}")
        except OSError:
            continue
