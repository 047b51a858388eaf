"""Repairing: only proven content takes the place of what is damaged, nothing is lost, and undo takes it back."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from verify_world import CONFIG, World, cut, flip, weights

from cachetui import verify
from cachetui.demo.builders import HubRepo, gguf_bytes, local_dir, sha256
from cachetui.ledger import Scan
from cachetui.plans import trash
from cachetui.plans.executor import execute
from cachetui.plans.model import Outcome
from cachetui.verify import DAMAGED, INTACT, Verdict, repair

ITEM = "hf:org/name"
WEIGHTS = weights("a", 80_000)
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS}


@pytest.fixture
def made(world: World) -> HubRepo:
    found = world.hub.repo("org/name")
    found.revision(FILES)
    return found


def blob(made: HubRepo, content: bytes = WEIGHTS) -> Path:
    return made.path / "blobs" / sha256(content)


def found(world: World) -> tuple[Scan, list[Verdict]]:
    scan = world.scan()
    return scan, list(verify.check(scan, scan.items))


def repaired(world: World) -> Outcome:
    return repair.carry_out(repair.prepare(*found(world)))


def other_copy(world: World, where: str) -> None:
    """The same content somewhere else on the machine."""
    if where == "repo":
        world.hub.repo("org/other").revision({"w.safetensors": WEIGHTS})
    elif where == "shared store":
        world.hub.repo("org/other").revision({"w.safetensors": WEIGHTS}, shared=("w.safetensors",))
    elif where == "ollama":
        world.ollama.model("m:a", {"model": WEIGHTS})
    elif where == "folder":
        local_dir(world.home / "models/x", {"model.safetensors": WEIGHTS}, "a" * 40, 4e9)


@pytest.mark.parametrize("source", ["repo", "shared store", "ollama", "folder"])
@pytest.mark.parametrize("fault", ["flipped", "cut", "missing"])
def test_taken_from_another_store(world: World, made: HubRepo, source: str, fault: str) -> None:
    other_copy(world, source)
    path = blob(made)
    path.chmod(0o640)
    if fault == "flipped":
        flip(path)
    elif fault == "cut":
        cut(path, 5000)
    else:
        path.unlink()
    bad = path.read_bytes() if path.exists() else None
    outcome = repaired(world)
    assert outcome.ok, outcome
    assert path.read_bytes() == WEIGHTS
    assert world.one(ITEM).outcome == INTACT
    assert staged(made) == []
    if bad is None:
        return
    (entry,) = trash.entries([r.root for r in world.scan().roots])
    assert trash.restore(entry).ok
    assert path.read_bytes() == bad
    assert repaired(world).ok  # what undo left in the staging folder is no obstacle
    assert path.read_bytes() == WEIGHTS
    assert staged(made) == []


def staged(made: HubRepo) -> list[Path]:
    """What lies in the staging folder of the cache's trash."""
    return list(made.hub.path.parent.rglob("incoming/*"))


def test_a_payload_of_the_shared_store(world: World) -> None:
    made = world.hub.repo("org/name")
    made.revision(FILES, shared=("model.safetensors",))
    other_copy(world, "ollama")
    payload = world.hub.payload(WEIGHTS)
    flip(payload)
    mode = payload.stat().st_mode
    assert repaired(world).ok
    assert payload.read_bytes() == WEIGHTS
    assert payload.stat().st_mode == mode
    assert world.one(ITEM).outcome == INTACT


def test_an_ollama_layer(world: World, made: HubRepo) -> None:
    world.ollama.model("m:a", {"model": WEIGHTS})
    path = world.home / ".ollama/models/blobs" / f"sha256-{sha256(WEIGHTS)}"
    flip(path)
    assert repaired(world).ok
    assert path.read_bytes() == WEIGHTS


