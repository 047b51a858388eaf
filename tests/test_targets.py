"""A TARGET names exactly one thing, a shown one names the same thing again, and a wrong one says what is near."""

from __future__ import annotations

import os
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachetui.ledger import Scan
from cachetui.model import ORPHANS, Blob, Item, Revision, Root, RootScan
from cachetui.store import Selection
from cachetui.targets import TargetAmbiguous, TargetNotFound, merged, resolve, target_of
from cachetui.text import encode_target, safe

A, B, C = "a" * 40, "a" * 39 + "b", "c" * 40
names = st.binary(min_size=1, max_size=20).filter(lambda b: b"\0" not in b and b"/" not in b).map(os.fsdecode)


def hub_repo(name: str, root: str, commits: dict[str, tuple[str, ...]], files: tuple[str, ...] = ("f.bin",)) -> Item:
    """A hub repo with the same files in each revision, and an orphan blob."""
    folder = "models--" + name.replace("/", "--")
    blobs = tuple(Blob(f"{folder}/blobs/{n}", 1, n + 1, 10, 512, 1, 0.0) for n in range(len(files) + 1))
    index = array("i", range(len(files)))
    revisions = tuple(
        Revision(c, refs, f"{folder}/snapshots/{c}", files, index, 10 * len(files)) for c, refs in commits.items()
    )
    orphan = Revision(ORPHANS, (), f"{folder}/blobs", ("orphan.bin",), array("i", [len(files)]), 10)
    return Item("hf:" + encode_target(name), "hf", root, "model", name, folder, blobs, (), 0, revisions, (orphan,))


def simple(id_: str, name: str, root: str, store: str = "ollama", path: str = "x", files: tuple[str, ...] = ()) -> Item:
    content = tuple(Blob(f"{path}/{f}", 1, n + 100, 1, 512, 1, 0.0) for n, f in enumerate(files))
    revision = Revision("", (), path, files, array("i", range(len(files))), len(files))
    return Item(id_, store, root, "model", name, path, content, (), 0, (revision,))


def scan_of(*items: Item) -> Scan:
    roots = dict.fromkeys(i.root for i in items)
    return Scan(
        tuple(
            RootScan(Root("hf", r, 1, n, "default"), tuple(i for i in items if i.root == r))
            for n, r in enumerate(roots)
        )
    )


