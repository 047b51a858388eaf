"""Moving a whole root to another drive: copied as it is, proven, then one exchange of the folder with a link.

`prepare` looks and changes nothing (but for trying out the drive); `execute` carries it out. Everything stays at its
path, through the link; what the user may set instead of keeping the link is `MovePlan.line`.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cachetui.archives import INCOMING
from cachetui.config import Where
from cachetui.fs import DISK, Fs
from cachetui.inuse import users
from cachetui.model import Blob, Item, Root
from cachetui.ollama_server import Kind as ServerKind
from cachetui.ollama_server import probe
from cachetui.plans import cautions, swap
from cachetui.plans.model import IN_USE, LOCKED, SERVER, UNCHECKED, YOUNG, Caution, Plan
from cachetui.plans.survey import reason
from cachetui.scan import find_roots, scan_roots
from cachetui.transfer import drives, staging
from cachetui.transfer.model import NETWORK, Drive
from cachetui.transfer.move_run import execute
from cachetui.transfer.move_run import key as staging_key
from cachetui.transfer.parts import looks_equal
from cachetui.transfer.pieces import Kind, Piece, survey

__all__ = ["MovePlan", "execute", "prepare"]

_VARIABLES = {"hf": "HF_HUB_CACHE", "hf-home": "HF_HOME", "ollama": "OLLAMA_MODELS"}
_OWN = frozenset(("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "LLAMA_CACHE", "MODELSCOPE_CACHE"))
_TOKENS = frozenset(("token", "stored_tokens"))
_ASKED = frozenset((IN_USE, UNCHECKED))


@dataclass(frozen=True, slots=True)
class MovePlan:
    """What will happen, complete. Sizes in bytes."""

    root: Root
    place: str
    """Absolute path of the folder that it will be, on the other drive."""
    drive: Drive
    keep_original: bool = False
    """The original stays in the trash until that is emptied; undo brings it back."""
    bytes: int = 0
    """Apparent bytes that are copied."""
    files: int = 0
    frees: int = 0
    """Blocks that come back here."""
    line: str = ""
    """What to set instead of keeping the link, e.g. `export HF_HOME=/mnt/big/huggingface`; empty where nothing is."""
    asks: tuple[Caution, ...] = ()
    notes: tuple[str, ...] = ()
    refused: str = ""
    """Why nothing will be done; empty when it will."""
    there: bool = False
    """A copy stands at the place already: it is read, compared and used."""
    verb: str = field(default="move", init=False)

    @property
    def cautions(self) -> frozenset[str]:
        """Codes that need their own confirmation before `execute`."""
        return frozenset(c.code for c in self.asks)

    @property
    def digest(self) -> str:
        """sha256 of everything that will be done: two equal digests are the same act."""
        act = [self.root.path, self.root.ino, self.place, self.keep_original, self.bytes, self.files, self.refused]
        return hashlib.sha256(json.dumps(act).encode("ascii")).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "verb": self.verb,
            "root": self.root.path,
            "store": self.root.store,
            "place": self.place,
            "drive": asdict(self.drive),
            "keep_original": self.keep_original,
            "bytes": self.bytes,
            "files": self.files,
            "frees": self.frees,
            "line": self.line,
            "cautions": [asdict(c) for c in self.asks],
            "notes": list(self.notes),
            "refused": self.refused,
            "digest": self.digest,
        }


def prepare(
    where: Where,
    root: Root,
    to: str,
    *,
    keep_original: bool = False,
    dry_run: bool = False,
    fs: Fs = DISK,
) -> MovePlan:
    """The plan for moving a root to `to`: into that folder under its own name where it exists, else becoming it.

    With `dry_run` nothing is written there, not even to try out the drive. Never raises for what is on disk.
    """
    roots = find_roots(where)[0]
    place = _place(where.resolve(to), root)
    drive = drives.look(place, roots, 0, sources={root.path}, dry_run=dry_run, fs=fs)
    plan = MovePlan(root, drive.directory, drive, keep_original, line=_line(root, drive.directory), notes=drive.notes)
    if why := _refusal(root, drive):
        return replace(plan, refused=why)
    begun = _is_begun(root, plan.place)
    swapped = swap.whole_root(root, plan.place, permanent=not keep_original)
    if why := swapped.items[0].refused:
        return replace(plan, refused=why)
    try:
        pieces = survey(root.path)
    except OSError as e:
        named = f"{e.filename}: " if isinstance(e.filename, str) else ""
        return replace(plan, refused=f"{named}{reason(e)}")
    if os.path.lexists(plan.place) and not begun:
        if not looks_equal(pieces, plan.place, links=True):
            return replace(plan, refused=f"there is something else at {plan.place}")
        plan = replace(plan, there=True)
    return _measured(plan, pieces, swapped, where, roots, begun)


def _measured(
    plan: MovePlan, pieces: Sequence[Piece], swapped: Plan, where: Where, roots: Sequence[Root], begun: bool
) -> MovePlan:
    """The plan with all that the pieces tell."""
    files = [p for p in pieces if p.kind is Kind.FILE]
    plan = replace(
        plan,
        bytes=sum(p.size for p in files),
        files=len(files),
        frees=swapped.items[0].frees,
        asks=tuple(_asks(plan, pieces, where, roots)),
        notes=(*plan.notes, *_notes(plan, pieces, roots, begun)),
    )
    incoming = posixpath.join(posixpath.dirname(plan.place), INCOMING)
    there = staging.taken(incoming, staging_key(plan.root.path, plan.place)) if begun else 0
    needed = sum(min(p.size, p.allocated) for p in files) - there
    if os.path.lexists(plan.place):
        needed = 0
    why = drives.too_small(plan.drive, max(0, needed)) or drives.unfit(plan.drive, pieces) or _unkept(plan, pieces)
    return replace(plan, refused=why)


def _place(directory: str, root: Root) -> str:
    """Where the root will lie: in a folder that exists, unless that is the copy of an earlier run."""
    if not os.path.isdir(directory) or _is_begun(root, os.path.realpath(directory)) or _is_copy(root, directory):
        return directory
    return os.path.join(directory, os.path.basename(root.path))


def _is_copy(root: Root, directory: str) -> bool:
    """Whether a folder has the same names as the root, so that it is compared instead of copied into."""
    try:
        names = set(os.listdir(directory))
        return bool(names) and names == set(os.listdir(root.path)) and not os.path.samefile(directory, root.path)
    except OSError:
        return False


def _is_begun(root: Root, place: str) -> bool:
    incoming = os.path.join(os.path.dirname(place), INCOMING)
    key = staging_key(root.path, place)
    return any(k == key and h.get("place") == place for k, h in staging.leftovers(incoming))


def _refusal(root: Root, drive: Drive) -> str:
    if root.offline:
        return "its drive is not there"
    if os.path.realpath(drive.directory) == root.path:
        return "it lies there already"
    if root.ours_only:
        return "it is a folder of your own, of which only the saved states are known here: archive those"
    if root.archive:
        return "it is part of an archive: that moves as a whole, by moving its folder"
    if drive.same_as:
        old, new = shlex.quote(root.path), shlex.quote(drive.directory)
        return (
            f"it is the same file system, so that frees nothing; a rename does it: mv {old} {new} && ln -s {new} {old}"
        )
    return drive.refused


def _unkept(plan: MovePlan, pieces: Sequence[Piece]) -> str:
    """Why the copy would not be the same; empty where it would."""
    for piece in pieces:
        if piece.kind is not Kind.LINK:
            continue
        if not plan.drive.links:
            return "the drive cannot hold links, which it has"
        there = _leads_to(plan.root, piece)
        if not piece.link.startswith("/") and not _is_inside(there, plan.root.path) and os.path.lexists(there):
            return (
                f"{piece.path} leads out of it by a relative path ({piece.link}), which would break: make it absolute"
            )
    return ""


def _leads_to(root: Root, piece: Piece) -> str:
    return posixpath.normpath(posixpath.join(root.path, posixpath.dirname(piece.path), piece.link))


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(posixpath.join(folder, ""))


def _notes(plan: MovePlan, pieces: Sequence[Piece], roots: Sequence[Root], begun: bool) -> Iterator[str]:
    root = plan.root
    if begun:
        yield "it was begun before and goes on: what is copied and unchanged is only read back"
    if plan.there:
        yield "a copy is there already: it is read, compared and used"
    nested = [r.path for r in roots if r.path != root.path and _is_inside(r.path, root.path)]
    if nested:
        yield f"with it go {', '.join(nested)}"
    absolute = [p for p in pieces if p.kind is Kind.LINK and p.link.startswith("/")]
    if inside := [p for p in absolute if _is_inside(_leads_to(root, p), root.path)]:
        yield f"{len(inside)} links name {root.path} itself ({inside[0].path}): they need the link that stays there"
    if any(posixpath.basename(p.path) in _TOKENS for p in pieces if p.path.count("/") == 0):
        yield "the access token in it goes along: whoever has the drive can read it"
    if root.origin == "system service" and root.store == "ollama":
        yield f'for the service instead of the link: systemctl edit ollama, Environment="OLLAMA_MODELS={plan.place}"'


def _line(root: Root, place: str) -> str:
    """The line for a shell that makes programs look at the new place without the link."""
    if root.origin in _OWN:
        variable = root.origin
    elif root.origin in ("default", "HF_HOME", "OLLAMA_MODELS"):
        variable = _VARIABLES.get(root.store, "")
    else:
        variable = ""
    return f"export {variable}={shlex.quote(place)}" if variable else ""


def _asks(plan: MovePlan, pieces: Sequence[Piece], where: Where, roots: Sequence[Root]) -> Iterator[Caution]:
    root = plan.root
    blobs = tuple(
        Blob(p.path, p.dev, p.ino, p.size, p.allocated, 1, p.mtime_ns / 1e9) for p in pieces if p.kind is Kind.FILE
    )
    whole = Item(f"root:{root.path}", "", root.path, "root", root.path, "", blobs)
    yield from (c for c in cautions.of(whole, users([whole])) if c.code in _ASKED)
    if any(cautions.is_locked(item) for item in _locked(root, pieces)):
        yield Caution(LOCKED, "a download in it is running: its lock is held")
    partial = Item("partial", "", root.path, "partial", "", "", tuple(b for b in blobs if _is_partial(b.path)))
    if cautions.is_young(partial):
        yield Caution(YOUNG, "a partial download in it was written less than an hour ago")
    if root.store == "ollama":
        scans = scan_roots([r for r in roots if r.store == "ollama"], roots).roots
        served = [probe(s, where, scans) for s in scans if s.root.path == root.path]
        if any(s.kind is not ServerKind.NONE for s in served):
            yield Caution(SERVER, "an Ollama server may be using it: stop it while it is moved")
    if plan.drive.network:
        said = f"it is on a network ({plan.drive.filesystem}): nothing in it can be loaded while that is away"
        yield Caution(NETWORK, said)


def _locked(root: Root, pieces: Sequence[Piece]) -> Iterator[Item]:
    """For each folder of locks of a hub cache in the root, something that `cautions.is_locked` understands."""
    seen: dict[tuple[str, str], None] = {}
    for piece in pieces:
        above, mark, below = f"/{piece.path}".rpartition("/.locks/")
        if mark and "/" in below and below.endswith(".lock"):
            seen[root.path + above, posixpath.dirname(below)] = None
    for base, path in seen:
        yield Item("locks", "hf", base, "locks", path, path)


def _is_partial(path: str) -> bool:
    name = posixpath.basename(path)
    return name.endswith(".incomplete") or "-partial" in name
