"""The demo's other drives: an archive that is there, and one that is not plugged in."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict
from pathlib import Path

from cachetui import archives
from cachetui.archives import HUB, Entry, File, Known, Summary
from cachetui.demo.builders import Content, Hub, commit_of, etag, set_age, sha256, write
from cachetui.fs import DISK
from cachetui.manifest import Manifest

ATTIC, BIG = "attic", "big"
"""Labels: the first is there, the second is not."""
_HOST = "demo"


def archive(hub: Hub, repo_id: str, files: dict[str, Content], drive: Path, now: float) -> Known:
    """Put a model into an archive on `drive`, with a link in the hub; what the registry knows of that drive."""
    far = Hub(drive / HUB).repo(repo_id)
    far.revision(files)
    set_age(far.path, 290, now)
    hashes = {etag(c): sha256(c) for c in files.values()}
    hub.path.joinpath(far.folder).symlink_to(far.path)
    rows = tuple(_file(drive, Path(top) / name, hashes) for top, _, names in os.walk(far.path) for name in names)
    entry = Entry(
        f"hf:{repo_id}", repo_id, "model", "hf", f"{HUB}/{far.folder}", os.path.realpath(hub.path), far.folder, _HOST,
        now - 30 * 86400, sum(f.size for f in rows), _blocks(far.path), rows, linked=True,
    )  # fmt: skip
    manifest = Manifest(commit_of(ATTIC)[:32], now - 30 * 86400, (entry,))
    archives.write(DISK, str(drive), manifest)
    return Known(manifest.id, os.path.realpath(drive), ATTIC, "", now, (_summary(entry),))


def offline(hub: Hub, repo_id: str, size: int, drive: Path, now: float) -> Known:
    """A model that was archived to a drive that is not there: a dangling link, and what the registry knows."""
    folder = hub.repo(repo_id).folder
    place = Path(os.path.realpath(drive.parent), drive.name)
    hub.path.joinpath(folder).symlink_to(place / HUB / folder)
    root = os.path.realpath(hub.path)
    summary = Summary(f"hf:{repo_id}", repo_id, "model", "hf", f"{HUB}/{folder}", root, folder, size, size)
    return Known(commit_of(BIG)[:32], str(place), BIG, "", now - 45 * 86400, (summary,))


def remember(file: Path, known: list[Known]) -> None:
    """The registry of archives, as the program keeps it."""
    write(file, json.dumps({"version": 1, "archives": [asdict(k) for k in known]}).encode())


def _file(drive: Path, path: Path, hashes: dict[str, str]) -> File:
    rel, st = str(path.relative_to(drive)), path.lstat()
    if path.is_symlink():
        return File(rel, 0, "", os.readlink(path), 0o777, st.st_mtime_ns)
    digest = hashes.get(path.name) or sha256(path.read_bytes())
    return File(rel, st.st_size, digest, "", stat.S_IMODE(st.st_mode), st.st_mtime_ns)


def _blocks(folder: Path) -> int:
    return sum(p.lstat().st_blocks * 512 for p in (folder, *folder.rglob("*")))


def _summary(e: Entry) -> Summary:
    return Summary(e.target, e.name, e.kind, e.store, e.path, e.root, e.origin, e.size, e.allocated)
