"""One scan over all stores: find the roots, read each once, report as it comes, end with a frozen value."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from cachetui.archived import archive_roots, with_archives
from cachetui.config import Where
from cachetui.ledger import Scan
from cachetui.model import Item, Problem, Reporter, Root, RootScan, Silent
from cachetui.provenance import with_provenance
from cachetui.quant_sources import with_sources
from cachetui.state_models import with_models
from cachetui.store import all_stores, store_named


def find_roots(where: Where) -> tuple[tuple[Root, ...], tuple[Problem, ...]]:
    """All roots that exist, each once however it was reached (by device and inode), and what is odd about them."""
    found: dict[tuple[int, int], Root] = {}
    problems: list[Problem] = []
    for store in all_stores():
        try:
            for root in store.roots(where):
                if not where.allows(root.path):
                    continue
                key = (root.dev, root.ino)
                known = found.get(key)
                if known is None:
                    found[key] = root
                elif root.problems:
                    found[key] = replace(known, problems=known.problems + root.problems)
        except Exception as e:  # one store's mistake must not hide the others
            problems.append(Problem("store-failed", f"{store.title}: looking for its folders failed: {e!r}"))
    for root in archive_roots(where):
        key = (root.dev, root.ino)
        found[key] = replace(found[key], archive=root.archive) if key in found else root
    return _without_held(found.values()), tuple(problems)


def _without_held(roots: Iterable[Root]) -> tuple[Root, ...]:
    """Without folders of the user's own that lie in a root whose store lists what this program made itself."""
    roots = tuple(roots)
    tops = [os.path.join(r.path, "") for r in roots if store_named(r.store).holds_states and not r.offline]
    return tuple(r for r in roots if not (r.ours_only and os.path.join(r.path, "").startswith(tuple(tops))))


def _nested(roots: Iterable[Root]) -> frozenset[tuple[int, int]]:
    """(device, inode) of the roots that are left to their own scan where they lie inside another one."""
    return frozenset((r.dev, r.ino) for r in roots if not r.ours_only)


def scan(
    where: Where, report: Reporter | None = None, *, stores: Sequence[str] = (), roots: Sequence[str] = ()
) -> Scan:
    """Read every root (or those of `stores`, or at the real paths `roots`). Never raises for what is on disk."""
    everything, problems = find_roots(where)
    chosen = [r for r in everything if (not stores or r.store in stores) and (not roots or r.path in roots)]
    return scan_roots(chosen, everything, report, problems)


def scan_roots(
    chosen: Sequence[Root],
    everything: Sequence[Root],
    report: Reporter | None = None,
    problems: tuple[Problem, ...] = (),
) -> Scan:
    """Read these roots; `everything` tells which folders inside them are roots of their own."""
    report = Silent() if report is None else report
    inodes = _nested(everything)
    done: list[RootScan] = []
    with collector_paused():
        for root in chosen:
            if not (report.cancelled() or root.offline):
                report.named(root, store_named(root.store).stubs(root))
        for root in chosen:
            if report.cancelled():
                done.append(RootScan(root, complete=False))
                continue
            try:
                store = store_named(root.store)
                result = RootScan(root) if root.offline else store.scan(root, inodes - {(root.dev, root.ino)}, report)
            except Exception as e:  # a scanner's own mistake: the other roots are still shown
                trouble = Problem("scan-failed", f"reading it failed: {e!r}", root.path, "please report this")
                result = RootScan(root, problems=(trouble,), blind=(root.path,), complete=False)
            done.append(result)
            report.done(result)
    found = Scan(tuple(done), problems, all(r.complete for r in done))
    partial = len(chosen) < len(everything) or not found.complete
    return with_sources(with_models(with_provenance(with_archives(found, partial=partial))))


def rescan(scan_: Scan, changed: Sequence[Item], roots: Sequence[str] = ()) -> Scan:
    """The scan again after these items were acted on: only what they touch is read.

    `roots`: paths of roots where items may have appeared that the scan does not have (what undo brings back).
    """
    inodes = _nested(r.root for r in scan_.roots)
    by_path = {r.root.path: r for r in scan_.roots}
    for path in dict.fromkeys((*(item.root for item in changed), *roots)):
        before = by_path[path]
        if before.root.offline:
            continue
        mine = [i for i in changed if i.root == path]
        after = store_named(before.root.store).rescan(before, inodes - {(before.root.dev, before.root.ino)}, mine)
        scan_ = scan_.replaced(after)
    return with_sources(with_models(with_provenance(with_archives(scan_, partial=not scan_.complete))))


@contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection inside: a scan makes a million tuples and no cycles, and collections double its time.

    What was made is left out of later collections too: each would stop every thread to walk it and find nothing.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.freeze()
            gc.enable()
