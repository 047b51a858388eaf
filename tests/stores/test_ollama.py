"""Ollama's store: against one that a real server wrote, and every shape that a server or a crash leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachetui import walk
from cachetui.config import Where
from cachetui.demo.builders import Filler, OllamaStore, gguf_bytes, write
from cachetui.ledger import Scan
from cachetui.model import Item, RootScan, Silent
from cachetui.ollama_layout import BadManifest, blob_name, display_name, item_id, parse_config, parse_manifest
from cachetui.scan import find_roots, scan
from cachetui.store import Removal, Selection, make_root, store_named
from cachetui.stores import ollama

DATA = Path(__file__).parent.parent / "data"
STORE = store_named("ollama")
GGUF = gguf_bytes({"general.architecture": "llama"}, 20_000)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """A store written by a server of version 0.33.0-rc2."""
    shutil.unpack_archive(DATA / "ollama_store_0.33.0-rc2.tar.gz", tmp_path / "real")
    return tmp_path / "real" / "models"


@pytest.fixture
def store(tmp_path: Path) -> OllamaStore:
    return OllamaStore(tmp_path / "models")


def read(path: Path) -> RootScan:
    root = make_root("ollama", str(path), "test")
    assert root is not None
    return STORE.scan(root, frozenset(), Silent())


def one(scan: RootScan, name: str) -> Item:
    (item,) = [i for i in scan.items if i.id == f"ollama:{name}"]
    return item


def codes(item: Item) -> list[str]:
    return [p.code for p in item.problems]


def remove(scan: RootScan, *names: str) -> dict[str, Removal]:
    """What removing these together takes, by name."""
    ledger = Scan((scan,)).ledger
    items = [one(scan, n) for n in names]
    return {n: STORE.removal(Selection(i), ledger, ledger.positions(items)) for n, i in zip(names, items, strict=True)}


def test_a_real_server_s_store(real: Path) -> None:
    """Names, sizes and ids are the server's own (/api/tags); the two models it made afterwards are there too."""
    tags = json.loads((DATA / "ollama_api" / "tags.http").read_text().split("\n\n", 1)[1])["models"]
    found = {i.name: i for i in read(real).items if i.kind == "model"}
    assert set(found) == {t["name"] for t in tags} | {"tiny-sys:latest", "127.0.0.1:5055/library/tiny:latest"}
    for tag in tags:
        item = found[tag["name"]]
        assert item.id == f"ollama:{tag['name']}"
        assert (item.size, item.revisions[0].commit) == (tag["size"], tag["digest"])
        assert dict(item.extra)["ID"] == tag["digest"][:12]
        details = tag["details"]
        assert (item.traits.family, item.traits.parameters) == (details["family"], details["parameter_size"])
        assert item.traits.formats == ("gguf",) and item.traits.quantization == "", "the server says: unknown"
        assert item.states == ("ok",)
    assert found["tiny:latest"].revisions[0].names == ("model", "template", "system", "license", "params", "config")


def test_a_real_server_s_store_leaves_orphans(real: Path) -> None:
    orphans = [i for i in read(real).items if i.kind == "orphan"]
    assert sorted(i.size for i in orphans) == [127, 444544, 444544]
    assert all(i.states == ("orphan",) for i in orphans)


def test_shared_layers_go_with_their_last_tag(real: Path) -> None:
    scan = read(real)
    alone = remove(scan, "tiny:latest")["tiny:latest"]
    assert alone.references == ("manifests/registry.ollama.ai/library/tiny/latest",)
    assert alone.content == () and len(alone.stays) == 6
    names = ("tiny:latest", "tiny-copy:1", "127.0.0.1:5055/library/tiny:latest", "tiny-persona:v1", "tiny-sys:latest")
    together = remove(scan, *names)["tiny:latest"]
    assert {b.size for b in together.stays} == {152}, "only the config that acme/other:q names stays"
    assert len(together.content) == 5
    ledger = Scan((scan,)).ledger
    assert ledger.frees([one(scan, "tiny:latest")]) == 4096
    weights = one(scan, "tiny:latest").links[0].allocated
    assert ledger.frees([one(scan, n) for n in names]) > weights


