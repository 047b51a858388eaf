"""Where a loose folder came from: what `hf download --local-dir` recorded, and which known model has the same bytes.

Records are `<dir>/.cache/huggingface/download/<path>.metadata`, three lines: commit, etag, POSIX time
(huggingface_hub's _local_folder.py). A record older than its file says nothing about it any more.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from cachetui import walk
from cachetui.formats import role
from cachetui.hub_layout import COMMIT, ETAG
from cachetui.ledger import Scan
from cachetui.model import Item

RECORDS = ".cache/huggingface"
_DOWNLOADS = f"{RECORDS}/download"
_MAX_RECORD = 4096
_MAX_FILES = 2000


COPY_OF = "copy of"
"""Label of the row that says so."""


class Download(NamedTuple):
    """What was recorded of one file."""

    commit: str
    etag: str
    """sha256 of LFS and Xet files, git-sha1 of others."""
    when: float
    """POSIX seconds; a file written later was changed since."""


def downloads(folder: str, names: Iterable[str]) -> dict[str, Download]:
    """The records of these files of a folder; at most 2,000 are looked for. Never raises."""
    out: dict[str, Download] = {}
    if not os.path.isdir(f"{folder}/{_DOWNLOADS}"):
        return out
    for _, name in zip(range(_MAX_FILES), names, strict=False):
        try:
            lines = walk.read_small(f"{folder}/{_DOWNLOADS}/{name}.metadata", _MAX_RECORD).decode("ascii").split("\n")
            commit, etag, when = lines[0].strip(), lines[1].strip().strip('"'), float(lines[2])
        except (OSError, ValueError, IndexError):
            continue
        if COMMIT.fullmatch(commit) and ETAG.fullmatch(etag):
            out[name] = Download(commit, etag, when)
    return out


def match_provenance(scan: Scan) -> dict[tuple[str, str], str]:
    """For each downloaded folder the TARGET it is a copy of, by item key: `hf:ORG/NAME@commit` or `ollama:NAME:TAG`.

    Proven by etags: a weights file has the name of a blob of that repo; or, where the repo's weights lie under
    other names (shared store), a small file does and the repo has the very commit. Reads the folders' records.
    """
    records = {item.key: kept for item in scan.items if _is_download(item) and (kept := _unchanged(item))}
    wanted = {r.etag for kept in records.values() for r in kept.values()}
    if not wanted:
        return {}
    holders = _holders(scan, wanted)
    return {key: found for key, kept in records.items() if (found := _origin(kept, holders))}


def with_provenance(scan: Scan) -> Scan:
    """The scan in which every downloaded folder says what it is a copy of, where that is proven (`Item.extra`)."""
    found = match_provenance(scan)
    places = {path for path, _ in found}
    roots = []
    for root in scan.roots:
        if root.root.path not in places:
            roots.append(root)
            continue
        items = []
        for item in root.items:
            rest = tuple(row for row in item.extra if row[0] != COPY_OF)
            origin = found.get(item.key)
            items.append(replace(item, extra=(*rest, (COPY_OF, origin))) if origin else item)
        roots.append(replace(root, items=tuple(items)))
    return replace(scan, roots=tuple(roots)) if found else scan


def _is_download(item: Item) -> bool:
    return any(label == "downloaded from commit" for label, _ in item.extra)


def _unchanged(item: Item) -> dict[str, Download]:
    """Records of the files that were not written since."""
    folder = f"{item.root}/{item.path}" if item.path else item.root
    revision = item.revisions[0]
    written = {n: item.content[at].mtime for n, at in zip(revision.names, revision.index, strict=True) if at >= 0}
    kept = downloads(folder, revision.names)
    return {name: r for name, r in kept.items() if written[name] - 1 <= r.when}


def _holders(scan: Scan, wanted: set[str]) -> dict[str, list[Item]]:
    """Items of the hub and of Ollama by the hash of their content."""
    out: dict[str, dict[tuple[str, str], Item]] = {}
    for item in scan.items:
        if item.store in ("hf", "ollama"):
            for b in item.content:
                digest = b.path.rpartition("/")[2].removeprefix("sha256-")
                if digest in wanted:
                    out.setdefault(digest, {})[item.key] = item
    return {digest: list(items.values()) for digest, items in out.items()}


def _origin(kept: Mapping[str, Download], holders: Mapping[str, list[Item]]) -> str:
    hub: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    for name, record in kept.items():
        heavy = role(name) == "weights"
        for item in holders.get(record.etag, ()):
            if item.store == "ollama":
                tags[item.id] += heavy
            elif heavy or any(r.commit == record.commit for r in item.revisions):
                hub[item.id] += 1
    if hub:
        commits = Counter(r.commit for r in kept.values())
        return f"{_most(hub)}@{commits.most_common(1)[0][0]}"
    return _most(+tags)


def _most(votes: Counter[str]) -> str:
    return max(votes, key=lambda i: (votes[i], i), default="")
