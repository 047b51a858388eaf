"""Archives: the manifest that lies in one, and the registry of those this machine knows.

An archive is a folder DIR shaped like HF_HOME, usually on another drive:

    DIR/hub       a valid hub cache             DIR/folders   everything else
    DIR/ollama    a valid Ollama model store    DIR/cachetui-archive.json   the manifest: id, files, origins

It is recognised by the random id in its manifest, at whatever mount point; label and file system id are only
shown. A manifest comes from a drive that anybody may have written: its size is capped, its paths are checked, and
whatever does not fit is refused in words.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Any

from cachetui import afar, checked, filesystem, paths
from cachetui.config import Where
from cachetui.fs import Fs
from cachetui.manifest import (
    FOLDERS,
    HUB,
    INCOMING,
    MANIFEST,
    OLLAMA,
    Entry,
    File,
    Manifest,
    ManifestError,
    identifier,
    inner_path,
    new_manifest,
    read,
    write,
)
from cachetui.ownfile import OwnFile

__all__ = [
    "FOLDERS", "HUB", "INCOMING", "MANIFEST", "OLLAMA", "Entry", "File", "Found", "Known", "Manifest", "ManifestError",
    "Summary", "by_link", "forget", "inner_path", "known", "locate", "new_manifest", "read", "remember", "write",
]  # fmt: skip

_VERSION = 1
_MAX_REGISTRY = 64 * 2**20
_FORMER = 16
_LOOK_FOLDERS = 2000
_NETWORK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Summary:
    """An entry as the registry keeps it: what to show while the drive is not there."""

    target: str
    name: str
    kind: str
    store: str
    path: str
    root: str
    origin: str
    size: int
    allocated: int
    blobs: tuple[str, ...] = ()
    """Of an Ollama tag: its blobs, relative to DIR, for links lead to those."""


@dataclass(frozen=True, slots=True)
class Known:
    """An archive that this machine has used."""

    id: str
    path: str
    """Where it was last seen."""
    label: str
    filesystem: str
    """Its file system's own id (UUID), or its type where that is unknown."""
    seen: float
    """POSIX seconds."""
    entries: tuple[Summary, ...] = ()
    former: tuple[str, ...] = ()
    """Other places where it was seen before, newest first: links may still lead there."""


@dataclass(frozen=True, slots=True)
class Found:
    """An archive that can be reached now."""

    directory: str
    manifest: Manifest
    known: bool
    """This machine has used it; False: foreign, it may be adopted."""


def known() -> dict[str, Known]:
    """The registry, by id. What makes no sense in it is left out: the archives themselves tell it again."""
    file = str(paths.archives_file())
    try:
        st = os.stat(file)
    except OSError:
        return {}
    return dict(_registry(file, st.st_ino, st.st_size, st.st_mtime_ns))


@lru_cache(maxsize=1)
def _registry(file: str, *_version: int) -> Mapping[str, Known]:
    """Read once for each version of the file: a scan asks for every link it meets."""
    found: dict[str, Known] = {}
    try:
        for row in checked.rows(checked.mapping(checked.load(file, _MAX_REGISTRY)), "archives"):
            with suppress(ManifestError):
                one = _known(row)
                found[one.id] = one
    except ManifestError:
        return {}
    return found


def remember(fs: Fs, directory: str, manifest: Manifest) -> None:
    """Note that this archive is (now) at `directory` and what lies in it. Raises OSError."""
    with OwnFile(paths.archives_file(), fs) as file:
        archives = known()
        before = archives.get(manifest.id)
        label, system = filesystem.identity(directory)
        former: tuple[str, ...] = ()
        if before is not None:
            places = (before.path, *before.former)
            former = tuple(p for p in dict.fromkeys(places) if p != directory)[:_FORMER]
        entries = tuple(_summary(e) for e in manifest.entries)
        archives[manifest.id] = Known(manifest.id, directory, label, system, time.time(), entries, former)
        _save(file, archives)


def forget(fs: Fs, id: str) -> None:
    """Take an archive out of the registry; unknown ids are no error. Raises OSError."""
    with OwnFile(paths.archives_file(), fs) as file:
        archives = known()
        if archives.pop(id, None) is not None:
            _save(file, archives)


