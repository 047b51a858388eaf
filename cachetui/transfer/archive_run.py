"""Carrying out an archive plan: for each item copy, publish, enter, exchange, free; one failing leaves the others."""

from __future__ import annotations

import hashlib
import os
import posixpath
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from cachetui.archives import HUB, OLLAMA, Entry, File, ManifestError
from cachetui.fs import DISK, Fs
from cachetui.ledger import Scan
from cachetui.plans import executor, history
from cachetui.plans.lock import HeldError
from cachetui.plans.model import NO_UNDO, PERMANENT, Outcome, Result
from cachetui.plans.survey import reason
from cachetui.scan import scan_roots
from cachetui.text import safe
from cachetui.transfer import staging, swaps, waiting
from cachetui.transfer.copying import CancelledError, CopiedFile, CopyError, CopyProgress, changed, copy, never
from cachetui.transfer.model import Part, TransferItem, TransferPlan
from cachetui.transfer.parts import DifferentError, compare, survey_part
from cachetui.transfer.pieces import Piece
from cachetui.transfer.shelf import Shelf, open_shelf

_CONFIRM = "needs a confirmation of its own: "
CANCELLED = "cancelled: what was copied is kept, and the same command goes on with it"
_NO_LINKS = "copied, but no layer became a link: all are needed by what was not archived"
_STAYS = "the copy stays in the archive; run the same command again to finish"


class NotDoneError(Exception):
    """An item that is left as it was; the message says why."""


@dataclass
class Totals:
    """Passes progress on, as part of the whole plan."""

    progress: CopyProgress | None
    total: int
    before: int = 0
    """Bytes of parts that are done."""

    def advance(self, phase: str, done: int, total: int, name: str) -> None:
        """Of one part; see CopyProgress."""
        if self.progress is not None:
            self.progress.advance(phase, min(self.before + done, self.total), self.total, name)


