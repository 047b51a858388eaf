"""What else huggingface programs keep in HF_HOME: the Xet chunk cache, assets, Arrow copies of datasets, modules.

Places follow constants.py of huggingface_hub 2.4 and config.py of datasets. The hub cache inside is a root of its own;
tokens and locks are never items.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from cachetui import afar, hub_layout, walk
from cachetui.config import Where
from cachetui.filesystem import shares_extents
from cachetui.hub_ground import Ground
from cachetui.ledger import Ledger
from cachetui.model import ARCHIVED, DAMAGED, OFFLINE, Blob, Item, Problem, Reporter, Root, RootScan, Silent, Stub
from cachetui.store import Removal, Selection, Store, make_root
from cachetui.text import encode_target

_ELSEWHERE = ("HF_XET_CACHE", "HF_ASSETS_CACHE", "HUGGINGFACE_ASSETS_CACHE", "HF_DATASETS_CACHE")
_DATASETS = "datasets"
_KNOWN = {
    "xet": "pieces of files downloaded through Xet; fetched again when needed",
    "assets": "files that libraries keep for themselves",
    "modules": "code of datasets, metrics and models, downloaded to be run",
    "accelerate": "settings of accelerate",
    "downloads": "raw files that datasets were prepared from",
}
"""Folders that programs make, and what is in them."""
_COPY = "a prepared copy of a dataset: deleting it frees this copy only, the hub cache has its own"
_CACHES = frozenset(("xet", "assets", "downloads"))
_SECRET = re.compile(r"(stored_)?tokens?|profiles?|credentials?|auth|netrc", re.IGNORECASE)
"""Names of files and folders that hold secrets."""
_FILE_LIMIT = 1 << 20
"""Bytes below which a file between the folders is bookkeeping, not an item."""


class HuggingFaceHome(Store):
    """HF_HOME without the hub, and HF_XET_CACHE, HF_ASSETS_CACHE, HF_DATASETS_CACHE where they lie elsewhere."""

    name: ClassVar[str] = "hf-home"
    title: ClassVar[str] = "Hugging Face home"
    order: ClassVar[int] = 20

    def roots(self, where: Where) -> Iterable[Root]:
        """HF_HOME, then the folders that links and variables put elsewhere."""
        given = hub_layout.hf_home(where.env, where.home)
        top = os.path.normpath(os.path.join(where.cwd, given))
        origin = next((name for name in ("HF_HOME", "XDG_CACHE_HOME") if name in where.env), "default")
        # HF_HOME="" is the working folder, and a hub cache is no home: neither is taken for one.
        at_home = bool(given) and not hub_layout.is_hub_layout(top)
        if at_home:
            yield from _roots(top, origin, given)
            for name in ("xet", "assets", _DATASETS, "modules"):
                path = os.path.join(top, name)
                if os.path.islink(path) and not _was_archived(path):
                    yield from _roots(path, origin, path)
        for variable in _ELSEWHERE:
            if value := where.env.get(variable):
                # constants.py expands all of them but HF_XET_CACHE
                path = value if variable == "HF_XET_CACHE" else hub_layout.expand(value, where.env, where.home)
                path = os.path.normpath(os.path.join(where.cwd, path))
                if not (at_home and _is_below(path, top)):
                    yield from _roots(path, variable, value)

    def stubs(self, root: Root) -> Sequence[Stub]:
        """Names of folders at the top, and of prepared datasets."""
        found = []
        for path, name, kind in _folders(root):
            try:
                st = os.lstat(f"{root.path}/{path}")
            except OSError:
                continue
            if stat.S_ISDIR(st.st_mode) or (stat.S_ISLNK(st.st_mode) and _lead(root, path) is not None):
                found.append(Stub(_id(root, path), kind, name, path))
        return tuple(found)

    def scan(self, root: Root, nested: frozenset[tuple[int, int]], report: Reporter) -> RootScan:
        """Each folder at the top is an item, each prepared dataset is one."""
        return _scan(root, nested, report, {})

    def rescan(self, before: RootScan, nested: frozenset[tuple[int, int]], changed: Sequence[Item]) -> RootScan:
        """Reads again what was touched and what is new."""
        if not before.complete:
            return self.scan(before.root, nested, Silent())
        far = (i.path for i in before.items if ARCHIVED in i.states or OFFLINE in i.states)
        unclear = (*(i.path for i in changed), *far, *before.blind, *before.nested)
        keep = {i.path: i for i in before.items if not any(f"{p}/".startswith(f"{i.path}/") for p in unclear)}
        return _scan(before.root, nested, Silent(), keep)

    def removal(self, selection: Selection, ledger: Ledger, selected: set[int]) -> Removal:
        """The folder as a whole."""
        if not selection.is_whole:
            return Removal((), refused="it goes as a whole: its files are of no use one by one")
        return Removal((selection.item.path,))


def _roots(path: str, origin: str, given: str) -> Iterator[Root]:
    root = make_root("hf-home", path, origin)
    if root is not None:
        yield root if given == root.path else replace(root, given=given)


def _was_archived(path: str) -> bool:
    """Whether a link stands for an item that lies in an archive, or on a drive that is not there: no root then."""
    lead = afar.follow(path)
    return lead.stat is None or bool(afar.archive_above(lead.real))


def _lead(root: Root, path: str) -> afar.Lead | None:
    """Where a folder leads that is a link to elsewhere; None where it is none or stays here."""
    lead = afar.follow(f"{root.path}/{path}")
    is_folder = lead.stat is None or stat.S_ISDIR(lead.stat.st_mode)
    return lead if is_folder and afar.leaves(root.path, root.dev, lead) else None


def _is_below(path: str, top: str) -> bool:
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(top), ""))


def _id(root: Root, path: str) -> str:
    return "dir:" + encode_target(f"{root.path}/{path}")


def _holds_datasets(root: Root) -> bool:
    return root.origin == "HF_DATASETS_CACHE" or os.path.basename(root.given) == _DATASETS


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def _folders(root: Root) -> Iterator[tuple[str, str, str]]:
    """(path, name, kind) of what may be an item; `datasets` itself is none, what lies in it is."""
    arrow = _holds_datasets(root)
    for name in _names(root.path):
        if _is_apart(name) or (name == "hub" and not arrow):
            continue
        if name == _DATASETS and not arrow and not os.path.islink(f"{root.path}/{name}"):
            for inner in _names(f"{root.path}/{name}"):
                if not _is_apart(inner):
                    yield (f"{name}/{inner}", *_arrow(inner))
        else:
            yield (name, *(_arrow(name) if arrow else (name, "cache" if name in _CACHES else "folder")))


def _arrow(folder: str) -> tuple[str, str]:
    """Name and kind of a folder of the datasets library: `ORG___NAME` is the dataset ORG/NAME."""
    return (folder, "cache") if folder == "downloads" else (folder.replace("___", "/"), "arrow-cache")


def _is_apart(name: str) -> bool:
    """What is never an item by its name: secrets, locks, hidden files, this program's own folders."""
    return name.startswith(".") or name.endswith(".lock") or _SECRET.fullmatch(name) is not None


