"""The manifest of an archive: what lies in it, with the hash and origin of every file.

It comes from a drive that anybody may have written: what does not fit is refused in words.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cachetui import checked
from cachetui.checked import CheckError
from cachetui.fs import Fs
from cachetui.ownfile import OwnFile

MANIFEST = "cachetui-archive.json"
HUB, OLLAMA, FOLDERS, INCOMING = "hub", "ollama", "folders", ".cachetui-incoming"

_VERSION = 1
_MAX_BYTES = 256 * 2**20
_HASH = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{16,64}")

ManifestError = CheckError
"""A manifest that cannot be used; the message says why, without the path."""


@dataclass(frozen=True, slots=True)
class File:
    """One file, link or folder of an entry. Sizes in bytes."""

    path: str
    """Relative to DIR."""
    size: int
    sha256: str
    """Of the content; empty for links."""
    link: str = ""
    """Text of a symbolic link; empty for files."""
    mode: int = 0o644
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One archived item."""

    target: str
    """`Item.id` in its root."""
    name: str
    kind: str
    store: str
    path: str
    """Relative to DIR: `hub/models--x--y`, `folders/x`; of an Ollama tag its manifest."""
    root: str
    """Absolute path of the root it came from."""
    origin: str
    """Its path relative to that root."""
    host: str
    archived: float
    """POSIX seconds."""
    size: int
    allocated: int
    files: tuple[File, ...]
    linked: bool
    """The original was swapped for links to here; False while archiving and for backups."""
    kept: bool = False
    """A backup: the original was left in place on purpose."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What lies in an archive."""

    id: str
    created: float
    entries: tuple[Entry, ...] = ()

    def with_entry(self, entry: Entry) -> Manifest:
        """The same with this entry added, in place of one at the same path."""
        rest = tuple(e for e in self.entries if e.path != entry.path)
        return replace(self, entries=(*rest, entry))

    def without(self, path: str) -> Manifest:
        """The same without the entry at this path."""
        return replace(self, entries=tuple(e for e in self.entries if e.path != path))

    def at(self, path: str) -> Entry | None:
        """The entry at a path relative to DIR."""
        return next((e for e in self.entries if e.path == path), None)


def new_manifest() -> Manifest:
    """An empty one, with an id of its own."""
    return Manifest(secrets.token_hex(16), time.time())


def read(directory: str) -> Manifest | None:
    """The manifest of the archive at `directory`; None where there is none.

    Raises ManifestError where it cannot be used (too large, damaged, of a newer version, unreadable).
    """
    body = checked.load(os.path.join(directory, MANIFEST), _MAX_BYTES)
    return None if body is None else _manifest(body)


def write(fs: Fs, directory: str, manifest: Manifest) -> None:
    """Replace the manifest atomically: after a kill at any point there is the old one or the new. Raises OSError."""
    rows = ",\n".join(json.dumps(_compact(e)) for e in manifest.entries)
    head = json.dumps({"version": _VERSION, "id": manifest.id, "created": manifest.created})[:-1]
    text = f'{head}, "entries": [\n{rows}\n]}}\n'
    with OwnFile(Path(directory, MANIFEST), fs) as file:
        file.write(text, 0o644)


def _compact(entry: Entry) -> dict[str, Any]:
    body = asdict(entry)
    for row in body["files"]:
        if row["link"]:
            del row["sha256"], row["size"]
        else:
            del row["link"]
    return body


def _manifest(body: Any) -> Manifest:
    body = checked.mapping(body)
    version = body.get("version")
    if version != _VERSION:
        newer = isinstance(version, int) and version > _VERSION
        raise CheckError(
            f"it was written by a newer cachetui (format {version}): update cachetui" if newer else "it has no version"
        )
    entries = tuple(_entry(checked.mapping(row)) for row in checked.rows(body, "entries"))
    if len({e.path for e in entries}) < len(entries):
        raise CheckError("two entries have one path")
    return Manifest(identifier(body), checked.number(body, "created"), entries)


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(
        checked.text(row, "target"),
        checked.text(row, "name"),
        checked.text(row, "kind"),
        checked.text(row, "store"),
        inner_path(checked.text(row, "path")),
        checked.absolute(checked.text(row, "root")),
        checked.below(checked.text(row, "origin"), empty=True),
        checked.text(row, "host"),
        checked.number(row, "archived"),
        checked.size(row, "size"),
        checked.size(row, "allocated"),
        tuple(_file(checked.mapping(f)) for f in checked.rows(row, "files")),
        row.get("linked") is True,
        row.get("kept") is True,
    )


def _file(row: Mapping[str, Any]) -> File:
    path = inner_path(checked.text(row, "path"))
    mode, mtime = checked.size(row, "mode") & 0o7777, row.get("mtime_ns")
    if isinstance(mtime, bool) or not isinstance(mtime, int) or abs(mtime) > checked.MAX_SIZE:
        raise CheckError("a time in it is no number")
    if row.get("link"):
        return File(path, 0, "", checked.text(row, "link"), mode, mtime)
    digest = checked.text(row, "sha256")
    if not _HASH.fullmatch(digest):
        raise CheckError("a hash in it is no sha256")
    return File(path, checked.size(row, "size"), digest, "", mode, mtime)


def inner_path(path: str) -> str:
    """A path inside an archive, checked: no `..`, nothing of the archive's own. Raises ManifestError.

    Usually below hub, ollama or folders; what was moved by hand may lie beside those.
    """
    first = checked.below(path).split("/")[0]
    if first.startswith(".") or path in (MANIFEST, HUB, OLLAMA, FOLDERS):
        raise CheckError("a path in it is none of an archived item")
    return path


def identifier(body: Mapping[str, Any]) -> str:
    """The `id` of an archive. Raises ManifestError."""
    value = checked.text(body, "id")
    if not _ID.fullmatch(value):
        raise CheckError("its id is no id")
    return value
