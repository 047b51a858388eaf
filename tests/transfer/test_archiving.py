"""Archiving: where to, what is refused, what really comes back, and that everything loads as before."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from plans_world import FaultyFs, Killed
from second import unmount
from test_restoring import loadable, targets
from transfer_world import ALL, World, content

from cachetui import archives, filesystem
from cachetui.filesystem import Mount
from cachetui.plans import lock, trash
from cachetui.plans.history import records
from cachetui.store import Selection
from cachetui.stores.ollama import Ollama
from cachetui.transfer import archiving, drives, staging

HUB = ".cache/huggingface/hub"


def test_everything_loads_through_the_links(drive_world: World) -> None:
    world = drive_world
    before = loadable(world)
    plan = world.plan_archive(*targets(world))
    outcome = archiving.execute(plan, accept=ALL)
    assert outcome.ok, outcome
    assert loadable(world) == before
    assert outcome.freed == plan.frees > 700_000
    manifest = archives.read(str(world.archive))
    assert manifest is not None and {e.target for e in manifest.entries} == set(targets(world))
    assert all(e.linked and not e.kept for e in manifest.entries)
    for e in manifest.entries:
        for f in e.files:
            path = world.archive / f.path
            assert path.is_symlink() is bool(f.link) and (f.link or path.stat().st_size == f.size)
    assert not list((world.archive / ".cachetui-incoming").glob("*/"))
    assert {r.verb for r in records()} == {"archive"}


def test_the_archive_is_a_clean_cache_for_the_library(drive_world: World) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    world = drive_world
    assert world.do_archive("hf:acme/one", "hf:acme/left", "hf:acme/right").ok
    info = huggingface_hub.scan_cache_dir(world.archive / "hub")
    assert not info.warnings and {r.repo_id for r in info.repos} == {"acme/one", "acme/left", "acme/right"}
    env = {**os.environ, "HF_HOME": str(world.archive)}
    done = subprocess.run(
        [sys.executable, "-m", "huggingface_hub.cli.hf", "cache", "ls"],
        capture_output=True,
        text=True,
        env=env,
        check=True,
    )
    assert "acme/left" in done.stdout and "arning" not in done.stdout + done.stderr
    # And the cache it came from, in which the repos are links now.
    assert {r.repo_id for r in huggingface_hub.scan_cache_dir(world.home / HUB).repos} >= {"acme/one", "acme/left"}


def test_the_library_loads_an_archived_repo_offline(drive_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    world = drive_world
    cache = world.home / HUB
    assert world.do_archive("hf:acme/left").ok
    folder = huggingface_hub.snapshot_download("acme/left", cache_dir=cache, local_files_only=True)
    assert folder.startswith(str(cache))
    for name, wanted in (("model.safetensors", content("payload")), ("own.bin", content("left"))):
        path = huggingface_hub.hf_hub_download("acme/left", name, cache_dir=cache, local_files_only=True)
        assert Path(path).read_bytes() == wanted == Path(folder, name).read_bytes()
    there = huggingface_hub.hf_hub_download(
        "acme/left", "own.bin", cache_dir=world.archive / "hub", local_files_only=True
    )
    assert Path(there).read_bytes() == content("left")


def test_the_archives_ollama_folder_is_a_clean_store(drive_world: World) -> None:
    world = drive_world
    tags = ("ollama:llama3.2:3b", "ollama:llama3.2:latest")
    first = world.plan_archive(tags[0])
    assert [s.holders for s in first.items[0].stays] == [(tags[1],)]
    assert world.do_archive(tags[0]).ok
    big = next(p for p in (world.home / ".ollama/models/blobs").iterdir() if p.stat().st_size > 60_000)
    assert not big.is_symlink()
    assert world.do_archive(tags[1]).ok
    assert big.is_symlink()
    where = replace(world.where, env={**world.where.env, "OLLAMA_MODELS": str(world.archive / "ollama")})
    (root,) = [r for r in Ollama().roots(where) if r.origin == "OLLAMA_MODELS"]
    from cachetui.model import Silent

    found = Ollama().scan(root, frozenset(), Silent())
    assert {i.id for i in found.items} == set(tags) and not found.problems and not found.blind
    assert {s for i in found.items for s in i.states} == {"ok"}
    assert len(list((world.archive / "ollama/blobs").iterdir())) == 5


def test_a_tag_whose_layers_all_stay_is_refused_alone_and_archived_together(drive_world: World) -> None:
    world = drive_world
    layers = {"model": content("weights"), "license": b"l"}
    world.ollama.model("llama3.2:twin", layers)
    twins = ("ollama:llama3.2:latest", "ollama:llama3.2:twin")
    plan = world.plan_archive(twins[0])
    assert not plan.accepted
    assert plan.items[0].refused.startswith("every layer is needed by ollama:llama3.2:")
    assert plan.items[0].refused.endswith(": archive them together, or --keep for a backup")
    assert twins[1] in plan.items[0].refused
    assert not archiving.execute(plan, accept=ALL).ok and not world.archive.exists()
    backup = world.plan_archive(twins[0], keep=True)
    assert backup.accepted and archiving.execute(backup, accept=ALL).ok
    together = world.plan_archive(*twins)
    (alone,) = archiving.execute(replace(together, items=together.items[:1]), accept=ALL).results  # the other failed
    assert alone.done and "no layer became a link" in alone.message
    (copy,) = [i for i in world.scan().items if i.root.startswith(str(world.archive)) and i.id == twins[0]]
    assert copy.states == ("ok",) and ("backup of", f"{twins[0]} in {world.ollama.path}") in copy.extra
    assert not world.plan_archive(twins[0]).accepted
    together = world.plan_archive(*twins)
    assert len(together.accepted) == 2 and together.frees > 0
    outcome = archiving.execute(together, accept=ALL)
    assert outcome.ok and outcome.freed == together.frees
    assert any(p.is_symlink() for p in (world.ollama.path / "blobs").iterdir())


def test_a_payload_that_others_need_stays(drive_world: World) -> None:
    world = drive_world
    plan = world.plan_archive("hf:acme/left")
    (stay,) = plan.items[0].stays
    assert stay.holders == ("hf:acme/right",) and stay.size == 70_000
    outcome = archiving.execute(plan, accept=ALL)
    assert outcome.freed == plan.frees
    assert (world.home / HUB / stay.path).is_file()
    assert world.do_archive("hf:acme/right").ok
    assert not (world.home / HUB / stay.path).exists()


def test_parts_and_caches_are_refused_with_the_reason(drive_world: World) -> None:
    world = drive_world
    (world.home / ".cache/huggingface/xet/x").mkdir(parents=True)
    (world.home / ".cache/huggingface/xet/x/chunk").write_bytes(content("chunk"))
    one = world.item("hf:acme/one")
    chosen = [*world.selections(f"hf:acme/one@{one.revisions[0].commit}", "hf:acme/one:config.json")]
    found = world.scan()
    plan = archiving.prepare(found, chosen, str(world.archive))
    assert all("revisions go along" in i.refused for i in plan.items) and len(plan.items) == 2
    xet = next(i for i in found.items if i.name == "xet")
    assert "delete it instead" in archiving.prepare(found, [Selection(xet)], str(world.archive)).items[0].refused
    assert not world.archive.exists()


def test_an_archived_item_is_not_archived_again(drive_world: World) -> None:
    world = drive_world
    assert world.do_archive("hf:acme/one", "ollama:llama3.2:3b").ok
    plan = world.plan_archive("hf:acme/one", "ollama:llama3.2:3b")
    assert [i.refused for i in plan.items] == ["it is archived already"] * 2


def test_damaged_and_partial_items_ask(drive_world: World) -> None:
    world = drive_world
    assert "partial" in {c.code for c in world.plan_archive("hf:acme/one").items[0].cautions} or "partial" not in (
        world.item("hf:acme/one").states
    )
    blob = next((world.home / HUB / "models--acme--right/blobs").iterdir())
    blob.unlink()
    plan = world.plan_archive("hf:acme/right")
    assert "damaged" in plan.cautions
    result = archiving.execute(plan).results[0]
    assert not result.done and "confirmation of its own" in result.message and not world.archive.exists()


def test_a_backup_leaves_the_original_and_is_used_later(drive_world: World) -> None:
    world = drive_world
    outcome = world.do_archive("hf:acme/left", keep=True)
    assert outcome.ok and not (world.home / HUB / "models--acme--left").is_symlink()
    manifest = archives.read(str(world.archive))
    assert manifest is not None and [(e.kept, e.linked) for e in manifest.entries] == [(True, False)]
    copy = (world.archive / "hub/models--acme--left").stat().st_ino
    plan = world.plan_archive("hf:acme/left")
    assert plan.bytes == 0 and "compared and used" in plan.items[0].notes[0]
    assert archiving.execute(plan, accept=ALL).ok
    assert (world.archive / "hub/models--acme--left").stat().st_ino == copy
    manifest = archives.read(str(world.archive))
    assert manifest is not None and [(e.kept, e.linked) for e in manifest.entries] == [(False, True)]


def test_a_backup_that_rotted_is_not_used(drive_world: World) -> None:
    world = drive_world
    assert world.do_archive("hf:acme/one", keep=True).ok
    bad = next(p for p in (world.archive / "hub/models--acme--one/blobs").iterdir() if p.stat().st_size == 70_000)
    st = bad.stat()
    bad.write_bytes(content("rot"))
    os.utime(bad, ns=(st.st_atime_ns, st.st_mtime_ns))
    outcome = world.do_archive("hf:acme/one")
    assert not outcome.ok and bad.name in outcome.results[0].message
    assert not (world.home / HUB / "models--acme--one").is_symlink()


def test_the_original_can_be_kept_in_the_trash(drive_world: World) -> None:
    world = drive_world
    before = loadable(world)
    assert world.do_archive("hf:acme/left", keep_original=True).ok
    (entry,) = trash.entries(world.roots())
    assert entry.verb == "archive"
    assert trash.restore(entry).ok
    assert loadable(world) == before and not (world.home / HUB / "models--acme--left").is_symlink()


def test_same_names_of_other_origins_lie_apart(drive_world: World) -> None:
    world = drive_world
    other = world.home / "project/hub"
    from cachetui.demo.builders import Hub

    Hub(other).repo("acme/left").revision({"config.json": b"other"})
    world.where = replace(world.where, cache_dirs=(str(other),))
    assert world.do_archive("hf:acme/left").ok
    manifest = archives.read(str(world.archive))
    assert manifest is not None
    places = {e.root: e.path for e in manifest.entries}
    assert places[str(world.home / HUB)] == "hub/models--acme--left"
    assert places[str(other)].startswith("folders/") and places[str(other)].count("/") == 2
    assert (other / "models--acme--left/refs/main").is_file()


def test_a_change_while_copying_swaps_nothing(drive_world: World) -> None:
    world = drive_world
    plan = world.plan_archive("hf:acme/one")
    blob = next(p for p in (world.home / HUB / "models--acme--one/blobs").iterdir() if p.stat().st_size == 70_000)

    class Writer:
        def advance(self, phase: str, done: int, total: int, name: str) -> None:
            if phase == "check":
                os.utime(blob, (5, 5))

    outcome = archiving.execute(plan, accept=ALL, progress=Writer())
    assert not outcome.ok and "it changed while it was copied" in outcome.results[0].message
    assert not (world.home / HUB / "models--acme--one").is_symlink()
    assert world.do_archive("hf:acme/one").ok


def test_only_one_writes_to_an_archive(drive_world: World) -> None:
    world = drive_world
    from cachetui.fs import DISK, open_dir

    (world.archive / ".cachetui-incoming").mkdir(parents=True)
    fd = open_dir(str(world.archive / ".cachetui-incoming"))
    try:
        with lock.exclusive(DISK, fd):
            outcome = world.do_archive("hf:acme/one")
            assert not outcome.ok and "another cachetui" in outcome.results[0].message
    finally:
        os.close(fd)


def test_what_asks_for_nothing_needs_no_confirmation(drive_world: World) -> None:
    plan = drive_world.plan_archive("hf:acme/left", "hf:acme/right")
    assert not plan.cautions and archiving.execute(plan).ok


def test_pinned_items_are_archived_and_in_bulk_ask(drive_world: World) -> None:
    world = drive_world
    found = world.scan()
    item = next(i for i in found.items if i.id == "hf:acme/left").with_states("pinned")
    for bulk, codes in ((False, frozenset()), (True, {"pinned"})):
        plan = archiving.prepare(found, [Selection(item)], str(world.archive), bulk=bulk)
        assert not plan.items[0].refused and plan.cautions == codes
    assert archiving.execute(plan, accept=ALL).ok


def test_in_use_asks_again(drive_world: World) -> None:
    world = drive_world
    blob = next((world.home / HUB / "models--acme--right/blobs").iterdir())
    child = subprocess.Popen(["sleep", "60"], stdin=blob.open("rb"))
    try:
        plan = world.plan_archive("hf:acme/right")
        assert plan.cautions == {"in-use"} and not archiving.execute(plan).ok
        assert not (world.home / HUB / "models--acme--right").is_symlink()
    finally:
        child.kill()
        child.wait()


def test_cancelled_it_goes_on_later(drive_world: World) -> None:
    world = drive_world
    outcome = archiving.execute(world.plan_archive("hf:acme/one"), accept=ALL, cancelled=lambda: True)
    assert not outcome.ok and "cancelled" in outcome.results[0].message
    assert world.do_archive("hf:acme/one").ok


def test_a_link_that_would_break_refuses(drive_world: World) -> None:
    world = drive_world
    (world.home / "secret").write_bytes(b"x")
    (world.home / "models/loose/out").symlink_to("../../secret")
    plan = world.plan_archive(f"dir:{world.home / 'models/loose'}")
    assert "leads out" in plan.items[0].refused and plan.items[0].refused.count("secret") == 1


def test_a_killed_run_leaves_work_that_says_what_it_is(drive_world: World) -> None:
    world = drive_world
    fs = FaultyFs(60, "before")
    with pytest.raises(Killed):
        world.do_archive("hf:acme/one", fs=fs)
    (left,) = staging.leftovers(str(world.archive / ".cachetui-incoming"))
    assert left[1]["target"] == "hf:acme/one" and left[1]["verb"] == "archive"
    assert world.do_archive("hf:acme/one").ok
    assert staging.leftovers(str(world.archive / ".cachetui-incoming")) == ()


def test_the_plan_is_json_and_its_digest_is_stable(drive_world: World) -> None:
    world = drive_world
    first, dry = world.plan_archive(*targets(world)), world.plan_archive(*targets(world), dry_run=True)
    assert json.loads(json.dumps(first.as_dict()))["digest"] == first.digest == dry.digest
    assert world.plan_archive("hf:acme/one").digest != first.digest
    assert not world.archive.exists()


# Drives


def look(world: World, path: Path, needed: int = 0, *, dry_run: bool = False) -> drives.Drive:
    return drives.look(str(path), world.roots(), needed, dry_run=dry_run)


def test_where_nothing_would_be_gained_or_fits_is_said_before(drive_world: World, tmp_path: Path) -> None:
    world = drive_world
    assert "same file system" in look(world, tmp_path / "same").refused
    assert "lies inside" in look(world, world.home / HUB / "x").refused
    assert "lies inside it" in look(world, world.home / ".cache").refused
    assert "no folder" in look(world, world.drive / "a/b").refused
    assert "too small" in look(world, world.archive, 10**15).refused
    (world.drive / "file").write_bytes(b"")
    assert "not a folder" in look(world, world.drive / "file").refused
    fine = look(world, world.archive, 10**6)
    assert not fine.refused and fine.links and fine.probed and fine.writable
    assert os.listdir(world.drive) == ["file"]
    before = os.stat(world.drive).st_mtime_ns
    dry = look(world, world.archive, dry_run=True)
    assert not dry.probed and "not probed" in dry.notes[-1] and os.stat(world.drive).st_mtime_ns == before
    world.archive.mkdir()
    (world.archive / archives.MANIFEST).write_text("{")
    assert "cannot be used" in look(world, world.archive).refused


@pytest.mark.root
def test_a_read_only_drive_is_refused_and_told_in_the_middle(drive_world: World) -> None:
    world = drive_world
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    plan = world.plan_archive("hf:acme/one")
    subprocess.run(["mount", "-o", "remount,ro", world.drive], check=True)
    assert "read-only" in look(world, world.archive).refused
    outcome = archiving.execute(plan, accept=ALL)
    assert not outcome.ok and "read-only" in outcome.results[0].message
    subprocess.run(["mount", "-o", "remount,rw", world.drive], check=True)
    assert archiving.execute(plan, accept=ALL).ok


@pytest.mark.root
def test_an_unplugged_drive_leaves_the_original(drive_world: World) -> None:
    world = drive_world
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    before = loadable(world)
    plan = world.plan_archive("hf:acme/one", "hf:acme/left")

    class Unplugger:
        def advance(self, phase: str, done: int, total: int, name: str) -> None:
            unmount(world.drive)

    outcome = archiving.execute(plan, accept=ALL, progress=Unplugger())
    assert not any(r.done for r in outcome.results)
    assert "not there any more" in outcome.results[0].message
    assert loadable(world) == before and not list(world.drive.iterdir())


@pytest.mark.root
def test_a_drive_that_runs_full_is_gone_on_with(drive_world: World) -> None:
    world = drive_world
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    before = loadable(world)
    plan = world.plan_archive("hf:acme/one", "hf:acme/left")
    with (world.drive / "filler").open("wb", buffering=0) as f:
        free = os.statvfs(world.drive).f_bavail * 4096 - 200_000
        while free > 0:
            free -= f.write(bytes(min(free, 1 << 20)))
    outcome = archiving.execute(plan, accept=ALL)
    assert not any(r.done for r in outcome.results) and "the drive is full" in outcome.results[0].message
    assert loadable(world) == before and not (world.home / HUB / "models--acme--one").is_symlink()
    assert world.plan_archive("hf:acme/one").refused == "it is full"
    (world.drive / "filler").unlink()
    begun = [p for p in world.archive.glob(".cachetui-incoming/*/tree/blobs/*") if p.stat().st_size == 70_000]
    inodes = {p.name: p.stat().st_ino for p in begun}
    assert world.do_archive("hf:acme/one", "hf:acme/left").ok and loadable(world) == before
    kept = {p.name: p.stat().st_ino for p in (world.archive / "hub/models--acme--one/blobs").iterdir()}
    assert inodes and inodes.items() <= kept.items()


def test_network_mounts_ask_first(drive_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = drive_world
    table = (*filesystem.mounts(), Mount(str(world.drive), "nfs4", "server:/x", 0, False))
    monkeypatch.setattr(filesystem, "mounts", lambda: table)
    plan = world.plan_archive("hf:acme/left")
    assert "network" in plan.cautions and not plan.refused
    assert not archiving.execute(plan, accept=ALL - {"network"}).ok and not world.archive.exists()
    assert archiving.execute(plan, accept=ALL).ok


def test_a_drive_without_links_gets_real_files(drive_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = drive_world
    before = loadable(world)
    monkeypatch.setattr(drives, "_try_inside", lambda *_: False)
    plan = world.plan_archive("hf:acme/one", "hf:acme/left")
    assert plan.drive is not None and not plan.drive.links and any("real files" in n for n in plan.notes)
    assert archiving.execute(plan, accept=ALL).ok
    assert not [p for p in world.archive.rglob("*") if p.is_symlink()]
    assert loadable(world) == before
    assert world.do_restore("hf:acme/one", "hf:acme/left").ok
    assert loadable(world) == before


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mkfs.vfat") is None, reason="needs root and mkfs.vfat")
def test_a_real_vfat_drive_is_told_by_trying(drive_world: World, tmp_path: Path) -> None:
    image, point = tmp_path / "image", tmp_path / "fat"
    with image.open("wb") as f:
        f.truncate(96 << 20)
    point.mkdir()
    subprocess.run(["mkfs.vfat", image], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, point], capture_output=True).returncode:
        pytest.skip("vfat cannot be mounted here")
    try:
        drive_world.drive = point
        before = loadable(drive_world)
        plan = drive_world.plan_archive("hf:acme/left")
        assert plan.drive is not None and not plan.drive.links
        assert archiving.execute(plan, accept=ALL).ok and loadable(drive_world) == before
    finally:
        unmount(point)
