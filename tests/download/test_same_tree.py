"""What a download leaves is what huggingface_hub leaves from the same server: file for file, link for link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hub_world import World, model, noise, tree, unfinished
from server import PAGE, Repo


def test_a_model(world: World) -> None:
    world.server.add("acme/m", model())
    done = world.pull()
    assert sorted(done["fetched"]) == sorted(world.server.repos["acme/m"].files)
    assert tree(world.cache) == tree(world.theirs())


@pytest.mark.parametrize("kind", ["dataset", "space"])
def test_other_kinds(world: World, kind: str) -> None:
    world.server.add("acme/m", model(), kind)
    world.pull(f"hf:{kind}s/acme/m")
    assert tree(world.cache) == tree(world.theirs(repo_type=kind))


def test_names_without_an_organisation_and_with_odd_letters(world: World) -> None:
    files = {"a b.json": b"1", "über.json": b"2", "x%20y.json": b"3", "[1]#?.json": b"4", "$HOME.txt": b"5"}
    world.server.add("gpt2", Repo(files))
    world.pull("hf:gpt2")
    assert tree(world.cache) == tree(world.theirs("gpt2"))


def test_1200_files_come_in_pages(world: World) -> None:
    files = {f"part/{n // 100}/{n}.json": b'{"n": %d}' % n for n in range(1200)}
    assert len(files) > PAGE
    world.server.add("acme/m", Repo(files))
    world.pull(settings={"connections": 8})
    ours = [r for r in world.server.requests if "/resolve/" in r.path]
    assert len(ours) == 1200, "one request a file"
    assert tree(world.cache) == tree(world.theirs())


def test_a_commit_writes_no_ref_and_a_branch_its_own(world: World) -> None:
    repo = world.server.add("acme/m", model())
    repo.revisions["refs/pr/1"] = ("1" * 40, {"config.json": b"pr"})
    repo.revisions["v1"] = ("2" * 40, {"config.json": b"tag"})
    for revision in (repo.commit, "refs/pr/1", "v1"):
        world.pull(f"hf:acme/m@{revision}")
        theirs = world.theirs(revision=revision)
    assert tree(world.cache) == tree(theirs)
    assert not (world.cache / "models--acme--m/refs/main").exists()


def test_patterns_and_one_file(world: World) -> None:
    world.server.add("acme/m", model())
    world.pull(include=("*.json", "sub/"))
    theirs = world.theirs(allow_patterns=["*.json", "sub/"])
    assert tree(world.cache) == tree(theirs)
    world.pull("hf:acme/m:empty")
    assert tree(world.cache) == tree(world.theirs(allow_patterns=["*.json", "sub/", "empty"]))


def test_an_update_keeps_the_old_revision(world: World) -> None:
    repo = world.server.add("acme/m", model())
    old = repo.commit
    world.pull()
    world.theirs()
    repo.update({"model.safetensors": noise(2_500_000, 9)})
    before = world.server.sent()
    world.pull()
    assert world.server.sent() - before == 2_500_000, "only what changed came"
    assert tree(world.cache) == tree(world.theirs())
    assert (world.cache / f"models--acme--m/snapshots/{old}/model.safetensors").exists()


def test_again_asks_for_no_content(world: World) -> None:
    world.server.add("acme/m", model())
    world.pull()
    before = len([r for r in world.server.requests if "/resolve/" in r.path])
    done = world.pull()
    assert done["received"] == 0 and not done["fetched"]
    assert len([r for r in world.server.requests if "/resolve/" in r.path]) == before


def test_what_the_library_began_is_completed(world: World) -> None:
    world.server.add("acme/m", model())
    world.theirs(cache_dir=world.cache, allow_patterns=["config.json"])
    world.pull()
    assert tree(world.cache) == tree(world.theirs())


def test_without_links(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    monkeypatch.setenv("HF_HUB_DISABLE_SYMLINKS", "1")
    world.server.add("acme/m", model())
    world.pull()
    assert tree(world.cache) == tree(world.theirs())
    assert not any(p.is_symlink() for p in world.cache.rglob("*"))
    before = world.server.sent()
    world.pull()
    assert world.server.sent() == before


def test_a_local_folder(world: World) -> None:
    world.server.add("acme/m", model())
    ours, theirs = world.tmp / "local-ours", world.tmp / "local-theirs"
    world.pull(local_dir=str(ours))
    world.theirs(local_dir=theirs)
    assert tree(ours, ignore=(".metadata", ".lock")) == tree(theirs, ignore=(".metadata", ".lock"))
    for record in theirs.rglob("*.metadata"):
        mine = (ours / record.relative_to(theirs)).read_text().split("\n")
        assert mine[:2] == record.read_text().split("\n")[:2]
        assert (
            float(mine[2])
            >= os.stat(ours / str(record.relative_to(theirs / ".cache/huggingface/download"))[:-9]).st_mtime - 1
        )
    before = world.server.sent()
    world.pull(local_dir=str(ours))
    world.theirs(local_dir=ours)
    assert world.server.sent() == before, "the library takes it for its own"


def test_a_local_folder_gets_what_changed(world: World) -> None:
    repo = world.server.add("acme/m", model())
    ours = world.tmp / "local"
    world.pull(local_dir=str(ours))
    repo.update({"config.json": b"newer"})
    (ours / "tokenizer.json").write_bytes(b"edited by the user")
    os.utime(ours / "tokenizer.json", (2_000_000_000, 2_000_000_000))
    plan = world.plan(local_dir=str(ours))
    assert {f.path for f in plan.files if f.replaces} == {"config.json", "tokenizer.json"}
    world.pull(local_dir=str(ours))
    assert (ours / "config.json").read_bytes() == b"newer"
    assert (ours / "tokenizer.json").read_bytes() == repo.files["tokenizer.json"]


def test_the_library_loads_it_offline(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants, hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache

    repo = world.server.add("acme/m", model())
    world.pull()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = snapshot_download("acme/m", cache_dir=world.cache)
    assert Path(folder, "model.safetensors").read_bytes() == repo.files["model.safetensors"]
    assert Path(hf_hub_download("acme/m", "sub/same.txt", cache_dir=world.cache)).read_bytes() == b"hello"
    assert try_to_load_from_cache("acme/m", "config.json", cache_dir=world.cache) is not None
    found = scan_cache_dir(world.cache)
    assert len(found.repos) == 1 and not found.warnings


def test_transformers_loads_it_offline(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from huggingface_hub import constants

    world.server.add("acme/m", Repo({"config.json": b'{"model_type": "gpt2", "n_layer": 1}'}))
    world.pull()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    config = transformers.AutoConfig.from_pretrained("acme/m", cache_dir=world.cache)
    assert config.n_layer == 1


def test_our_scanner_sees_it_whole(world: World) -> None:
    from dataclasses import replace

    from cachetui.scan import scan

    world.server.add("acme/m", model())
    world.pull()
    found = scan(replace(world.where, cache_dirs=(str(world.cache),)))
    item = next(i for i in found.items if i.id == "hf:acme/m")
    assert item.states == ("ok",) and not item.problems
    assert not unfinished(world.cache)