def test_names() -> None:
    hosts = {
        "registry.ollama.ai/library/a/b": "a:b",
        "registry.ollama.ai/acme/a/b": "acme/a:b",
        "hf.co/org/name/Q4_K_M": "hf.co/org/name:Q4_K_M",
        "127.0.0.1:5055/library/tiny/latest": "127.0.0.1:5055/library/tiny:latest",
        "REGISTRY.ollama.AI/LIBRARY/a/b": "a:b",
    }
    assert {path: display_name(path) for path in hosts} == hosts
    for bad in ("a/b/c", "a/b/c/d/e", "h/n/m/t:x", "h/n/m:x/t", "h/n/.m/t", "h/n/m/", "h/n/m/\x1b", "h/n.x/m/t"):
        assert display_name(bad) is None


def test_names_that_the_server_would_print_alike_stay_two_ids() -> None:
    paths = ["manifests/registry.ollama.ai/library/a/b", "manifests/Registry.ollama.ai/library/a/b",
             "manifests/registry.ollama.ai/Library/a/b", "manifests/hf.co/library/a/b", "manifests/hf.co/Library/a/b",
             "manifests/registry.ollama.ai/acme/a/b", "manifests/registry.ollama.ai/library/a:b/c",
             "manifests/registry.ollama.ai/library/a/b:c", "manifests/a", "blobs/a"]  # fmt: skip
    assert len({item_id(p) for p in paths}) == len(paths)
    assert item_id(paths[0]) == "ollama:a:b"


@pytest.mark.parametrize(
    "digest",
    ["sha256:" + "a" * 63, "sha256:" + "A" * 64, "sha256:../../../etc/passwd", "md5:" + "a" * 64, "a" * 64, "", None,
     5, ["sha256:" + "a" * 64], "sha256:" + "a" * 64 + "\n", "sha256:" + "a" * 64 + "/../x", "sha256_" + "a" * 64],
)  # fmt: skip
def test_a_digest_is_a_path_only_when_it_matches_exactly(digest: object) -> None:
    assert blob_name(digest) == ""
    assert blob_name("sha256:" + "a" * 64) == blob_name("sha256-" + "a" * 64) == "sha256-" + "a" * 64


def test_a_digest_that_climbs_out_makes_the_manifest_damaged(store: OllamaStore) -> None:
    path = store.model("x:latest", {"model": GGUF})
    manifest = json.loads(path.read_text())
    manifest["layers"][0]["digest"] = "sha256:../../../../etc/passwd"
    path.write_text(json.dumps(manifest))
    scan = read(store.path)
    item = one(scan, "x:latest")
    assert item.states == ("damaged",) and item.links == () and scan.blind


def test_a_corrupt_manifest_keeps_every_layer(store: OllamaStore) -> None:
    store.model("good:latest", {"model": GGUF})
    bad = store.model("bad:latest", {"model": GGUF + b"2"})
    bad.write_bytes(b'{"layers": [')
    scan = read(store.path)
    item = one(scan, "bad:latest")
    assert (item.states, codes(item)) == (("damaged",), ["bad-manifest"])
    assert scan.blind == (str(bad),)
    good = remove(scan, "good:latest")["good:latest"]
    assert good.references and good.content == () and len(good.stays) == 2
    for orphan in [i for i in scan.items if i.kind == "orphan"]:
        removal = remove(scan, orphan.id.removeprefix("ollama:"))[orphan.id.removeprefix("ollama:")]
        assert removal.references == () and str(bad) in removal.refused
    assert remove(scan, "bad:latest")["bad:latest"].references == ("manifests/registry.ollama.ai/library/bad/latest",)


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"[" * 100_000, b'{"layers": 5}', b'{"layers": [5]}',
                                 b'{"config": []}', b'{"layers": [{"digest": 5}]}', b"\xff"])  # fmt: skip
def test_manifests_that_are_none(raw: bytes) -> None:
    with pytest.raises(BadManifest):
        parse_manifest(raw)


