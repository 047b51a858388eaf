"""Archives that come back elsewhere, from another machine, or were made by hand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from second import move, unmount
from test_restoring import loadable, targets
from transfer_world import World, files_of

from cachetui import archives
from cachetui.config import Where

HUB = ".cache/huggingface/hub"


@pytest.mark.root
def test_unplugged_and_plugged_in_elsewhere_it_loads_again(drive_world: World, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    world = drive_world
    before = loadable(world)
    assert world.do_archive(*targets(world)).ok
    elsewhere = tmp_path / "another place"
    move(world.drive, elsewhere)
    try:
        states = {i.id: i.states for i in world.scan().items if i.root.startswith(str(world.home))}
        assert {t: states[t] for t in targets(world)} == dict.fromkeys(targets(world), ("offline",))
        refused = world.plan_restore("hf:acme/one").items[0].refused
        assert "not there: plug it in" in refused and str(world.archive) in refused
        plan = world.plan_adopt(elsewhere / "models")
        assert not plan.refused and {i.target for i in plan.accepted} == set(targets(world))
        outcome = world.do_adopt(elsewhere / "models")
        assert outcome.ok, outcome
        assert loadable(world) == before
        assert {s for i in world.scan().items for s in i.states} <= {"archived", "ok", "partial"}
        known = next(iter(archives.known().values()))
        assert known.path == str(elsewhere / "models") and known.former == (str(world.archive),)
        assert "linked already" in world.plan_adopt(elsewhere / "models").refused
        assert world.do_restore(*targets(world)).ok
        assert loadable(world) == before
    finally:
        unmount(elsewhere)


def test_an_archive_of_another_machine_is_linked_where_nothing_stands(
    drive_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = drive_world
    before = loadable(world)
    assert world.do_archive(*targets(world)).ok
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    shutil.rmtree(world.home)
    other = World(world.home, world.where, world.drive)
    for folder in (HUB, "models", ".ollama/models/blobs", ".ollama/models/manifests"):
        (world.home / folder).mkdir(parents=True)
    other.hub.repo("acme/one").revision({"config.json": b"mine"})
    plan = other.plan_adopt(other.archive)
    assert {i.target for i in plan.items} >= {"hf:acme/left", "hf:acme/one"}
    assert [i.target for i in plan.items if i.refused] == ["hf:acme/one"]
    outcome = other.do_adopt(other.archive)
    assert [r.target for r in outcome.results if not r.done] == ["hf:acme/one"]
    after = loadable(other)
    assert {k: v for k, v in before.items() if "acme--one" not in k} == {
        k: v for k, v in after.items() if "acme--one" not in k
    }
    mine = [i for i in other.scan().items if i.root.startswith(str(other.home))]
    assert {i.states for i in mine if i.id in ("hf:acme/left", "ollama:llama3.2:3b")} == {("archived",)}


def test_a_repo_moved_by_hand_gets_a_list_and_its_payloads(drive_world: World) -> None:
    world = drive_world
    before = loadable(world)
    repo = world.hub.path / "models--acme--left"
    place = world.drive / "hub" / repo.name
    place.parent.mkdir()
    shutil.move(repo, place)
    repo.symlink_to(place)
    assert loadable(world) != before
    plan = world.plan_adopt("hf:acme/left")
    assert plan.directory == str(world.drive) and not plan.items[0].refused
    assert "the move broke 2 shared payloads" in plan.items[0].notes
    outcome = world.do_adopt("hf:acme/left")
    assert outcome.ok, outcome
    assert loadable(world) == before
    manifest = archives.read(str(world.drive))
    assert manifest is not None
    (entry,) = manifest.entries
    assert (entry.path, entry.linked, entry.origin) == ("hub/models--acme--left", True, "models--acme--left")
    hashes = {Path(f.path).name: f.sha256 for f in entry.files if not f.link and len(Path(f.path).name) == 64}
    assert hashes and all(name == sha256 for name, sha256 in hashes.items())
    assert world.item("hf:acme/left").states == ("archived",)
    assert world.do_restore("hf:acme/left").ok
    assert loadable(world) == before and not repo.is_symlink()


def test_a_payload_that_is_nowhere_is_named(drive_world: World) -> None:
    world = drive_world
    repo = world.hub.path / "models--acme--left"
    shutil.move(repo, world.drive / repo.name)
    repo.symlink_to(world.drive / repo.name)
    shutil.rmtree(world.hub.path / "blobs")
    shutil.rmtree(world.hub.path / "models--acme--right")
    notes = world.plan_adopt("hf:acme/left").items[0].notes
    assert len([n for n in notes if "is not on this machine" in n]) == 2


def test_a_whole_cache_moved_by_hand_is_adopted(drive_world: World, where: Where) -> None:
    world = drive_world
    before = loadable(world)
    hub = world.home / HUB
    shutil.move(hub, world.drive / "hub")
    hub.symlink_to(world.drive / "hub")
    outcome = world.do_adopt(world.drive)
    assert outcome.ok, outcome
    manifest = archives.read(str(world.drive))
    assert manifest is not None
    assert {e.target for e in manifest.entries} == {"hf:acme/one", "hf:acme/left", "hf:acme/right"}
    left = next(e for e in manifest.entries if e.target == "hf:acme/left")
    assert left.root == str(hub)
    assert len([f for f in left.files if f.path.startswith("hub/blobs/")]) == 2
    assert files_of(world.home) and {k: v for k, v in loadable(world).items() if "snapshots" in k} == {
        k: v for k, v in before.items() if "snapshots" in k
    }
    if os.geteuid() == 0:
        loads = loadable(world)
        elsewhere = world.drive.with_name("elsewhere")
        move(world.drive, elsewhere)
        try:
            assert not hub.exists()
            plan = world.plan_adopt(elsewhere)
            assert [i.target for i in plan.items] == [f"root:{hub}"] and not plan.items[0].refused
            assert world.do_adopt(elsewhere).ok
            assert loadable(world) == loads
        finally:
            unmount(elsewhere)
