"""The rest of HF_HOME: caches as items, secrets and locks never."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cachetui.config import Where
from cachetui.demo.builders import Hub, write
from cachetui.ledger import Scan
from cachetui.model import RootScan
from cachetui.scan import find_roots, scan
from cachetui.store import Removal, Selection, store_named

HOME = store_named("hf-home")


def du(path: Path) -> int:
    done = subprocess.run(["du", "-s", "-B1", path], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[0])


@pytest.fixture
def hf_home(home: Path) -> Path:
    """A full HF_HOME."""
    path = home / ".cache" / "huggingface"
    for name, size in (
        ("token", 40), ("stored_tokens", 90), ("profiles/work", 50), (".check_for_update_done", 1),
        ("xet/https___cas/chunk-cache/aa/1", 70_000), ("xet/logs/x.log", 10), ("assets/lib/tool/file", 5000),
        ("datasets/org___name/default/0.0.0/abc/part.arrow", 90_000), ("datasets/glue/sst2/1/dataset_info.json", 100),
        ("datasets/downloads/0123", 7000), ("datasets/_root_x.lock", 0), ("modules/datasets_modules/m.py", 200),
        ("metrics/acc/a.arrow", 300), ("login-helper/token", 40), ("stray.bin", 2_000_000), ("note.txt", 10),
    ):  # fmt: skip
        write(path / name, b"x" * size)
    Hub(path / "hub").repo("o/m").revision({"w": b"w" * 5000})
    return path


def scanned(where: Where, **env: str) -> dict[str, RootScan]:
    """Roots of both Hugging Face stores by path."""
    result = scan(replace(where, env=dict(where.env) | env), stores=("hf", "hf-home"))
    return {r.root.path: r for r in result.roots}


def test_what_we_show_adds_up_to_what_the_disk_holds(where: Where, hf_home: Path) -> None:
    found = scanned(where)
    assert set(found) == {str(hf_home), str(hf_home / "hub")}
    assert found[str(hf_home)].nested == ("hub",)
    assert sum(r.allocated for r in found.values()) == du(hf_home)


def test_caches_are_items_and_secrets_are_not(where: Where, hf_home: Path) -> None:
    root = scanned(where)[str(hf_home)]
    assert {i.path: (i.name, i.kind) for i in root.items} == {
        "xet": ("xet", "cache"),
        "assets": ("assets", "cache"),
        "modules": ("modules", "folder"),
        "metrics": ("metrics", "folder"),
        "datasets/org___name": ("org/name", "arrow-cache"),
        "datasets/glue": ("glue", "arrow-cache"),
        "datasets/downloads": ("downloads", "cache"),
        "stray.bin": ("stray.bin", "file"),
    }
    paths = [b.path for i in root.items for b in i.content]
    assert not [p for p in paths if "token" in p or "profiles" in p or p.endswith(".lock")]
    arrow = next(i for i in root.items if i.name == "org/name")
    assert arrow.id == f"dir:{hf_home}/datasets/org___name"
    assert arrow.size == 90_000
    assert "the hub cache has its own" in dict(arrow.extra)["what it is"]


def test_stubs_name_the_folders_of_the_scan(where: Where, hf_home: Path) -> None:
    root = scanned(where)[str(hf_home)]
    stubs = {(s.id, s.kind, s.name, s.path) for s in HOME.stubs(root.root)}
    folders = {(i.id, i.kind, i.name, i.path) for i in root.items if i.kind != "file"}
    assert folders <= stubs
    assert {s[3] for s in stubs - folders} == {"login-helper"}  # only reading it shows that it holds a token


def test_caches_elsewhere_are_roots_of_their_own(where: Where, hf_home: Path, tmp_path: Path) -> None:
    write(tmp_path / "xet" / "cas" / "chunk", b"x" * 5000)
    write(tmp_path / "sets" / "o___d" / "a.arrow", b"x" * 5000)
    write(tmp_path / "sets" / "x.lock", b"")
    write(tmp_path / "assets" / "lib" / "file", b"x" * 5000)
    (hf_home / "modules").rename(tmp_path / "modules")
    (hf_home / "modules").symlink_to(tmp_path / "modules")
    found = scanned(
        where,
        HF_XET_CACHE=str(tmp_path / "xet"),
        HF_DATASETS_CACHE=str(tmp_path / "sets"),
        HF_ASSETS_CACHE=str(tmp_path / "assets"),
    )
    assert {
        p: [(i.name, i.kind) for i in found[str(tmp_path / p)].items] for p in ("xet", "sets", "assets", "modules")
    } == {
        "xet": [("cas", "folder")],
        "sets": [("o/d", "arrow-cache")],
        "assets": [("lib", "folder")],
        "modules": [("datasets_modules", "folder")],
    }
    for path, root in found.items():
        inside = sum(r.allocated for p, r in found.items() if p.startswith(path + "/"))
        assert root.allocated + inside == du(Path(path))


def test_a_variable_that_names_the_usual_place_makes_no_second_root(where: Where, hf_home: Path) -> None:
    assert set(scanned(where, HF_DATASETS_CACHE=str(hf_home / "datasets"))) == {str(hf_home), str(hf_home / "hub")}


def test_an_empty_hf_home_does_not_make_the_working_folder_a_cache(where: Where) -> None:
    write(Path(where.cwd) / "thesis" / "a.tex", b"x")
    roots, _ = find_roots(replace(where, env={"HF_HOME": "", "PATH": os.environ["PATH"]}))
    assert [r.path for r in roots if r.store == "hf-home"] == []


def test_items_go_as_a_whole(where: Where, hf_home: Path) -> None:
    whole = Scan(tuple(scanned(where).values()))
    xet = next(i for i in whole.items if i.path == "xet")
    assert HOME.removal(Selection(xet), whole.ledger, set()) == Removal(("xet",))
    assert HOME.removal(Selection(xet, file="logs/x.log"), whole.ledger, set()).refused


def test_a_rescan_is_what_a_scan_would_be(where: Where, hf_home: Path) -> None:
    before = scanned(where)[str(hf_home)]
    hub = os.stat(hf_home / "hub")
    nested = frozenset(((hub.st_dev, hub.st_ino),))
    xet = next(i for i in before.items if i.path == "xet")
    (hf_home / "xet" / "logs" / "x.log").unlink()
    write(hf_home / "new" / "x", b"x")
    write(hf_home / "other.lock", b"x")
    after = HOME.rescan(before, nested, [xet])
    assert after == scanned(where)[str(hf_home)]
    assert any(i is j for i in before.items for j in after.items)
