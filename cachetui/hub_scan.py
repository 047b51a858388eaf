"""One hub cache, whole: the shared store, every repo, what is no repo, and payloads that no repo links."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Mapping
from dataclasses import replace

from cachetui import hub_layout, walk
from cachetui.filesystem import shares_extents
from cachetui.folder import Folder
from cachetui.hub_ground import Ground, read_shared
from cachetui.hub_item import read_repo
from cachetui.hub_shared import NEEDED, hinted
from cachetui.model import DAMAGED, OFFLINE, OK, ORPHAN, Item, Problem, Reporter, Root, RootScan
from cachetui.text import encode_target

TWINS = "hard-linked-names"
"""Code of the root's Problem when something that is no content has several names; then a rescan reads everything."""


def item_id(kind: str, name: str, taken: Mapping[str, object], absolute: str) -> str:
    """The TARGET of a repo; its path where another repo of this root has the same."""
    found = hub_layout.ID_PREFIX[kind] + encode_target(name)
    return encode_target(absolute) if found in taken else found


def scan_hub(
    root: Root, nested: frozenset[tuple[int, int]], report: Reporter, keep: Mapping[str, Item] | None = None
) -> RootScan:
    """Everything in a hub cache. `keep`: items by top folder that are taken as they are instead of being read."""
    ground = Ground(root, nested)
    scanner = _Scanner(ground, report, keep or {})
    try:
        with Folder(root.path) as top:
            complete = scanner.read(top)
    except OSError as e:
        return RootScan(root, problems=(ground.unreadable("", e),), blind=("",), complete=False)
    return scanner.result(complete)


