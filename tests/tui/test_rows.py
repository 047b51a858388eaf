"""The flat list of rows, and what the UI counts, without a terminal."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from cachetui.ledger import Scan
from cachetui.model import Blob, Item, Revision, Root, RootScan, Stub
from cachetui.store import Selection
from cachetui.text import safe
from cachetui.tui.feed import Batch, figures_of
from cachetui.tui.handlers.marks import frees_of
from cachetui.tui.handlers.places import shell_word
from cachetui.tui.rows import FILE, ITEM, REVISION, Rows, View, build, selection_of
from cachetui.tui.shelf import Shelf
from cachetui.tui.text import clip, fit
from cachetui.tui.widgets.columns import bar, columns_for

ROOT = Root("hf", "/hub", 1, 1, "default")


def _item(name: str, sizes: list[int], *, shared: int = 0) -> Item:
    """An item whose first revision names all blobs and whose second names the first `shared` of them."""
    blobs = tuple(Blob(f"{name}/b{n}", 1, hash((name, n)), size, size, 1, 0.0) for n, size in enumerate(sizes))
    names = tuple(f"f{n}" for n in range(len(sizes)))
    revisions = [Revision("a" * 40, ("main",), f"{name}/a", names, array("q", range(len(sizes))), sum(sizes))]
    if shared:
        index = array("q", range(shared))
        revisions.append(Revision("b" * 40, (), f"{name}/b", names[:shared], index, sum(sizes[:shared])))
    return Item(
        f"hf:{name}", "hf", "/hub", "model", name, name, blobs, revisions=tuple(revisions), file_count=len(sizes)
    ).with_sizes()


def _shelf(*items: Item) -> Shelf:
    scan = Scan((RootScan(ROOT, items),))
    shelf = Shelf()
    shelf.apply(Batch(named=[(ROOT, [Stub(i.id, i.kind, i.name, i.path) for i in items])]))
    shelf.apply(Batch(scan=scan, figures=figures_of(scan)))
    return shelf


def _titles(rows: Rows) -> list[str]:
    return [rows[n].title for n in range(len(rows))]


def test_names_come_before_sizes() -> None:
    shelf = Shelf()
    shelf.apply(Batch(named=[(ROOT, [Stub("hf:b", "model", "b", "b"), Stub("hf:a", "model", "a", "a")])]))
    rows = build(shelf, View())
    assert _titles(rows) == ["Hugging Face hub", "a", "b"]
    assert rows[1].size is None
    shelf.apply(Batch(sized=[_item("b", [5])]))
    assert _titles(build(shelf, View())) == ["Hugging Face hub", "b", "a"]


def test_a_cancelled_scan_keeps_names_that_were_not_read() -> None:
    shelf = Shelf()
    shelf.apply(Batch(named=[(ROOT, [Stub("hf:a", "model", "a", "a"), Stub("hf:b", "model", "b", "b")])]))
    scan = Scan((RootScan(ROOT, (_item("a", [1]),), complete=False),), complete=False)
    shelf.apply(Batch(scan=scan, figures=figures_of(scan)))
    assert set(_titles(build(shelf, View()))) >= {"a", "b"}


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.data())
def test_every_row_is_found_where_it_stands(sizes: list[int], data: st.DataObject) -> None:
    shelf = _shelf(_item("one", sizes, shared=1), _item("two", sizes))
    closed = build(shelf, View())
    keys = [closed[n].key for n in range(len(closed))]
    opened = {k for k in keys if k[0] == ITEM} | {(REVISION, "/hub", "hf:one", "a" * 40)}
    view = View(toggled=set(data.draw(st.sets(st.sampled_from(sorted(opened))))), sort="name")
    rows = build(shelf, view)
    for position in range(len(rows)):
        assert rows.find(rows[position].key) == position
    assert rows.find((ITEM, "/hub", "hf:gone")) is None
    assert rows.find((FILE, "/hub", "hf:one", "a" * 40, "gone")) is None


def test_a_revision_of_half_a_million_files_opens_without_making_their_rows() -> None:
    shelf = _shelf(_item("big", [1] * 500_000))
    view = View(toggled={(ITEM, "/hub", "hf:big"), (REVISION, "/hub", "hf:big", "a" * 40)})
    rows = build(shelf, view)
    assert len(rows) == 500_003
    assert rows[500_002].title == "f499999"
    assert rows.find((FILE, "/hub", "hf:big", "a" * 40, "f400000")) == 400_003


def test_rows_become_selections() -> None:
    item = _item("one", [3, 4], shared=1)
    shelf = _shelf(item)
    assert selection_of((ITEM, "/hub", "hf:one"), shelf) == Selection(item)
    assert selection_of((REVISION, "/hub", "hf:one", "b" * 40), shelf) == Selection(item, "b" * 40)
    assert selection_of((FILE, "/hub", "hf:one", "a" * 40, "f1"), shelf) == Selection(item, "a" * 40, "f1")
    assert selection_of((FILE, "/hub", "hf:one", "a" * 40, "gone"), shelf) is None
    assert selection_of(("group", "Hugging Face hub"), shelf) is None


def test_marked_parts_free_what_no_other_revision_names() -> None:
    item = _item("one", [10, 20, 30], shared=1)
    scan = _shelf(item).scan
    assert scan is not None
    assert frees_of(scan, [Selection(item, "a" * 40)]) == 50
    assert frees_of(scan, [Selection(item, "a" * 40), Selection(item, "b" * 40)]) == 60
    assert frees_of(scan, [Selection(item, "a" * 40, "f2")]) == 30
    assert frees_of(scan, [Selection(item)]) == 60


@given(st.text(max_size=80), st.integers(1, 60))
def test_a_cell_is_exactly_as_wide_as_its_column(text: str, width: int) -> None:
    from rich.cells import cell_len

    assert cell_len(clip(text, width)) <= width
    assert cell_len(fit(text, width)) == cell_len(fit(text, width, right=True)) == width


@given(st.text(max_size=40))
def test_a_copied_path_is_one_harmless_shell_word(path: str) -> None:
    word = shell_word(path)
    assert safe(word) == word
    if not word.startswith("$'"):
        import shlex

        assert shlex.split(word) == [path] or not path


@given(st.integers(20, 400))
def test_columns_fill_the_pane_and_no_more(width: int) -> None:
    columns = columns_for(width)
    assert columns.name >= 8
    if width >= 40:
        assert 2 + columns.name + sum(w + 2 for _, w in columns.cells) <= width


def test_a_bar_shows_at_least_a_sliver() -> None:
    assert bar(0, 10) == ""
    assert bar(0.0001, 10) == "▏"
    assert bar(1.0, 10) == "█" * 10
    assert bar(0.5, 3) == "█▌"
