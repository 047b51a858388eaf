"""Carrying out a restore plan: each item is copied back, compared with the manifest, exchanged, then removed there."""

from __future__ import annotations

import hashlib
import os
import posixpath
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field, replace

from cachetui.archives import FOLDERS, HUB, OLLAMA, Entry, File
from cachetui.fs import DISK, Fs, open_dir
from cachetui.model import Item, Root
from cachetui.plans import executor, places, swap
from cachetui.plans.lock import HeldError
from cachetui.plans.model import PERMANENT, Caution, Outcome, Plan, PlannedItem, Replacement, Result, TrashPlace
from cachetui.plans.survey import reason
from cachetui.plans.vault import INCOMING, open_vault
from cachetui.store import Selection
from cachetui.text import safe
from cachetui.transfer import links, staging, waiting
from cachetui.transfer.archive_run import NotDoneError, Totals, failures, held_back, look_again
from cachetui.transfer.copying import CopiedFile, CopyProgress, changed, copy, never
from cachetui.transfer.links import Link
from cachetui.transfer.model import Part, TransferItem, TransferPlan
from cachetui.transfer.parts import hash_file, open_file, survey_part
from cachetui.transfer.pieces import Piece
from cachetui.transfer.shelf import Shelf, open_shelf
from cachetui.transfer.staging import Staging
from cachetui.units import size

_KEPT = "what was copied is kept: run the same command again to finish"
_REWRITTEN = frozenset(("refs", "trees", ".no_exist"))
"""Folders of a hub repo whose files programs rewrite, also through the link."""


@dataclass
class _Run:
    plan: TransferPlan
    fs: Fs
    totals: Totals
    cancelled: Callable[[], bool]
    accept: frozenset[str]
    operations: list[str] = field(default_factory=list)
    messages: dict[str, None] = field(default_factory=dict)


def execute(
    plan: TransferPlan,
    *,
    accept: frozenset[str] = frozenset(),
    fs: Fs = DISK,
    progress: CopyProgress | None = None,
    cancelled: Callable[[], bool] = never,
) -> Outcome:
    """Do what the plan says. Never raises for what is on disk: every item has its result.

    A killed run is continued by making the same plan and executing it again; until the exchange nothing changes.
    """
    run = _Run(plan, fs, Totals(progress, plan.bytes), cancelled, accept)
    results = [held_back(plan, item, accept) or _one(run, item) for item in plan.items]
    operation = run.operations[-1] if run.operations else ""
    return Outcome(plan.verb, tuple(results), operation, tuple(run.messages))


def _one(run: _Run, item: TransferItem) -> Result:
    with failures(item, run.cancelled) as failed:
        found = {link.path: link for link in links.of(item.selection.item)}
        if missing := [link for link in found.values() if not link.real]:
            raise NotDoneError(links.away(missing[0]))
        directory = next((link.directory for link in found.values() if link.directory), "")
        with ExitStack() as stack:
            shelf = stack.enter_context(open_shelf(run.fs, directory)) if directory else None
            first = next(iter(found.values()), None)
            entry = links.entry_of(shelf.manifest, item.selection.item, first) if shelf and first else None
            return _restored(run, item, found, shelf, entry)
    return failed[0]


