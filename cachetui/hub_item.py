"""The item a repo of a hub cache becomes: its revisions, parts, states and problems; and repos that lie elsewhere."""

from __future__ import annotations

import json
import os
import posixpath
import stat
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cachetui import afar, formats, hub_layout, subsets, walk
from cachetui.folder import Folder
from cachetui.hub_ground import Ground
from cachetui.hub_links import HINTS, MESSAGES
from cachetui.hub_repo import LINKED, Repo, Snapshot
from cachetui.model import (
    DAMAGED,
    FOREIGN_OWNER,
    LITTER,
    NO_TRAITS,
    OK,
    ORPHANS,
    PARTIAL,
    PARTIALS,
    READ_ONLY,
    Blob,
    Item,
    Problem,
    Revision,
    Root,
    Traits,
)
from cachetui.units import size

FLAT = "flat-repo"
"""Code of the problem of a repo's folder with the model directly in it."""
MAX_TREE = 8 << 20
_ROW = b'"blob_id":'
"""Once in each row of a tree listing; inside a name its quotes would be escaped."""
_HARMLESS = frozenset(("outside-link", "linked-folder"))
_ME = os.geteuid() if hasattr(os, "geteuid") else 0


def read_repo(ground: Ground, top: Folder, folder: str, kind: str, name: str, item_id: str) -> Item | None:
    """A repo's item; None where it has gone meanwhile or is a root of its own. Never raises for what is on disk."""
    base = Item(item_id, ground.root.store, ground.root.path, kind, name, folder)
    try:
        with top.inner(folder) as opened:
            outside = ground.outside(folder, opened.stat)
            if outside is not None:
                return None if outside.code == "nested-root" else replace(base, problems=(outside,))
            repo = Repo(ground, folder)
            repo.read(opened)
            return _Maker(repo, base, opened.stat).item()
    except FileNotFoundError:
        return None
    except OSError as e:
        return _no_folder(ground, base, e)


def _no_folder(ground: Ground, base: Item, error: OSError) -> Item | None:
    """The item of a repo's name that cannot be opened as a folder: a file, a link, or no permission."""
    try:
        st = os.lstat(ground.absolute(base.path))
    except OSError:
        return None
    base = replace(
        base, uid=st.st_uid, gid=st.st_gid, last_modified=st.st_mtime, states=_owner_states(ground, st.st_uid)
    )
    if stat.S_ISLNK(st.st_mode):
        return elsewhere(ground, base, st)
    if stat.S_ISREG(st.st_mode):
        problem = Problem("not-a-folder", "a file where a repo's folder should be", ground.absolute(base.path))
        item = replace(base, blobs=(walk.blob(base.path, st),), file_count=1, last_used=st.st_atime)
        return replace(item, problems=(problem,)).with_states(DAMAGED).with_sizes()
    problem = ground.unreadable(base.path, error)
    return replace(base, overhead=ground.weigh(st), problems=(problem,)).with_states(DAMAGED).with_sizes()


def elsewhere(ground: Ground, base: Item, st: os.stat_result) -> Item:
    """A repo whose folder is a link: what lies at its other end is shown, and none of it counts here."""
    link = ground.absolute(base.path)
    base = replace(base, overhead=ground.weigh(st))
    lead = afar.follow(link)
    if lead.loop:
        problem = Problem("link-loop", "the folder is a link that leads to itself", link, "delete the link")
        return replace(base, problems=(problem,)).with_states(DAMAGED).with_sizes()
    if lead.stat is None:
        return afar.offline(base, lead, link)
    if not stat.S_ISDIR(lead.stat.st_mode):
        problem = Problem("not-a-folder", "a link to something that is no folder", link)
        return replace(base, problems=(problem,)).with_states(DAMAGED).with_sizes()
    far, name = os.path.split(lead.real)
    distant = Ground(Root(base.store, far, lead.stat.st_dev, -1, "archive"))

    def read() -> Item | None:
        with Folder(far) as top:
            return read_repo(distant, top, name, base.kind, base.name, base.id)

    late: Item | None = afar.slow(base, lead, link)
    try:
        item = afar.patiently(lead.real, read, late)
    except OSError:
        item = None
    if item is None:  # went away meanwhile
        return afar.offline(base, lead, link)
    return item if item is late else afar.archived(base, _left_behind(ground, item, base), lead.real)


