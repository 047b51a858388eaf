"""The manifest of an archive and the registry: round trips, hostile content, recognition at any mount point."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from cachetui import archives
from cachetui.archives import Entry, File, Manifest, ManifestError
from cachetui.config import Where
from cachetui.fs import DISK

HASH = "ab" * 32


def entry(name: str = "x", **changes: object) -> Entry:
    path = f"hub/models--acme--{name}"
    files = (
        File(f"{path}/blobs/{HASH}", 5, HASH, mode=0o444, mtime_ns=123),
        File(f"{path}/snapshots/c/model.bin", 0, "", f"../../blobs/{HASH}", 0o777, -5),
    )
    made = Entry(
        f"hf:acme/{name}", f"acme/{name}", "model", "hf", path, "/home/u/hub", f"models--acme--{name}", "host",
        1000.5, 5, 4096, files, True,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def manifest(*entries: Entry) -> Manifest:
    return replace(archives.new_manifest(), entries=entries or (entry(),))


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    odd = entry("\udcff\udc80", kept=True, linked=False)
    made = manifest(entry(), odd)
    assert archives.read(str(tmp_path)) is None
    archives.write(DISK, str(tmp_path), made)
    assert archives.read(str(tmp_path)) == made
    assert sorted(os.listdir(tmp_path)) == [archives.MANIFEST, "home"]
    archives.write(DISK, str(tmp_path), made.without(odd.path))
    assert archives.read(str(tmp_path)) == made.without(odd.path)


def test_ids_are_random(tmp_path: Path) -> None:
    assert archives.new_manifest().id != archives.new_manifest().id


BAD = {
    "newer": ({"version": 2}, "newer cachetui"),
    "no version": ({"version": "x"}, "no version"),
    "id": ({"id": "../../x"}, "id"),
    "entries": ({"entries": {}}, "entries is no list"),
    "created": ({"created": "now"}, "no time"),
    "infinite": ({"created": float("inf")}, "no time"),
    "not a number": ({"created": float("nan")}, "no time"),
}
BAD_ENTRY = {
    "up": ({"path": "hub/../../etc"}, "leads out"),
    "absolute": ({"path": "/etc/passwd"}, "leads out"),
    "its own": ({"path": ".cachetui-incoming/x"}, "none of an archived item"),
    "the hub itself": ({"path": "hub"}, "none of an archived item"),
    "empty part": ({"path": "hub//x"}, "leads out"),
    "nul": ({"name": "a\0b"}, "name is no name"),
    "lone surrogate": ({"name": "\ud800"}, "no name that a file could have"),
    "long": ({"name": "a" * 5000}, "name is no name"),
    "root": ({"root": "relative"}, "no absolute path"),
    "origin": ({"origin": "../x"}, "leads out"),
    "size": ({"size": -1}, "size is no size"),
    "boolean": ({"size": True}, "size is no size"),
    "huge": ({"allocated": 1 << 70}, "allocated is no size"),
    "files": ({"files": [1]}, "not what"),
}
BAD_FILE = {
    "up": ({"path": "hub/x/../../../y"}, "leads out"),
    "hash": ({"sha256": "z" * 64}, "no sha256"),
    "long hash": ({"sha256": HASH + "\n"}, "no sha256"),
    "time": ({"mtime_ns": "x"}, "time"),
}


def _refused(folder: Path, body: object, words: str) -> None:
    (folder / archives.MANIFEST).write_text(json.dumps(body))
    with pytest.raises(ManifestError, match=words):
        archives.read(str(folder))


def test_hostile_manifests_are_refused_in_words(tmp_path: Path) -> None:
    archives.write(DISK, str(tmp_path), manifest())
    text = (tmp_path / archives.MANIFEST).read_text()
    for change, words in BAD.values():
        _refused(tmp_path, json.loads(text) | change, words)
    for change, words in BAD_ENTRY.values():
        body = json.loads(text)
        body["entries"][0] |= change
        _refused(tmp_path, body, words)
    for change, words in BAD_FILE.values():
        body = json.loads(text)
        body["entries"][0]["files"][0] |= change
        _refused(tmp_path, body, words)
    body = json.loads(text)
    body["entries"] *= 2
    _refused(tmp_path, body, "two entries")
    _refused(tmp_path, [], "damaged")


def test_what_is_no_plain_small_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / archives.MANIFEST
    for text in ("{", "[" * 100_000, "1" * 100_000, "\xff"):
        place.write_bytes(text.encode("latin-1"))
        with pytest.raises(ManifestError, match="damaged"):
            archives.read(str(tmp_path))
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(ManifestError, match="regular"):
        archives.read(str(tmp_path))
    place.unlink()
    place.symlink_to("/etc/passwd")
    with pytest.raises(ManifestError, match="cannot be read"):
        archives.read(str(tmp_path))
    place.unlink()
    with place.open("wb") as f:
        f.truncate(1 << 40)
    with pytest.raises(ManifestError, match="larger"):
        archives.read(str(tmp_path))


def test_the_registry_remembers_and_forgets(tmp_path: Path) -> None:
    one, other = manifest(), manifest(entry("y"))
    archives.remember(DISK, "/mnt/big", one)
    archives.remember(DISK, "/mnt/other", other)
    assert {k.path for k in archives.known().values()} == {"/mnt/big", "/mnt/other"}
    archives.remember(DISK, "/media/u/big", one)
    known = archives.known()[one.id]
    assert (known.path, known.former) == ("/media/u/big", ("/mnt/big",))
    assert [s.target for s in known.entries] == ["hf:acme/x"]
    archives.forget(DISK, other.id)
    archives.forget(DISK, "no such")
    assert list(archives.known()) == [one.id]


def test_a_link_is_found_by_where_the_drive_is_or_was(tmp_path: Path) -> None:
    tag = replace(
        entry("tag", store="ollama"),
        path="ollama/manifests/h/library/m/latest",
        files=(File("ollama/manifests/h/library/m/latest", 1, HASH), File(f"ollama/blobs/sha256-{HASH}", 1, HASH)),
    )
    made = manifest(entry(), tag)
    archives.remember(DISK, "/mnt/big", made)
    archives.remember(DISK, "/media/u/big", made)
    for text in ("/mnt/big/hub/models--acme--x", "/media/u/big/hub/./models--acme--x/snapshots/c"):
        found = archives.by_link(text)
        assert found is not None and found[1].target == "hf:acme/x"
    found = archives.by_link(f"/mnt/big/ollama/blobs/sha256-{HASH}")
    assert found is not None and found[1].target == "hf:acme/tag"
    for text in ("/mnt/big/hub/models--acme--xy", "/mnt/bigger/hub/models--acme--x", "/mnt/big", "/other"):
        assert archives.by_link(text) is None


def test_a_damaged_registry_is_an_empty_one(tmp_path: Path) -> None:
    archives.remember(DISK, "/mnt/big", manifest())
    from cachetui import paths

    paths.archives_file().write_text('{"archives": [1, {"id": "x"}]}')
    assert archives.known() == {}
    paths.archives_file().write_text("{")
    assert archives.known() == {}


def test_archives_are_located_by_their_own_id(tmp_path: Path, where: Where) -> None:
    here = replace(where, env={**where.env, "CACHETUI_ONLY_BELOW": str(tmp_path)})
    first, copy, configured = tmp_path / "a", tmp_path / "b", tmp_path / "home/deep/er/still/c"
    one, two = manifest(), manifest()
    for folder, made in ((first, one), (copy, one), (configured, two)):
        folder.mkdir(parents=True)
        archives.write(DISK, str(folder), made)
    assert archives.locate(here) == ()
    archives.remember(DISK, str(first), one)
    assert [(f.directory, f.known) for f in archives.locate(here)] == [(str(first), True)]
    here = replace(here, config=replace(here.config, archives=("deep/er/still/c", str(copy))))
    found = {f.directory: f.known for f in archives.locate(here)}
    assert found == {str(first): True, str(configured): False}
    elsewhere = replace(here, env={**here.env, "CACHETUI_ONLY_BELOW": str(tmp_path / "home")})
    assert [f.directory for f in archives.locate(elsewhere)] == [str(configured)]


@pytest.mark.root
def test_archives_are_found_near_the_top_of_a_mounted_drive(tmp_path: Path, where: Where) -> None:
    from second import mounted

    here = replace(where, env={**where.env, "CACHETUI_ONLY_BELOW": str(tmp_path)})
    with mounted(tmp_path / "my drive") as drive:
        for place, found in (("", True), ("a", True), ("a/b", True), ("a/b/c", False)):
            made = manifest()
            (drive / place).mkdir(parents=True, exist_ok=True)
            archives.write(DISK, str(drive / place), made)
            assert (made.id in {f.manifest.id for f in archives.locate(here)}) is found
            (drive / place / archives.MANIFEST).unlink()