def test_a_manifest_that_cannot_be_opened_is_blind(store: OllamaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = store.model("x:latest", {"model": GGUF})
    link = store.model("y:latest", {"model": GGUF + b"y"})
    link.unlink()
    link.symlink_to("/etc/hostname")
    really = walk.read_small

    def read_small(name: str, cap: int = walk.MAX_SMALL, **more: int) -> bytes:
        if name == str(closed):  # what chmod 0 does to anybody but root
            raise PermissionError(13, "Permission denied", name)
        return really(name, cap, **more)

    monkeypatch.setattr(walk, "read_small", read_small)
    scan = read(store.path)
    assert set(scan.blind) == {str(closed), str(link)}
    assert (codes(one(scan, "x:latest")), codes(one(scan, "y:latest"))) == (["unreadable"], ["manifest-link"])


def test_a_dangling_manifest_says_what_it_does_to_the_server(store: OllamaStore) -> None:
    path = store.model("x:latest", {"model": GGUF})
    path.unlink()
    path.symlink_to("/mnt/gone/x")
    scan = read(store.path)
    item = one(scan, "x:latest")
    assert codes(item) == ["dangling-manifest"] and "list" in item.problems[0].hint
    assert remove(scan, "x:latest")["x:latest"].references == (item.path,)


def test_a_missing_layer_and_one_of_another_size(store: OllamaStore) -> None:
    store.model("gone:1", {"model": GGUF, "license": b"MIT"})
    store.model("cut:1", {"model": GGUF + b"cut"})
    for item in read(store.path).items:
        blob = store.path / item.links[0].path
        if item.name == "gone:1":
            blob.unlink()
        else:
            blob.write_bytes(b"short")
    scan = read(store.path)
    gone, cut = one(scan, "gone:1"), one(scan, "cut:1")
    assert codes(gone) == ["layer-missing"] and gone.states == ("damaged",) and gone.revisions[0].index[0] == -1
    assert codes(cut) == ["layer-size"] and cut.states == ("damaged",)
    assert not scan.blind, "which layers they name is known"


def test_hundreds_of_missing_tensors_are_a_few_rows(store: OllamaStore) -> None:
    store.model("big:latest", {f"tensor#{n}": b"%d" % n * 100 for n in range(300)})
    for blob in list((store.path / "blobs").iterdir()):
        if blob.stat().st_size > 150:
            blob.unlink()
    problems = one(read(store.path), "big:latest").problems
    assert len(problems) == 6 and problems[-1].code == "more"


def test_tensor_layers_keep_their_names(store: OllamaStore) -> None:
    path = store.model("t:latest", {"tensor#1": b"one", "tensor#2": b"two"}, config={"model_format": "safetensors"})
    manifest = json.loads(path.read_text())
    for row, name in zip(manifest["layers"], ("model.embed", "model.embed"), strict=True):
        row["name"] = name
    path.write_text(json.dumps(manifest))
    item = one(read(store.path), "t:latest")
    assert item.revisions[0].names == ("model.embed", "model.embed#2", "config")
    assert (item.traits.formats, item.traits.loads_with) == (("safetensors",), ("ollama",))


def test_a_cloud_model_is_a_stub_and_fine(store: OllamaStore) -> None:
    config = {"remote_host": "https://ollama.com:443", "remote_model": "gpt-oss:120b", "model_type": "116.8B"}
    store.model("gpt-oss:120b-cloud", {}, config=config)
    item = one(read(store.path), "gpt-oss:120b-cloud")
    assert item.states == ("ok",) and item.problems == () and item.traits.formats == ()
    assert dict(item.extra)["runs at"] == "https://ollama.com:443"


def test_partials_are_counted_by_their_blocks(store: OllamaStore) -> None:
    partial = store.partial(Filler(50_000_000, "pull"), 8192)
    for n in (1, 2):
        write(partial.with_name(f"{partial.name}-{n}"), b"{}")
    scan = read(store.path)
    (item,) = scan.items
    assert (item.kind, item.states, item.file_count) == ("partial", ("partial",), 4)
    assert item.size > 50_000_000 and item.allocated == 8192 + 3 * 4096
    removal = remove(scan, item.id.removeprefix("ollama:"))[item.id.removeprefix("ollama:")]
    assert len(removal.references) == 4 and removal.content == ()


def test_litter_and_strangers_are_told_apart(store: OllamaStore) -> None:
    write(store.path / "blobs" / "sha256-2451341", b"unfinished import")
    write(store.path / "blobs" / "notes.txt", b"mine")
    write(store.path / "blobs" / ".DS_Store", b"x")
    write(store.path / "blobs" / "folder" / "x", b"x")
    scan = read(store.path)
    assert {i.name: (i.kind, codes(i)) for i in scan.items} == {
        "sha256-2451341": ("partial", ["litter"]),
        "notes.txt": ("unknown", ["unknown-entry"]),
    }
    assert [p.code for p in scan.problems] == ["unknown-entry"]


def test_blobs_that_were_archived(store: OllamaStore, tmp_path: Path) -> None:
    store.model("here:1", {"model": GGUF})
    store.model("away:1", {"model": GGUF + b"away"})
    before = {i.name: i.size for i in read(store.path).items}
    for item in read(store.path).items:
        blob = store.path / item.links[0].path
        target = tmp_path / "drive" / blob.name
        target.parent.mkdir(exist_ok=True)
        shutil.move(blob, target)
        blob.symlink_to(target)
        if item.name == "away:1":
            target.unlink()
    scan = read(store.path)
    here, away = one(scan, "here:1"), one(scan, "away:1")
    assert (here.states, here.problems, here.size) == (("archived",), (), before["here:1"])
    assert (away.states, codes(away), away.size) == (("offline",), ["offline"], before["away:1"])
    assert here.allocated < 3 * 4096 + 1, "what lies on the other drive is not counted here"
    assert remove(scan, "here:1")["here:1"].content[0] == here.links[0].path


def test_a_link_to_another_blob_keeps_that_one(store: OllamaStore) -> None:
    store.model("x:latest", {"model": GGUF})
    target = store.orphan(GGUF + b"same bytes elsewhere")
    (store.path / one(read(store.path), "x:latest").links[0].path).unlink()
    digest = json.loads((store.path / one(read(store.path), "x:latest").path).read_text())["layers"][0]["digest"]
    (store.path / "blobs" / digest.replace(":", "-")).symlink_to(target.name)
    scan = read(store.path)
    assert [i.kind for i in scan.items] == ["model"], "the target is no orphan"
    assert f"blobs/{target.name}" in {b.path for b in one(scan, "x:latest").links}


def test_a_manifest_at_the_wrong_level_still_holds_its_layers(store: OllamaStore) -> None:
    path = store.model("x:latest", {"model": GGUF})
    kept = store.path / "manifests" / "backup" / "registry.ollama.ai" / "library" / "x" / "latest"
    kept.parent.mkdir(parents=True)
    path.rename(kept)
    write(store.path / "manifests" / "notes", b"no manifest at all")
    scan = read(store.path)
    assert {i.kind for i in scan.items} == {"unknown"} and not scan.blind
    (item,) = [i for i in scan.items if i.links]
    assert codes(item) == ["misplaced"] and len(item.links) == 2


def test_no_manifests_folder_offers_no_orphan(store: OllamaStore) -> None:
    store.model("x:latest", {"model": GGUF})
    shutil.rmtree(store.path / "manifests")
    scan = read(store.path)
    assert [p.code for p in scan.problems] == ["no-manifests"]
    for item in scan.items:
        name = item.id.removeprefix("ollama:")
        assert item.kind == "orphan" and remove(scan, name)[name].refused


def test_blobs_on_another_drive(store: OllamaStore, tmp_path: Path) -> None:
    store.model("x:latest", {"model": GGUF})
    (store.path / "blobs").rename(tmp_path / "drive")
    (store.path / "blobs").symlink_to(tmp_path / "drive")
    scan = read(store.path)
    assert [p.code for p in scan.problems] == ["outside"]
    item = one(scan, "x:latest")
    assert item.problems == () and item.size == 0
    assert remove(scan, "x:latest")["x:latest"].refused


def test_second_names_are_counted_once(store: OllamaStore) -> None:
    manifest = store.model("x:latest", {"model": GGUF})
    blob = store.orphan(GGUF + b"orphan")
    os.link(blob, store.path / "copy.gguf")
    os.link(blob, store.path / "manifests" / "copy")
    os.link(manifest, manifest.with_name("twin"))
    (store.path / "mine").mkdir()
    os.link(manifest, store.path / "mine" / "kept")
    blocks = int(subprocess.run(["du", "-s", "-B1", store.path], check=True, capture_output=True).stdout.split()[0])
    assert read(store.path).allocated == blocks


def test_a_layer_alone_cannot_be_removed(store: OllamaStore) -> None:
    store.model("x:latest", {"model": GGUF})
    scan = read(store.path)
    ledger = Scan((scan,)).ledger
    item = one(scan, "x:latest")
    assert STORE.removal(Selection(item, file="model"), ledger, set()).refused
    whole = STORE.removal(Selection(item), ledger, ledger.positions([item]))
    assert STORE.removal(Selection(item, item.revisions[0].commit), ledger, set()) == whole


def test_roots(home: Path, where: Where, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def roots(**env: str) -> list[tuple[str, str]]:
        found, _ = find_roots(Where(env, str(home), str(home), cache_dirs=(str(tmp_path / "given"),)))
        return [(os.path.relpath(r.path, tmp_path), r.origin) for r in found if r.store == "ollama"]

    monkeypatch.setattr(ollama, "SYSTEM_MODELS", str(tmp_path / "system"))
    for path in (home / ".ollama" / "models", home / "mine", tmp_path / "system", tmp_path / "given"):
        OllamaStore(path)
    rest = [("system", "system service"), ("given", "--cache-dir")]
    assert roots() == [("home/.ollama/models", "default"), *rest]
    assert roots(OLLAMA_MODELS="") == roots()
    assert roots(OLLAMA_MODELS='"mine" ') == [("home/mine", "OLLAMA_MODELS"), *rest]
    assert roots(OLLAMA_MODELS=str(tmp_path / "system"))[0] == ("system", "OLLAMA_MODELS")
    assert len(roots(OLLAMA_MODELS=str(tmp_path / "system"))) == 2, "reached twice, one root"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root can write everywhere")
def test_the_service_s_store_is_shown_and_not_writable(
    where: Where, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = OllamaStore(tmp_path / "system")
    system.model("x:latest", {"model": GGUF})
    monkeypatch.setattr(ollama, "SYSTEM_MODELS", str(system.path))
    system.path.chmod(0o555)
    (root,) = [r for r in scan(where, stores=["ollama"]).roots if r.root.path == str(system.path)]
    assert not root.root.writable and [p.code for p in root.root.problems] == ["not-writable"]
    assert root.items[0].states == ("read-only",)


def test_without_the_right_to_write(store: OllamaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as any user, also where the tests run as root."""
    store.model("x:latest", {"model": GGUF})
    monkeypatch.setattr(ollama, "SYSTEM_MODELS", str(store.path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (root,) = [r for r in STORE.roots(Where({}, "/nowhere", "/")) if r.origin == "system service"]
    assert [p.code for p in root.problems] == ["not-writable"]
    assert STORE.scan(root, frozenset(), Silent()).items[0].states == ("read-only",)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("sha256:" + "a" * 64),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["layers", "config", "digest", "size", "mediaType", "name", "model_type"]), inner),
    max_leaves=15,
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=60), json_values.map(lambda v: json.dumps(v).encode())))
def test_any_bytes_are_a_manifest_or_a_bad_one(raw: bytes) -> None:
    parse_config(raw)
    try:
        manifest = parse_manifest(raw)
    except BadManifest:
        return
    roles = [layer.role for layer in manifest.layers]
    assert len(set(roles)) == len(roles)
    assert all(blob_name(layer.file) == layer.file for layer in manifest.layers)