def _scan(root: Root, nested: frozenset[tuple[int, int]], report: Reporter, keep: Mapping[str, Item]) -> RootScan:
    ground = Ground(root, nested)
    try:
        ground.other += walk.allocated(os.lstat(root.path))
        os.listdir(root.path)
    except OSError as e:
        return RootScan(root, problems=(ground.unreadable("", e),), blind=("",), complete=False)
    candidates = {path: (name, kind) for path, name, kind in _folders(root)}
    items: list[Item] = []
    complete = True
    for path in _everything(ground):
        if report.cancelled():
            complete = False
            break
        item = keep.get(path) or _item(ground, path, candidates.get(path))
        if item is not None:
            items.append(item)
            report.sized(root, item)
    content = {(b.dev, b.ino) for item in items for b in item.blobs if b.nlink > 1} if ground.twins else set()
    other = ground.other + sum(size for inode, size in ground.twins.items() if inode not in content)
    return RootScan(
        root,
        tuple(items),
        other,
        tuple(ground.nested_paths),
        tuple(ground.problems),
        tuple(ground.blind),
        shares_extents(root.dev),
        complete,
        sum(item.away for item in items),
    )


def _everything(ground: Ground) -> Iterator[str]:
    """Paths of all that lies at the top, and in `datasets` instead of that folder itself (which is counted here)."""
    root = ground.root
    for name in _names(root.path):
        path = f"{root.path}/{name}"
        if name == _DATASETS and not _holds_datasets(root) and os.path.isdir(path) and not os.path.islink(path):
            try:
                st = os.lstat(path)
                inner = sorted(os.listdir(path))
            except OSError as e:
                ground.problems.append(ground.unreadable(name, e))
                continue
            if ground.outside(name, st) is None:
                ground.other += walk.allocated(st)
                yield from (f"{name}/{n}" for n in inner)
        else:
            yield name


