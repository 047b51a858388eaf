"""Marking rows, and counting what the marked free together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cachetui.ledger import Scan
from cachetui.model import PINNED, Item
from cachetui.store import Selection
from cachetui.tui import background
from cachetui.tui.handlers import view
from cachetui.tui.rows import GROUP, ITEM, ROOT, Key, Rows, parent_keys, selection_of

if TYPE_CHECKING:
    from cachetui.tui.screens.main import MainScreen


def toggle(main: MainScreen) -> None:
    """Mark the row under the cursor or take its mark away, and go on."""
    row = main.models.row
    if row is None:
        return
    toggle_key(main, row.key)
    main.models.move_to(main.models.cursor + 1)


def toggle_key(main: MainScreen, key: Key) -> None:
    """One row; a heading stands for all items shown below it."""
    keys = below(main.models.rows, key) if key[0] in (GROUP, ROOT) else [key]
    if keys and all(k in main.marked for k in keys):
        for k in keys:
            del main.marked[k]
    else:
        main.marked.update(dict.fromkeys(keys))
    changed(main)


def below(rows: Rows, key: Key) -> list[Key]:
    """Keys of the items that stand below a heading."""
    start = rows.find(key)
    found: list[Key] = []
    if start is None:
        return found
    ends = (GROUP,) if key[0] == GROUP else (GROUP, ROOT)
    inside = False
    for k in rows.all_keys():
        if k == key:
            inside = True
        elif inside and k[0] in ends:
            break
        elif inside and k[0] == ITEM:
            found.append(k)
    return found


def mark_all(main: MainScreen) -> None:
    """Everything that is shown, but for the copies in archives: they were put there to be kept."""
    keys = [k for k in main.models.rows.all_keys() if k[0] == ITEM]
    mine = [k for k in keys if not main.shelf.roots[k[1]].only_archive]
    if left := len(keys) - len(mine):
        main.tell(f"{left} in archives are not marked; Space on the archive's heading marks them.")
    main.marked.update(dict.fromkeys(mine))
    changed(main)


def clear(main: MainScreen) -> None:
    """No marks."""
    main.marked.clear()
    changed(main)


def prune(main: MainScreen) -> None:
    """Marks of what is no longer there go."""
    gone = [k for k in main.marked if selection_of(k, main.shelf) is None]
    for k in gone:
        del main.marked[k]
    changed(main)


def selected(main: MainScreen) -> list[Selection]:
    """What a verb works on: the marked, else the row under the cursor. Parts of marked wholes are left out."""
    keys = list(main.marked)
    if not keys and main.models.row is not None:
        keys = [main.models.row.key]
    chosen = set(keys)
    keys = [k for k in keys if not any(p in chosen for p in parent_keys(k))]
    found = [selection_of(k, main.shelf) for k in keys]
    return [s for s in found if s is not None]


def changed(main: MainScreen) -> None:
    """Paint the marks; count in a thread what they free, and show it unless they changed again meanwhile."""
    main.marked_frees = None
    main.marks_version += 1
    main.models.refresh()
    view.show_state(main)
    scan = main.shelf.scan
    if not main.marked or scan is None:
        return
    version = main.marks_version
    chosen = selected(main)

    def counted(frees: int) -> None:
        if version == main.marks_version:
            main.marked_frees = frees
            view.show_state(main)

    background.start(main, partial(frees_of, scan, chosen), counted, lambda e: None, "frees")


def frees_of(scan: Scan, chosen: list[Selection]) -> int:
    """Allocated bytes that come back when all of it goes that may: a plan of several refuses what is pinned.

    Of single revisions and files: the blobs that no other revision and nobody else names.
    """
    if len(chosen) > 1:
        chosen = [s for s in chosen if PINNED not in s.item.states]
    whole = [s.item for s in chosen if s.is_whole]
    total = scan.ledger.frees(whole)
    parts: dict[tuple[str, str], tuple[Item, set[tuple[str, str]]]] = {}
    for s in chosen:
        if not s.is_whole:
            parts.setdefault(s.item.key, (s.item, set()))[1].add((s.revision, s.file))
    return total + sum(_frees_in(scan, item, names) for item, names in parts.values())


def _frees_in(scan: Scan, item: Item, names: set[tuple[str, str]]) -> int:
    goes: set[int] = set()
    stays: set[int] = set()
    for revision in item.revisions + item.parts:
        all_of_it = (revision.commit, "") in names
        for name, at in zip(revision.names, revision.index, strict=True):
            if all_of_it or (revision.commit, name) in names or ("", name) in names:
                goes.add(at)
            else:
                stays.add(at)
    content = item.content
    going = [content[at] for at in goes - stays if at >= 0]
    holders = scan.ledger.holders_of
    return sum(
        b.allocated for b in going if b.nlink == 1 and all(h.key == item.key for h in holders(item.root, b.path))
    )