def test_a_copy_that_is_bad_too_is_never_taken(world: World, made: HubRepo) -> None:
    other_copy(world, "repo")
    scan = world.scan()
    flip(blob(made))
    verdicts = list(verify.check(scan, [i for i in scan.items if i.id == ITEM]))
    assert verdicts[0].findings[0].copy
    flip(blob(world.hub.repo("org/other")))  # after it was offered
    before = blob(made).read_bytes()
    outcome = repair.carry_out(repair.prepare(scan, verdicts))
    assert not outcome.ok
    assert "is not what it ought to be either" in outcome.results[0].message
    assert blob(made).read_bytes() == before
    verdicts = list(verify.check(world.scan(), world.scan().items))
    assert {v.outcome for v in verdicts} == {DAMAGED}
    assert not any(f.copy for v in verdicts for f in v.findings)


def test_what_changed_since_it_was_verified_is_left(world: World, made: HubRepo) -> None:
    other_copy(world, "repo")
    flip(blob(made))
    scan, verdicts = found(world)
    planned = repair.prepare(scan, verdicts)
    blob(made).write_bytes(b"somebody is at work")
    outcome = repair.carry_out(planned)
    assert not outcome.ok
    assert blob(made).read_bytes() == b"somebody is at work"


def test_without_a_copy_it_is_refused_in_words(world: World, made: HubRepo) -> None:
    flip(blob(made))
    planned = repair.prepare(*found(world))
    assert planned.repairs == ()
    assert [i.refused for i in planned.plan.items] == ["no other copy of it was found on this machine"]


def test_a_folder_that_is_a_link_is_not_followed(world: World, made: HubRepo, tmp_path: Path) -> None:
    other_copy(world, "repo")
    flip(blob(made))
    scan, verdicts = found(world)
    blobs = made.path / "blobs"
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    before = {p.name: p.read_bytes() for p in (tmp_path / "elsewhere").iterdir()}
    assert not repair.carry_out(repair.prepare(scan, verdicts)).ok
    assert {p.name: p.read_bytes() for p in (tmp_path / "elsewhere").iterdir()} == before


def test_quarantine_takes_the_file_and_its_names(world: World, made: HubRepo) -> None:
    flip(blob(made))
    scan, verdicts = found(world)
    plan = repair.quarantine(scan, verdicts)
    bad = blob(made).read_bytes()
    assert execute(plan).ok
    assert not blob(made).exists()
    assert [p.name for p in (made.path / "snapshots").rglob("*") if p.is_symlink()] == ["config.json"]
    (entry,) = trash.entries([r.root for r in world.scan().roots])
    assert trash.restore(entry).ok
    assert blob(made).read_bytes() == bad


def test_quarantine_of_a_layer_leaves_the_tag_so_that_a_pull_fetches_it(world: World) -> None:
    model = gguf_bytes({"general.architecture": "llama"}, 30_000)
    manifest = world.ollama.model("m:a", {"model": model, "template": b"x"})
    world.ollama.model("m:b", {"model": model})
    path = world.home / ".ollama/models/blobs" / f"sha256-{sha256(model)}"
    flip(path)
    plan = repair.quarantine(*found(world))
    assert [s.path for i in plan.accepted for s in i.steps] == [f"blobs/{path.name}"]
    outcome = execute(plan, accept=plan.cautions)
    assert outcome.ok, outcome
    assert not path.exists()
    assert manifest.exists()


def test_quarantine_of_a_loose_file(world: World) -> None:
    folder = local_dir(world.home / "models/x", {"config.json": CONFIG, "m.safetensors": WEIGHTS}, "a" * 40, 4e9)
    flip(folder / "m.safetensors")
    outcome = execute(repair.quarantine(*found(world)))
    assert outcome.ok, outcome
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == ["config.json"]


def test_what_is_missing_cannot_be_quarantined(world: World, made: HubRepo) -> None:
    blob(made).unlink()
    plan = repair.quarantine(*found(world))
    assert not plan.accepted
    assert "is not there" in plan.refused[0].refused


def test_hashes_of_the_staged_copy_are_of_what_was_copied(world: World, made: HubRepo) -> None:
    """Small files are known by git-sha1, which the copy itself does not compute."""
    world.hub.repo("org/other").revision({"config.json": CONFIG})
    path = made.path / "blobs" / hashlib.sha1(b"blob %d\0" % len(CONFIG) + CONFIG).hexdigest()
    flip(path, 3)
    assert repaired(world).ok
    assert path.read_bytes() == CONFIG
    assert os.stat(path).st_nlink == 1
