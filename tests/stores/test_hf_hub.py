"""The hub store: roots by the library's precedence, every shape on disk, oddities as problems, removal."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cachetui import hub_layout, walk
from cachetui.config import Where
from cachetui.demo.builders import Hub, write
from cachetui.ledger import Scan
from cachetui.model import LITTER, ORPHANS, PARTIALS, Item, Root, RootScan, Silent, Stub
from cachetui.scan import find_roots
from cachetui.store import Removal, Selection, make_root, store_named

HF = store_named("hf")
A, B, C = b"a" * 5000, b"b" * 6000, b"c" * 70_000


def root_of(path: Path) -> Root:
    root = make_root("hf", str(path), "test")
    assert root is not None
    return root


def scan(path: Path) -> RootScan:
    return HF.scan(root_of(path), frozenset(), Silent())


def items(path: Path) -> dict[str, Item]:
    return {i.id: i for i in scan(path).items}


def codes(item: Item) -> set[str]:
    return {p.code for p in item.problems}


def remove(path: Path, target: str, revision: str = "", file: str = "", also: tuple[str, ...] = ()) -> Removal:
    """What removing takes, with `also` selected as whole items too."""
    whole = Scan((scan(path),))
    found = {i.id: i for i in whole.items}
    chosen = [found[t] for t in also] + ([] if revision or file else [found[target]])
    return HF.removal(Selection(found[target], revision, file), whole.ledger, whole.ledger.positions(chosen))


def hub_at(path: Path) -> Hub:
    hub = Hub(path)
    hub.repo("org/model").revision({"config.json": b"{}"})
    return hub


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path / "hub")


# ---- roots


def roots(where: Where, **env: str) -> dict[str, Root]:
    """The hub's roots by their path; variables not given are unset."""
    clean = {k: v for k, v in where.env.items() if not k.startswith(("HF_", "XDG_", "HUGGING", "TRANSF", "LLAMA"))}
    return {r.path: r for r in HF.roots(replace(where, env=clean | env))}


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"XDG_CACHE_HOME": "{tmp}/xdg"},
        {"HF_HOME": "{tmp}/hf home", "XDG_CACHE_HOME": "{tmp}/xdg"},
        {"HF_HOME": "~/elsewhere"},
        {"HF_HOME": "$BASE/${SUB}x"},
        {"HUGGINGFACE_HUB_CACHE": "{tmp}/legacy", "HF_HOME": "{tmp}/h"},
        {"HF_HUB_CACHE": "{tmp}/new", "HUGGINGFACE_HUB_CACHE": "{tmp}/legacy"},
        {"HF_HUB_CACHE": "~/$SUB/cache"},
        {"HF_HOME": "relative/home"},
        {"HF_HOME": ""},
        {"XDG_CACHE_HOME": ""},
        {"HF_HUB_CACHE": "$UNSET/x"},
        {"HF_HUB_CACHE": ""},
    ],
    ids=str,
)
def test_the_cache_is_where_the_library_looks_for_it(where: Where, tmp_path: Path, env: dict[str, str]) -> None:
    env = {k: v.replace("{tmp}", str(tmp_path)) for k, v in env.items()} | {"BASE": str(tmp_path), "SUB": "sub"}
    done = subprocess.run(
        [sys.executable, "-c", "import os, huggingface_hub.constants as c; print(os.path.abspath(c.HF_HUB_CACHE))"],
        env={"PATH": os.environ["PATH"], "HOME": where.home} | env, cwd=where.cwd, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    expected = Path(done.stdout.strip())
    hub_at(expected)
    found = roots(where, **env)
    assert list(found) == [str(expected.resolve())]
    empty = any(not v for v in env.values())
    assert [p.code for p in found[str(expected.resolve())].problems] == (["empty-variable"] if empty else [])


def test_a_missing_cache_is_no_root_and_an_empty_variable_does_not_make_the_working_folder_one(where: Where) -> None:
    assert roots(where) == {}
    write(Path(where.cwd) / "thesis.txt", b"x")
    assert roots(where, HF_HUB_CACHE="") == {}


def test_transformers_cache_elsewhere_is_a_root_with_a_problem_and_the_same_is_silent(
    where: Where, tmp_path: Path
) -> None:
    main, old = tmp_path / "main", tmp_path / "old"
    hub_at(main)
    hub_at(old)
    (tmp_path / "alias").symlink_to(main)
    found = roots(where, HF_HUB_CACHE=str(main), TRANSFORMERS_CACHE=str(old))
    assert [p.code for p in found[str(old)].problems] == ["transformers-cache"]
    assert "transformers 5 ignores this variable" in found[str(old)].problems[0].message
    assert not found[str(main)].problems
    for same in (main, tmp_path / "alias"):
        found = roots(where, HF_HUB_CACHE=str(main), TRANSFORMERS_CACHE=str(same))
        assert [r.problems for r in found.values()] == [()]
    assert list(roots(where, HF_HUB_CACHE=str(main), TRANSFORMERS_CACHE=str(tmp_path / "none"))) == [str(main)]


def test_llama_cache_and_a_hidden_default_cache_are_roots(where: Where, tmp_path: Path) -> None:
    hub_at(tmp_path / "llama")
    (tmp_path / "flat").mkdir()
    hub_at(tmp_path / "home2" / "hub")
    hub_at(tmp_path / "main")
    found = roots(
        where, HF_HUB_CACHE=str(tmp_path / "main"), LLAMA_CACHE=str(tmp_path / "llama"), HF_HOME=str(tmp_path / "home2")
    )
    assert {p: r.origin for p, r in found.items()} == {
        str(tmp_path / "main"): "HF_HUB_CACHE",
        str(tmp_path / "home2" / "hub"): "HF_HOME",
        str(tmp_path / "llama"): "LLAMA_CACHE",
    }
    assert [p.code for p in found[str(tmp_path / "home2" / "hub")].problems] == ["unused-cache"]
    assert str(tmp_path / "flat") not in roots(where, LLAMA_CACHE=str(tmp_path / "flat"))


def test_a_given_folder_is_read_in_both_shapes(where: Where, tmp_path: Path) -> None:
    cwd = Path(where.cwd)
    hub_at(cwd / "plain")
    hub_at(cwd / "home" / "hub")
    hub_at(Path(where.home) / "mine")
    write(cwd / "loose" / "model.gguf", b"x")
    given = ("plain", "home", "~/mine", "loose", str(cwd / "none"))
    found = {r.path: r for r in HF.roots(replace(where, env={}, cache_dirs=given))}
    assert {p: (r.origin, r.given) for p, r in found.items()} == {
        str(cwd / "plain"): ("--cache-dir", "plain"),
        str(cwd / "home" / "hub"): ("--cache-dir", "home"),
        str(Path(where.home) / "mine"): ("--cache-dir", "~/mine"),
    }


def test_one_folder_reached_twice_is_one_root(where: Where, tmp_path: Path) -> None:
    hub_at(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    env = dict(where.env) | {"HF_HUB_CACHE": str(tmp_path / "link"), "LLAMA_CACHE": str(tmp_path / "real")}
    found, _ = find_roots(replace(where, env=env, cache_dirs=(str(tmp_path / "link"),)))
    assert [r.path for r in found if r.store == "hf"] == [str(tmp_path / "real")]


def test_hub_layout_is_told_from_other_folders(tmp_path: Path) -> None:
    assert hub_layout.is_hub_layout(str(hub_at(tmp_path / "a").path))
    write(tmp_path / "tagged" / "CACHEDIR.TAG", b"# created by huggingface_hub.\n")
    assert hub_layout.is_hub_layout(str(tmp_path / "tagged"))
    write(tmp_path / "cargo" / "CACHEDIR.TAG", b"# created by cargo\n")
    write(tmp_path / "file" / "models--a--b", b"")
    for name in ("cargo", "file", "none", "cargo/CACHEDIR.TAG"):
        assert not hub_layout.is_hub_layout(str(tmp_path / name))


# ---- items


def test_names_come_first_and_are_those_of_the_scan(hub: Hub) -> None:
    for kind in ("model", "dataset", "space", "kernel"):
        hub.repo("o/n-a--b", kind).revision({"f": A})
    hub.repo("gpt2").revision({"f": A})
    (hub.path / "models--\udcff").mkdir()
    stubs = HF.stubs(root_of(hub.path))
    found = scan(hub.path)
    assert stubs == tuple(Stub(i.id, i.kind, i.name, i.path) for i in found.items)
    assert {i.id for i in found.items} == {
        "hf:o/n-a/b", "hf:datasets/o/n-a/b", "hf:spaces/o/n-a/b", "hf:kernels/o/n-a/b", "hf:gpt2", "hf:\\xff",
    }  # fmt: skip


def test_two_folders_of_one_name_keep_ids_of_their_own(hub: Hub) -> None:
    hub.repo("x", "dataset").revision({"f": A})
    hub.repo("datasets/x").revision({"f": B})
    found = items(hub.path)
    second = str(hub.path / "models--datasets--x")
    assert set(found) == {"hf:datasets/x", second}
    assert found["hf:datasets/x"].kind == "dataset"
    assert codes(found[second]) == {"same-name"}
    assert [s.id for s in HF.stubs(root_of(hub.path))] == list(found)


def test_revisions_parts_and_traits(hub: Hub) -> None:
    repo = hub.repo("org/m")
    config = b'{"model_type": "llama", "dtype": "bfloat16"}'
    old = repo.revision({"config.json": config, "model.safetensors": A}, refs=())
    new = repo.revision({"config.json": config, "model.safetensors": B, "sub/x.txt": C}, refs=("main", "refs/pr/3"))
    orphan, partial = repo.orphan(b"o" * 100), repo.partial(b"p" * 200)
    write(repo.path / "blobs" / "tmp_1", b"l" * 300)
    write(repo.path / "refs" / "main", new.encode() + b"\n")  # a newline is tolerated
    write(repo.path / "refs" / f"main.{'0' * 8}.tmp", b"half")
    item = items(hub.path)["hf:org/m"]
    assert {r.commit: (set(r.refs), set(r.names)) for r in item.revisions} == {
        old: (set(), {"config.json", "model.safetensors"}),
        new: ({"main", "refs/pr/3"}, {"config.json", "model.safetensors", "sub/x.txt"}),
    }
    assert {p.commit: p.names for p in item.parts} == {
        ORPHANS: (orphan.name,), PARTIALS: (partial.name,), LITTER: ("tmp_1",),
    }  # fmt: skip
    assert item.size == len(config) + len(A) + len(B) + len(C) + 600
    assert item.file_count == 7
    assert item.states == ("ok",)
    assert codes(item) == {"unfinished-download"}
    assert item.traits.family == "llama"
    assert ("load it", 'from_pretrained("org/m")') in item.extra


def test_partial_is_not_damaged(hub: Hub) -> None:
    hub.repo("o/some").revision(
        {"a.safetensors": A, "b.safetensors": B}, missing=("b.safetensors",), no_exist=("config.json",)
    )
    swapped = hub.repo("o/swapped").revision({"a.safetensors": A, "b.safetensors": B}, missing=("b.safetensors",))
    write(hub.path / "models--o--swapped" / "snapshots" / swapped / "my.txt", B)  # as many files as are listed
    started = hub.repo("o/started")
    started.partial(C)
    write(started.path / "refs" / "main", b"0" * 40)
    found = items(hub.path)
    assert found["hf:o/some"].states == ("partial",)
    assert [p.message for p in found["hf:o/some"].problems] == ["1 of 2 files are not downloaded"]
    assert found["hf:o/swapped"].states == ("partial",)
    assert found["hf:o/started"].states == ("partial",)
    assert codes(found["hf:o/started"]) == {"unfinished-download"}


def test_what_repeats_the_weights_need_not_be_there(hub: Hub) -> None:
    weights = {"model.safetensors": A, "pytorch_model.bin": B, "onnx/model.onnx": C, "config.json": b"{}"}
    hub.repo("o/one-format").revision(weights, missing=("pytorch_model.bin", "onnx/model.onnx"))
    hub.repo("o/no-config").revision(weights, missing=("pytorch_model.bin", "config.json"))
    quants = {"m-Q4_K_M.gguf": A, "m-Q8_0-00001-of-00002.gguf": B, "m-Q8_0-00002-of-00002.gguf": C}
    hub.repo("o/one-quant").revision(quants, missing=tuple(n for n in quants if "Q8_0" in n))
    hub.repo("o/half-quant").revision(quants, missing=("m-Q4_K_M.gguf", "m-Q8_0-00002-of-00002.gguf"))
    found = {id_: item.states for id_, item in items(hub.path).items()}
    assert found == {
        "hf:o/one-format": ("ok",), "hf:o/no-config": ("partial",),
        "hf:o/one-quant": ("ok",), "hf:o/half-quant": ("partial",),
    }  # fmt: skip


def test_what_is_no_repo_is_listed_and_bookkeeping_is_not(hub: Hub) -> None:
    hub.repo("o/m").lock("x")
    write(hub.path / "notes" / "a.bin", A)
    write(hub.path / "big.gguf", B)
    for name in ("version.txt", ".DS_Store", "my.lock", ".cachetui-trash/x/y", ".locks/z"):
        write(hub.path / name, A)
    write(hub.path / "blobs" / "unmarked", C)
    found = {i.name: i for i in scan(hub.path).items}
    assert {n: (i.kind, i.size) for n, i in found.items()} == {
        "notes": ("unknown", len(A)), "big.gguf": ("unknown", len(B)), "blobs": ("unknown", len(C)),
    }  # fmt: skip
    assert found["notes"].id == str(hub.path / "notes")
    assert remove(hub.path, found["notes"].id) == Removal(("notes",))


def test_other_roots_inside_are_left_to_themselves(hub: Hub) -> None:
    inner = hub_at(hub.path / "models--inner")
    deep = hub_at(hub.path / "notes" / "deep")
    nested = frozenset((os.stat(h.path).st_dev, os.stat(h.path).st_ino) for h in (inner, deep))
    result = HF.scan(root_of(hub.path), nested, Silent())
    assert set(result.nested) == {"models--inner", "notes/deep"}
    assert [i.path for i in result.items] == ["notes"]


# ---- shared store


def test_shared_payloads_are_links_of_all_who_need_them(hub: Hub) -> None:
    for name in ("a", "b"):
        hub.repo(f"o/{name}").revision({"w": C, "own": A + name.encode()}, shared=("w",))
    payload = str(hub.payload(C).relative_to(hub.path))
    result = scan(hub.path)
    found = {i.id: i for i in result.items}
    assert set(found) == {"hf:o/a", "hf:o/b"}
    for item in found.values():
        assert [b.path for b in item.links] == [payload]
        assert item.size == len(C) + len(A) + 1
        assert item.revisions[0].size == item.size
        assert not item.problems
    assert result.size == len(C) + 2 * (len(A) + 1)
    ledger = Scan((result,)).ledger
    assert ledger.shared(found["hf:o/a"]) == len(C)


def test_a_payload_nobody_links_is_an_orphan_item(hub: Hub) -> None:
    repo = hub.repo("o/a")
    repo.revision({"w": C}, shared=("w",))
    payload = hub.payload(C)
    shutil.rmtree(repo.path)
    found = items(hub.path)
    assert {i.kind for i in found.values()} == {"orphan"}
    relative = str(payload.relative_to(hub.path))
    taken = remove(hub.path, str(payload))
    assert taken.content == (relative, relative + ".refs", relative + ".lock")
    (hub.path / "models--o--a").symlink_to(hub.path.parent / "unplugged")
    found = items(hub.path)
    assert found[str(payload)].states == ("offline",)
    assert found["hf:o/a"].states == ("offline",)
    assert "models--o--a" in remove(hub.path, str(payload)).refused


def test_a_shared_store_of_another_version_is_kept(hub: Hub) -> None:
    hub.repo("o/a").revision({"w": C}, shared=("w",))
    hub.publish(hub.repo("o/gone"), B)
    shutil.rmtree(hub.repo("o/gone").path)
    write(hub.path / "blobs" / ".huggingface-shared-blobs", b"2\n")
    result = scan(hub.path)
    assert [p.code for p in result.problems] == ["shared-store-version"]
    assert remove(hub.path, "hf:o/a").content == ()
    orphan = items(hub.path)[str(hub.payload(B))]
    assert codes(orphan) == {"maybe-needed"}
    assert "could not be read" in remove(hub.path, orphan.id).refused


# ---- odd and hostile


def test_a_moved_repo_is_archived_or_offline_and_never_counted_here(hub: Hub, tmp_path: Path) -> None:
    for name in ("here", "gone"):
        repo = hub.repo(f"o/{name}")
        repo.revision({"w": C, "config.json": b'{"model_type": "llama"}'})
        repo.path.rename(tmp_path / name)
        repo.path.symlink_to(tmp_path / name)
    shutil.rmtree(tmp_path / "gone")
    result = scan(hub.path)
    found = {i.id: i for i in result.items}
    assert found["hf:o/here"].states == ("archived",)
    assert found["hf:o/here"].size > len(C)
    assert found["hf:o/here"].allocated == found["hf:o/here"].overhead <= 4096
    assert found["hf:o/here"].traits.family == "llama"
    assert found["hf:o/gone"].states == ("offline",)
    assert result.size == 0
    assert remove(hub.path, "hf:o/here") == Removal(("models--o--here",))


@pytest.mark.parametrize("level", ["", "/blobs", "/snapshots", "/snapshots/" + "1" * 40])
def test_what_cannot_be_read_is_listed_and_makes_us_blind(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """As an I/O error, for the tests may run as root, whom no permission stops."""
    for name in ("m", "n"):
        hub.repo(f"o/{name}").revision({"w": C, "own": A}, commit="1" * 40, shared=("w",))
    hub.repo("o/m").orphan(B)
    bad = f"models--o--m{level}"
    real = os.stat(hub.path / bad)
    opened = os.open

    def failing(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        fd = opened(path, flags, mode, dir_fd=dir_fd)
        if os.path.samestat(os.fstat(fd), real):
            os.close(fd)
            raise OSError(errno.EIO, "Input/output error")
        return fd

    monkeypatch.setattr(os, "open", failing)
    result = scan(hub.path)
    found = {i.id: i for i in result.items}
    assert result.blind == (bad,)
    assert "damaged" in found["hf:o/m"].states
    assert "unreadable" in codes(found["hf:o/m"])
    assert not any(p.commit == ORPHANS for p in found["hf:o/m"].parts)
    assert str(hub.payload(C).relative_to(hub.path)) not in remove(hub.path, "hf:o/n").content


def test_a_repo_that_vanishes_while_it_is_read_is_left_out(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        hub.repo(f"o/{name}").revision({"w": A})

    class Remover(Silent):
        def sized(self, root: Root, item: Item) -> None:
            shutil.rmtree(hub.path / "models--o--b", ignore_errors=True)

    result = HF.scan(root_of(hub.path), frozenset(), Remover())
    assert [i.id for i in result.items] == ["hf:o/a", "hf:o/c"]
    assert result.complete


def test_cancel_keeps_what_is_there(hub: Hub) -> None:
    for name in ("a", "b", "c"):
        hub.repo(f"o/{name}").revision({"w": A})

    class Impatient(Silent):
        seen = 0

        def sized(self, root: Root, item: Item) -> None:
            self.seen += 1

        def cancelled(self) -> bool:
            return self.seen >= 2

    result = HF.scan(root_of(hub.path), frozenset(), Impatient())
    assert len(result.items) == 2
    assert not result.complete


def test_the_same_is_found_without_directory_descriptors(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = hub.repo("o/m")
    repo.revision({"a/b/c.txt": A, "w": C}, shared=("w",))
    repo.revision({"real/file": B}, real_files=True, refs=("v1",))
    repo.partial(A)
    hub.repo("o/n").lock("x")
    write(hub.path / "stray" / "x", A)
    write(hub.path / "models--a--file", A)
    write(tmp_path / "away" / "snapshots" / ("1" * 40) / "x", A)
    (hub.path / "models--a--link").symlink_to(tmp_path / "away")
    (hub.path / "models--a--loop").symlink_to("models--a--loop")
    by_descriptor = scan(hub.path)
    monkeypatch.setattr(walk, "HAS_SCANDIR_FD", False)
    assert scan(hub.path) == by_descriptor