def by_link(target: str, registry: Mapping[str, Known] | None = None) -> tuple[Known, Summary] | None:
    """The registered archive and entry that a link's (absolute) text leads into, whether the drive is there or not.

    `registry`: as `known` gives it, for who asks often.
    """
    text = os.path.normpath(target)
    for archive in (known() if registry is None else registry).values():
        for place in (archive.path, *archive.former):
            if text.startswith(f"{place}/") and (entry := _holding(archive.entries, text[len(place) + 1 :])):
                return archive, entry
    return None


def holding(path: str) -> Known | None:
    """The registered archive that an absolute path lies in (or is), whether the drive is there or not."""
    text = os.path.join(os.path.normpath(path), "")
    for archive in known().values():
        if any(text.startswith(os.path.join(place, "")) for place in (archive.path, *archive.former)):
            return archive
    return None


def _holding(entries: Sequence[Summary], rel: str) -> Summary | None:
    for e in entries:
        if rel == e.path or rel.startswith(f"{e.path}/") or rel in e.blobs:
            return e
    return None


def locate(where: Where) -> tuple[Found, ...]:
    """Archives that can be reached now, each id once: registered, configured, or near the top of a mounted drive."""
    registered = known()
    mounts = filesystem.mounts()
    found: dict[str, Found] = {}
    for directory in _candidates(where, registered.values(), mounts):
        if afar.is_silent(directory):
            continue
        ask = partial(_quietly, where, directory)
        network = filesystem.is_network(directory, mounts)
        manifest = filesystem.within(_NETWORK_SECONDS, ask, None) if network else ask()
        if manifest is not None and manifest.id not in found:
            found[manifest.id] = Found(os.path.realpath(directory), manifest, manifest.id in registered)
    return tuple(found.values())


def _quietly(where: Where, directory: str) -> Manifest | None:
    if not where.allows(os.path.realpath(directory)):
        return None
    try:
        return read(directory)
    except ManifestError:
        return None


def _candidates(where: Where, registered: Iterable[Known], mounts: Sequence[filesystem.Mount]) -> Iterator[str]:
    for archive in registered:
        yield archive.path
    for path in where.config.archives:
        yield where.resolve(path)
    seen: set[int] = set()
    for mount in mounts:
        if mount.point == "/" or not mount.holds_files or mount.network or mount.dev in seen:
            continue
        if where.allows(mount.point) or _leads_to_allowed(where, mount.point):
            seen.add(mount.dev)
            yield from _near_top(mount.point)


def _leads_to_allowed(where: Where, point: str) -> bool:
    only = os.path.realpath(where.env.get("CACHETUI_ONLY_BELOW", ""))
    return only.startswith(os.path.join(point, ""))


def _near_top(point: str) -> Iterator[str]:
    """Folders at most two levels below a mount point that hold a manifest; a bounded number is looked at."""
    left = _LOOK_FOLDERS
    level = [point]
    for depth in range(3):
        below: list[str] = []
        for folder in level:
            if os.path.lexists(os.path.join(folder, MANIFEST)):
                yield folder
            left -= 1
            if left <= 0:
                return
            if depth < 2:
                with suppress(OSError), os.scandir(folder) as entries:
                    below += [e.path for e in entries if e.is_dir(follow_symlinks=False)]
        level = below


def _summary(e: Entry) -> Summary:
    blobs = tuple(f.path for f in e.files if f.path != e.path) if e.store == OLLAMA else ()
    return Summary(e.target, e.name, e.kind, e.store, e.path, e.root, e.origin, e.size, e.allocated, blobs)


def _save(file: OwnFile, archives: Mapping[str, Known]) -> None:
    body = {"version": _VERSION, "archives": [asdict(k) for k in archives.values()]}
    file.write(json.dumps(body))


def _known(row: Any) -> Known:
    row = checked.mapping(row)
    entries = []
    for one in checked.rows(row, "entries"):
        e = checked.mapping(one)
        blobs = tuple(checked.strings(e, "blobs"))
        texts = {key: checked.text(e, key) for key in ("target", "name", "kind", "store", "path", "root", "origin")}
        entries.append(
            Summary(size=checked.size(e, "size"), allocated=checked.size(e, "allocated"), blobs=blobs, **texts)
        )
    return Known(
        identifier(row),
        checked.absolute(checked.text(row, "path")),
        checked.text(row, "label"),
        checked.text(row, "filesystem"),
        checked.number(row, "seen"),
        tuple(entries),
        tuple(checked.absolute(p) for p in checked.strings(row, "former")),
    )
