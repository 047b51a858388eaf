"""Where an archive could be: archives that are there, configured folders, mounted drives. No Textual in here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cachetui import archives, filesystem
from cachetui.config import Where
from cachetui.filesystem import Mount
from cachetui.model import Root
from cachetui.transfer import drives
from cachetui.transfer.model import Drive

NEW = "cachetui-archive"
"""Folder that is offered on a drive without an archive."""
_SECONDS = 2.0
"""How long a network mount may take to answer."""
_NOT_DRIVES = frozenset(("tmpfs", "overlay", "devtmpfs", "efivarfs", "iso9660"))
_NOT_BELOW = ("/boot", "/dev", "/proc", "/sys", "/snap", "/var/lib/docker")


@dataclass(frozen=True, slots=True)
class Choice:
    """A folder to archive to. Sizes in bytes."""

    directory: str
    what: str
    """archive, configured, drive (a folder to be made on one), or mount (its top)."""
    label: str = ""
    """Of the drive. An outside string."""
    items: int | None = None
    """How many lie in it; None where there is no archive yet."""
    free: int = 0
    refused: str = ""
    """Why nothing can be archived there."""


def gather(where: Where, roots: Sequence[Root], sources: frozenset[str], needed: int) -> tuple[Choice, ...]:
    """Every place to choose from, best first. Reads the mount table and the tops of drives: for a thread.

    `sources`: paths of the roots that are archived from; `needed`: bytes that will be written.
    """
    table = filesystem.mounts()
    found: dict[str, Choice] = {}
    seen: set[str] = set()
    registry = archives.known()
    for one in archives.locate(where):
        known = registry.get(one.manifest.id)
        seen.add(one.manifest.id)
        looked = _look(one.directory, roots, sources, needed, table)
        found[one.directory] = Choice(
            one.directory,
            "archive",
            looked.label or (known.label if known is not None else ""),
            len(one.manifest.entries),
            looked.free,
            looked.refused,
        )
    named = (where.config.archive_dir,) if where.config.archive_dir else ()
    for path in (*named, *where.config.archives):
        directory = where.resolve(path)
        if directory not in found:
            looked = _look(directory, roots, sources, needed, table)
            found[directory] = Choice(directory, "configured", looked.label, None, looked.free, looked.refused)
    taken = {filesystem.mount_of(d, table) for d in found}
    for mount in _drives(where, table):
        if mount not in taken:
            directory = os.path.join(mount.point, NEW)
            looked = _look(directory, roots, sources, needed, table)
            if not looked.same_as:
                found[directory] = Choice(directory, "drive", looked.label, None, looked.free, looked.refused)
    for known in registry.values():
        if known.id not in seen and where.allows(known.path):
            away = Choice(known.path, "archive", known.label, len(known.entries), 0, "not there now: plug its drive in")
            found.setdefault(known.path, away)
    return tuple(sorted(found.values(), key=lambda c: (bool(c.refused), c.what != "archive", -c.free)))


def for_root(where: Where, roots: Sequence[Root], root: Root, needed: int) -> tuple[Choice, ...]:
    """The drives that a whole root could move to, most room first: it becomes a folder at their top. For a thread."""
    table = filesystem.mounts()
    found: list[Choice] = []
    for mount in _drives(where, table):
        looked = _look(
            os.path.join(mount.point, os.path.basename(root.path)), roots, frozenset((root.path,)), needed, table
        )
        if not looked.same_as:
            found.append(Choice(mount.point, "mount", looked.label, None, looked.free, looked.refused))
    return tuple(sorted(found, key=lambda c: (bool(c.refused), -c.free)))


def _look(directory: str, roots: Sequence[Root], sources: frozenset[str], needed: int, table: Sequence[Mount]) -> Drive:
    def ask() -> Drive:
        return drives.look(directory, roots, needed, sources=sources, dry_run=True)

    if not filesystem.is_network(directory, table):
        return ask()
    silent = Drive(
        directory, "", "", "", 0, links=False, writable=False, probed=False, network=True,
        refused="its server does not answer",
    )  # fmt: skip
    return filesystem.within(_SECONDS, ask, silent)


def _drives(where: Where, table: Sequence[Mount]) -> Iterator[Mount]:
    for mount in table:
        if mount.point == "/" or mount.read_only or not mount.holds_files or mount.type in _NOT_DRIVES:
            continue
        if any(mount.point == b or mount.point.startswith(b + "/") for b in _NOT_BELOW):
            continue
        if mount.network or (where.allows(mount.point) and os.path.isdir(mount.point)):
            yield mount