class _Scanner:
    def __init__(self, ground: Ground, report: Reporter, keep: Mapping[str, Item]) -> None:
        self.ground = ground
        self.report = report
        self.keep = keep
        self.items: dict[str, Item] = {}

    def read(self, top: Folder) -> bool:
        ground = self.ground
        ground.other += walk.allocated(top.stat)
        repos: list[tuple[str, str, str]] = []
        rest: list[str] = []
        shared = False
        with top.listing() as entries:
            for entry in entries:
                decoded = hub_layout.decode_folder(entry.name)
                if decoded is not None:
                    repos.append((entry.name, *decoded))
                elif entry.name == hub_layout.SHARED and hub_layout.is_shared_store(f"{top.path}/{entry.name}"):
                    shared = True
                else:
                    rest.append(entry.name)
        if shared:
            read_shared(ground, top)
        for folder, kind, name in sorted(repos):
            if self.report.cancelled():
                return False
            self._repo(top, folder, kind, name)
        for name in sorted(rest):
            if self.report.cancelled():
                return False
            self._rest(name)
        if shared:
            self._orphans()
        return True

    def _add(self, item: Item) -> None:
        self.items[item.id] = item
        self.report.sized(self.ground.root, item)

    def _repo(self, top: Folder, folder: str, kind: str, name: str) -> None:
        known = self.keep.get(folder)
        if known is not None and (fresh := self._refreshed(known)) is not None:
            self.items[fresh.id] = fresh
            return
        target = item_id(kind, name, self.items, self.ground.absolute(folder))
        item = read_repo(self.ground, top, folder, kind, name, target)
        if item is None:
            return
        if not target.startswith("hf:"):
            twin = Problem(
                "same-name",
                f"another folder of this cache is called {name} too; programs use only one of them",
                self.ground.absolute(folder),
            )
            item = replace(item, problems=(*item.problems, twin))
        self._add(item)

    def _refreshed(self, item: Item) -> Item | None:
        """A kept item with its payloads as they are now; None where one of them has gone."""
        if not item.links:
            return item
        links = []
        for b in item.links:
            new = self.ground.payloads.get(b.path)
            if new is None and b.path.startswith(hub_layout.SHARED + "/"):
                return None
            links.append(new or b)
        same = all(a is b or a == b for a, b in zip(links, item.links, strict=True))
        return item if same else replace(item, links=tuple(links)).with_sizes()

    def _rest(self, name: str) -> None:
        """What is neither repo nor shared store."""
        ground = self.ground
        try:
            st = os.lstat(ground.absolute(name))
        except OSError:
            return
        if stat.S_ISDIR(st.st_mode):
            if (problem := ground.outside(name, st)) is not None:
                if problem.code != "nested-root":
                    ground.problems.append(problem)
            elif name == hub_layout.LOCKS or name.startswith(hub_layout.OURS):
                ground.leave(name)
            else:
                self._unknown_folder(name, st)
        elif stat.S_ISREG(st.st_mode) and not hub_layout.is_root_file(name):
            self._unknown(name, st, Item("", "", "", "", "", "", (walk.blob(name, st),), last_used=st.st_atime))
        else:
            ground.other += ground.weigh(st)
            if not stat.S_ISREG(st.st_mode):
                what = "a link" if stat.S_ISLNK(st.st_mode) else "a pipe, socket or device"
                problem = Problem("not-a-repo", f"{what} that is no part of a hub cache", ground.absolute(name))
                ground.problems.append(problem)

    def _unknown_folder(self, name: str, st: os.stat_result) -> None:
        tally = self.ground.tree(name)
        newest = max((b.mtime for b in tally.files), default=st.st_mtime)
        item = Item("", "", "", "", "", "", tuple(tally.files), overhead=tally.overhead, last_used=tally.last_used)
        states = (DAMAGED,) if tally.blind else ()
        item = replace(item, last_modified=newest, problems=tuple(tally.problems)).with_states(*states)
        self._unknown(name, st, item)

    def _unknown(self, name: str, st: os.stat_result, item: Item) -> None:
        path = self.ground.absolute(name)
        hint = "if you know what it is and do not need it, it can be deleted"
        problem = Problem("not-a-repo", "no part of a hub cache: huggingface_hub did not put it there", path, hint)
        self._add(
            replace(
                item,
                id=encode_target(path),
                store=self.ground.root.store,
                root=self.ground.root.path,
                kind="unknown",
                name=name,
                path=name,
                file_count=len(item.blobs),
                last_modified=st.st_mtime if item.last_modified is None else item.last_modified,
                problems=(problem, *item.problems),
                uid=st.st_uid,
                gid=st.st_gid,
            ).with_sizes()
        )

    def _orphans(self) -> None:
        """Payloads that no repo links."""
        ground = self.ground
        linked = {b.path for item in self.items.values() for b in item.links}
        root = ground.root
        for path, payload in sorted(ground.payloads.items()):
            if path in linked:
                continue
            absolute = ground.absolute(path)
            item = Item(
                encode_target(absolute), root.store, root.path, "orphan", posixpath.basename(path), path, (payload,),
                file_count=1, last_used=ground.atimes[path], last_modified=payload.mtime, states=(ORPHAN,),
            )  # fmt: skip
            moved = ground.wanted.get(path)
            if moved is not None:
                message = f"needed by {moved}, which was moved away without it"
                hint = f"cachetui adopt {ground.absolute(moved)}"
                problem = Problem(NEEDED, message, absolute, hint)
                item = replace(item, states=(OK,), problems=(problem,))
            elif holders := hinted(root.path, path):
                message = f"needed by {', '.join(sorted(holders))}, which is not there now"
                problem = Problem(NEEDED, message, absolute, "plug in the drive that holds it")
                item = replace(item, states=(OFFLINE,), problems=(problem,))
            elif ground.blind:
                message = "no repo links it, but not everything could be read: it is kept"
                item = replace(item, problems=(Problem("maybe-needed", message, absolute),))
            self._add(item.with_sizes())

    def result(self, complete: bool) -> RootScan:
        ground = self.ground
        items = tuple(self.items.values())
        content = {(b.dev, b.ino) for item in items for b in item.content if b.nlink > 1} if ground.twins else set()
        twins = sum(size for inode, size in ground.twins.items() if inode not in content)
        if any(self.ground.twins):
            message = (
                "links or small files have several names here (a copy made with hard links?); each is counted once"
            )
            ground.problems.append(Problem(TWINS, message, ground.root.path))
        return RootScan(
            ground.root,
            items,
            ground.other + twins,
            tuple(ground.nested_paths),
            tuple(ground.problems),
            tuple(ground.blind),
            shares_extents(ground.root.dev),
            complete,
            sum(item.away for item in items),
        )
