"""Every shape of content and every fault: what is verified, and what is said of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from verify_world import CONFIG, World, codes, cut, flip, weights

from cachetui import verify
from cachetui.demo.builders import HubRepo, commit_of, gguf_bytes, git_sha1, local_dir, sha256
from cachetui.store import store_named
from cachetui.verify import CANNOT_TELL, DAMAGED, INCOMPLETE, INTACT

ITEM = "hf:org/name"
FILES = {"config.json": CONFIG, "model.safetensors": weights("a", 80_000)}


def repo(world: World, **how: object) -> tuple[HubRepo, str]:
    made = world.hub.repo("org/name")
    return made, made.revision(FILES, **how)  # type: ignore[arg-type]


def blob(made: HubRepo, commit: str, name: str = "model.safetensors") -> Path:
    """Where the bytes of a file lie, at the end of all links."""
    return (made.path / "snapshots" / commit / name).resolve()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"real_files": True},
        {"shared": ("model.safetensors",)},
        {"shared": ("model.safetensors",), "tree": False},
        {"tree": False},
    ],
)
def test_a_whole_repo_is_intact_and_a_flipped_bit_is_found(world: World, how: dict[str, object]) -> None:
    made, commit = repo(world, **how)
    verdict = world.one(ITEM)
    assert (verdict.outcome, verdict.findings, verdict.files) == (INTACT, (), 2)
    assert verdict.read == sum(map(len, FILES.values()))
    flip(blob(made, commit))
    verdict = world.one(ITEM)
    assert (verdict.outcome, codes(verdict)) == (DAMAGED, ["hash"])
    (finding,) = verdict.findings
    assert finding.path == str(blob(made, commit))
    assert finding.name == "model.safetensors"
    assert sha256(FILES["model.safetensors"]) == finding.digest
    assert "hf download org/name model.safetensors" in finding.offer


def test_small_files_are_judged_by_git_sha1(world: World) -> None:
    made, commit = repo(world)
    flip(blob(made, commit, "config.json"), 3)
    (finding,) = world.one(ITEM).findings
    assert (finding.name, finding.algorithm, finding.digest) == ("config.json", "git-sha1", git_sha1(CONFIG))


@pytest.mark.parametrize("shared", [(), ("model.safetensors",)])
def test_truncated_is_said_by_size_without_reading(world: World, shared: tuple[str, ...]) -> None:
    made, commit = repo(world, shared=shared)
    cut(blob(made, commit), 70_000)
    verdict = world.one(ITEM)
    assert (verdict.outcome, codes(verdict), verdict.read) == (DAMAGED, ["size"], len(CONFIG))
    assert "has 70000 bytes instead of" in verdict.findings[0].message
    assert "cut short" in verdict.findings[0].message


def test_truncated_without_a_listing_is_said_by_hash(world: World) -> None:
    made, commit = repo(world, tree=False)
    cut(blob(made, commit), 70_000)
    (finding,) = world.one(ITEM).findings
    assert finding.code == "hash"
    assert "cut short: its header asks for" in finding.message


def test_missing_content_is_damaged_and_undownloaded_content_is_incomplete(world: World) -> None:
    made, commit = repo(world)
    other = world.hub.repo("org/part")
    other.revision(FILES, missing=("model.safetensors",))
    path = blob(made, commit)
    path.unlink()
    found = world.check()
    assert (found[ITEM].outcome, codes(found[ITEM])) == (DAMAGED, ["missing"])
    assert found[ITEM].findings[0].path == str(path)
    assert found[ITEM].findings[0].digest == path.name
    assert (found["hf:org/part"].outcome, codes(found["hf:org/part"])) == (INCOMPLETE, ["not-downloaded"])


def test_a_payload_that_is_gone_is_missing_where_it_lay(world: World) -> None:
    made, commit = repo(world, shared=("model.safetensors",))
    path = blob(made, commit)
    path.unlink()
    verdict = world.one(ITEM)
    assert (verdict.outcome, codes(verdict)) == (DAMAGED, ["missing"])
    assert verdict.findings[0].path == str(path)
    assert verdict.findings[0].digest == sha256(FILES["model.safetensors"])


def test_a_link_to_other_content_than_the_listing_says(world: World) -> None:
    made, commit = repo(world)
    entry = made.path / "snapshots" / commit / "config.json"
    other = made.orphan(b'{"model_type": "other"}')
    entry.unlink()
    entry.symlink_to(os.path.relpath(other, entry.parent))
    verdict = world.one(ITEM)
    assert verdict.outcome == DAMAGED
    assert "wrong-content" in codes(verdict)


def test_an_unfinished_download_is_incomplete(world: World) -> None:
    made, _ = repo(world)
    made.partial(b"half")
    verdict = world.one(ITEM)
    assert (verdict.outcome, codes(verdict)) == (INCOMPLETE, ["unfinished-download"])


def test_orphan_blobs_and_payloads_are_verified(world: World) -> None:
    made, _ = repo(world)
    flip(made.orphan(weights("orphan", 90_000)))
    assert world.one(ITEM).outcome == DAMAGED
    lost = world.hub.repo("org/lost")
    commit = lost.revision(FILES, shared=("model.safetensors",))
    payload = blob(lost, commit)
    shutil.rmtree(lost.path)
    assert world.one(str(payload)).outcome == INTACT  # by the hint beside it
    flip(payload)
    assert world.one(str(payload)).outcome == CANNOT_TELL  # a hint condemns nothing


def test_real_files_without_a_listing_cannot_be_told_but_a_bad_header_can(world: World) -> None:
    made, commit = repo(world, real_files=True, tree=False)
    verdict = world.one(ITEM)
    assert (verdict.outcome, codes(verdict)) == (CANNOT_TELL, ["no-hash"])
    assert "the structure of 1 is sound" in verdict.findings[0].message
    cut(blob(made, commit), 60_000)
    verdict = world.one(ITEM)
    assert (verdict.outcome, codes(verdict)) == (DAMAGED, ["structure", "no-hash"])


def test_ollama_layers(world: World) -> None:
    model = gguf_bytes({"general.architecture": "llama"}, 30_000)
    world.ollama.model("m:a", {"model": model, "template": b"{{ .Prompt }}"})
    world.ollama.model("m:b", {"model": model})
    assert {v.outcome for v in world.check().values()} == {INTACT}
    path = world.home / ".ollama/models/blobs" / f"sha256-{sha256(model)}"
    flip(path)
    found = world.check()
    assert {v.outcome for v in found.values()} == {DAMAGED}
    assert "ollama pull m:a" in found["ollama:m:a"].findings[0].offer
    cut(path, 1000)
    assert codes(world.one("ollama:m:a")) == ["size"]
    path.unlink()
    assert codes(world.one("ollama:m:a")) == ["missing"]


def test_an_ollama_config_and_a_stopped_pull(world: World) -> None:
    manifest = world.ollama.model("m:a", {"model": gguf_bytes({}, 3000)})
    digest = json.loads(manifest.read_text())["config"]["digest"].replace(":", "-")
    flip(world.home / ".ollama/models/blobs" / digest, 10)
    assert [f.name for f in world.one("ollama:m:a").findings] == ["config"]
    world.ollama.partial(weights("p"), 500)
    assert INCOMPLETE in {v.outcome for v in world.check().values()}
    manifest.write_text("{")
    assert codes(world.one("ollama:m:a"))[0] == "bad-manifest"


def test_a_download_into_a_folder_is_judged_by_its_records(world: World) -> None:
    folder = local_dir(world.home / "models/x", FILES, commit_of("x"), time.time() + 5)
    item = f"dir:{folder}"
    assert world.one(item).outcome == INTACT
    flip(folder / "model.safetensors")
    verdict = world.one(item)
    assert (verdict.outcome, codes(verdict)) == (DAMAGED, ["hash"])
    assert "download record" in verdict.findings[0].message


def test_a_file_changed_after_its_download_is_not_called_damaged(world: World) -> None:
    folder = local_dir(world.home / "models/x", FILES, commit_of("x"), time.time() - 1000)
    (folder / "config.json").write_bytes(b'{"mine": 1}')
    verdict = world.one(f"dir:{folder}")
    assert (verdict.outcome, codes(verdict)) == (CANNOT_TELL, ["no-hash"])
    assert "changed after the download" in verdict.findings[0].message


def test_the_digests_are_those_of_sha256sum_and_git(world: World, tmp_path: Path) -> None:
    repo(world, shared=("model.safetensors",))
    local_dir(world.home / "models/x", FILES, commit_of("x"), time.time() + 5)
    compared = 0
    for item in world.scan().items:
        for file in store_named(item.store).expected(item).files:
            for digest in file.digests:
                tool = ["sha256sum"] if digest.algorithm == "sha256" else ["git", "hash-object", "--no-filters"]
                real = os.path.realpath(file.path)
                said = subprocess.run([*tool, real], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
                assert said.split()[0] == digest.value
                compared += 1
    assert compared >= 4
    assert {v.outcome for v in world.check().values()} == {INTACT}


@pytest.mark.parametrize("name", ["[/red]\x1b]0;x\x07", "\udcff\udcfe", "a\nb", "..weird", "x" * 200, "日本"])
def test_names_of_any_kind(world: World, name: str) -> None:
    files = {name: weights("h", 70_000), f"sub/{name}.gguf": gguf_bytes({}, 80_000)}
    made = world.hub.repo("org/name")
    folder = world.home / "models/x"
    for n, content in files.items():
        path = folder / n
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "config.json").write_bytes(CONFIG)
    made.revision(files, tree=False)
    found = world.check()
    assert found[ITEM].outcome == INTACT
    assert found[f"dir:{folder}"].outcome == CANNOT_TELL


def test_pipes_devices_and_links_are_never_opened(world: World) -> None:
    made, commit = repo(world)
    path = blob(made, commit)
    path.unlink()
    os.mkfifo(path)
    verdict = world.one(ITEM)
    assert verdict.outcome != INTACT
    path.unlink()
    path.symlink_to("/dev/zero")
    assert world.one(ITEM).outcome != INTACT


def test_hostile_listings_are_ignored(world: World) -> None:
    made, commit = repo(world)
    tree = made.path / "trees" / f"{commit}.json"
    for text in (
        "[" * 100_000,
        '{"format_version": 1, "files": {"../../../etc/passwd": {"size": 1, "blob_id": "x"}}}',
        '{"format_version": 1, "files": [1]}',
        '{"format_version": 1, "files": {"config.json": {"size": true, "blob_id": 7}}}',
        "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
    ):
        tree.write_text(text)
        assert world.one(ITEM).outcome == INTACT


def test_what_went_away_meanwhile_is_not_damaged(world: World) -> None:
    made, _ = repo(world)
    scan = world.scan()
    shutil.rmtree(made.path)
    (verdict,) = verify.check(scan, [i for i in scan.items if i.id == ITEM])
    assert (verdict.outcome, codes(verdict)) == (CANNOT_TELL, ["gone"])


def test_two_revisions_and_the_same_name_with_other_content(world: World) -> None:
    made = world.hub.repo("org/name")
    made.revision({"config.json": b'{"a": 1}', "model.safetensors": weights("1", 70_000)}, refs=())
    made.revision({"config.json": b'{"a": 22}', "model.safetensors": weights("2", 71_000)})
    verdict = world.one(ITEM)
    assert (verdict.outcome, verdict.files) == (INTACT, 4)
