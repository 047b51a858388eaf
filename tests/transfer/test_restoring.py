"""Bringing back what was archived: everything as it was, damaged copies refused, shared layers once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from transfer_world import World, content, files_of

from cachetui import archives

HUB = ".cache/huggingface/hub"


def targets(world: World) -> list[str]:
    loose = f"dir:{world.home / 'models/loose'}"
    return ["hf:acme/one", "hf:acme/left", "hf:acme/right", loose, "ollama:llama3.2:3b", "ollama:llama3.2:latest"]


def loadable(world: World) -> dict[str, str]:
    """What programs can open, by path: snapshots, loose folders, manifests and layers."""
    found = files_of(world.home)
    loads = {k: v for k, v in found.items() if "/snapshots/" in k or k.startswith(("models/", ".ollama/models/"))}
    return {k: v for k, v in loads.items() if ".cachetui-trash" not in k}


def test_everything_comes_back_as_it_was(drive_world: World) -> None:
    before = loadable(drive_world)
    outcome = drive_world.do_archive(*targets(drive_world))
    assert outcome.ok, outcome
    assert loadable(drive_world) == before
    outcome = drive_world.do_restore(*targets(drive_world))
    assert outcome.ok, outcome
    assert loadable(drive_world) == before
    assert not [
        p for p in drive_world.home.rglob("*") if p.is_symlink() and str(drive_world.drive) in str(p.readlink())
    ]
    assert not list(drive_world.archive.rglob("models--*"))
    assert not [p for p in drive_world.archive.glob("ollama/*/*") if p.is_file()]
    assert all(i.states == ("ok",) or "partial" in i.states for i in drive_world.scan().items)


def rot(path: Path) -> None:
    """Other bytes, the same size and times."""
    st = path.stat()
    path.chmod(0o644)
    path.write_bytes(bytes(b ^ 1 for b in path.read_bytes()))
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def test_a_damaged_copy_is_refused_by_name(drive_world: World) -> None:
    world = drive_world
    assert world.do_archive("hf:acme/one", "hf:acme/left").ok
    bad = next(p for p in (world.archive / "hub/models--acme--one/blobs").iterdir() if p.stat().st_size == 70_000)
    rot(bad)
    outcome = world.do_restore("hf:acme/one", "hf:acme/left")
    assert [r.done for r in outcome.results] == [False, True]
    assert "damaged" in outcome.results[0].message and bad.name in outcome.results[0].message
    assert (world.home / HUB / "models--acme--one").is_symlink() and bad.exists()


def test_a_file_missing_in_the_archive_is_named(drive_world: World) -> None:
    world = drive_world
    assert world.do_archive("hf:acme/one").ok
    gone = next(p for p in (world.archive / "hub/models--acme--one/blobs").iterdir() if p.stat().st_size == 70_000)
    gone.unlink()
    result = world.do_restore("hf:acme/one").results[0]
    assert not result.done and gone.name in result.message and "missing" in result.message


def test_the_copy_can_be_kept(drive_world: World) -> None:
    world = drive_world
    assert world.do_archive("hf:acme/one").ok
    assert world.do_restore("hf:acme/one", keep=True).ok
    manifest = archives.read(str(world.archive))
    assert manifest is not None and [(e.kept, e.linked) for e in manifest.entries] == [(True, False)]
    assert (world.archive / "hub/models--acme--one").is_dir()
    assert not (world.home / HUB / "models--acme--one").is_symlink()


def test_what_another_machine_archived_stays_there(drive_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = drive_world
    assert world.do_archive("hf:acme/one").ok
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert "copy in the archive stays" in world.plan_restore("hf:acme/one").items[0].notes[0]
    assert world.do_restore("hf:acme/one").ok
    assert (world.archive / "hub/models--acme--one").is_dir()


def test_a_revision_fetched_through_the_link_comes_along(drive_world: World) -> None:
    world = drive_world
    assert world.do_archive("hf:acme/one").ok
    world.hub.repo("acme/one").revision({"config.json": b"new", "new.bin": content("newer")})
    before = loadable(world)
    outcome = world.do_restore("hf:acme/one")
    assert outcome.ok, outcome
    assert loadable(world) == before and len([k for k in before if "acme--one" in k]) == 8


def test_moved_by_hand_and_never_adopted_comes_back(drive_world: World) -> None:
    world = drive_world
    before = loadable(world)
    repo = world.hub.path / "models--acme--one"
    shutil.move(repo, world.drive / "somewhere")
    repo.symlink_to(world.drive / "somewhere")
    plan = world.plan_restore("hf:acme/one")
    assert "moved by hand" in plan.items[0].notes[0]
    assert world.do_restore("hf:acme/one").ok
    assert loadable(world) == before and not repo.is_symlink() and not (world.drive / "somewhere").exists()


def test_files_of_a_model_in_parts_come_back(drive_world: World) -> None:
    world = drive_world
    for name in ("big-00001-of-00002.gguf", "big-00002-of-00002.gguf", "single.gguf"):
        (world.home / "models" / name).write_bytes(b"GGUF" + content(name))
    before = loadable(world)
    found = [i.id for i in world.scan().items if "big" in i.id or "single" in i.id]
    assert world.do_archive(*found).ok
    links = [p for p in (world.home / "models").iterdir() if p.is_symlink()]
    assert len(links) == 3 and loadable(world) == before
    assert world.do_restore(*found).ok
    assert loadable(world) == before and not any(p.is_symlink() for p in links)


def test_nothing_is_written_where_there_is_no_room(drive_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = drive_world
    assert world.do_archive("hf:acme/one").ok
    monkeypatch.setattr("cachetui.transfer.restoring.MARGIN", 1 << 60)
    assert "there is no room" in world.plan_restore("hf:acme/one").items[0].refused


def test_only_what_is_archived_comes_back(drive_world: World) -> None:
    world = drive_world
    assert "it is here" in world.plan_restore("hf:acme/one").items[0].refused
    commit = world.item("hf:acme/one").revisions[0].commit
    assert "whole item" in world.plan_restore(f"hf:acme/one@{commit}").items[0].refused
