"""Carrying out an adoption: links are set in one transaction, payloads brought back, the manifest written."""

from __future__ import annotations

import os
import posixpath
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from cachetui.archives import Entry, File, ManifestError
from cachetui.fs import DISK, Fs, open_dir
from cachetui.model import Root
from cachetui.plans import executor, places, swap
from cachetui.plans.lock import HeldError
from cachetui.plans.model import PERMANENT, Caution, Outcome, Plan, PlannedItem, Replacement, Result, Step, TrashPlace
from cachetui.plans.survey import reason
from cachetui.plans.vault import INCOMING, open_vault
from cachetui.store import Selection
from cachetui.text import safe
from cachetui.transfer import byhand, staging, waiting
from cachetui.transfer.archive_run import CANCELLED, NotDoneError, Totals, failures, held_back
from cachetui.transfer.copying import CancelledError, CopyError, CopyProgress, copy, never
from cachetui.transfer.model import Part, TransferItem, TransferPlan
from cachetui.transfer.parts import hash_file, open_file, open_source, survey_part
from cachetui.transfer.pieces import Kind, survey
from cachetui.transfer.shelf import Shelf, open_shelf


@dataclass
class _Run:
    plan: TransferPlan
    shelf: Shelf
    fs: Fs
    totals: Totals
    cancelled: Callable[[], bool]
    operation: str = ""
    staged: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)
    """(folder, key, header) of what was staged, to be discarded in the end."""


def execute(
    plan: TransferPlan,
    *,
    accept: frozenset[str] = frozenset(),
    fs: Fs = DISK,
    progress: CopyProgress | None = None,
    cancelled: Callable[[], bool] = never,
) -> Outcome:
    """Do what the plan says. Never raises for what is on disk: every item has its result.

    Killed at any point, each link is the old one or the new; the same command again does the rest.
    """
    results = [held_back(plan, item, accept) for item in plan.items]
    operation = why = ""
    try:
        if any(r is None for r in results):
            with open_shelf(fs, plan.directory, create=os.path.isdir(plan.directory)) as shelf:
                run = _Run(plan, shelf, fs, Totals(progress, plan.bytes), cancelled)
                shelf.remember()
                _all(run, results)
                operation = run.operation
    except CancelledError:
        why = CANCELLED
    except HeldError as e:
        why = str(e)
    except ManifestError as e:
        why = f"the archive's own list cannot be used: {e}"
    except CopyError as e:
        why = str(e)
    except OSError as e:
        why = f"{plan.directory}: {reason(e)}"
    done = tuple(r or Result(i.target, i.root, False, why) for r, i in zip(results, plan.items, strict=True))
    return Outcome(plan.verb, done, operation)


def _all(run: _Run, results: list[Result | None]) -> None:
    """What has to be copied, then all links in one transaction, then the manifest."""
    planned: dict[int, tuple[PlannedItem, TrashPlace]] = {}
    for n, item in enumerate(run.plan.items):
        if results[n] is not None:
            continue
        with failures(item, run.cancelled) as failed:
            made = _planned(run, item)
            if made is not None:
                planned[n] = made
        results[n] = failed[0] if failed else None
    if planned:
        chosen = {place.root: place for _, place in planned.values()}
        plan = Plan("relink", tuple(p for p, _ in planned.values()), tuple(chosen.values()), permanent=True)
        with waiting.long(run.totals.progress, run.totals.total, run.cancelled):
            outcome = executor.execute(plan, accept=frozenset((PERMANENT,)), fs=run.fs)
        run.operation = outcome.operation
        for n, result in zip(planned, outcome.results, strict=True):
            item = run.plan.items[n]
            results[n] = None if result.done else Result(item.target, item.root, False, result.message)
    for n, item in enumerate(run.plan.items):
        if results[n] is None:
            with failures(item, run.cancelled) as failed:
                _enter(run, item)
            results[n] = failed[0] if failed else Result(item.target, item.root, True, "")
    for folder, key, header in run.staged:
        with suppress(OSError, HeldError), staging.open_staging(run.fs, folder, key, header) as left:
            left.discard()


def _planned(run: _Run, item: TransferItem) -> tuple[PlannedItem, TrashPlace] | None:
    """The transaction of one item; None where no name has to change."""
    if not item.parts:
        return None
    by_hand = _is_by_hand(run, item)
    top = _side(run, item)
    st = os.stat(top)
    store = "hf" if any(r.path == top and r.store == "hf" for r in run.plan.roots) else "dir"
    place = places.choose(Root(store, top, st.st_dev, st.st_ino, "adopted"))
    if not place.path:
        raise NotDoneError(place.note)
    steps: list[Step] = []
    for part in item.parts:
        name = posixpath.relpath(f"{run.shelf.directory}/{part.place}", top) if by_hand else part.place
        if part.files:
            replacement = Replacement("tree", _staged(run, item, part, place, by_hand))
        else:
            replacement = Replacement("link", part.source)
        _make_above(run.fs, top, name)
        steps.append(swap.step(top, name, replacement))
    holder = replace(item.selection.item, root=top)
    asks = (Caution(PERMANENT, "the old link goes"),)
    return PlannedItem(Selection(holder), item.target, tuple(steps), cautions=asks), place


