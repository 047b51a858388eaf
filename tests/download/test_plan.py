"""Before a byte moves: what is needed of a repo, what is here, where it goes, what stands in the way."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hub_world import MB, World, model, noise, tree
from server import Repo, sha256

from cachetui.config import Where
from cachetui.download import selection
from cachetui.download.errors import PullError
from cachetui.download.listing import Entry
from cachetui.download.places import hub_place
from cachetui.download.spelling import parse_hub
from cachetui.expected import Expected
from cachetui.paths import subsets_file
from cachetui.store import store_named


def entries(*paths: str, size: int = 1000) -> list[Entry]:
    return [Entry(p, size + n, f"{n:040x}") for n, p in enumerate(paths)]


def taken(*paths: str, **how: object) -> set[str]:
    return {e.path for e in selection.select(entries(*paths), **how).entries}  # type: ignore[arg-type]


def test_one_format_of_the_weights() -> None:
    paths = (
        "config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json",
        "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "onnx/model.onnx", "onnx/config.json",
        "openvino/openvino_model.xml", "coreml/model.mlpackage/Data/weights.bin", "original/consolidated.00.pth",
        "consolidated.safetensors", "1_Dense/pytorch_model.bin", "training_args.bin", "model.fp16.safetensors",
    )  # fmt: skip
    kept = {"config.json", "tokenizer.json", "model.safetensors", "1_Dense/pytorch_model.bin", "training_args.bin"}
    assert taken(*paths) == kept
    assert taken(*paths, everything=True) == set(paths)
    assert taken(*paths, include=["*.onnx"]) == {"onnx/model.onnx"}
    assert taken(*paths, exclude=["token*"]) == kept - {"tokenizer.json"}


def test_without_safetensors_what_there_is_stays() -> None:
    assert taken("config.json", "pytorch_model.bin", "tf_model.h5") == {"config.json", "pytorch_model.bin"}
    assert taken("config.json", "onnx/model.onnx") == {"config.json", "onnx/model.onnx"}
    assert taken("config.json", "tf_model.h5") == {"config.json", "tf_model.h5"}


def test_a_quantization_is_chosen() -> None:
    paths = (
        "README.md", "m-Q4_K_M.gguf", "m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf",
        "mmproj-F32.gguf", "mmproj-F16.gguf",
    )  # fmt: skip
    found = selection.select(entries(*paths))
    assert found.must_choose and [q.name for q in found.quants] == ["Q4_K_M", "Q8_0"]
    assert found.quants[1].files == paths[2:4]
    assert taken(*paths, quant="q4_k_m") == {"README.md", "m-Q4_K_M.gguf", "mmproj-F16.gguf"}
    assert taken(*paths, quant="Q8_0") == {"README.md", *paths[2:4], "mmproj-F16.gguf"}
    assert selection.select(entries(*paths), quant="Q2_K").unknown == "Q2_K"
    assert taken("README.md", "m-Q4_K_M.gguf") == {"README.md", "m-Q4_K_M.gguf"}


def test_a_plan_of_a_gguf_repo_is_refused_until_one_is_chosen(world: World) -> None:
    files = {f"m-{q}.gguf": noise(1000 * n, n) for n, q in enumerate(("Q4_K_M", "Q8_0"), 1)}
    world.server.add("acme/g", Repo(files, frozenset(files)))
    refused = world.plan("hf:acme/g").refused
    assert [r.code for r in refused] == ["choose-quant"] and "Q4_K_M (1.0 kB), Q8_0 (2.0 kB)" in refused[0].message
    world.pull("hf:acme/g", quant="Q8_0")
    assert {p.name for p in world.cache.rglob("*.gguf")} == {"m-Q8_0.gguf"}


@pytest.mark.parametrize(
    ("text", "kind", "repo", "revision", "path"),
    [
        ("hf:org/name", "model", "org/name", "main", ""),
        ("hf://org/name@v1", "model", "org/name", "v1", ""),
        ("gpt2@refs/pr/3:a/b.json", "model", "gpt2", "refs/pr/3", "a/b.json"),
        ("hf:datasets/org/name:x y.csv", "dataset", "org/name", "main", "x y.csv"),
    ],
)
def test_names(text: str, kind: str, repo: str, revision: str, path: str) -> None:
    found = parse_hub(text)
    assert (found.kind, found.repo, found.revision, found.path) == (kind, repo, revision, path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hf:",
        "hf:a/b/c",
        "hf:../x",
        "hf:a--b/c",
        "hf:a/b@",
        "hf:a/b@../x",
        "hf:a/b:../x",
        "hf:a/b@x y",
        "hf:a/b@a..b/..",
    ],
)
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(PullError):
        parse_hub(text)


def test_which_folder(tmp_path: Path, where: Where) -> None:
    usual = hub_place(where)
    assert usual.path == where.env["HF_HOME"] + "/hub" and not usual.found_by
    full, home, empty = tmp_path / "full", tmp_path / "home2", tmp_path / "empty"
    (full / "models--a--b").mkdir(parents=True)
    (home / "hub").mkdir(parents=True)
    empty.mkdir()
    as_it_is = hub_place(where, str(full))
    assert (as_it_is.path, as_it_is.found_by) == (str(full), (f"HF_HUB_CACHE={full}", f'cache_dir="{full}"'))
    for folder in (home, empty, tmp_path / "missing"):
        place = hub_place(where, str(folder))
        assert place.path == f"{folder}/hub" and f"HF_HOME={folder}" in place.found_by
    os.makedirs(usual.path)
    assert hub_place(where, usual.path).path == usual.path and not hub_place(where, usual.path).found_by
    own = replace(where, env={**where.env, "HF_HUB_CACHE": str(empty)})
    assert hub_place(own).path == str(empty) == hub_place(own, str(empty)).path


def test_a_new_folder_gets_hub_inside_and_the_library_finds_it(world: World) -> None:
    world.server.add("acme/m", model())
    plan = world.plan(cache_dir=str(world.tmp / "new"))
    assert any("does not exist yet" in n for n in plan.notes) and any("HF_HOME=" in n for n in plan.notes)
    world.pull(cache_dir=str(world.tmp / "new"))
    assert tree(world.tmp / "new/hub") == tree(world.theirs())


def test_the_plan_is_data_and_its_digest_tells_plans_apart(world: World) -> None:
    world.server.add("acme/m", model())
    one, two = world.plan(), world.plan(include=("*.json",))
    assert (
        json.loads(json.dumps(one.to_json()))["fetch"]
        == one.fetch
        == sum(len(c) for c in set(world.server.repos["acme/m"].files.values()))
    )
    assert one.to_json()["by_role"] == {"config": 22, "tokenizer": 200_000, "weights": 3 * MB, "other": 10}
    assert one.digest == world.plan().digest != two.digest


def test_bytes_of_this_machine_are_not_fetched(world: World) -> None:
    """From another repo's blobs (a second name), Ollama's (a copy); a copy that is wrong is fetched instead."""
    weights, other = noise(2 * MB, 4), noise(MB, 5)
    files = {"config.json": b"{}", "model.safetensors": weights, "extra.safetensors": other}
    world.server.add("acme/m", Repo(files, frozenset(["model.safetensors", "extra.safetensors"])))
    hub = Path(world.where.env["HF_HOME"]) / "hub"
    blob = hub / "models--x--y/blobs" / sha256(weights)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(weights)
    (hub / "models--x--y/snapshots" / ("1" * 40)).mkdir(parents=True)
    (hub / "models--x--y/snapshots" / ("1" * 40) / "w").symlink_to(f"../../blobs/{blob.name}")
    layer = Path(world.where.env["OLLAMA_MODELS"]) / "blobs" / f"sha256-{sha256(other)}"
    layer.parent.mkdir(parents=True)
    layer.write_bytes(other)
    actions = {f.path: f.action for f in world.plan(look=True).files}
    assert actions == {"config.json": "fetch", "model.safetensors": "link", "extra.safetensors": "copy"}
    assert world.plan(look=True).fetch == 2
    done = world.pull(look=True)
    assert done["received"] == 2 and set(done["reused"]) == {"model.safetensors", "extra.safetensors"}
    assert tree(world.cache) == tree(world.theirs())
    assert blob.stat().st_nlink == 2 and layer.stat().st_nlink == 1


@pytest.mark.parametrize("how", ["link", "copy"])
def test_a_damaged_file_of_this_machine_is_fetched_instead(world: World, how: str) -> None:
    weights = noise(2 * MB, 4)
    world.server.add("acme/m", Repo({"model.safetensors": weights}, frozenset(["model.safetensors"])))
    wrong = world.tmp / "wrong"
    wrong.write_bytes(weights[:-1] + b"?")
    from cachetui.download import pulling

    job = world.plan().job() | {"origins": {sha256(weights): {"how": how, "path": str(wrong)}}}
    done = pulling.pull(job, tell=lambda *_: None, cancelled=lambda: False)
    assert done["fetched"] == ["model.safetensors"] and wrong.stat().st_nlink == 1
    assert tree(world.cache) == tree(world.theirs())


def test_a_payload_of_the_shared_store_is_linked_as_the_library_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    weights, xet = noise(MB, 7), "ab" * 32
    world.server.add("acme/m", Repo({"w.safetensors": weights}, frozenset(["w.safetensors"]), {"w.safetensors": xet}))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    for cache in (world.cache, world.tmp / "theirs"):
        store = cache / "blobs"
        (store / xet[:2]).mkdir(parents=True)
        (store / ".huggingface-shared-blobs").write_text("1\n")
        (store / xet[:2] / xet).write_bytes(weights)
    assert [f.action for f in world.plan().files] == ["shared"]
    done = world.pull()
    assert done["reused"] == ["w.safetensors"] and done["received"] == 0
    assert tree(world.cache, ignore=(".soft",)) == tree(world.theirs(), ignore=(".soft",))


def test_no_room_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.server.add("acme/m", model())
    monkeypatch.setattr("cachetui.download.preflight.room", lambda *_: (50 * MB, 49 * MB))
    refused = world.plan().refused
    assert [r.code for r in refused] == ["no-room"] and "to stay free" in refused[0].message


def test_what_is_damaged_here_is_fetched_and_replaced(world: World) -> None:
    repo = world.server.add("acme/m", model())
    world.pull()
    blob = next(p for p in (world.cache / "models--acme--m/blobs").iterdir() if p.stat().st_size == 3 * MB)
    blob.write_bytes(b"cut short")
    plan = world.plan()
    assert [f.replaces for f in plan.files if f.action == "fetch"] == ["a blob of 9 bytes"]
    world.pull()
    assert blob.read_bytes() == repo.files["model.safetensors"]


def test_an_archived_repo_is_not_written_through_its_link(world: World) -> None:
    world.server.add("acme/m", model())
    world.cache.mkdir()
    (world.tmp / "drive").mkdir()
    (world.cache / "models--acme--m").symlink_to(world.tmp / "drive")
    refused = world.plan().refused
    assert [r.code for r in refused] == ["archived"]
    assert "cachetui restore hf:acme/m && cachetui pull hf:acme/m" in refused[0].advice


def test_partials_are_known_to_the_scanner(world: World) -> None:
    from cachetui.scan import scan

    world.server.add("acme/m", model())
    world.server.fail("503", "model.safetensors", times=-1, after=MB)
    with pytest.raises(PullError):
        world.pull(settings={"patience": 0.5, "connections": 1})
    item = next(i for i in scan(replace(world.where, cache_dirs=(str(world.cache),))).items if i.id == "hf:acme/m")
    assert "partial" in item.states
    from huggingface_hub import scan_cache_dir

    assert not scan_cache_dir(world.cache).warnings


def test_a_part_that_was_asked_for_is_whole(world: World) -> None:
    from cachetui.scan import scan

    def look() -> tuple[tuple[str, ...], dict[str, str]]:
        items = scan(replace(world.where, cache_dirs=(str(world.cache),))).items
        item = next(i for i in items if i.id == "hf:acme/m")
        return item.states, dict(item.extra)

    def outcome() -> Expected:
        items = scan(replace(world.where, cache_dirs=(str(world.cache),))).items
        return store_named("hf").expected(next(i for i in items if i.id == "hf:acme/m"))

    repo = world.server.add("acme/m", model())
    world.pull(include=("*.json",))
    states, extra = look()
    assert not outcome().incomplete
    assert states == ("ok",) and extra["asked for"] == "only *.json: 4 of 6 files were left out"
    world.pull("hf:acme/m:sub/deep")
    assert look()[0] == ("ok",)
    snapshot = world.cache / "models--acme--m/snapshots" / repo.commit
    (snapshot / "config.json").unlink()
    assert look()[0] == ("partial",) and "config.json" in outcome().incomplete[0].message  # it was asked for
    world.pull(include=("*.json",), exclude=("tokenizer*",))
    assert look()[0] == ("ok",)
    world.server.fail("503", "model.safetensors", times=-1)
    with pytest.raises(PullError):
        world.pull(settings={"patience": 0.2})
    assert look()[0] == ("partial",)  # all of it was asked for now
    subsets_file().write_text('{"subsets": [{"root": 1}]}')
    assert look()[0] == ("partial",)
