"""What lies in an Ollama store, read in one pass: manifests by path, blobs by name, and the blocks of the rest."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from cachetui import afar, walk
from cachetui.model import Blob, Problem, Root
from cachetui.ollama_layout import BLOB, BLOBS, MANIFESTS

IGNORED = frozenset((".DS_Store", "Thumbs.db", "desktop.ini"))


@dataclass
class OllamaDisk:
    """One store, read."""

    root: Root
    manifests: list[Blob] = field(default_factory=list)
    """Files below manifests/."""
    manifest_links: list[tuple[str, str]] = field(default_factory=list)
    """Symbolic links below manifests/: (path, target)."""
    blobs: dict[str, Blob] = field(default_factory=dict)
    """Files and links in blobs/ by name. Of a link: its own inode and blocks, the size of what it points to."""
    used: dict[str, float] = field(default_factory=dict)
    """Access times of the files in blobs/, POSIX seconds."""
    owner: dict[str, tuple[int, int]] = field(default_factory=dict)
    """uid and gid of the files in blobs/."""
    archived: dict[str, str] = field(default_factory=dict)
    """Links that reach content outside of the store, with the real path of that."""
    offline: dict[str, afar.Lead] = field(default_factory=dict)
    """Links that reach nothing now."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Links to another blob of this store, by name."""
    other: int = 0
    """Allocated bytes of folders and of what is neither a manifest nor a blob."""
    second_names: dict[tuple[int, int], int] = field(default_factory=dict)
    """Blocks of files elsewhere in the root that have more than one name: they may be blobs or manifests."""
    problems: list[Problem] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)
    """Absolute paths that could not be read and may name layers."""
    blobs_known: bool = True
    """False where blobs/ could not be read or lies elsewhere: then nothing can be said about a layer."""


def manifest_paths(top: str) -> Iterator[str]:
    """Files and links below manifests/, for the names alone. Never raises."""
    if os.path.isdir(f"{top}/{MANIFESTS}") and not os.path.islink(f"{top}/{MANIFESTS}"):
        tally = walk.tree(top, MANIFESTS)
        for path in sorted([b.path for b in tally.files] + [path for path, _ in tally.links]):
            if not is_ignored(path):
                yield path


def is_ignored(path: str) -> bool:
    """True for files of operating systems."""
    return path.rsplit("/", 1)[-1] in IGNORED


def read_disk(root: Root, nested: frozenset[tuple[int, int]]) -> OllamaDisk:
    """The store's folders as they are. Never raises."""
    disk = OllamaDisk(root)
    try:
        top = os.lstat(root.path)
        names = sorted(os.listdir(root.path))
    except OSError as e:
        _unreadable(disk, root.path, e)
        return disk
    disk.other += walk.allocated(top)
    if MANIFESTS not in names and BLOBS in names:
        message = "the manifests folder is missing: no layer has a name"
        hint = "if it was moved, put it back before the server starts: it deletes what no manifest names"
        disk.problems.append(Problem("no-manifests", message, root.path, hint))
        disk.blind.append(f"{root.path}/{MANIFESTS}")
    for name in names:
        try:
            st = os.lstat(f"{root.path}/{name}")
        except OSError:
            continue  # vanished meanwhile
        if name in (MANIFESTS, BLOBS) and not (stat.S_ISDIR(st.st_mode) and st.st_dev == top.st_dev):
            _elsewhere(disk, name, st)
        elif name == MANIFESTS:
            _read_manifests(disk, nested)
        elif name == BLOBS:
            _read_blobs(disk, walk.allocated(st), nested)
        elif not stat.S_ISDIR(st.st_mode):
            _weigh(disk, walk.blob(name, st))
        elif (st.st_dev, st.st_ino) in nested:
            disk.nested.append(name)
        else:
            _count(disk, name, nested)
    known = {(b.dev, b.ino) for b in (*disk.blobs.values(), *disk.manifests) if b.nlink > 1}
    disk.other += sum(blocks for inode, blocks in disk.second_names.items() if inode not in known)
    return disk


def _weigh(disk: OllamaDisk, b: Blob) -> None:
    """Count something that is neither a manifest nor a blob."""
    if b.nlink > 1:
        disk.second_names[b.dev, b.ino] = b.allocated
    else:
        disk.other += b.allocated