def _restored(
    run: _Run, item: TransferItem, found: dict[str, Link], shelf: Shelf | None, entry: Entry | None
) -> Result:
    root = next(r for r in run.plan.roots if r.path == item.root)
    place = places.choose(root)
    if not place.path:
        raise NotDoneError(place.note)
    with (
        waiting.long(run.totals.progress, run.totals.total, run.cancelled),
        open_vault(run.fs, place.path, create=True),
    ):
        pass  # the trash folder is there now, and so can be staged in
    incoming = os.path.join(place.path, INCOMING)
    _tidy(run.fs, incoming)
    surveyed: list[tuple[Piece, ...]] = []
    staged: dict[str, str] = {}
    for part in item.parts:
        link = found.get(part.place)
        if link is None and os.path.isfile(os.path.join(item.root, part.place)):
            continue  # it came back with another item that shares it
        if link is None or link.real != part.source:
            raise NotDoneError(f"{safe(part.place)} leads elsewhere now: look again")
        pieces = survey_part(part.source, os.path.dirname(part.source), links=True)
        with staging.open_staging(run.fs, incoming, _key(item, part), _header(item, part)) as stage:
            copied = copy(pieces, stage, fs=run.fs, progress=run.totals, cancelled=run.cancelled)
            if copied.note:
                run.messages[copied.note] = None
            _compare(link, entry, copied.files)
            staged[part.place] = stage.tree
        surveyed.append(pieces)
        run.totals.before += part.bytes
    if different := [path for pieces in surveyed for path in changed(pieces)]:
        raise NotDoneError(f"{safe(different[0])} changed while it was copied, so nothing was exchanged")
    result = _exchange(run, item, place, staged)
    if not result.done:
        return replace(result, message=f"{result.message}; {_KEPT}")
    for part in item.parts:
        with suppress(OSError, HeldError), _opened(run.fs, incoming, item, part) as stage:
            stage.discard()
    message, freed = _cleared(run, item, found, shelf, entry, surveyed)
    return replace(result, message=message, freed=result.freed + freed)


def _tidy(fs: Fs, incoming: str) -> None:
    """Remove what killed runs left of copies that took their place. Raises OSError."""
    for key, header in staging.leftovers(incoming):
        place = os.path.join(str(header.get("root")), str(header.get("place")))
        if header.get("verb") == "restore" and not os.path.islink(place):
            with suppress(HeldError), staging.open_staging(fs, incoming, key, header) as left:
                left.discard()


def _opened(fs: Fs, incoming: str, item: TransferItem, part: Part) -> AbstractContextManager[Staging]:
    return staging.open_staging(fs, incoming, _key(item, part), _header(item, part))


def _key(item: TransferItem, part: Part) -> str:
    return hashlib.sha256(os.fsencode(f"{item.root}\0{part.place}")).hexdigest()[:16]


def _header(item: TransferItem, part: Part) -> dict[str, object]:
    return {"verb": "restore", "target": item.target, "root": item.root, "place": part.place, "source": part.source}


def _compare(link: Link, entry: Entry | None, files: Sequence[CopiedFile]) -> None:
    """Raise NotDoneError where what was read in the archive is not what was once written there."""
    if entry is None:
        return
    read = {(f"{link.place}/{f.path}" if f.path else link.place): f for f in files}
    for known in entry.files:
        if known.path != link.place and not known.path.startswith(f"{link.place}/"):
            continue
        if entry.store == "hf" and known.path.removeprefix(f"{entry.path}/").split("/")[0] in _REWRITTEN:
            continue
        if not _same(known, read.get(known.path)):
            what = "is missing" if known.path not in read else "is not what was archived"
            raise NotDoneError(
                f"the copy in the archive is damaged: {safe(known.path)} {what}; nothing was exchanged. "
                "`cachetui verify` tells all of it, and whether another copy is on this machine"
            )


def _same(known: File, read: CopiedFile | None) -> bool:
    return read is not None and (known.link, known.sha256) == (read.link, read.sha256)


def _exchange(run: _Run, item: TransferItem, place: TrashPlace, staged: dict[str, str]) -> Result:
    now = look_again(run.plan, item.root).by_key.get(item.selection.item.key)
    if now is None:
        raise NotDoneError("it is not there any more")
    steps = tuple(swap.step(item.root, path, Replacement("tree", tree)) for path, tree in staged.items())
    if other := next((s.path for s in steps if s.was.type != "link"), ""):
        raise NotDoneError(f"{safe(other)} is no link any more: look again")
    planned = PlannedItem(Selection(now), item.target, steps, cautions=(Caution(PERMANENT, "the link goes"),))
    plan = Plan("restore", (planned,), (place,), permanent=True)
    with waiting.long(run.totals.progress, run.totals.total, run.cancelled):
        outcome = executor.execute(plan, accept=frozenset((PERMANENT,)), fs=run.fs)
    run.operations += [outcome.operation] if outcome.operation else []
    return outcome.results[0]


