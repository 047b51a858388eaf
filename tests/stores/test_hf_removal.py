"""What removing from a hub cache takes and what it leaves, and reading again after it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cachetui.demo.builders import Hub, etag
from cachetui.ledger import Scan
from cachetui.model import ORPHANS, PARTIALS, RootScan, Silent
from cachetui.store import Removal, Selection, make_root, store_named

HF = store_named("hf")
A, B, C, D = b"a" * 5000, b"b" * 6000, b"c" * 70_000, b"d" * 80_000


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path / "hub")


def scan(hub: Hub) -> RootScan:
    root = make_root("hf", str(hub.path), "test")
    assert root is not None
    return HF.scan(root, frozenset(), Silent())


def remove(hub: Hub, target: str, revision: str = "", file: str = "", also: tuple[str, ...] = ()) -> Removal:
    """What removing takes, with `also` selected as whole items too."""
    whole = Scan((scan(hub),))
    found = {i.id: i for i in whole.items}
    chosen = [found[t] for t in also] + ([] if revision or file else [found[target]])
    return HF.removal(Selection(found[target], revision, file), whole.ledger, whole.ledger.positions(chosen))


def execute(hub: Hub, taken: Removal) -> None:
    """As the executor does, without its care: names go in order."""
    assert not taken.refused
    for path in taken.references + taken.content:
        full = hub.path / path
        if full.is_dir() and not full.is_symlink():
            shutil.rmtree(full)
        else:
            full.unlink()


def contents(hub: Hub) -> dict[str, bytes]:
    """Every file that programs can load, by its path in the cache."""
    return {str(p.relative_to(hub.path)): p.read_bytes() for p in hub.path.glob("*/snapshots/**/*") if p.is_file()}


def payload(hub: Hub, content: bytes) -> str:
    return str(hub.payload(content).relative_to(hub.path))


def test_a_whole_repo_goes_by_its_folder(hub: Hub) -> None:
    hub.repo("o/m").revision({"w": A})
    assert remove(hub, "hf:o/m") == Removal(("models--o--m",))


def test_a_payload_goes_with_its_last_holder(hub: Hub) -> None:
    hub.repo("o/a").revision({"w": C, "x": D}, shared=("w", "x"))
    hub.repo("o/b").revision({"w": C}, shared=("w",))
    both, own = payload(hub, C), payload(hub, D)
    alone = remove(hub, "hf:o/a")
    assert alone.references == ("models--o--a",)
    assert alone.content == (own, own + ".refs", own + ".lock")
    assert [b.path for b in alone.stays] == [both]
    together = remove(hub, "hf:o/a", also=("hf:o/b",))
    assert both in together.content
    assert not together.stays
    before = contents(hub)
    execute(hub, alone)
    assert contents(hub) == {k: v for k, v in before.items() if k.startswith("models--o--b")}


def test_a_payload_stays_for_a_link_that_came_after_the_scan(hub: Hub) -> None:
    hub.repo("o/a").revision({"w": C}, shared=("w",))
    whole = Scan((scan(hub),))
    hub.repo("o/late").revision({"w": C}, shared=("w",))
    item = whole.items[0]
    taken = HF.removal(Selection(item), whole.ledger, whole.ledger.positions([item]))
    assert taken.content == ()
    assert [b.path for b in taken.stays] == [payload(hub, C)]


def test_a_stale_hint_keeps_nothing(hub: Hub) -> None:
    hub.repo("o/a").revision({"w": C}, shared=("w",))
    hub.repo("o/gone").revision({"w": C}, shared=("w",))
    shutil.rmtree(hub.repo("o/gone").path)
    assert payload(hub, C) in remove(hub, "hf:o/a").content


def test_a_revision_leaves_what_others_use(hub: Hub) -> None:
    repo = hub.repo("o/m")
    old = repo.revision({"same": A, "w": B, "s/x": C}, refs=("v1", "refs/pr/1"), shared=("s/x",), no_exist=("y",))
    repo.revision({"same": A, "w": D}, refs=("main",))
    taken = remove(hub, "hf:o/m", old)
    top = "models--o--m"
    assert set(taken.references) == {
        f"{top}/snapshots/{old}", f"{top}/refs/v1", f"{top}/refs/refs/pr/1", f"{top}/trees/{old}.json",
        f"{top}/.no_exist/{old}", f"{top}/blobs/{etag(C)}",
    }  # fmt: skip
    assert taken.references[0] == f"{top}/snapshots/{old}"
    x = payload(hub, C)
    assert taken.content == (f"{top}/blobs/{etag(B)}", x, x + ".refs", x + ".lock")
    assert [b.path for b in taken.stays] == [f"{top}/blobs/{etag(A)}"]
    before = contents(hub)
    execute(hub, taken)
    assert contents(hub) == {k: v for k, v in before.items() if old not in k}
    item = scan(hub).items[0]
    assert item.states == ("ok",)
    assert not item.parts


def test_the_last_revision_is_the_whole_repo(hub: Hub) -> None:
    repo = hub.repo("o/m")
    commit = repo.revision({"w": A})
    repo.orphan(B)
    assert remove(hub, "hf:o/m", commit) == Removal(("models--o--m",))


def test_a_payload_of_a_revision_stays_for_another_repo(hub: Hub) -> None:
    repo = hub.repo("o/m")
    old = repo.revision({"w": C}, refs=("v1",), shared=("w",))
    repo.revision({"w": A})
    hub.repo("o/n").revision({"w": C}, shared=("w",))
    taken = remove(hub, "hf:o/m", old)
    assert f"models--o--m/blobs/{etag(C)}" in taken.references
    assert not taken.content
    assert [b.path for b in taken.stays] == [payload(hub, C)]


def test_one_file_in_one_or_every_revision(hub: Hub) -> None:
    repo = hub.repo("o/m")
    one = repo.revision({"a.gguf": A, "b.gguf": B}, refs=("v1",))
    two = repo.revision({"a.gguf": A, "c.gguf": A})
    blob, top = f"models--o--m/blobs/{etag(A)}", "models--o--m/snapshots"
    assert remove(hub, "hf:o/m", one, "b.gguf") == Removal((f"{top}/{one}/b.gguf",), (f"models--o--m/blobs/{etag(B)}",))
    first = remove(hub, "hf:o/m", one, "a.gguf")
    assert first.references == (f"{top}/{one}/a.gguf",)
    assert not first.content
    assert [b.path for b in first.stays] == [blob]
    everywhere = remove(hub, "hf:o/m", file="a.gguf")
    assert everywhere.references == tuple(sorted((f"{top}/{one}/a.gguf", f"{top}/{two}/a.gguf")))
    assert not everywhere.content  # c.gguf is the same content
    assert remove(hub, "hf:o/m", one, "none").refused
    assert remove(hub, "hf:o/m", "f" * 40).refused


def test_one_file_of_the_shared_store(hub: Hub) -> None:
    hub.repo("o/m").revision({"a": C, "b": D}, shared=("a", "b"))
    taken = remove(hub, "hf:o/m", file="a")
    assert taken.references[1:] == (f"models--o--m/blobs/{etag(C)}",)
    assert taken.content[0] == payload(hub, C)
    before = contents(hub)
    execute(hub, taken)
    assert contents(hub) == {k: v for k, v in before.items() if not k.endswith("/a")}


def test_real_files_go_with_their_snapshot(hub: Hub) -> None:
    repo = hub.repo("o/m")
    one = repo.revision({"a": A}, refs=("v1",), real_files=True, tree=False)
    repo.revision({"a": B}, real_files=True)
    assert remove(hub, "hf:o/m", one) == Removal((f"models--o--m/snapshots/{one}", "models--o--m/refs/v1"))
    assert remove(hub, "hf:o/m", one, "a") == Removal((f"models--o--m/snapshots/{one}/a",))


def test_parts_are_their_blobs(hub: Hub) -> None:
    repo = hub.repo("o/m")
    repo.revision({"a": A})
    orphan, partial = repo.orphan(B), repo.partial(C)
    hub.publish(repo, D)
    shared = payload(hub, D)
    taken = remove(hub, "hf:o/m", ORPHANS)
    assert taken.references == (f"models--o--m/blobs/{etag(D)}",)
    assert taken.content == (str(orphan.relative_to(hub.path)), shared, shared + ".refs", shared + ".lock")
    assert remove(hub, "hf:o/m", PARTIALS) == Removal((), (str(partial.relative_to(hub.path)),))
    assert remove(hub, "hf:o/m", ORPHANS, orphan.name) == Removal((), (str(orphan.relative_to(hub.path)),))
    assert remove(hub, "hf:o/m", ORPHANS, "none").refused


@pytest.mark.parametrize("shared", [False, True])
def test_a_repo_that_others_link_into_is_refused_alone(hub: Hub, shared: bool) -> None:
    hub.repo("o/a").revision({"w": C}, shared=("w",) if shared else (), commit="1" * 40)
    odd = hub.path / "models--o--odd" / "snapshots" / ("2" * 40)
    odd.mkdir(parents=True)
    (odd / "w").symlink_to(f"../../../models--o--a/blobs/{etag(C)}")
    assert "hf:o/odd" in remove(hub, "hf:o/a").refused
    assert not remove(hub, "hf:o/a", also=("hf:o/odd",)).refused
    taken = remove(hub, "hf:o/odd")
    assert taken.references == ("models--o--odd",)
    assert not taken.content
    assert (payload(hub, C) in remove(hub, "hf:o/a", also=("hf:o/odd",)).content) == shared


# ---- reading again


def test_a_rescan_is_what_a_scan_would_be(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        hub.repo(f"o/{name}").revision({"w": C, name: name.encode() * 5000}, shared=("w",))
    before = scan(hub)
    items = {i.id: i for i in before.items}
    shutil.rmtree(hub.repo("o/a").path)
    hub.repo("o/b").revision({"w": A}, refs=("v2",))
    hub.repo("o/new").revision({"w": D})
    hub.repo("o/b").lock("x")
    after = HF.rescan(before, frozenset(), [items["hf:o/a"], items["hf:o/b"]])
    assert after == scan(hub)
    assert after.items[1] is items["hf:o/c"]


def test_a_rescan_sees_that_a_payload_has_another_name_or_has_gone(hub: Hub) -> None:
    for name in "ab":
        hub.repo(f"o/{name}").revision({"w": C}, shared=("w",))
    before = scan(hub)
    a = before.items[0]
    (hub.path / ".locks").mkdir()
    (hub.path / ".locks" / "kept").hardlink_to(hub.payload(C))
    after = HF.rescan(before, frozenset(), [a])
    assert after == scan(hub)
    assert after.items[1].links[0].nlink == 2
    hub.payload(C).unlink()
    assert HF.rescan(after, frozenset(), [a]) == scan(hub)


def test_links_with_several_names_count_once_beside_others_of_their_own(hub: Hub) -> None:
    hub.repo("o/a").revision({f"w{n}": C for n in range(9)}, commit="5" * 40)
    subprocess.run(["cp", "-al", hub.path / "models--o--a", hub.path / "models--o--copy"], check=True)
    hub.repo("o/copy").revision({"mine": D}, commit="0" * 40)
    du = subprocess.run(["du", "-s", "-B1", hub.path], check=True, capture_output=True, text=True).stdout
    assert scan(hub).allocated == int(du.split()[0])


def test_a_rescan_with_hard_linked_copies_adds_up(hub: Hub) -> None:
    hub.repo("o/a").revision({"w": A, "deep/w": B})
    subprocess.run(["cp", "-al", hub.path / "models--o--a", hub.path / "models--o--copy"], check=True)
    before = scan(hub)
    assert "hard-linked-names" in {p.code for p in before.problems}
    shutil.rmtree(hub.path / "models--o--a")
    assert HF.rescan(before, frozenset(), [before.items[0]]) == scan(hub)
