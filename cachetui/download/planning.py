"""A plan for a download: what comes, what is here, what lies elsewhere on this machine, and what stands in the way.

Made before a byte of content moves, as data with a digest; the same object is shown, confirmed and carried out.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cachetui import walk
from cachetui.config import Where
from cachetui.download import errors, partial, places, preflight, reuse, selection
from cachetui.download.client import Client
from cachetui.download.listing import Entry, Listing, read
from cachetui.download.places import Place
from cachetui.download.selection import Quant
from cachetui.download.spelling import HubName, parse_hub
from cachetui.formats import role
from cachetui.ledger import Scan

# Values of `PlannedFile.action`.
HERE, FETCH, RESUME = "here", "fetch", "resume"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for; complete, without secrets."""

    target: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    quant: str = ""
    all_formats: bool = False
    cache_dir: str = ""
    """As given; empty for the environment's hub cache."""
    local_dir: str = ""
    engine: str = "own"


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file that belongs to what was asked for."""

    path: str
    size: int
    role: str
    """weights, tokenizer, config or other."""
    etag: str
    action: str
    """here, fetch, resume, link, copy or shared."""
    have: int = 0
    """Bytes that an earlier run left, for resume."""
    origin: reuse.Origin | None = None
    replaces: str = ""
    """What is in its place now and gives way; empty for nothing."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why it cannot be done as it is, and what to do."""

    code: str
    message: str
    advice: str = ""


@dataclass(frozen=True)
class PullPlan:
    """A download, before it."""

    request: Request
    name: HubName
    commit: str
    listing: Listing
    place: Place
    """The hub cache, also with --local-dir."""
    local_dir: str
    files: tuple[PlannedFile, ...]
    left_out: tuple[tuple[str, int, str], ...]
    """(path, size, why)."""
    quants: tuple[Quant, ...]
    refused: tuple[Refusal, ...]
    notes: tuple[str, ...]
    free: int
    """Bytes free where it goes."""
    margin: int
    """Bytes that are to stay free."""

    @property
    def fetch(self) -> int:
        """Bytes that will come over the network, each content once."""
        return sum(f.size - f.have for f in self._distinct() if f.action in (FETCH, RESUME))

    @property
    def copied(self) -> int:
        """Bytes that will be copied from elsewhere on this machine."""
        return sum(f.size for f in self._distinct() if f.action == reuse.COPY)

    @property
    def here(self) -> int:
        """Bytes that are in place already, or only need a link."""
        return sum(f.size for f in self._distinct() if f.action in (HERE, reuse.LINK, reuse.SHARED))

    @property
    def size(self) -> int:
        """Bytes of everything that was asked for."""
        return sum(f.size for f in self._distinct())

    @property
    def target(self) -> str:
        """What will be there: a TARGET with its commit."""
        return f"{self.name.target}@{self.commit}"

    @property
    def into(self) -> str:
        """Absolute path of the repo's folder, or of the local folder."""
        return self.local_dir or os.path.join(self.place.path, self.name.folder)

    @property
    def is_done(self) -> bool:
        """All content is here, and what was asked for leads to it."""
        if not all(f.action == HERE for f in self.files):
            return False
        if self.local_dir:
            return True
        if not all(os.path.lexists(f"{self.into}/snapshots/{self.commit}/{f.path}") for f in self.files):
            return False
        if self.name.revision == self.commit:
            return True
        ref = f"{self.into}/refs/{self.name.revision}"
        try:
            return walk.read_small(ref, 100).decode("ascii", "replace") == self.commit
        except OSError:
            return False

    @property
    def digest(self) -> str:
        """Of everything that will be done."""
        body = json.dumps(
            [self.target, self.into, self.request.engine, [asdict(f) for f in self.files]], sort_keys=True
        )
        return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()

    def _distinct(self) -> Sequence[PlannedFile]:
        return list({f.etag: f for f in self.files}.values())

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for people's scripts."""
        by_role: dict[str, int] = {}
        for f in self.files:
            by_role[f.role] = by_role.get(f.role, 0) + f.size
        return {
            "target": self.target,
            "repo": self.name.repo,
            "kind": self.name.kind,
            "revision": self.name.revision,
            "commit": self.commit,
            "licence": self.listing.licence,
            "gated": self.listing.gated,
            "into": self.into,
            "cache": self.place.path,
            "found_by": list(self.place.found_by),
            "engine": self.request.engine,
            "files": [asdict(f) for f in self.files],
            "by_role": by_role,
            "left_out": [{"path": p, "size": s, "why": w} for p, s, w in self.left_out],
            "quantizations": [asdict(q) for q in self.quants],
            "size": self.size,
            "fetch": self.fetch,
            "copied": self.copied,
            "here": self.here,
            "free": self.free,
            "margin": self.margin,
            "refused": [asdict(r) for r in self.refused],
            "notes": list(self.notes),
            "digest": self.digest,
        }

    def job(self) -> dict[str, Any]:
        """What the worker is told: small, whatever the repo's size, and enough to do it again after a restart."""
        r = self.request
        origins = {f.etag: f.origin.to_json() for f in self.files if f.origin is not None and f.action != reuse.SHARED}
        return {
            "source": "hub",
            "target": r.target,
            "commit": self.commit,
            "include": list(r.include),
            "exclude": list(r.exclude),
            "quant": r.quant,
            "all_formats": r.all_formats,
            "cache": self.place.path,
            "local_dir": self.local_dir,
            "engine": r.engine,
            "origins": dict(list(origins.items())[:_MOST_ORIGINS]),
            "digest": self.digest,
        }


