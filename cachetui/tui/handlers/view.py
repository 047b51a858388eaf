"""How the list is shown: order, grouping, what is open, and the words around it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from textual.content import Content

from cachetui import units
from cachetui.model import PINNED, Item
from cachetui.tui import background, describe, facts
from cachetui.tui.facts import Facts
from cachetui.tui.fits import is_model
from cachetui.tui.rows import FILE, GROUP, GROUPINGS, ITEM, REVISION, ROOT, SORTS, Key, Row, heading
from cachetui.tui.text import Part, words

if TYPE_CHECKING:
    from cachetui.tui.screens.main import MainScreen


def next_sort(main: MainScreen) -> None:
    """The next order."""
    sort_by(main, SORTS[(SORTS.index(main.view.sort) + 1) % len(SORTS)])


def sort_by(main: MainScreen, by: str) -> None:
    """This order; asked for a second time, turned around."""
    main.view.reverse = not main.view.reverse if main.view.sort == by else False
    main.view.sort = by
    main.rebuild()


def reverse(main: MainScreen) -> None:
    """Turn the order around."""
    main.view.reverse = not main.view.reverse
    main.rebuild()


def next_grouping(main: MainScreen) -> None:
    """The next grouping."""
    main.view.grouping = GROUPINGS[(GROUPINGS.index(main.view.grouping) + 1) % len(GROUPINGS)]
    main.rebuild()


def toggle(main: MainScreen, key: Key) -> None:
    """Open a closed row, close an open one."""
    main.view.toggled ^= {key}
    main.rebuild()


def fold(main: MainScreen) -> None:
    """Close all items; when all are closed, open them."""
    opened = {k for k in main.view.toggled if k[0] in (ITEM, REVISION)}
    if opened:
        main.view.toggled -= opened
    else:
        main.view.toggled |= {k for k in main.models.rows.all_keys() if k[0] == ITEM}
    main.rebuild()


def toggle_details(main: MainScreen) -> None:
    """In a wide terminal they are there unless closed, in a narrow one the other way round."""
    main.details.toggle_class("-asked" if main.has_class("-narrow") else "-hidden")


def show_state(main: MainScreen) -> None:
    """The strip and the status line."""
    shelf, size = main.shelf, partial(units.size, binary=main.cachetui.binary)
    stores = len({r.store for r in shelf.roots.values()})
    away = tuple(a.label or a.path for a in shelf.scan.offline) if shelf.scan is not None else ()
    total = f", {size(shelf.size)}" if shelf.size or not shelf.reading else ""
    main.strip.show(f"{_count(shelf.count, 'item')} in {_count(stores, 'store')}{total}", shelf.disks, away)
    main.status.show(_marked(main), _running(main))


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _marked(main: MainScreen) -> list[Part]:
    if not main.marked:
        return main.could_go
    parts: list[Part] = [(f"{len(main.marked):,} marked", "bold $accent")]
    if main.shelf.scan is None:
        return [*parts, ("  what they free is known when everything is read", "$foreground-muted")]
    if main.marked_frees is None:
        return [*parts, ("  counting what they free…", "$foreground-muted")]
    up_to = "up to " if any(r.reflinks for r in main.shelf.scan.roots) else ""
    size = units.size(main.marked_frees, binary=main.cachetui.binary)
    says = ": frees " if len(main.marked) == 1 else ": together they free "
    return [*parts, (says, "$foreground-muted"), (up_to + size, "bold")]


_FORGOTTEN = 180 * 86400
"""Seconds without use after which a model counts as forgotten."""


def could_go(main: MainScreen) -> list[Part]:
    """What to look at first when space is wanted; empty while reading."""
    scan = main.shelf.scan
    if scan is None:
        return []
    limit = main.cachetui.clock() - _FORGOTTEN
    sizes = {"partial": 0, "orphan": 0, "damaged": 0, "unused 6 mo": 0}
    for item in scan.items:
        for state in item.states:
            if state in sizes:
                sizes[state] += item.size - item.away
        if item.last_used is not None and item.last_used < limit and PINNED not in item.states:
            sizes["unused 6 mo"] += item.size - item.away
    parts: list[Part] = []
    for word, count in sizes.items():
        if count:
            parts += [(" · " if parts else "", "$foreground-disabled"), (f"{word} ", "$foreground-muted")]
            parts += [(units.size(count, binary=main.cachetui.binary), "$foreground")]
    return parts


def _running(main: MainScreen) -> list[Part]:
    if main.running is not None:
        title, moved = main.running
        if moved is None:
            return [(f"{title}…", "$accent")]
        return [(f"{title} {moved.done:,} of {moved.total:,}", "$accent")]
    shelf = main.shelf
    if shelf.reading:
        return [
            (f"reading {shelf.read_count:,} of {max(shelf.count, shelf.read_count):,}", "$accent"),
            ("  Esc stops", "$foreground-muted"),
        ]
    if shelf.scan is not None and not shelf.scan.complete:
        return [("reading was stopped, R reads again", "$text-warning")]
    return []


def show_details(main: MainScreen, *, keep_place: bool = False) -> None:
    """The pane for the row under the cursor."""
    from cachetui.tui.handlers import watching

    row = main.models.row
    show = partial(main.details.show, keep_place=keep_place)
    if row is None:
        show("Nothing here", lambda page: empty_page(main, page))
    elif row.kind == ROOT:
        show(row.title, lambda page: _roots(main, [row.key[1]], page))
    elif row.kind == GROUP:
        show(row.title, lambda page: _group(main, row, page))
    else:
        item = main.shelf.item((row.key[1], row.key[2]))
        if item is None:
            show(row.title, lambda page: page.row("", "not read yet"))
        elif row.kind == ITEM:
            verdict = main.verdicts.get(item.key)
            known, users, newer = _facts(main, item), watching.known(main, item), main.shelf.newer(item)
            needs = _needs(main, item)
            show(item.name, lambda page: describe.item_page(item, known, page, users, verdict, newer, needs(page)))
        else:
            show(item.name, lambda page: _part(row, item, page))


def _needs(main: MainScreen, item: Item) -> Callable[[describe.Page], list[Content]]:
    """What writes the lines on the memory it needs."""
    if not is_model(item):
        return lambda page: []
    from cachetui.tui.handlers import fits

    found = fits.known(main, item)
    if found is None or not main.fits.devices:
        return lambda page: [*page.row("memory", ("reading its headers…", describe.DIM)), Content("")]
    from cachetui.tui.fit_page import fit_lines  # the thread that read the headers has imported it

    return lambda page: fit_lines(found, main.fits, page)


def _facts(main: MainScreen, item: Item) -> Facts | None:
    """Counted now when that is quick, else in a thread that then shows them."""
    scan = main.shelf.scan
    if item.file_count + len(item.blobs) <= facts.QUICK:
        return facts.facts_of(item, scan)
    known = main.counted.get(item.key)
    if known is not None and known[0] is item and known[1] is scan:
        return known[2]

    def counted(result: Facts) -> None:
        main.counted = {item.key: (item, scan, result)}
        row = main.models.row
        if row is not None and row.key == (ITEM, *item.key):
            show_details(main, keep_place=True)

    background.start(main, lambda: facts.facts_of(item, scan), counted, lambda e: None, "facts")
    return None


def _part(row: Row, item: Item, page: describe.Page) -> list[Content]:
    revision = next((r for r in item.revisions + item.parts if r.commit == row.key[3]), None)
    if revision is None:
        return []
    if row.kind == FILE:
        return describe.file_page(item, revision, row.key[4], page)
    return describe.revision_page(item, revision, page)


def _group(main: MainScreen, row: Row, page: describe.Page) -> list[Content]:
    if main.view.grouping == "store":
        paths = [r.path for r in main.shelf.roots.values() if heading(r) == row.title]
        return _roots(main, paths, page)
    return page.row("", row.note) + page.row("size", (page.size(row.size), describe.STRONG))


def _roots(main: MainScreen, paths: list[str], page: describe.Page) -> list[Content]:
    out: list[Content] = []
    for path in paths:
        done = main.shelf.done.get(path)
        root = main.shelf.roots[path]
        title = heading(root)
        out += describe.root_page(done, title, page) if done else page.row("", f"{path}: not read yet")
    for problem in main.shelf.problems:
        out += page.row("problem", (problem.message, describe.BAD))
        out += page.row("", f"→ {problem.hint}") if problem.hint else []
    return out


def empty_page(main: MainScreen, page: describe.Page) -> list[Content]:
    """What a newcomer, or somebody whose filter matches nothing, can do."""
    if main.view.test is not None:
        return [words("Nothing matches the filter."), words("Esc clears it.", describe.DIM)]
    if main.shelf.reading:
        return [words("Looking for models…")]
    out = [words("No models found on this machine", describe.STRONG), Content("")]
    for key, text in (
        ("try it", "cachetui demo opens a small world of models where every key can be pressed without risk"),
        ("look in", "cachetui --cache-dir FOLDER shows a folder of your own; it can be given several times"),
        ("get one", "D finds a model on the Hub, or has Ollama pull one: it shows up here"),
        ("looked at", "the Hugging Face hub cache, Ollama, ~/models and more; cachetui info says where"),
    ):
        out += page.row(key, text)
    return out