@dataclass
class _Run:
    plan: TransferPlan
    shelf: Shelf
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

    An item with a caution whose code is not in `accept` is not touched and says so. A killed run is continued by
    making the same plan and executing it again; until then nothing of the original was touched, or all of it is safe.
    """
    results = [held_back(plan, item, accept) for item in plan.items]
    run: _Run | None = None
    why = ""
    try:
        if any(r is None for r in results):
            with open_shelf(fs, plan.directory, create=True) as shelf:
                run = _Run(plan, shelf, fs, Totals(progress, plan.bytes), cancelled, accept)
                for n, item in enumerate(plan.items):
                    results[n] = results[n] or _one(run, item)
                results = [_with_links(run, i, r) for i, r in zip(plan.items, results, strict=True)]
    except HeldError as e:
        why = str(e)
    except ManifestError as e:
        why = f"the archive's own list cannot be used: {e}"
    except CopyError as e:
        why = str(e)
    except OSError as e:
        why = f"{plan.directory}: {reason(e)}"
    done = tuple(r or Result(i.target, i.root, False, why) for r, i in zip(results, plan.items, strict=True))
    operation = run.operations[-1] if run is not None and run.operations else ""
    return Outcome(plan.verb, done, operation, tuple(run.messages) if run is not None else ())


def _with_links(run: _Run, item: TransferItem, result: Result | None) -> Result | None:
    """The result of a tag says so when no layer became a link: what shares them was not archived after all."""
    source = item.selection.item
    if result is None or not result.done or run.plan.keep or source.store != OLLAMA:
        return result
    if any(os.path.islink(f"{item.root}/{b.path}") for b in source.links):
        return result
    return replace(result, message=_NO_LINKS)


def held_back(plan: TransferPlan, item: TransferItem, accept: frozenset[str]) -> Result | None:
    """The result of an item that is not touched: refused, or not confirmed; None for one that is."""
    why = plan.refused or item.refused
    missing = [c.message for c in (*plan.asks, *item.cautions) if c.code not in accept]
    if not why and missing:
        why = _CONFIRM + "; ".join(missing)
    return Result(item.target, item.root, False, why) if why else None


def _one(run: _Run, item: TransferItem) -> Result:
    """One item, to the end or as far as it got. Raises nothing but what ends all."""
    with failures(item, run.cancelled) as failed:
        surveyed, entry = _copied(run, item)
        if run.plan.keep:
            result = Result(item.target, item.root, True, "")
            history.note(run.fs, time.time(), "archive (backup)", "", [result])
        else:
            result = _exchanged(run, item, surveyed, entry)
        if result.done:
            _clear(run, item)
        return result
    return failed[0]


@contextmanager
def failures(item: TransferItem, cancelled: Callable[[], bool]) -> Iterator[list[Result]]:
    """Turns what goes wrong with one item into its result, the only element of the list."""
    failed: list[Result] = []
    try:
        yield failed
        return
    except CancelledError:
        why = CANCELLED
    except CopyError as e:
        why = str(e)
    except (NotDoneError, LookupError, HeldError) as e:
        why = str(e.args[0])
    except DifferentError as e:
        why = f"something else is there already: {safe(str(e))}"
    except OSError as e:
        why = f"{safe(e.filename)}: {reason(e)}" if isinstance(e.filename, str) else reason(e)
    failed.append(Result(item.target, item.root, False, why))


def _copied(run: _Run, item: TransferItem) -> tuple[list[tuple[Piece, ...]], Entry]:
    """Copy every part, prove it, publish it, and enter it in the manifest."""
    shelf = run.shelf
    links = run.plan.drive is None or run.plan.drive.links
    surveyed: list[tuple[Piece, ...]] = []
    files: list[File] = []
    size = allocated = 0
    _layout(shelf, item)
    for part in item.parts:
        if run.cancelled():
            raise CancelledError
        pieces = survey_part(part.source, item.root, links=links)
        copied = _part(run, item, part, pieces, links)
        run.totals.before += part.bytes
        surveyed.append(pieces)
        files += [_file(part.place, f) for f in copied]
        size += sum({(p.dev, p.ino): p.size for p in pieces}.values())
        allocated += sum({(p.dev, p.ino): p.allocated for p in pieces}.values())
    source = item.selection.item
    before = shelf.manifest.at(item.place)
    entry = Entry(
        source.id, source.name, source.kind, source.store, item.place, item.root, source.path, socket.gethostname(),
        time.time(), size, allocated, tuple(files), before is not None and before.linked, run.plan.keep,
    )  # fmt: skip
    shelf.enter(entry)
    return surveyed, entry


def _layout(shelf: Shelf, item: TransferItem) -> None:
    """The folders of the archive that the item goes into."""
    top = item.place.partition("/")[0]
    if top == HUB:
        shelf.prepare_hub()
    elif item.selection.item.store == OLLAMA:
        shelf.prepare_ollama(item.place.removesuffix(f"/{item.selection.item.path}"))
    else:
        shelf.make(posixpath.dirname(item.place))


def _part(run: _Run, item: TransferItem, part: Part, pieces: Sequence[Piece], links: bool) -> tuple[CopiedFile, ...]:
    """A proven copy at its place, made now, earlier, or by an interrupted run."""
    shelf = run.shelf
    shelf.present()
    place = os.path.join(shelf.directory, part.place)
    key, header = _key(item, part), _header(item, part, links)
    begun = (key, header) in staging.leftovers(shelf.incoming)
    if os.path.lexists(place) and (not begun or shelf.holds(part.place)):
        return compare(pieces, place, links=links, progress=run.totals, cancelled=run.cancelled)
    with staging.open_staging(run.fs, shelf.incoming, key, header) as stage:
        copied = copy(pieces, stage, fs=run.fs, progress=run.totals, cancelled=run.cancelled)
        if copied.note:
            run.messages[copied.note] = None
        stage.publish(os.path.dirname(place), os.path.basename(place))
    return copied.files


def _key(item: TransferItem, part: Part) -> str:
    return hashlib.sha256(os.fsencode(f"{item.root}\0{part.place}")).hexdigest()[:16]


def _header(item: TransferItem, part: Part, links: bool) -> dict[str, object]:
    """What a staging folder says of itself: two equal ones are the same copy."""
    source = item.selection.item
    return {
        "verb": "archive",
        "target": item.target,
        "root": item.root,
        "origin": source.path,
        "place": part.place,
        "links": links,
    }


def _file(place: str, copied: CopiedFile) -> File:
    path = f"{place}/{copied.path}" if copied.path else place
    return File(path, copied.size, copied.sha256, copied.link, copied.mode, copied.mtime_ns)


def _exchanged(run: _Run, item: TransferItem, surveyed: Sequence[Sequence[Piece]], entry: Entry) -> Result:
    """Put the links in place and free the originals, if these are still what was copied."""
    shelf = run.shelf
    scan = look_again(run.plan, item.root)
    tags = swaps.archived_tags(shelf.manifest)
    plan = swaps.transaction(scan, item, shelf.directory, tags, permanent=not run.plan.keep_original)
    if different := [path for pieces in surveyed for path in changed(pieces)]:
        raise NotDoneError(f"it changed while it was copied ({safe(different[0])}), so nothing was exchanged: {_STAYS}")
    shelf.present()
    result = Result(item.target, item.root, True, "")
    if plan is not None:
        with waiting.long(run.totals.progress, run.totals.total, run.cancelled):
            outcome = executor.execute(plan, accept=run.accept | {PERMANENT, NO_UNDO}, fs=run.fs)
        result = outcome.results[0]
        if not result.done:
            return Result(item.target, item.root, False, f"{result.message}; {_STAYS}")
        run.operations.append(outcome.operation)
    try:
        shelf.linked(entry.path)
    except OSError as e:  # the links stand and lead there; the next run notes it
        run.messages[f"the archive's own list could not be brought up to date: {reason(e)}"] = None
    return result


def look_again(plan: TransferPlan, root: str) -> Scan:
    """A new scan of one root: hours may have passed since the plan was made."""
    return scan_roots([r for r in plan.roots if r.path == root], plan.roots)


def _clear(run: _Run, item: TransferItem) -> None:
    """Remove what staging remembers of finished parts; what is left of it goes with the next run."""
    links = run.plan.drive is None or run.plan.drive.links
    for part in item.parts:
        key = _key(item, part)
        if os.path.lexists(os.path.join(run.shelf.incoming, key)):
            with (
                suppress(OSError, HeldError),
                staging.open_staging(run.fs, run.shelf.incoming, key, _header(item, part, links)) as stage,
            ):
                stage.discard()