_MOST_ORIGINS = 400


def prepare(
    where: Where, request: Request, client: Client, scan: Scan | None = None, *, memory: bool = True
) -> PullPlan:
    """Look at the repo and at this machine. Raises PullError where there is nothing to plan with.

    `memory`: tell what loading it takes too; for that the first 64 KiB of each file of weights are read.
    """
    name = parse_hub(request.target)
    if request.engine not in ("own", "hub"):
        raise errors.PullError(errors.USAGE, f"there is no engine {request.engine}", "own or hub")
    if client.offline:
        from cachetui.download.client import offline

        raise offline()
    listing = read(client, name)
    chosen = select(request, name, listing)
    place = places.hub_place(where, request.cache_dir)
    local = where.resolve(request.local_dir) if request.local_dir else ""
    files = _files(name, listing, chosen.entries, place, local, where, scan)
    found = PullPlan(
        request,
        name,
        listing.commit,
        listing,
        place,
        local,
        files,
        tuple((e.path, e.size, why) for e, why in chosen.left_out),
        chosen.quants,
        (),
        (),
        *preflight.room(local or place.path, files),
    )
    return preflight.judged(found, chosen, client, where.config.card if memory else None)


def select(request: Request | Mapping[str, Any], name: HubName, listing: Listing) -> selection.Selected:
    """The files that a request means."""
    r = asdict(request) if isinstance(request, Request) else request
    return selection.select(
        listing.entries,
        path=name.path,
        include=r["include"],
        exclude=r["exclude"],
        quant=r["quant"],
        everything=r["all_formats"] or name.kind != "model",
    )


def _files(
    name: HubName, listing: Listing, entries: Sequence[Entry], place: Place, local: str, where: Where, scan: Scan | None
) -> tuple[PlannedFile, ...]:
    links = not local and where.env.get("HF_HUB_DISABLE_SYMLINKS", "").upper() not in ("1", "ON", "YES", "TRUE")
    repo = os.path.join(place.path, name.folder)
    target = places.nearest(local or repo)
    states = {e.path: _state(repo, local, listing.commit, e, links) for e in entries}
    missing = {e.etag: e.size for e in entries if states[e.path][0] not in (HERE, reuse.SHARED) and e.size}
    origins = reuse.find(scan, missing, target, links=links) if scan is not None else {}
    files = []
    for e in entries:
        action, have, replaces = states[e.path]
        origin = reuse.Origin(reuse.SHARED, e.xet) if action == reuse.SHARED else None
        if action in (FETCH, RESUME) and e.etag in origins:
            origin, have = origins[e.etag], 0
            action = origin.how
        files.append(PlannedFile(e.path, e.size, role(e.path), e.etag, action, have, origin, replaces))
    return tuple(files)


def _state(repo: str, local: str, commit: str, e: Entry, links: bool) -> tuple[str, int, str]:
    """(action, bytes of a partial, what gives way) of one file."""
    if local:
        return _local_state(local, e)
    blob, snapshot = f"{repo}/blobs/{e.etag}", f"{repo}/snapshots/{commit}/{e.path}"
    sizes = [_size(blob), _size(snapshot)]
    if e.size in sizes:
        return HERE, 0, ""
    damaged = next((s for s in sizes if s is not None), None)
    replaces = f"a blob of {damaged} bytes" if damaged is not None else ""
    if links and e.xet and not replaces and _is_shared(os.path.dirname(repo), e):
        return reuse.SHARED, 0, ""
    have = partial.peek(f"{repo}/blobs", e.etag, e.size)
    return (RESUME if have else FETCH), have, replaces


def _local_state(local: str, e: Entry) -> tuple[str, int, str]:
    from cachetui.provenance import downloads

    path = os.path.join(local, e.path)
    size = _size(path)
    record = downloads(local, [e.path]).get(e.path)
    if size == e.size and record is not None and record.etag == e.etag and os.stat(path).st_mtime - 1 <= record.when:
        return HERE, 0, ""
    have = partial.peek(f"{local}/.cache/huggingface/download", e.etag, e.size)
    replaces = "another file of this name" if os.path.lexists(path) else ""
    return (RESUME if have else FETCH), have, replaces


def _is_shared(cache: str, e: Entry) -> bool:
    from huggingface_hub.utils._shared_blobs import has_shared_blob

    return has_shared_blob(xet_hash=e.xet, cache_dir=cache, expected_size=e.size)


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size if os.path.isfile(path) else None
    except OSError:
        return None
