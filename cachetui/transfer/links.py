"""The links of an archived item, and where in which archive each of them leads."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass

from cachetui import afar, archives
from cachetui.archives import OLLAMA, Entry, Manifest, ManifestError
from cachetui.model import Item
from cachetui.ollama_layout import MAX_MANIFEST, BadManifest, parse_manifest
from cachetui.walk import read_small


@dataclass(frozen=True, slots=True)
class Link:
    """One name of an item that is a link to somewhere else."""

    path: str
    """Relative to the root."""
    text: str
    """Where it leads, absolute, as it says."""
    real: str = ""
    """The same with all links resolved; empty where nothing is there now."""
    directory: str = ""
    """The archive that `real` lies in; empty where no manifest says so (moved by hand)."""

    @property
    def place(self) -> str:
        """Relative to the archive."""
        return posixpath.relpath(self.real, self.directory) if self.directory else ""


def of(item: Item) -> tuple[Link, ...]:
    """Every name of an item that is a link to outside its root. Never blocks on a server that is away."""
    found = [item.path] if _is_link(item, item.path) and item.kind != "file" else _names(item)
    found = [path for path in found if _is_link(item, path)]
    return tuple(link for path in found if (link := _link(item.root, path)) is not None)


def _is_link(item: Item, path: str) -> bool:
    return os.path.islink(posixpath.join(item.root, path)) if path else os.path.islink(item.root)


def _names(item: Item) -> list[str]:
    """What may be a link: layers of a tag, files of a model in several files."""
    if item.store == OLLAMA:
        try:
            manifest = parse_manifest(read_small(f"{item.root}/{item.path}", MAX_MANIFEST))
        except (OSError, BadManifest):
            return []
        return list(dict.fromkeys(f"blobs/{layer.file}" for layer in manifest.layers))
    return list(dict.fromkeys((item.path, *(b.path for b in item.content))))


def _link(root: str, path: str) -> Link | None:
    full = posixpath.join(root, path)
    lead = afar.follow(full)
    if not lead.path or lead.path.startswith(f"{root}/") or lead.real.startswith(f"{root}/"):
        return None
    directory = afar.archive_above(lead.real) if lead.real else ""
    return Link(path, lead.path, lead.real, directory)


def manifest_at(directory: str) -> Manifest | None:
    """The manifest of an archive; None where there is none that can be used."""
    try:
        return archives.read(directory) if directory else None
    except ManifestError:
        return None


def entry_of(manifest: Manifest | None, item: Item, link: Link) -> Entry | None:
    """The entry of the archive that an item's link leads into."""
    for entry in manifest.entries if manifest is not None else ():
        if entry.store == OLLAMA:
            if item.store == OLLAMA and entry.origin == item.path and any(f.path == link.place for f in entry.files):
                return entry
        elif link.place == entry.path or link.place.startswith(f"{entry.path}/"):
            return entry
    return None


def away(link: Link) -> str:
    """Where something is that cannot be reached now, in words."""
    known = archives.by_link(link.text)
    if known is None:
        return f"{link.text} is not there: plug its drive in"
    archive = known[0]
    drive = f"the drive {archive.label}" if archive.label else "its drive"
    return f"it lies in the archive at {archive.path}, and {drive} is not there: plug it in"