def _is_by_hand(run: _Run, item: TransferItem) -> bool:
    """Whether what changes lies in the archive (payloads that come back) instead of in a root that gets links."""
    return bool(item.parts) and all(p.files and p.place.startswith(f"{item.place}/blobs/") for p in item.parts)


def _side(run: _Run, item: TransferItem) -> str:
    """The folder that the names which change are relative to."""
    if _is_by_hand(run, item):
        return os.path.dirname(f"{run.shelf.directory}/{item.place}")
    return item.root


def _make_above(fs: Fs, top: str, name: str) -> None:
    staging.ensure_folder(fs, os.path.dirname(f"{top}/{name}"))


def _staged(run: _Run, item: TransferItem, part: Part, place: TrashPlace, by_hand: bool) -> str:
    """A proven copy of one file, staged where it can be exchanged from."""
    with open_vault(run.fs, place.path, create=True):
        pass
    folder = os.path.join(place.path, INCOMING)
    key = f"adopt-{os.path.basename(part.place)[:64]}"
    header: dict[str, object] = {"verb": "adopt", "target": item.target, "root": place.root, "place": part.place}
    pieces = survey_part(part.source, os.path.dirname(part.source), links=True)
    if by_hand and not byhand.is_blob(open_source(pieces[0]), os.path.basename(part.place), run.cancelled):
        raise NotDoneError(f"{safe(part.source)} does not have the content that {safe(part.place)} ought to have")
    with staging.open_staging(run.fs, folder, key, header) as stage:
        copied = copy(pieces, stage, fs=run.fs, progress=run.totals, cancelled=run.cancelled)
        run.totals.before += part.bytes
        run.staged.append((folder, key, header))
        known = run.shelf.manifest.at(item.place)
        wanted = next((f.sha256 for f in known.files if f.path == item.place), "") if known is not None else ""
        if not by_hand and wanted and copied.files[0].sha256 != wanted:
            raise NotDoneError(f"{safe(part.source)} is not what was archived: it is damaged")
        return stage.tree


def _enter(run: _Run, item: TransferItem) -> None:
    """Note in the manifest that this machine has links to the entry, or make the entry of what was moved by hand."""
    if not item.place:
        return  # the link of a whole root: its entries are as they were
    entry = run.shelf.manifest.at(item.place)
    if entry is None:
        run.shelf.enter(_new_entry(run, item))
    elif entry.host == socket.gethostname():
        origin = item.selection.item.path
        run.shelf.enter(replace(entry, root=item.root, origin=origin, linked=True, kept=False))


def _new_entry(run: _Run, item: TransferItem) -> Entry:
    source = item.selection.item
    directory = run.shelf.directory
    scanned = next((r for r in run.plan.roots if r.path == item.root), None)
    root, origin = byhand.home(scanned, source) if scanned is not None else (item.root, source.path)
    files: list[File] = []
    size = allocated = 0
    for path, piece_files in _hashed(run, f"{directory}/{item.place}", item.place):
        files.append(path)
        size += path.size
        allocated += piece_files
    return Entry(
        source.id, source.name, source.kind, source.store, item.place, root, origin, socket.gethostname(), time.time(),
        size, allocated, tuple(files), True,
    )  # fmt: skip


def _hashed(run: _Run, top: str, place: str) -> list[tuple[File, int]]:
    """Every file below an absolute path with its hash, and payloads of a shared store beside it that it links to."""
    found: list[tuple[File, int]] = []
    for piece in survey(top):
        path = f"{place}/{piece.path}" if piece.path else place
        if piece.kind is Kind.LINK:
            found.append((File(path, 0, "", piece.link, 0o777, piece.mtime_ns), 0))
            found += _payload(run, top, place, piece.path, piece.link)
        elif piece.kind in (Kind.FILE, Kind.TWIN):
            digest = hash_file(open_source(piece), run.cancelled)
            found.append((File(path, piece.size, digest, "", piece.mode, piece.mtime_ns), piece.allocated))
    return found


def _payload(run: _Run, top: str, place: str, path: str, text: str) -> list[tuple[File, int]]:
    """The file of the archive that a link out of an item leads to."""
    there = posixpath.normpath(posixpath.join(top, posixpath.dirname(path), text))
    directory = run.shelf.directory
    if text.startswith("/") or there.startswith(f"{top}/") or not there.startswith(f"{directory}/"):
        return []
    base = open_dir(directory)
    try:
        fd = open_file(base, there[len(directory) + 1 :])
        st = os.fstat(fd)
        digest = hash_file(fd, run.cancelled)
        name = there[len(directory) + 1 :]
        return [(File(name, st.st_size, digest, "", st.st_mode & 0o7777, st.st_mtime_ns), st.st_blocks * 512)]
    except FileNotFoundError:
        return []
    finally:
        os.close(base)