def _left_behind(ground: Ground, item: Item, base: Item) -> Item:
    """A repo that was moved by hand, with its broken links into the shared store of this cache as one problem."""
    blobs = f"{item.root}/{item.path}/blobs/"
    broken = [p.path for p in item.problems if p.code == "broken-link" and p.path.startswith(blobs)]
    names = [_payload(link, base.path) for link in broken]
    if not names or not all(names):
        return item
    for name in names:
        ground.wanted.setdefault(name, base.path)
    there = [ground.payloads[name].size for name in names if name in ground.payloads]
    message = (
        f"{len(names)} of its files lie in the shared store of the cache that it was moved out of, so that moving it "
        f"broke them: {len(there)} of them ({size(sum(there))}) are still there"
    )
    hint = (
        "brings them back" if len(there) == len(names) else "brings back what is there; download it again for the rest"
    )
    problem = Problem("left-behind", message, base.path, f"cachetui adopt {base.id} {hint}")
    rest = tuple(p for p in item.problems if p.code != "broken-link")
    return replace(item, problems=(replace(problem, path=ground.absolute(base.path)), *rest))


def _payload(link: str, folder: str) -> str:
    """The payload that a blob's link named while the repo was in this folder of the cache; empty where it is none."""
    try:
        text = os.readlink(link).replace(os.sep, "/")
    except OSError:
        return ""
    named = posixpath.normpath(posixpath.join(folder, "blobs", text))
    return named if not os.path.isabs(text) and named.startswith(f"{hub_layout.SHARED}/") else ""


def _owner_states(ground: Ground, uid: int) -> tuple[str, ...]:
    states = [] if ground.root.writable else [READ_ONLY]
    if _ME not in (0, uid):
        states.append(FOREIGN_OWNER)
    return tuple(states) or (OK,)