QWEN = hub_repo("Qwen/Qwen3", "/r/hub", {A: ("main",), C: ("refs/pr/1",)}, ("config.json", "sub/q8:x.gguf"))
DATA = simple("hf:datasets/org/rows", "org/rows", "/r/hub", "hf", "datasets--org--rows")
LATEST = simple("ollama:llama3.2:latest", "llama3.2:latest", "/r/ollama", path="manifests/r/library/llama3.2/latest")
SMALL = simple("ollama:llama3.2:3b", "llama3.2:3b", "/r/ollama", path="manifests/r/library/llama3.2/3b")
HOSTED = simple("ollama:host:5000/ns/m:t", "host:5000/ns/m:t", "/r/ollama", path="manifests/host:5000/ns/m/t")
LOOSE = simple("dir:/r/models/min@l:m", "min@l:m", "/r/models", "dir", "min@l:m", ("model.safetensors", "a/b.json"))
WORLD = scan_of(QWEN, DATA, LATEST, SMALL, HOSTED, LOOSE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:Qwen/Qwen3", Selection(QWEN)),
        ("hf:qwen/qwen3", Selection(QWEN)),
        ("Qwen/Qwen3", Selection(QWEN)),
        ("model/Qwen/Qwen3", Selection(QWEN)),
        ("hf://Qwen/Qwen3", Selection(QWEN)),
        ("hf://models/Qwen/Qwen3", Selection(QWEN)),
        ("hf:Qwen/Qwen3@main", Selection(QWEN, A)),
        ("hf:Qwen/Qwen3@refs/pr/1", Selection(QWEN, C)),
        ("hf:Qwen/Qwen3@cccc", Selection(QWEN, C)),
        ("Qwen/Qwen3@CCCC", Selection(QWEN, C)),
        (C, Selection(QWEN, C)),
        ("hf:Qwen/Qwen3@~orphan", Selection(QWEN, ORPHANS)),
        ("hf:Qwen/Qwen3:config.json", Selection(QWEN, "", "config.json")),
        ("hf:Qwen/Qwen3@main:sub/q8:x.gguf", Selection(QWEN, A, "sub/q8:x.gguf")),
        ("hf:Qwen/Qwen3:orphan.bin", Selection(QWEN, ORPHANS, "orphan.bin")),
        ("dataset/org/rows", Selection(DATA)),
        ("datasets/org/rows", Selection(DATA)),
        ("hf://datasets/org/rows", Selection(DATA)),
        ("ollama:llama3.2", Selection(LATEST)),
        ("llama3.2", Selection(LATEST)),
        ("llama3.2:3b", Selection(SMALL)),
        ("ollama:llama3.2:3b", Selection(SMALL)),
        ("ollama:host:5000/ns/m:t", Selection(HOSTED)),
        ("dir:/r/models/min@l:m", Selection(LOOSE)),
        ("dir:/r/models/min@l:m:a/b.json", Selection(LOOSE, "", "a/b.json")),
        ("/r/hub/models--Qwen--Qwen3", Selection(QWEN)),
        ("/r/hub/models--Qwen--Qwen3/", Selection(QWEN)),
        (f"/r/hub/models--Qwen--Qwen3/snapshots/{C}", Selection(QWEN, C)),
        (f"/r/hub/models--Qwen--Qwen3/snapshots/{C}/sub/q8:x.gguf", Selection(QWEN, C, "sub/q8:x.gguf")),
        ("/r/hub/models--Qwen--Qwen3/blobs/1", Selection(QWEN, "", "sub/q8:x.gguf")),
        ("/r/hub/models--Qwen--Qwen3/blobs/2", Selection(QWEN, ORPHANS, "orphan.bin")),
        ("/r/models/min@l:m/a/b.json", Selection(LOOSE, "", "a/b.json")),
        ("models--Qwen--Qwen3", Selection(QWEN)),
        ("./models--Qwen--Qwen3/../datasets--org--rows", Selection(DATA)),
    ],
)
def test_spellings(text: str, expected: Selection) -> None:
    assert resolve(WORLD, text, cwd="/r/hub") == [expected]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hf:Qwen/Qwen4", "nothing here is called"),
        ("hf:Qwen/Qwen3@v9", "no revision v9"),
        ("hf:Qwen/Qwen3@ccc", "no revision ccc"),
        ("hf:Qwen/Qwen3:nope.bin", "no file nope.bin"),
        ("ollama:llama3.2:70b", "nothing here is called"),
        ("", "nothing here is called"),
        ("/r/hub", "nothing here is called"),
        ("/r/hub/models--Qwen--Qwen3/blobs", "neither one of its revisions"),
        ("/r/hub/models--Qwen--Qwen3/snapshots", "neither one of its revisions"),
        ("/r/hub/models--Qwen--Qwen3x", "nothing here is called"),
        ("\ud800", "no name that a file could have"),
    ],
)
def test_what_names_nothing(text: str, says: str) -> None:
    with pytest.raises(TargetNotFound, match=says):
        resolve(WORLD, text, cwd="/r/hub")


def test_near_names_are_offered() -> None:
    with pytest.raises(TargetNotFound) as caught:
        resolve(WORLD, "hf:Qwen/Qwen3x")
    assert "hf:Qwen/Qwen3" in caught.value.near
    with pytest.raises(TargetNotFound) as caught:
        resolve(WORLD, "llama3")
    assert {"ollama:llama3.2:3b", "ollama:llama3.2:latest"} <= set(caught.value.near)


def test_the_beginning_of_two_commits_is_no_answer() -> None:
    two = scan_of(hub_repo("org/two", "/r", {A: (), B: ()}))
    with pytest.raises(TargetAmbiguous) as caught:
        resolve(two, "hf:org/two@aaaa")
    assert caught.value.candidates == ((f"hf:org/two@{A}", "/r"), (f"hf:org/two@{B}", "/r"))