def _cleared(
    run: _Run,
    item: TransferItem,
    found: dict[str, Link],
    shelf: Shelf | None,
    entry: Entry | None,
    surveyed: Sequence[Sequence[Piece]],
) -> tuple[str, int]:
    """Remove the copy in the archive, or note that it is a backup now; what to say of it, and what that freed."""
    elsewhere = entry is not None and entry.host != socket.gethostname()
    try:
        if run.plan.keep or elsewhere:
            if shelf is not None and entry is not None and not elsewhere:
                shelf.enter(replace(entry, linked=False, kept=True))
            return "the copy in the archive stays", 0
        if different := [path for pieces in surveyed for path in changed(pieces)]:
            return f"the copy in the archive stays: {safe(different[0])} in it was changed just now", 0
        needed: frozenset[str] = frozenset()
        if shelf is not None and entry is not None:
            shelf.drop(entry.path)
            needed = frozenset(f.path for e in shelf.manifest.entries for f in e.files)
        directory = shelf.directory if shelf is not None else ""
        with waiting.long(run.totals.progress, run.totals.total):
            freed = _remove(run.fs, item, directory, list(found.values()), entry, needed)
        return f"{size(freed)} freed in the archive", freed
    except (OSError, NotDoneError, HeldError) as e:
        why = reason(e) if isinstance(e, OSError) else str(e)
        return f"it is back, but the copy in the archive could not be removed: {why}", 0


def _remove(
    fs: Fs, item: TransferItem, directory: str, found: list[Link], entry: Entry | None, needed: frozenset[str]
) -> int:
    """Delete what was brought back from where it lay, for good, as a plan like any other. Returns blocks freed."""
    paths = [link.real for link in found if link.place not in needed or not directory]
    if entry is not None and entry.store == OLLAMA:
        rest = (f for f in entry.files if f.path not in needed and _is_here(item, entry, f))
        paths = list(dict.fromkeys((*paths, *(os.path.join(directory, f.path) for f in rest))))
    freed = 0
    tops: dict[str, list[str]] = {}
    for path in paths:
        top = _top(directory, path)
        tops.setdefault(top, []).append(posixpath.relpath(path, top))
    for top, names in tops.items():
        st = os.stat(top)
        store = "hf" if os.path.basename(top) == HUB else "ollama" if os.path.basename(top) == OLLAMA else "dir"
        root = Root(store, top, st.st_dev, st.st_ino, "archive")
        holder = Item(item.target, store, top, "archive", item.selection.item.name, names[0])
        steps = tuple(swap.step(top, name, None) for name in names if os.path.lexists(os.path.join(top, name)))
        planned = PlannedItem(Selection(holder), item.target, steps, cautions=(Caution(PERMANENT, "it is back"),))
        plan = Plan("delete", (planned,), (places.choose(root),), permanent=True)
        result = executor.execute(plan, accept=frozenset((PERMANENT,)), fs=fs).results[0]
        if not result.done:
            raise NotDoneError(result.message)
        freed += result.freed
    return freed


def _is_here(item: TransferItem, entry: Entry, file: File) -> bool:
    """Whether a file of an archived tag lies in its store with the very same content."""
    prefix = entry.path.removesuffix(entry.origin)
    try:
        root = open_dir(item.root)
        try:
            return hash_file(open_file(root, file.path.removeprefix(prefix))) == file.sha256
        finally:
            os.close(root)
    except OSError:
        return False


def _top(directory: str, path: str) -> str:
    """The root in an archive that a path lies in; of what was moved by hand the folder above it."""
    if not directory:
        return os.path.dirname(path)
    first = posixpath.relpath(path, directory).split("/")[0]
    return os.path.join(directory, first) if first in (HUB, OLLAMA, FOLDERS) else os.path.dirname(path)