def _unreadable(disk: OllamaDisk, path: str, error: OSError) -> None:
    disk.problems.append(
        Problem("unreadable", f"cannot be read: {error.strerror or error}", path, "check its permissions and the disk")
    )
    disk.blind.append(path)
    disk.blobs_known = False


def _elsewhere(disk: OllamaDisk, name: str, st: os.stat_result) -> None:
    """manifests/ or blobs/ is a link or a mount: it works for the server, and is none of this root."""
    full = f"{disk.root.path}/{name}"
    disk.problems.append(
        Problem(
            "outside",
            f"{name} is a link or lies on another file system: it is neither counted nor touched",
            full,
            "set OLLAMA_MODELS to the folder that really holds the models",
        )
    )
    disk.blind.append(full)
    disk.blobs_known = disk.blobs_known and name != BLOBS
    if not stat.S_ISDIR(st.st_mode):
        disk.other += walk.allocated(st)


def _count(disk: OllamaDisk, path: str, nested: frozenset[tuple[int, int]]) -> None:
    """A folder that is not Ollama's: only its blocks."""
    tally = walk.tree(disk.root.path, path, nested=nested)
    disk.other += tally.overhead
    for b in tally.files:
        _weigh(disk, b)
    disk.nested += tally.nested
    disk.problems += tally.problems


def _read_manifests(disk: OllamaDisk, nested: frozenset[tuple[int, int]]) -> None:
    tally = walk.tree(disk.root.path, MANIFESTS, nested=nested)
    disk.other += tally.overhead
    disk.nested += tally.nested
    disk.problems += tally.problems
    disk.blind += [f"{disk.root.path}/{path}" for path in tally.blind]
    for b in tally.files:
        if is_ignored(b.path):
            _weigh(disk, b)
        else:
            disk.manifests.append(b)
    disk.manifest_links = tally.links


def _read_blobs(disk: OllamaDisk, folder: int, nested: frozenset[tuple[int, int]]) -> None:
    disk.other += folder
    top = f"{disk.root.path}/{BLOBS}"
    try:
        with os.scandir(top) as entries:
            for entry in entries:
                try:
                    # On Windows an entry's own stat knows no inode.
                    st = entry.stat(follow_symlinks=False) if walk.HAS_SCANDIR_FD else os.lstat(entry.path)
                except OSError:
                    continue  # vanished while a pull ran
                _read_blob(disk, entry.name, st, nested)
    except OSError as e:
        _unreadable(disk, top, e)


def _read_blob(disk: OllamaDisk, name: str, st: os.stat_result, nested: frozenset[tuple[int, int]]) -> None:
    path = f"{BLOBS}/{name}"
    if stat.S_ISREG(st.st_mode) and name not in IGNORED:
        disk.blobs[name] = walk.blob(path, st)
        disk.used[name] = st.st_atime
        disk.owner[name] = (st.st_uid, st.st_gid)
    elif stat.S_ISLNK(st.st_mode) and BLOB.fullmatch(name):
        _read_link(disk, name, st)
    elif not stat.S_ISDIR(st.st_mode):
        _weigh(disk, walk.blob(path, st))
    else:
        message = "a folder among the layers: nothing of Ollama's"
        disk.problems.append(Problem("unknown-entry", message, f"{disk.root.path}/{path}", "look what is in it"))
        if (st.st_dev, st.st_ino) in nested:
            disk.nested.append(path)
        else:
            _count(disk, path, nested)


def _read_link(disk: OllamaDisk, name: str, st: os.stat_result) -> None:
    """A blob moved away with a link left behind: it works for the server as long as the target is there."""
    full = f"{disk.root.path}/{BLOBS}/{name}"
    size = 0
    lead = afar.follow(full)
    folder, last = os.path.split(lead.real)
    if lead.stat is None or not stat.S_ISREG(lead.stat.st_mode):
        disk.offline[name] = lead
    elif folder == f"{disk.root.path}/{BLOBS}" and BLOB.fullmatch(last):
        disk.aliases[name] = last
    else:
        disk.archived[name] = lead.real
        disk.used[name] = lead.stat.st_atime
        size = lead.stat.st_size
    disk.blobs[name] = walk.blob(f"{BLOBS}/{name}", st)._replace(size=size)