def test_the_same_commit_in_two_repos_is_no_answer() -> None:
    with pytest.raises(TargetAmbiguous):
        resolve(scan_of(hub_repo("org/x", "/r", {A: ()}), hub_repo("org/y", "/r", {A: ()})), A)


def test_case_is_ignored_only_while_it_is_clear() -> None:
    lower, upper = hub_repo("org/name", "/r", {A: ()}), hub_repo("org/NAME", "/r", {A: ()})
    assert resolve(scan_of(lower, upper), "hf:org/NAME") == [Selection(upper)]
    with pytest.raises(TargetAmbiguous):
        resolve(scan_of(lower, upper), "hf:org/Name")


def test_several_roots_come_back_together_and_root_chooses() -> None:
    here, there = hub_repo("org/x", "/here", {A: ()}), hub_repo("org/x", "/there", {A: ()})
    both = scan_of(here, there)
    assert resolve(both, "hf:org/x") == [Selection(here), Selection(there)]
    assert resolve(both, "hf:org/x", "/there") == [Selection(there)]
    assert resolve(both, "/there/models--org--x") == [Selection(there)]


def test_an_id_wins_over_a_file_of_a_shorter_one() -> None:
    short = simple("dir:/m/a", "a", "/m", "dir", "a", ("b",))
    long = simple("dir:/m/a:b", "a:b", "/m", "dir", "a:b")
    assert resolve(scan_of(short, long), "dir:/m/a:b") == [Selection(long)]
    assert resolve(scan_of(short), "dir:/m/a:b") == [Selection(short, "", "b")]


def test_the_innermost_root_wins() -> None:
    outer = simple("dir:/m/p", "p", "/m", "dir", "p")
    inner = hub_repo("org/x", "/m/p/model_cache", {A: ()})
    assert resolve(scan_of(outer, inner), "/m/p/model_cache/models--org--x") == [Selection(inner)]


def test_a_path_through_links_leads_to_the_item(tmp_path: Path) -> None:
    root = tmp_path / "real"
    repo = hub_repo("org/x", str(root), {A: ()})
    snapshot = root / repo.path / "snapshots" / A
    snapshot.mkdir(parents=True)
    blob = root / repo.path / "blobs" / "0"
    blob.parent.mkdir()
    blob.write_bytes(b"x")
    (snapshot / "f.bin").symlink_to("../../blobs/0")
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "direct.bin").symlink_to(blob)
    scan = scan_of(repo)
    assert resolve(scan, f"link/{repo.path}", cwd=str(tmp_path)) == [Selection(repo)]
    assert resolve(scan, str(tmp_path / "link" / repo.path / "snapshots" / A / "f.bin")) == [
        Selection(repo, A, "f.bin")
    ]
    assert resolve(scan, str(tmp_path / "direct.bin")) == [Selection(repo, "", "f.bin")]


@given(names, names, st.booleans(), st.booleans())
def test_every_shown_target_names_the_same_thing_again(name: str, file: str, revision: bool, whole: bool) -> None:
    repo = hub_repo("org/" + name, "/r", {A: ("main",), C: ()}, (file,))
    selection = Selection(repo) if whole else Selection(repo, A if revision else "", file)
    other = hub_repo("org/other", "/r", {C: ()})
    for shown in (target_of(selection), safe(target_of(selection))):
        assert resolve(scan_of(repo, other), shown, "/r", "/") == [selection]


@given(st.text(max_size=30))
def test_any_text_is_an_answer_or_an_error(text: str) -> None:
    try:
        assert resolve(WORLD, text, cwd="/nowhere")
    except (TargetNotFound, TargetAmbiguous) as e:
        assert str(e)


def test_parts_of_what_goes_as_a_whole_are_left_out() -> None:
    whole, part = Selection(QWEN), Selection(QWEN, A)
    file = Selection(QWEN, A, "config.json")
    assert merged([part, whole, whole, file]) == [whole]
    assert merged([file, part, file, Selection(DATA)]) == [part, Selection(DATA)]
    assert merged([file, file, Selection(QWEN, C)]) == [file, Selection(QWEN, C)]
