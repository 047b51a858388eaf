"""What is exchanged in a root when items are archived: built on the plan of deleting them, with links in their place.

A hub repo, a folder or a file becomes one link; shared payloads that nobody else needs go along. An Ollama tag keeps
its manifest, and each blob that only archived tags need becomes a link.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cachetui.archives import OLLAMA, Manifest
from cachetui.ledger import Scan
from cachetui.model import OK, PINNED, Item
from cachetui.plans import removal, swap
from cachetui.plans.model import NO_UNDO, SERVER, Caution, Phase, Plan, PlannedItem, Replacement, Stay, Step
from cachetui.plans.survey import reason
from cachetui.store import Selection
from cachetui.transfer.model import TransferItem

Tags = frozenset[tuple[str, str]]
"""(root, manifest path) of Ollama tags whose blobs all lie in an archive."""


def unpinned(item: Item) -> Selection:
    """An item without its pin: that protects from deletion, and archiving loses nothing."""
    states = tuple(s for s in item.states if s != PINNED) or (OK,)
    return Selection(replace(item, states=states))


def archived_tags(manifest: Manifest | None) -> Tags:
    """Tags that have links to an archive, by its manifest."""
    entries = () if manifest is None else manifest.entries
    return frozenset((e.root, e.origin) for e in entries if e.store == OLLAMA and e.linked)


def removals(scan: Scan, items: Sequence[Item], archived: Tags, *, permanent: bool) -> Plan:
    """The plan of what goes when these items are archived together; without what takes its place."""
    plan = removal.prepare(scan, [unpinned(i) for i in items], permanent=permanent)
    tags = archived | {(i.root, i.path) for i in items if i.store == OLLAMA}
    taken: set[tuple[str, str]] = set()
    places = {p.root: p.path for p in plan.places}
    found = []
    for planned in plan.items:
        item = planned.selection.item
        if not planned.refused and not places.get(item.root):
            planned = replace(planned, refused="no folder on its file system can hold what is exchanged")
        if item.store == OLLAMA and not planned.refused:
            planned = _tag(scan, planned, tags, taken)
        found.append(planned)
    return replace(plan, verb="archive", items=tuple(found))


def _tag(scan: Scan, planned: PlannedItem, tags: Tags, taken: set[tuple[str, str]]) -> PlannedItem:
    """An Ollama tag: its manifest stays, blobs that only archived tags need go."""
    item = planned.selection.item
    steps: list[Step] = []
    stays: list[Stay] = []
    blind = scan.root_of(item).blind
    try:
        for blob in item.links:
            holders = [h.id for h in scan.ledger.holders_of(item.root, blob.path) if (h.root, h.path) not in tags]
            if blind and not holders:
                holders = [f"what could not be read and may need it ({blind[0]})"]
            if holders:
                stays.append(Stay(blob.path, blob.size, tuple(holders)))
            elif (item.root, blob.path) not in taken:
                taken.add((item.root, blob.path))
                step = swap.step(item.root, blob.path, None, Phase.CONTENT)
                steps += [step] if step.was.type == "file" else []
    except OSError as e:
        return replace(planned, refused=reason(e), via_server="")
    if steps and not os.access(f"{item.root}/blobs", os.W_OK | os.X_OK):
        return replace(planned, refused="you may not write to the folder it lies in", via_server="")
    asks = tuple(c for c in planned.cautions if c.code != NO_UNDO)
    if planned.via_server:
        asks = (*asks, Caution(SERVER, "an Ollama server serves this folder and may have its files open"))
    return replace(planned, steps=tuple(steps), stays=tuple(stays), cautions=asks, via_server="")


def links(item: TransferItem, directory: str) -> dict[str, str]:
    """For each name of the root that becomes a link (relative to it), where that leads (absolute)."""
    source = item.selection.item
    if source.store == OLLAMA:
        prefix = item.place.removesuffix(source.path)
        paths = {p.place.removeprefix(prefix): p.place for p in item.parts}
        return {path: posixpath.join(directory, place) for path, place in paths.items() if path != source.path}
    return {p.source.removeprefix(f"{item.root}/"): posixpath.join(directory, p.place) for p in item.parts}


def with_links(steps: Sequence[Step], targets: Mapping[str, str]) -> tuple[Step, ...]:
    """The steps, with links in the place of what was copied."""
    return tuple(
        replace(s, replacement=Replacement("link", targets[s.path])) if s.path in targets else s for s in steps
    )


def transaction(scan: Scan, item: TransferItem, directory: str, archived: Tags, *, permanent: bool) -> Plan | None:
    """The transaction of one item, as the disk is now; None where no name has to change."""
    now = scan.by_key.get(item.selection.item.key)
    if now is None:
        raise LookupError("it is not there any more")
    plan = removals(scan, [now], archived, permanent=permanent)
    planned = plan.items[0]
    if planned.refused:
        raise LookupError(planned.refused)
    targets = links(item, directory)
    steps = with_links(planned.steps, targets)
    if not steps:
        return None
    _check_complete(steps, targets)
    return replace(plan, items=(replace(planned, steps=steps, target=item.target),))


def _check_complete(steps: Sequence[Step], targets: Mapping[str, str]) -> None:
    """What goes as a reference must have been copied: else a name would be gone for good."""
    if bare := [s.path for s in steps if s.phase is Phase.REFERENCE and s.path not in targets]:
        raise LookupError(f"{bare[0]} was not copied")
