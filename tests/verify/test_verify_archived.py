"""What was archived: verified through its links and by the archive's manifest; away it cannot be told."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "transfer"))

from transfer_world import World, content, world_on
from verify_world import codes, flip, weights

from cachetui import verify
from cachetui.archives import MANIFEST
from cachetui.config import Where
from cachetui.verify import CANNOT_TELL, DAMAGED, INTACT, Verdict, repair

HUB, TAG = "hf:acme/left", "ollama:llama3.2:3b"


@pytest.fixture
def world(tmp_path: Path, home: Path, where: Where) -> Iterator[World]:
    """A home with stores, and a second file system."""
    with world_on(tmp_path, home, where) as made:
        yield made


def loose(world: World) -> str:
    return f"dir:{world.home / 'models/loose'}"


def check(world: World) -> dict[str, Verdict]:
    """Verdicts of the home's own items, by id."""
    scan = world.scan()
    items = [i for i in scan.items if i.root.startswith(str(world.home))]
    return {v.target: v for v in verify.check(scan, items)}


def archived(world: World) -> None:
    for target in (HUB, TAG, "ollama:llama3.2:latest", loose(world)):  # both tags: they share a layer
        outcome = world.do_archive(target)
        assert outcome.ok, outcome


def files_in(world: World, part: str) -> list[Path]:
    found = [p for p in (world.archive / part).rglob("*") if p.is_file() and not p.is_symlink()]
    return sorted(found, key=lambda p: p.stat().st_size)


def test_all_kinds_are_intact_through_their_links_and_by_the_manifest(world: World) -> None:
    archived(world)
    found = check(world)
    assert {found[t].outcome for t in (HUB, TAG, loose(world))} == {INTACT}
    assert all(found[t].files >= 2 for t in (HUB, TAG, loose(world)))


@pytest.mark.parametrize(
    ("target", "part"), [(HUB, "hub/models--acme--left"), (TAG, "ollama/blobs"), ("loose", "folders")]
)
def test_a_flipped_bit_in_the_archive_is_found_there(world: World, target: str, part: str) -> None:
    archived(world)
    target = loose(world) if target == "loose" else target
    path = files_in(world, part)[-1]
    flip(path)
    verdict = check(world)[target]
    assert (verdict.outcome, codes(verdict)) == (DAMAGED, ["hash"])
    assert verdict.findings[0].path == str(path)


def test_what_only_the_manifest_knows(world: World) -> None:
    """Files that no name and no record promises anything of."""
    (world.home / "models/loose/notes.txt").write_bytes(content("notes"))
    (world.home / "models/loose/model.safetensors").write_bytes(weights("loose"))
    shutil.rmtree(world.home / "models/loose/.cache")
    assert check(world)[loose(world)].outcome == CANNOT_TELL
    archived(world)
    assert check(world)[loose(world)].outcome == INTACT
    flip(next(p for p in files_in(world, "folders") if p.name == "notes.txt"))
    (finding,) = check(world)[loose(world)].findings
    assert "by the archive's manifest" in finding.message


def test_a_file_that_the_manifest_lists_and_that_is_gone(world: World) -> None:
    archived(world)
    for part, target in (("hub", HUB), ("ollama/blobs", TAG), ("folders", loose(world))):
        files_in(world, part)[-1].unlink()
        verdict = check(world)[target]
        assert verdict.outcome == DAMAGED
        assert set(codes(verdict)) <= {"missing", "broken-link"}


def test_an_archive_of_its_own_is_verified_too(world: World) -> None:
    archived(world)
    path = files_in(world, "hub")[-1]
    flip(path)
    scan = world.scan()
    mine = [i for i in scan.items if i.root == str(world.archive / "hub")]
    (verdict,) = verify.check(scan, mine)
    assert verdict.outcome == DAMAGED


def test_away_it_cannot_be_told(world: World) -> None:
    archived(world)
    os.rename(world.archive, world.drive / "elsewhere")
    found = check(world)
    for target in (HUB, TAG, loose(world)):
        assert (found[target].outcome, set(codes(found[target]))) == (CANNOT_TELL, {"offline"}), found[target]


def test_a_manifest_that_cannot_be_used_is_said_and_names_still_count(world: World) -> None:
    archived(world)
    (world.archive / MANIFEST).write_text("{")
    verdict = check(world)[HUB]
    assert (verdict.outcome, codes(verdict)) == (CANNOT_TELL, ["archive-manifest"])
    flip(files_in(world, "hub")[-1])
    assert check(world)[HUB].outcome == DAMAGED


def test_a_copy_in_an_archive_is_offered_and_taken(world: World) -> None:
    assert world.do_archive(HUB, keep=True).ok
    payload = world.hub.payload(content("left"))
    flip(payload)
    scan = world.scan()
    verdicts = list(verify.check(scan, [i for i in scan.items if i.id == HUB and i.root == str(world.hub.path)]))
    assert verdicts[0].findings[0].copy.startswith(str(world.archive))
    assert repair.carry_out(repair.prepare(scan, verdicts)).ok
    assert payload.read_bytes() == content("left")


def test_moved_by_hand_without_its_payloads(world: World) -> None:
    folder = world.hub.path / "models--acme--left"
    place = world.drive / "models--acme--left"
    shutil.move(folder, place)
    folder.symlink_to(place)
    verdict = check(world)[HUB]
    assert verdict.outcome == DAMAGED
    assert {"missing", "left-behind"} <= set(codes(verdict))
    missing = [f for f in verdict.findings if f.code == "missing"]
    assert all(f.copy.startswith(str(world.hub.path / "blobs")) for f in missing)
