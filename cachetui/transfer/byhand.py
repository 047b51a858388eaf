"""What was moved to another drive by hand (`mv`, then `ln -s`): one folder, or a whole root.

The usual recipe breaks repos that use the hub's shared store: their `blobs/<etag>` are links `../../blobs/xx/<hash>`
that lead nowhere from the new place. Where the bytes are still on this machine they can be brought back.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Callable, Iterator

from cachetui import afar, hub_layout
from cachetui.archives import FOLDERS, HUB, OLLAMA, Manifest
from cachetui.ledger import Scan
from cachetui.model import ARCHIVED, Item, Root
from cachetui.store import Selection
from cachetui.targets import target_of
from cachetui.transfer.copying import CancelledError, never
from cachetui.transfer.model import Part, TransferItem

_CHUNK = 4 << 20


def place_of(scan: Scan, item: Item) -> str:
    """Absolute real path of an item that was moved by hand: on another drive, in no archive; empty for others."""
    link = _link_above(scan, item)
    if not link:
        return ""
    lead = afar.follow(link)
    if lead.stat is None:
        return ""
    inside = posixpath.join(item.root, item.path)[len(link) :] if link != _given(scan, item) else f"/{item.path}"
    real = os.path.realpath(lead.real + inside) if inside.strip("/") else lead.real
    return "" if afar.archive_above(real) else real


def _given(scan: Scan, item: Item) -> str:
    """The root as it is written, where that is a link to where it really lies; else empty."""
    root = scan.root_of(item).root
    given = root.given
    if given.startswith("/") and os.path.islink(given) and os.path.realpath(given) == root.path:
        here = os.stat(os.path.dirname(given)).st_dev
        return given if here != root.dev else ""
    return ""


def _link_above(scan: Scan, item: Item) -> str:
    full = posixpath.join(item.root, item.path) if item.path else item.root
    if ARCHIVED in item.states and os.path.islink(full):
        return full
    return _given(scan, item)


def archive_for(real: str) -> str:
    """The folder that becomes the archive of something at `real`: the one with hub/ in it, else the one above."""
    above = os.path.dirname(real)
    return os.path.dirname(above) if os.path.basename(above) in (HUB, FOLDERS) else above


def items(
    scan: Scan, directory: str, manifest: Manifest | None, chosen: set[tuple[str, str]] | None
) -> Iterator[TransferItem]:
    """Items below a folder that no manifest names yet. Raises OSError."""
    listed = {e.path for e in manifest.entries} if manifest is not None else set()
    for item in scan.items:
        if chosen is not None and item.key not in chosen:
            continue
        if item.kind in ("orphan", "partial", "unknown") or item.store == OLLAMA:
            continue
        real = _real(scan, item)
        if not real.startswith(f"{directory}/") or (place := real[len(directory) + 1 :]) in listed:
            continue
        if archive_for(real) != directory:
            continue
        parts, notes = _broken(scan, real, place)
        yield TransferItem(Selection(item), target_of(Selection(item)), item.root, place, parts, notes=notes)


def _real(scan: Scan, item: Item) -> str:
    """Where an item that links lead to really lies; empty where it is no such item."""
    link = _link_above(scan, item)
    if not link or scan.root_of(item).root.archive:
        return ""
    return os.path.realpath(posixpath.join(item.root, item.path))


def _broken(scan: Scan, real: str, place: str) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """Payloads that the move broke: what brings them back, and what is said of the others. Raises OSError."""
    parts: list[Part] = []
    lost: list[str] = []
    blobs = f"{real}/blobs"
    for name in sorted(os.listdir(blobs)) if os.path.isdir(blobs) else ():
        path = f"{blobs}/{name}"
        if not os.path.islink(path) or os.path.exists(path) or not hub_layout.ETAG.fullmatch(name):
            continue
        source = next(iter(_copies(scan, name, os.path.basename(os.readlink(path)))), "")
        if source:
            parts.append(Part(source, f"{place}/blobs/{name}", os.path.getsize(source), 1))
        else:
            lost.append(name)
    notes = [f"the move broke {len(parts) + len(lost)} shared payloads"] if parts or lost else []
    if parts:
        notes.append(f"{len(parts)} of them are on this machine and are brought back")
    notes += [f"{name} is not on this machine: download the model again" for name in lost]
    return tuple(parts), tuple(notes)


def _copies(scan: Scan, etag: str, payload: str) -> Iterator[str]:
    """Files of this machine that should have the bytes of a blob: by the payload's name, then by the blob's hash."""
    for found in scan.roots:
        root = found.root
        if root.store == "hf" and hub_layout.XET_HASH.fullmatch(payload):
            path = f"{root.path}/{hub_layout.SHARED}/{payload[:2]}/{payload}"
            if os.path.isfile(path) and not os.path.islink(path):
                yield path
    for item in scan.items:
        for blob in item.content:
            if blob.path.endswith((f"/{etag}", f"/sha256-{etag}")):
                path = os.path.realpath(f"{item.root}/{blob.path}")
                if os.path.isfile(path):
                    yield path


def is_blob(fd: int, etag: str, cancelled: Callable[[], bool] = never) -> bool:
    """Whether an open file has the content that a blob's name says: sha256, or git's sha1 for small files.

    Closes it. Raises CancelledError, OSError.
    """
    try:
        size = os.fstat(fd).st_size
        digest = hashlib.sha256() if len(etag) == 64 else hashlib.sha1(b"blob %d\0" % size)
        offset = 0
        while chunk := os.pread(fd, _CHUNK, offset):
            if cancelled():
                raise CancelledError
            digest.update(chunk)
            offset += len(chunk)
        return digest.hexdigest() == etag
    finally:
        os.close(fd)


def home(scan_root: Root, item: Item) -> tuple[str, str]:
    """(root, path) of an item that was moved by hand, as this machine names it."""
    given = scan_root.given
    root = given if given.startswith("/") and os.path.islink(given) else item.root
    return root, item.path