class _Maker:
    """From what was read to the item."""

    def __init__(self, repo: Repo, base: Item, st: os.stat_result) -> None:
        self.repo = repo
        self.base = base
        self.stat = st
        self.ground = repo.ground
        self.content: list[Blob] = repo.blobs + repo.links if repo.links else repo.blobs
        self.used: set[int] = set()
        self.problems = list(repo.problems)
        self.damaged = repo.damaged
        self.partial = False
        self.asked = ""
        """Which files were asked for, where that explains what is missing."""

    def item(self) -> Item:
        """The finished item."""
        repo = self.repo
        refs = self._refs()
        revisions = tuple(self._revision(s, tuple(refs.get(s.commit, ()))) for s in repo.snapshots)
        parts = self._parts()
        if not revisions:
            self._nothing(bool(repo.partials))
        elif repo.partials and not any(r.names for r in revisions):
            self.partial = True
        main = _main(revisions)
        traits = NO_TRAITS
        if self.base.kind == "model" and main is not None:
            traits = self._traits(main.names, dict(zip(main.names, main.index, strict=True)))
        elif any(p.code == FLAT for p in self.problems):
            loose = self._loose()
            traits = self._traits(tuple(loose), loose)
        newest = max((b.mtime for b in repo.links), default=repo.newest)
        last_modified = max(newest, repo.newest) if self.content else self.stat.st_mtime
        states = [s for s in _owner_states(self.ground, self.stat.st_uid) if s != OK]
        states += [PARTIAL] if self.partial else []
        states += [DAMAGED] if self.damaged else []
        item = Item(
            self.base.id, self.base.store, self.base.root, self.base.kind, self.base.name, self.base.path,
            tuple(repo.blobs), tuple(repo.links), repo.overhead, revisions, parts, len(self.content), repo.last_used,
            last_modified, tuple(states) or (OK,), tuple(self.problems), traits, self.stat.st_uid, self.stat.st_gid,
            repo.size, repo.allocated + repo.overhead, self._extra(main, traits),
        )  # fmt: skip
        return item.with_sizes() if repo.links or repo.twins else item

    def _problem(self, code: str, message: str, path: str, hint: str = "") -> Problem:
        problem = Problem(code, message, self.ground.absolute(path), hint)
        self.problems.append(problem)
        return problem

    def _refs(self) -> dict[str, list[str]]:
        """Names of refs by the revision they name; those that name none are problems."""
        there = {s.path.rpartition("/")[2]: s.commit for s in self.repo.snapshots}
        found: dict[str, list[str]] = {}
        for name, commit in sorted(self.repo.refs):
            if commit in there:
                found.setdefault(there[commit], []).append(name)
            elif self.repo.snapshots or not self.repo.partials:  # else: a first download that did not end
                self.damaged = True
                path = f"{self.base.path}/refs/{name}"
                if hub_layout.COMMIT.fullmatch(commit):
                    self._problem("dangling-ref", f"the ref {name} names revision {commit}, which is not there", path)
                else:
                    self._problem("bad-ref", f"the ref {name} holds no commit hash", path, "download it again")
        return found

    def _revision(self, snapshot: Snapshot, refs: tuple[str, ...]) -> Revision:
        shift = len(self.repo.blobs) - LINKED
        index = array("i", snapshot.index)
        if self.repo.links:
            index = array("i", [n + shift if n >= LINKED else n for n in index])
        distinct = set(index)
        distinct.discard(-1)
        self.used |= distinct
        rows = [self.content[n] for n in distinct]
        size = sum([b[3] for b in rows])
        modified = max([b[6] for b in rows]) if rows else snapshot.mtime
        problems = self._snapshot_problems(snapshot)
        names = tuple(snapshot.names)
        return Revision(snapshot.commit, refs, snapshot.path, names, index, size, modified, problems)

    def _snapshot_problems(self, snapshot: Snapshot) -> tuple[Problem, ...]:
        problems: list[Problem] = []
        for code, names in snapshot.odd.items():
            self.damaged = self.damaged or code not in _HARMLESS
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            path = f"{snapshot.path}/{names[0]}"
            problems.append(self._problem(code, MESSAGES[code].format(names[0]) + more, path, HINTS.get(code, "")))
        if self.repo.trees and (tree := snapshot.path.rpartition("/")[2] + ".json") in self.repo.trees:
            listed = self._listed(tree, snapshot)
            missing = listed.difference(snapshot.names)
            asked = subsets.known(self.ground.root.path, self.base.path, snapshot.commit) if missing else ()
            if missing and not subsets.lacking(listed, snapshot.names, asked):
                told = "; ".join(s.words() for s in asked)
                self.asked = f"only {told}: {len(missing)} of {len(listed)} files were left out" if asked else ""
            elif missing:
                self.partial = True
                message = f"{len(missing)} of {len(listed)} files are not downloaded"
                hint = "downloading the repo again fetches the rest"
                problems.append(self._problem("partial", message, snapshot.path, hint))
        return tuple(problems)

    def _listed(self, tree: str, snapshot: Snapshot) -> frozenset[str]:
        """The files a complete revision has; empty where no listing tells or all are there (_tree_cache.py)."""
        try:
            raw = walk.read_small(self.ground.absolute(f"{self.base.path}/trees/{tree}"), MAX_TREE)
            if snapshot.links_only and raw.count(_ROW) == len(snapshot.names):
                return frozenset()  # as many links as files: parsing would cost more than all the rest
            data = json.loads(raw)
            files = data["files"] if data["format_version"] == 1 else {}
            return frozenset(files) if isinstance(files, dict) else frozenset()
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return frozenset()

    def _parts(self) -> tuple[Revision, ...]:
        repo = self.repo
        if not repo.links and len(self.used) == len(repo.by_name) == len(repo.blobs):
            return ()  # the usual case: every blob is named by a revision
        parts = []
        path = f"{self.base.path}/blobs"
        apart = {*repo.partials, *repo.litter}
        shift = len(repo.blobs) - LINKED
        if repo.whole:
            rows = [(name, n + shift if n >= LINKED else n) for name, n in repo.by_name.items() if n >= 0]
            orphans = [(name, n) for name, n in rows if n not in self.used and n not in apart]
            parts.append(self._part(ORPHANS, path, orphans))
        for commit, positions in ((PARTIALS, repo.partials), (LITTER, repo.litter)):
            parts.append(self._part(commit, path, [(os.path.basename(repo.blobs[n].path), n) for n in positions]))
        if repo.partials:
            count = len(repo.partials)
            message = "a download did not end" if count == 1 else f"{count} downloads did not end"
            self._problem("unfinished-download", message, path, "unless one is running now, delete what is left of it")
        return tuple(p for p in parts if p is not None)

    def _part(self, commit: str, path: str, rows: Sequence[tuple[str, int]]) -> Revision | None:
        if not rows:
            return None
        content = [self.content[n] for _, n in rows]
        names, index = tuple(name for name, _ in rows), array("i", [n for _, n in rows])
        return Revision(commit, (), path, names, index, sum(b.size for b in content), max(b.mtime for b in content))

    def _nothing(self, partials: bool) -> None:
        """A repo without a revision."""
        if partials and not self.damaged:
            self.partial = True
            return
        if self.repo.whole and self._is_flat():
            hint = f"cachetui adopt {self.base.id} moves it into blobs, a snapshot and a ref"
            self._problem(FLAT, "a model lies in it directly: no program finds it by its name", self.base.path, hint)
            return
        self.damaged = True
        if self.repo.whole:
            self._problem("no-snapshots", "holds no revision", self.base.path, "download it again, or delete it")

    def _loose(self) -> dict[str, int]:
        """Files at the top of the repo's folder, where none belong, by name; with their place in the content."""
        top = len(self.base.path) + 1
        found = {self.repo.blobs[n].path[top:]: n for n in sorted(self.repo.strays)}
        return {name: n for name, n in found.items() if "/" not in name}

    def _is_flat(self) -> bool:
        """Whether a model lies in it as mlx_lm.convert writes one, or a clone of a repo."""
        names = self._loose()
        return self.base.kind == "model" and "config.json" in names and any(formats.is_weights(n) for n in names)

    def _traits(self, names: tuple[str, ...], position: Mapping[str, int]) -> Traits:
        content, absolute = self.content, self.ground.absolute

        def read(name: str, cap: int) -> bytes | None:
            n = position.get(name, -1)
            if n < 0:
                return None
            try:
                return walk.read_small(absolute(content[n].path), cap)
            except OSError:
                return None

        return formats.traits(names, read, self.base.name)

    def _extra(self, main: Revision | None, traits: Traits) -> tuple[tuple[str, str], ...]:
        asked = (("asked for", self.asked),) if self.asked else ()
        if self.base.kind != "model" or main is None:
            return asked
        program = {"gguf": "llama-cli -hf", "mlx": "mlx_lm.generate --model"}.get("".join(traits.formats), "")
        command = f"{program} {self.base.name}" if program else f'from_pretrained("{self.base.name}")'
        return (("load it", command), *asked)


def _main(revisions: Sequence[Revision]) -> Revision | None:
    """The revision that `main` names, else the newest."""
    for r in revisions:
        if "main" in r.refs:
            return r
    return max(revisions, key=lambda r: r.last_modified or 0.0, default=None)
