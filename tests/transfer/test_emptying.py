"""Emptying the trash of an archive, and of originals that were kept when they were archived."""

from __future__ import annotations

from pathlib import Path

from second import move, unmount
from transfer_world import ALL, World

from cachetui import archives
from cachetui.plans import trash
from cachetui.plans.executor import execute
from cachetui.plans.model import TrashEntry
from cachetui.plans.removal import prepare
from cachetui.targets import resolve
from cachetui.transfer import emptying


def listed(world: World) -> set[str]:
    manifest = archives.read(str(world.archive))
    assert manifest is not None
    return {e.path for e in manifest.entries}


def entries(world: World) -> tuple[TrashEntry, ...]:
    return trash.entries(world.roots())


def test_what_is_emptied_from_an_archive_leaves_its_manifest(drive_world: World) -> None:
    world = drive_world
    assert world.do_archive("hf:acme/one", "hf:acme/left", "ollama:llama3.2:3b", keep=True).ok
    places = listed(world)
    assert len(places) == 3
    found = world.scan()
    copies = resolve(found, "hf:acme/one", str(world.archive / "hub"))
    copies += resolve(found, "ollama:llama3.2:3b", str(world.archive / "ollama"))
    assert execute(prepare(found, copies), accept=ALL).ok
    assert listed(world) == places  # undo needs them
    outcome = emptying.empty(entries(world))
    assert outcome.ok and not outcome.messages
    assert listed(world) == {"hub/models--acme--left"}


def test_what_was_copied_again_meanwhile_stays_listed(drive_world: World) -> None:
    world = drive_world
    assert world.do_archive("hf:acme/one", keep=True).ok
    found = world.scan()
    assert execute(prepare(found, resolve(found, "hf:acme/one", str(world.archive / "hub"))), accept=ALL).ok
    assert world.do_archive("hf:acme/one", keep=True).ok
    assert emptying.empty(entries(world)).ok
    assert listed(world) == {"hub/models--acme--one"}


def test_a_kept_original_whose_copy_is_away_is_said(drive_world: World, tmp_path: Path) -> None:
    world = drive_world
    assert world.do_archive("hf:acme/one", keep_original=True).ok
    assert world.remove("hf:acme/left").ok
    assert emptying.offline(entries(world)) == {}
    twin = tmp_path / "elsewhere"
    move(world.drive, twin)
    try:
        ((entry, why),) = emptying.offline(entries(world)).items()
        assert entry.verb == "archive" and str(world.archive / "hub/models--acme--one") in why
        assert "hf:acme/one" in why
        assert world.do_adopt(twin / "models").ok
        assert emptying.offline(entries(world)) == {}  # the link leads there again
    finally:
        unmount(twin)
