"""What a repo holds at a revision: the Hub's info and its recursive tree, page by page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from cachetui.download import errors
from cachetui.download.client import Client, where
from cachetui.download.errors import PullError
from cachetui.download.spelling import HubName, is_path
from cachetui.hub_layout import COMMIT, XET_HASH

_OID = re.compile(r"[0-9a-f]{40}")
_SHA = re.compile(r"[0-9a-f]{64}")
_MAX_FILES = 2_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a repo."""

    path: str
    size: int
    """Bytes of the content."""
    oid: str
    """git-sha1: of the content, or of the LFS pointer."""
    sha256: str = ""
    """Of the content of LFS and Xet files; empty for others."""
    xet: str = ""
    listed: int = 0
    """`size` as the tree says it."""
    linked: int | None = None
    """`lfs.size` as the tree says it."""

    @property
    def etag(self) -> str:
        """The name of its blob: sha256, else git-sha1."""
        return self.sha256 or self.oid


@dataclass(frozen=True, slots=True)
class Listing:
    """A repo at one commit."""

    name: HubName
    commit: str
    entries: tuple[Entry, ...]
    gated: bool = False
    private: bool = False
    licence: str = ""


def look_up(client: Client, name: HubName) -> tuple[str, dict[str, Any]]:
    """(commit, info) of a revision. Raises PullError."""
    found = client.json(f"/api/{name.kind}s/{name.repo}/revision/{quote(name.revision, safe='')}")
    commit = found.get("sha") if isinstance(found, dict) else None
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise PullError(errors.SERVER, f"{where(client.endpoint)} does not say which commit that is")
    return commit, found


def read(client: Client, name: HubName) -> Listing:
    """The listing of a repo. Raises PullError."""
    commit, info = look_up(client, name)
    path = f"/api/{name.kind}s/{name.repo}/tree/{commit}"
    entries: list[Entry] = []
    seen: set[str] = set()
    for raw in client.pages(path, {"recursive": "true", "expand": "false"}):
        entry = _entry(raw)
        if entry is not None and entry.path not in seen:
            seen.add(entry.path)
            entries.append(entry)
        if len(entries) > _MAX_FILES:
            raise PullError(errors.SERVER, "its list of files does not end")
    card = info.get("cardData")
    licence = card.get("license") if isinstance(card, dict) else None
    return Listing(
        name,
        commit,
        tuple(entries),
        bool(info.get("gated")),
        bool(info.get("private")),
        licence[:100] if isinstance(licence, str) else "",
    )


def _entry(raw: Any) -> Entry | None:
    """One row of a tree; None for folders. Raises PullError for what would leave the folder or names no content."""
    if not isinstance(raw, dict) or raw.get("type") != "file":
        return None
    path, oid, size, lfs, xet = raw.get("path"), raw.get("oid"), raw.get("size"), raw.get("lfs"), raw.get("xetHash")
    sha, linked = (lfs.get("oid") or lfs.get("sha256"), lfs.get("size")) if isinstance(lfs, dict) else ("", None)
    if not isinstance(path, str) or not is_path(path):
        raise PullError(errors.SERVER, f"the repo holds a file with the path {path!r}, which would leave its folder")
    good = isinstance(oid, str) and _OID.fullmatch(oid) and type(size) is int and size >= 0
    if not good or (sha and not (isinstance(sha, str) and _SHA.fullmatch(sha))) or (sha and type(linked) is not int):
        raise PullError(errors.SERVER, f"the list of files says nothing usable about {path!r}")
    assert isinstance(oid, str) and isinstance(size, int)
    content = linked if sha and isinstance(linked, int) else size
    valid = xet if isinstance(xet, str) and XET_HASH.fullmatch(xet) else ""
    return Entry(path, content, oid, sha or "", valid, size, linked if sha else None)
