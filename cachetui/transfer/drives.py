"""Whether a folder can hold an archive: looked at, and tried out, before anything starts."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cachetui import filesystem, manifest
from cachetui.filesystem import Mount
from cachetui.fs import DISK, UNABLE, Fs, open_dir
from cachetui.manifest import FOLDERS, HUB, OLLAMA, ManifestError
from cachetui.model import Root
from cachetui.plans.moves import Meter, remove_tree
from cachetui.plans.survey import reason
from cachetui.transfer.model import Drive
from cachetui.transfer.pieces import Kind, Piece
from cachetui.units import size

MARGIN = 64 * 10**6
"""Bytes that must stay free beside 1 % of what is written, for folders and bookkeeping."""
_NO_LINKS = frozenset(("vfat", "msdos", "exfat", "fuse.exfat", "fat", "umsdos"))
_FORBIDDEN = {"vfat": '\\:*?"<>|', "msdos": '\\:*?"<>|', "exfat": '\\:*?"<>|', "fuse.exfat": '\\:*?"<>|'}
_LARGEST = {"vfat": 2**32 - 1, "msdos": 2**32 - 1}


def look(
    target_dir: str,
    roots: Sequence[Root],
    needed_bytes: int,
    *,
    sources: Collection[str] | None = None,
    dry_run: bool = False,
    fs: Fs = DISK,
) -> Drive:
    """Everything about a drive that decides whether an archive can be made there. Never raises for what is on disk.

    `sources`: paths of the roots that are archived from (all of `roots` without). With `dry_run` nothing is written
    there: whether it holds links is then only what its type tells.
    """
    above, name = os.path.split(os.path.abspath(target_dir))
    directory = os.path.join(os.path.realpath(above), name) if name else "/"
    directory = os.path.realpath(directory) if os.path.isdir(directory) else directory
    existing = directory if os.path.isdir(directory) else os.path.dirname(directory)
    mount = filesystem.mount_of(directory)
    kind = mount.type if mount is not None else ""
    label = filesystem.identity(existing)[0]
    network = mount is not None and mount.network
    found = Drive(
        directory, mount.point if mount else "", label, kind, 0, kind not in _NO_LINKS, False, False, network,
        notes=_notes(mount, dry_run),
    )  # fmt: skip
    if why := _wrong_place(directory, existing, roots):
        return replace(found, refused=why)
    try:
        st, room = os.stat(existing), os.statvfs(existing)
    except OSError as e:
        return replace(found, refused=f"{existing} cannot be looked at: {reason(e)}")
    wanted = [r for r in roots if sources is None or r.path in sources]
    same = tuple(r.path for r in wanted if _same_file_system(r, st.st_dev, mount))
    writable = os.access(existing, os.W_OK | os.X_OK) and not room.f_flag & os.ST_RDONLY
    found = replace(found, free=room.f_bavail * room.f_frsize, same_as=same, writable=writable)
    if why := _unusable(found, existing, needed_bytes, bool(room.f_flag & os.ST_RDONLY)):
        return replace(found, refused=why)
    return found if dry_run else _try_out(found, existing, fs)


def _notes(mount: Mount | None, dry_run: bool) -> tuple[str, ...]:
    said = []
    if mount is not None and mount.network:
        said.append(f"it is on a network ({mount.type}): when it is away, what is archived there cannot be loaded")
    if dry_run:
        said.append("whether it holds links was not probed: a dry run writes nothing")
    return tuple(said)


def _wrong_place(directory: str, existing: str, roots: Sequence[Root]) -> str:
    if os.path.lexists(directory) and not os.path.isdir(directory):
        return f"{directory} is not a folder"
    if not os.path.isdir(existing):
        return f"there is no folder {existing}: is the drive plugged in?"
    try:
        archive = manifest.read(directory)
    except ManifestError as e:
        return f"the archive's own list there, {directory}/{manifest.MANIFEST}, cannot be used: {e}"
    own = {os.path.join(directory, part) for part in (HUB, OLLAMA, FOLDERS)} if archive is not None else set()
    for root in (r for r in roots if not r.ours_only):
        if directory == root.path or directory.startswith(os.path.join(root.path, "")):
            return f"it lies inside {root.path}, which is looked at itself"
        if root.path.startswith(os.path.join(directory, "")) and root.path not in own and not root.archive:
            return f"{root.path} lies inside it: take a folder beside that one"
    return ""


def _same_file_system(root: Root, dev: int, mount: Mount | None) -> bool:
    """By device number; Btrfs gives each subvolume its own, there the block device tells."""
    if root.dev == dev:
        return True
    other = filesystem.mount_of(root.path)
    return (
        mount is not None
        and other is not None
        and mount.source.startswith("/dev/")
        and (mount.source, mount.type) == (other.source, other.type)
    )


def _unusable(drive: Drive, existing: str, needed: int, read_only: bool) -> str:
    if drive.same_as:
        return f"it is on the same file system as {drive.same_as[0]}: that would free nothing (is the drive mounted?)"
    if read_only:
        return "its file system is mounted read-only"
    if not drive.writable:
        return f"you may not write to {existing}"
    return too_small(drive, needed)


def too_small(drive: Drive, needed: int) -> str:
    """Why so many bytes cannot be written there, in words; empty where they can."""
    if needed and needed + needed // 100 + MARGIN > drive.free:
        return (
            f"it is too small: {size(needed)} are to be written and {size(drive.free)} are free, "
            f"of which {size(MARGIN + needed // 100)} are left alone"
        )
    return ""


@dataclass(frozen=True, slots=True)
class _Tried:
    links: bool
    error: OSError | None = None


def _try_out(drive: Drive, existing: str, fs: Fs) -> Drive:
    """Make a file, a link and an exchange in a hidden folder there, and remove them."""
    tried = _try(existing, fs)
    if tried.error is not None and tried.error.errno in (errno.ENOSPC, errno.EDQUOT):
        return replace(drive, refused="it is full")
    if tried.error is not None:
        return replace(drive, writable=False, refused=f"writing there was tried and failed: {reason(tried.error)}")
    notes = drive.notes
    if not tried.links:
        notes = (*notes, "it cannot hold links: real files will stand in snapshots, each revision with its own")
    return replace(drive, links=tried.links, probed=True, notes=notes)


def _try(existing: str, fs: Fs) -> _Tried:
    name = f".cachetui-probe-{secrets.token_hex(4)}"
    try:
        parent = open_dir(os.path.realpath(existing))
    except OSError as e:
        return _Tried(False, e)
    try:
        fs.mkdir(parent, name)
        try:
            return _Tried(_try_inside(fs, parent, name))
        finally:
            remove_tree(fs, parent, name, Meter())
    except OSError as e:
        return _Tried(False, e)
    finally:
        os.close(parent)


def _try_inside(fs: Fs, parent: int, name: str) -> bool:
    folder = open_dir(name, parent)
    try:
        fd = fs.create(folder, "file")
        try:
            fs.write_at(fd, b"x", 0)
            fs.fsync(fd)
        finally:
            os.close(fd)
        try:
            fs.symlink("file", folder, "link")
            links = stat.S_ISLNK(os.stat("link", dir_fd=folder, follow_symlinks=False).st_mode)
        except OSError as e:
            if e.errno not in (errno.EPERM, *UNABLE):
                raise
            links = False
        if links:
            with suppress(OSError):
                links = os.readlink("link", dir_fd=folder) == "file"
        return links
    finally:
        os.close(folder)


def unfit(drive: Drive, pieces: Sequence[Piece]) -> str:
    """Why that file system cannot hold these names or files; empty where it can."""
    try:
        longest = os.pathconf(os.path.dirname(drive.directory), "PC_NAME_MAX")
    except (OSError, ValueError):
        longest = 255
    largest = _LARGEST.get(drive.filesystem, 0)
    forbidden = set(_FORBIDDEN.get(drive.filesystem, ""))
    for piece in pieces:
        name = os.path.basename(piece.path)
        if largest and piece.kind is Kind.FILE and piece.size > largest:
            return f"{piece.path} is larger than the 4 GiB that a file on {drive.filesystem} can have"
        if len(os.fsencode(name)) > longest:
            return f"{piece.path}: the name is longer than that file system takes ({longest} bytes)"
        if forbidden and (bad := forbidden & set(name)):
            return f"{piece.path}: names on {drive.filesystem} cannot have {' '.join(sorted(bad))}"
    return ""
