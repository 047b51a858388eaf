"""What a selection means: what goes, what stays and who still needs it. Pure: reads nothing but the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cachetui.ledger import Scan
from cachetui.model import PINNED, Blob, Item
from cachetui.plans.model import Phase, Stay
from cachetui.store import Removal, Selection, store_named
from cachetui.targets import target_of

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Draft:
    """One selection, before the disk is looked at."""

    selection: Selection
    target: str
    paths: tuple[tuple[str, Phase], ...] = ()
    """Names that go, in order."""
    needs: tuple[tuple[str, tuple[Key, ...]], ...] = ()
    """For names that others of this plan hold too: who must be gone first."""
    stays: tuple[Stay, ...] = ()
    refused: str = ""

    @property
    def key(self) -> Key:
        """Root and target: unique in a plan."""
        return (self.selection.item.root, self.target)


def draft(scan: Scan, selections: Sequence[Selection], *, bulk: bool = False) -> tuple[Draft, ...]:
    """What the stores say about these selections, each thing named once."""
    chosen = _distinct(selections)
    refused = {n: why for n, s in enumerate(chosen) if (why := _refusal(scan, s, bulk))}
    whole = [s.item for n, s in enumerate(chosen) if s.is_whole and n not in refused]
    selected = scan.ledger.positions(whole)
    drafts: list[Draft] = []
    before: dict[Key, list[Draft]] = {}
    for n, selection in enumerate(chosen):
        if n in refused:
            drafts.append(Draft(selection, target_of(selection), refused=refused[n]))
            continue
        earlier = before.setdefault(selection.item.key, []) if _is_revision(selection) else []
        made = _one(scan, selection, selected, earlier)
        drafts.append(made)
        if not made.refused:
            earlier.append(made)
    return _settle(drafts)


def _distinct(selections: Sequence[Selection]) -> list[Selection]:
    """Each once; parts of an item that goes as a whole are part of that, and all its revisions are all of it."""
    unique = {(s.item.root, target_of(s)): s for s in selections}
    by_item: dict[Key, set[str]] = {}
    for s in unique.values():
        if _is_revision(s):
            by_item.setdefault(s.item.key, set()).add(s.revision)
    for key, s in list(unique.items()):
        if len(s.item.revisions) > 1 and by_item.get(s.item.key, set()) >= {r.commit for r in s.item.revisions}:
            del unique[key]
            unique[s.item.key] = Selection(s.item)
    whole = {s.item.key for s in unique.values() if s.is_whole}
    return [
        s
        for s in unique.values()
        if s.is_whole or (s.item.key not in whole and not (s.file and s.revision in by_item.get(s.item.key, ())))
    ]


def _is_revision(selection: Selection) -> bool:
    return bool(selection.revision) and not selection.file and not selection.revision.startswith("~")


def _refusal(scan: Scan, selection: Selection, bulk: bool) -> str:
    item = selection.item
    if PINNED in item.states:
        why = "pinned, so it is kept when several go" if bulk else "pinned"
        return f"{why}: cachetui unpin {item.id} first"
    known = scan.by_key.get(item.key)
    if known is None:
        return "it is not there any more: scan again"
    if not scan.root_of(item).complete:
        return "its folder was not read to the end, so who else needs its files is not known: scan again"
    return ""


def _one(scan: Scan, selection: Selection, selected: set[int], earlier: Sequence[Draft]) -> Draft:
    """What one selection takes, given that `earlier` revisions of the same item go in the same plan."""
    target = target_of(selection)
    removal = _ask(scan, selection, selected)
    together = removal
    if earlier and not removal.refused:
        gone = {d.selection.revision for d in earlier}
        rest = replace(selection.item, revisions=tuple(r for r in selection.item.revisions if r.commit not in gone))
        together = _ask(scan, replace(selection, item=rest), selected)
    if why := removal.refused or together.refused:
        return Draft(selection, target, refused=why)
    alone = {*removal.references, *removal.content}
    paths: dict[str, Phase] = {}
    needs: list[tuple[str, tuple[Key, ...]]] = []
    for names, phase in ((together.references, Phase.REFERENCE), (together.content, Phase.CONTENT)):
        for path in names:
            paths.setdefault(path, phase if path in alone else Phase.CONTENT)
            if path not in alone:
                needs.append((path, tuple(d.key for d in earlier)))
    if not paths:
        return Draft(selection, target, refused="nothing of it is on disk")
    if not paths.keys().isdisjoint(("", ".")):
        return Draft(selection, target, refused="it is the folder that is looked at itself; give the one above it")
    stays = tuple(Stay(b.path, b.size, _holders(scan, selection, b, selected)) for b in together.stays)
    return Draft(selection, target, tuple(paths.items()), tuple(needs), stays)


def _ask(scan: Scan, selection: Selection, selected: set[int]) -> Removal:
    try:
        return store_named(selection.item.store).removal(selection, scan.ledger, selected)
    except Exception as e:  # a store's mistake refuses one item, it does not stop the others
        return Removal((), refused=f"planning it failed: {e!r}; please report this")


def _holders(scan: Scan, selection: Selection, blob: Blob, selected: set[int]) -> tuple[str, ...]:
    """Who still needs content that stays; words where nobody is known."""
    item, ledger = selection.item, scan.ledger
    others = [i for i in ledger.holders_of(item.root, blob.path) if i.key != item.key]
    found = [i.id for i in others if not ledger.positions([i]) <= selected]
    if not found and others:
        found = [i.id for i in others]
    if not selection.is_whole:
        found += _revisions_holding(item, blob, selection)
    if found:
        return tuple(dict.fromkeys(found))
    if scan.root_of(item).blind:
        return ("what could not be read and may need it",)
    return (item.id,)


def _revisions_holding(item: Item, blob: Blob, selection: Selection) -> list[str]:
    positions = {n for n, b in enumerate(item.content) if b.path == blob.path}
    return [
        target_of(Selection(item, r.commit))
        for r in item.revisions
        if (r.commit != selection.revision or selection.file) and not positions.isdisjoint(r.index)
    ]


def _settle(drafts: Sequence[Draft]) -> tuple[Draft, ...]:
    """Each name in one draft only: the last that lists it, which then needs the others gone before."""
    listing: dict[Key, list[int]] = {}
    for n, d in enumerate(drafts):
        for path, _ in d.paths:
            listing.setdefault((d.key[0], path), []).append(n)
    settled: list[Draft] = []
    for n, d in enumerate(drafts):
        paths: list[tuple[str, Phase]] = []
        needs: dict[str, tuple[Key, ...]] = dict(d.needs)
        for path, phase in d.paths:
            owners = listing[d.key[0], path]
            if owners[-1] == n:
                if len(owners) > 1:
                    needs[path] = (*needs.get(path, ()), *(drafts[o].key for o in owners[:-1]))
                paths.append((path, Phase.CONTENT if path in needs else phase))
        stays = tuple(s for s in d.stays if (d.key[0], s.path) not in listing)
        mine = tuple((p, tuple(dict.fromkeys(k))) for p, k in needs.items() if p in dict(paths))
        settled.append(replace(d, paths=tuple(paths), needs=mine, stays=stays))
    return _nested(settled)


def _nested(drafts: Sequence[Draft]) -> tuple[Draft, ...]:
    """What lies inside a folder that goes with another selection is part of that one."""
    folders = {(d.key[0], path): d for d in drafts for path, _ in d.paths}
    result: list[Draft] = []
    for d in drafts:
        paths = []
        outer: Draft | None = None
        for path, phase in d.paths:
            around = _around(folders, d.key[0], path)
            if around is None:
                paths.append((path, phase))
            elif around.key != d.key:
                outer = around
        if outer is not None and not d.refused:
            result.append(Draft(d.selection, d.target, refused=f"it is part of {outer.target}, which goes too"))
        else:
            result.append(replace(d, paths=tuple(paths)))
    return tuple(result)


def _around(folders: dict[Key, Draft], root: str, path: str) -> Draft | None:
    parts = path.split("/")
    for length in range(1, len(parts)):
        if found := folders.get((root, "/".join(parts[:length]))):
            return found
    return None
