"""Who holds which bytes: the ledger against a brute-force model of names and inodes."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from cachetui.ledger import Scan
from cachetui.model import OK, PINNED, Blob, Item, Revision, Root, RootScan

ROOT = "/root"


def blob(path: str, ino: int, nlink: int = 1, size: int = 1000) -> Blob:
    return Blob(path, 1, ino, size + ino, 4096 * (1 + ino % 3), nlink, 0.0)


def item(name: str, blobs: tuple[Blob, ...] = (), links: tuple[Blob, ...] = (), overhead: int = 8192) -> Item:
    return Item(f"x:{name}", "x", ROOT, "model", name, name, blobs, links, overhead).with_sizes()


def scan(*items: Item, blind: tuple[str, ...] = ()) -> Scan:
    return Scan((RootScan(Root("x", ROOT, 1, 1, "test"), items, other=512, blind=blind),))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Scan, set[int]]:
    """Items with private, hard-linked and shared names; some links of an inode lie outside the scan."""
    count = draw(st.integers(1, 5))
    names: dict[int, list[tuple[int, str]]] = {ino: [] for ino in range(draw(st.integers(1, 6)))}
    for ino, held in names.items():
        for n in draw(st.lists(st.integers(0, count - 1), max_size=3, unique=True)):
            held.append((n, f"i{n}/b{ino}"))
    outside = {ino: draw(st.integers(0, 1)) for ino in names}
    shared = {ino: draw(st.lists(st.integers(0, count - 1), max_size=3, unique=True)) for ino in range(10, 14)}
    items = []
    for n in range(count):
        own = tuple(
            blob(path, ino, max(1, len(held) + outside[ino]))
            for ino, held in names.items()
            for m, path in held
            if m == n
        )
        links = tuple(blob(f"blobs/{ino}", ino) for ino, holders in shared.items() if n in holders)
        items.append(item(f"i{n}", own, links))
    return scan(*items), set(draw(st.lists(st.integers(0, count - 1), unique=True)))


def brute_frees(world: Scan, selected: set[int]) -> int:
    """Delete the names for real, in a dict, and add up the inodes that nobody names any more."""
    names: dict[str, Blob] = {}
    holders: dict[str, set[int]] = {}
    for n, i in enumerate(world.items):
        for b in i.content:
            names[b.path] = b
            holders.setdefault(b.path, set()).add(n)
    gone: dict[int, int] = {}
    for path, b in names.items():
        if holders[path] <= selected:
            gone[b.ino] = gone.get(b.ino, 0) + 1
    inodes = {b.ino: b for b in names.values()}
    freed = sum(inodes[ino].allocated for ino, count in gone.items() if count >= inodes[ino].nlink)
    return freed + sum(world.items[n].overhead for n in selected)


@given(worlds())
def test_frees_is_what_deleting_the_names_frees(case: tuple[Scan, set[int]]) -> None:
    world, selected = case
    assert world.ledger.frees([world.items[n] for n in selected]) == brute_frees(world, selected)


@given(worlds())
def test_own_and_shared_add_up_and_sharing_is_mutual(case: tuple[Scan, set[int]]) -> None:
    world, _ = case
    for one in world.items:
        assert world.ledger.own(one) + world.ledger.shared(one) == one.size
        for holder in world.ledger.shared_with(one):
            assert one in [h.item for h in world.ledger.shared_with(holder.item)]


@given(worlds())
def test_a_root_counts_each_inode_once(case: tuple[Scan, set[int]]) -> None:
    world, _ = case
    inodes = {b.ino: b for i in world.items for b in i.content}
    root = world.roots[0]
    assert root.size == sum(b.size for b in inodes.values())
    assert root.allocated == 512 + sum(i.overhead for i in world.items) + sum(b.allocated for b in inodes.values())


def test_shared_content_stays_while_something_could_not_be_read() -> None:
    links = (blob("blobs/1", 1),)
    assert scan(item("a", links=links)).ledger.frees([item("a", links=links)]) == 8192 + links[0].allocated
    assert scan(item("a", links=links), blind=("manifests/x",)).ledger.frees([item("a", links=links)]) == 8192


def test_content_inside_one_item_that_another_links_to_goes_with_both() -> None:
    inner = blob("a/blobs/1", 1)
    world = scan(item("a", (inner,)), item("b", links=(inner,)))
    a, b = world.items
    assert world.ledger.frees([a]) == 8192
    assert world.ledger.frees([a, b]) == 2 * 8192 + inner.allocated
    assert [h.item.name for h in world.ledger.shared_with(a)] == ["b"]


def test_states_replace_ok_and_do_not_repeat() -> None:
    one = item("a")
    assert one.states == (OK,)
    assert one.with_states(PINNED).with_states(PINNED).states == (PINNED,)


def test_a_part_is_not_a_revision() -> None:
    part = Revision("~orphan", (), "", ("x",), array("i", [0]), 1)
    assert part.is_part
    assert not Revision("0" * 40, (), "", (), array("i"), 0).is_part


def test_a_rescanned_root_takes_the_place_of_the_old_one() -> None:
    world = scan(item("a"), item("b"))
    after = world.replaced(RootScan(world.roots[0].root, (item("b"),)))
    assert [i.name for i in after.items] == ["b"]
    assert set(after.by_key) == {(ROOT, "x:b")}
