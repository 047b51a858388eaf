"""Bringing back what was archived: everything as it was, damaged copies refused, shared layers once."""

from __future__ import annotations

from transfer_world import World, files_of

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
    assert not [p for p in drive_world.archive.rglob("models--*")]
    assert not [p for p in drive_world.archive.glob("ollama/*/*") if p.is_file()]
    assert all(i.states == ("ok",) or "partial" in i.states for i in drive_world.scan().items)
