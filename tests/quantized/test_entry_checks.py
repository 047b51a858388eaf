"""What is wrong with an entry is found and named: quickly where size or time tell, by hash where nothing else does."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from entry_world import FILES, make, spoil_byte

from cachetui.quantized_entries import MANIFEST, ManifestError, check, checking, entries, find, read
from cachetui.quantized_entries.identity import Identity

WEIGHTS = "model.safetensors"


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    return Path(make(tmp_path / "q").path)


def test_a_good_one(entry: Path) -> None:
    quick, full = check(str(entry)), check(str(entry), full=True)
    assert quick and quick.hashed == 0
    assert full and full.hashed == sum(map(len, FILES.values()))
    manifest = read(str(entry))
    assert {f.path for f in manifest.files} == set(FILES)
    assert (manifest.seconds, manifest.peak_memory, manifest.libraries) == (23.0, 10**9, {"torch": "2.13.0"})


def cut(entry: Path) -> None:
    os.truncate(entry / WEIGHTS, 100)


def longer(entry: Path) -> None:
    with (entry / WEIGHTS).open("ab") as f:
        f.write(b"x")


def missing(entry: Path) -> None:
    (entry / WEIGHTS).unlink()


def tensor(entry: Path) -> None:
    """As a library that saves again without one tensor: a smaller, valid file."""
    from cachetui.demo.builders import safetensors_bytes

    (entry / WEIGHTS).write_bytes(safetensors_bytes({"v": ("U8", (4000,))}))


def same_size(entry: Path) -> None:
    (entry / "config.json").write_bytes(bytes(len(FILES["config.json"])))


def link(entry: Path) -> None:
    (entry / WEIGHTS).rename(entry.parent / "elsewhere")
    (entry / WEIGHTS).symlink_to("../elsewhere")


def foreign(entry: Path) -> None:
    other = make(entry.parent, rank=4)
    shutil.copy(f"{other.path}/{MANIFEST}", entry / MANIFEST)


def edited(entry: Path) -> None:
    path = entry / MANIFEST
    path.write_text(path.read_text().replace('"org/name"', '"org/nome"', 1))


def resealed(entry: Path) -> None:
    """Somebody who knows the format, but not what a key is."""
    body = json.loads((entry / MANIFEST).read_text())
    body["identity"]["commit"] = "0" * 40
    (entry / MANIFEST).write_text(json.dumps(body))


def no_manifest(entry: Path) -> None:
    (entry / MANIFEST).unlink()


def no_json(entry: Path) -> None:
    (entry / MANIFEST).write_bytes(b"\x80\x04pickle")


def nested(entry: Path) -> None:
    (entry / MANIFEST).write_bytes(b"[" * 100_000)


def stranger(entry: Path) -> None:
    (entry / "model.safetensors.index.json").write_text("{}")


def code(entry: Path) -> None:
    (entry / "modeling_evil.py").symlink_to("/tmp/evil.py")


CASES: list[tuple[Callable[[Path], None], str, str]] = [
    (cut, checking.CUT, WEIGHTS),
    (longer, checking.CHANGED, WEIGHTS),
    (missing, checking.MISSING, WEIGHTS),
    (tensor, checking.CUT, WEIGHTS),
    (same_size, checking.CHANGED, "config.json"),
    (link, checking.CHANGED, WEIGHTS),
    (foreign, checking.FOREIGN, MANIFEST),
    (edited, checking.FOREIGN, ""),
    (resealed, checking.FOREIGN, ""),
    (no_manifest, checking.NO_MANIFEST, ""),
    (no_json, checking.FOREIGN, ""),
    (nested, checking.FOREIGN, ""),
    (stranger, checking.STRANGE, "model.safetensors.index.json"),
    (code, checking.STRANGE, "modeling_evil.py"),
]


@pytest.mark.parametrize(("damage", "expected", "file"), CASES, ids=[c[0].__name__ for c in CASES])
def test_what_is_wrong_is_named(entry: Path, damage: Callable[[Path], None], expected: str, file: str) -> None:
    damage(entry)
    found = check(str(entry))
    assert not found and (found.code, found.file) == (expected, file), found
    assert found.reason


def test_a_flipped_byte_with_its_time_put_back_is_found_by_hash_alone(entry: Path) -> None:
    spoil_byte(entry / WEIGHTS)
    assert check(str(entry))
    found = check(str(entry), full=True)
    assert (found.code, found.file) == (checking.CHANGED, WEIGHTS) and "sha256" in found.reason


def test_another_time_alone_is_looked_into(entry: Path) -> None:
    os.utime(entry / WEIGHTS)
    found = check(str(entry))
    assert found and found.hashed == len(FILES[WEIGHTS])
    spoil_byte(entry / WEIGHTS)
    assert not check(str(entry))


def test_an_archived_one_is_looked_at_where_it_lies(entry: Path) -> None:
    far = entry.parent.parent / "archive"
    entry.rename(far)
    entry.symlink_to(far)
    assert check(str(entry), full=True)
    assert [e.problem for e in entries(str(entry.parent))] == [""]


def test_a_check_can_be_stopped(entry: Path) -> None:
    with pytest.raises(checking.Cancelled):
        check(str(entry), full=True, cancelled=lambda: True)


def test_what_lies_in_a_folder(entry: Path) -> None:
    folder = entry.parent
    for name in ("a" * 32, "b" * 32 + ".pt", "c" * 31, "d" * 32 + ".gguf", "E" * 32):
        (folder / name).write_bytes(b"\x80\x04 never read")
    (folder / ("f" * 32)).mkdir()
    (folder / (".cachetui-making-" + "1" * 64)).mkdir()
    (folder / ("2" * 64)).write_text("a file is no entry")
    (folder / ("3" * 64)).mkdir()
    found = {os.path.basename(e.path): (e.kind, e.name, bool(e.problem)) for e in entries(str(folder))}
    assert found == {
        entry.name: ("entry", "org/name nf4", False),
        "3" * 64: ("entry", "3" * 64, True),
        "a" * 32: ("older", "a" * 32, False),
        "b" * 32 + ".pt": ("older", "b" * 32 + ".pt", False),
        "f" * 32: ("older", "f" * 32, False),
        ".cachetui-making-" + "1" * 64: ("unfinished", "unfinished " + "1" * 12, False),
    }
    assert entries(str(folder / "nowhere")) == ()
    known = find(str(folder), read(str(entry)).identity)
    assert known is not None and known.path == str(entry)
    assert find(str(folder), Identity()) is None


@pytest.mark.parametrize("path", ["../up", "/etc/passwd", "a//b", MANIFEST])
def test_a_manifest_that_leads_out_is_refused(entry: Path, path: str) -> None:
    from cachetui.quantized_entries import manifest

    body = json.loads((entry / MANIFEST).read_text())
    body.pop("seal")
    body["files"][0]["path"] = path
    (entry / MANIFEST).write_text(json.dumps({**body, "seal": manifest._seal(body)}))
    with pytest.raises(ManifestError):
        read(str(entry))


def test_any_flipped_bit_is_found(entry: Path) -> None:
    """In the manifest by its seal, in a file by its hash; every seventh byte of each, another bit every time."""
    for path in sorted(p for p in entry.rglob("*") if p.is_file()):
        whole, st = path.read_bytes(), path.stat()
        for at in range(0, len(whole), 7 if path.name == MANIFEST else 97):
            data = bytearray(whole)
            data[at] ^= 1 << (at % 8)
            path.write_bytes(data)
            os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
            assert not check(str(entry), full=True), (path.name, at)
        path.write_bytes(whole)
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
    assert check(str(entry), full=True)