def _item(ground: Ground, path: str, known: tuple[str, str] | None) -> Item | None:
    """What lies at this path as an item, or None after counting it as `other`."""
    absolute = ground.absolute(path)
    try:
        st = os.lstat(absolute)
    except OSError:
        return None
    if stat.S_ISDIR(st.st_mode):
        problem = ground.outside(path, st)
        if problem is not None:
            ground.problems += [] if problem.code == "nested-root" else [problem]
            return None
        if known is None and os.path.basename(path) != "hub":
            ground.leave(path)
            return None
        return _folder(ground, path, known or ("hub", "folder"), st)
    if known is not None and stat.S_ISLNK(st.st_mode) and (lead := _lead(ground.root, path)) is not None:
        return _elsewhere(ground, path, known, st, lead)
    if known is None or not stat.S_ISREG(st.st_mode) or st.st_size < _FILE_LIMIT:
        ground.other += ground.weigh(st)
        return None
    blob = walk.blob(path, st)
    return _finish(ground, path, (known[0], "file"), st, (blob,), 0, st.st_atime, ())


def _elsewhere(ground: Ground, path: str, known: tuple[str, str], st: os.stat_result, lead: afar.Lead) -> Item | None:
    """A folder that is only a link: what is there is shown, and counts there."""
    base = _finish(ground, path, known, st, (), ground.weigh(st), None, ())
    link = ground.absolute(path)
    if lead.stat is None:
        return afar.offline(base, lead, link)
    top, name = os.path.split(lead.real)
    far = Ground(Root(ground.root.store, top, lead.stat.st_dev, -1, "archive"))
    there = lead.stat
    late: Item | None = afar.slow(base, lead, link)
    item = afar.patiently(lead.real, lambda: _folder(far, name, known, there), late)
    if item is None:
        ground.other += base.overhead
    return item if item is late or item is None else afar.archived(base, replace(item, extra=()), lead.real)


def _folder(ground: Ground, path: str, known: tuple[str, str], st: os.stat_result) -> Item | None:
    tally = ground.tree(path)
    if os.path.basename(path) not in _KNOWN and known[1] == "folder" and _holds_secrets(path, tally.files):
        ground.absorb(tally)
        return None
    item = _finish(ground, path, known, st, tuple(tally.files), tally.overhead, tally.last_used, tuple(tally.problems))
    return item.with_states(DAMAGED) if tally.blind else item


def _holds_secrets(path: str, files: Sequence[Blob]) -> bool:
    """Whether tokens lie right in a folder nobody knows; then it is no item, whatever else is there."""
    return any(os.path.dirname(b.path) == path and _SECRET.fullmatch(os.path.basename(b.path)) for b in files)


def _finish(
    ground: Ground,
    path: str,
    known: tuple[str, str],
    st: os.stat_result,
    blobs: tuple[Blob, ...],
    overhead: int,
    last_used: float | None,
    problems: tuple[Problem, ...],
) -> Item:
    what = _COPY if known[1] == "arrow-cache" else _KNOWN.get(os.path.basename(path), "")
    return Item(
        _id(ground.root, path),
        ground.root.store,
        ground.root.path,
        known[1],
        known[0],
        path,
        blobs,
        overhead=overhead,
        file_count=len(blobs),
        last_used=last_used,
        last_modified=max((b.mtime for b in blobs), default=st.st_mtime),
        problems=problems,
        uid=st.st_uid,
        gid=st.st_gid,
        extra=(("what it is", what),) if what else (),
    ).with_sizes()
