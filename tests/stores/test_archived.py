"""What lies in an archive, on a drive that is away, or was moved by hand; with a second file system for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "transfer"))

import second
from transfer_world import World, world_on

from cachetui import archives, filesystem, paths
from cachetui.cli.data import totals
from cachetui.config import Where
from cachetui.demo.builders import Hub, gguf_bytes, write
from cachetui.filters import compile_filter
from cachetui.fs import DISK
from cachetui.ledger import Scan
from cachetui.model import FOREIGN, Item
from cachetui.scan import find_roots, rescan, scan
from cachetui.targets import resolve
from cachetui.transfer import staging

TARGETS = ("hf:acme/one", "hf:acme/left", "ollama:llama3.2:3b", "ollama:llama3.2:latest")
GGUF = gguf_bytes({"general.architecture": "llama"}, 50_000)


@pytest.fixture
def world(tmp_path: Path, home: Path, where: Where) -> Iterator[World]:
    with world_on(tmp_path, home, where) as made:
        yield made


@pytest.fixture
def archived(world: World) -> World:
    outcome = world.do_archive(*TARGETS, f"dir:{world.home}/models/loose")
    assert outcome.ok, outcome
    return world


def du(path: str) -> int:
    return int(subprocess.run(["du", "-s", "-B1", path], capture_output=True, check=True).stdout.split()[0])


def found(scan_: Scan, target: str) -> Item:
    (selection,) = resolve(scan_, target)
    return selection.item


def codes(item: Item) -> set[str]:
    return {p.code for p in item.problems}


def extra(item: Item, label: str) -> str:
    return dict(item.extra).get(label, "")


def everything(scan_: Scan) -> dict[tuple[str, str], tuple[object, ...]]:
    return {i.key: (i.states, i.size, i.away, i.allocated, i.extra, i.problems) for i in scan_.items}


def unplug(world: World) -> None:
    if os.geteuid() != 0:
        pytest.skip(second.NOT_ROOT)
    second.unmount(world.drive)


# ---- plugged in


def test_an_archived_item_is_listed_like_any_other_and_counts_where_it_lies(world: World) -> None:
    before = world.scan()
    loose = f"dir:{world.home}/models/loose"
    assert world.do_archive(*TARGETS, loose).ok
    now = world.scan()
    for target in (*TARGETS, loose):
        was, item = found(before, target), found(now, target)
        assert item.root == was.root and item.states == ("archived",), target
        assert (item.size, item.away) == (was.size, was.size), target
        assert item.file_count == was.file_count and item.traits == was.traits
        assert [r.names and sorted(r.names) for r in item.revisions] == [sorted(r.names) for r in was.revisions]
        assert all(n >= 0 and item.content[n].size >= 0 for r in item.revisions for n in r.index)
        assert now.ledger.own(item) == 0
        assert now.ledger.frees([item]) <= item.allocated <= 8 * 4096
        assert extra(item, "lies in").startswith(str(world.archive))
        assert extra(item, "archive").startswith("in the manifest of archive ")
    for root in now.roots:
        nested = [os.path.join(root.root.path, n) for n in root.nested]
        nested = [n for n in nested if not any(n.startswith(f"{o}/") for o in nested)]
        assert root.allocated == du(root.root.path) - sum(du(n) for n in nested), root.root.path
    size, _ = totals(now)
    assert size == totals(before)[0] + found(now, "hf:acme/left").size - found(before, "hf:acme/left").size + (
        _bytes_of_both(now) - _bytes_of_both(before)
    )


def _bytes_of_both(scan_: Scan) -> int:
    """Of the repos that shared a payload: archiving one makes that two."""
    blobs = {(b.dev, b.ino): b.size for i in scan_.items if i.id in ("hf:acme/left", "hf:acme/right") and not i.away
             for b in i.content}  # fmt: skip
    return sum(blobs.values())


def test_archives_are_roots_that_say_who_links_to_them(archived: World) -> None:
    now = archived.scan()
    manifest = archives.read(str(archived.archive))
    assert manifest is not None
    roots = {os.path.relpath(r.root.path, archived.archive): r.root for r in now.roots if r.root.archive}
    assert {path: r.store for path, r in roots.items()} == {"hub": "hf", "ollama": "ollama", "folders": "dir"}
    for root in roots.values():
        assert root.archive == manifest.id and root.only_archive
        assert root.group.startswith("Archive ") and root.origin == f"archive {manifest.id[:8]} at {archived.archive}"
        assert not root.problems
    inside = [i for i in now.items if i.root in {r.path for r in roots.values()}]
    assert len(inside) == 5
    for item in inside:
        assert item.states == ("ok",) and extra(item, "linked from"), item.id


def test_an_archive_is_called_by_its_label_or_where_its_drive_is_mounted(archived: World) -> None:
    mount = filesystem.mount_of(str(archived.archive))
    assert mount is not None
    last = os.path.basename(mount.point)
    assert {r.root.group for r in archived.scan().roots if r.root.archive} == {f"Archive {last}"}
    registry = paths.archives_file()
    body = json.loads(registry.read_text())
    body["archives"][0]["label"] = "red stick"
    registry.write_text(json.dumps(body))
    assert {r.root.group for r in archived.scan().roots if r.root.archive} == {"Archive red stick"}


def test_a_name_means_the_linked_one_and_the_archive_by_its_root(archived: World) -> None:
    now = archived.scan()
    hub = str(archived.archive / "hub")
    assert [s.item.root for s in resolve(now, "hf:acme/one")] == [str(archived.hub.path)]
    assert [s.item.root for s in resolve(now, "hf:acme/one", hub)] == [hub]


def test_saying_it_again_changes_nothing(archived: World) -> None:
    now = archived.scan()
    again = rescan(now, [found(now, "hf:acme/right"), found(now, "ollama:llama3.2:3b")])
    assert everything(again) == everything(now)
    assert [r.problems for r in again.roots] == [r.problems for r in now.roots]


def test_what_nothing_links_to_is_foreign(archived: World) -> None:
    (archived.hub.path / "models--acme--one").unlink()
    now = archived.scan()
    one = found(now, "hf:acme/one")
    assert one.root == str(archived.archive / "hub") and FOREIGN in one.states
    assert codes(one) >= {"foreign"}
    assert [p.hint for p in one.problems if p.code == "foreign"] == [f"cachetui adopt {archived.archive}"]
    assert [i.id for i in now.items if compile_filter("state=foreign")(i)] == ["hf:acme/one"]
    assert FOREIGN not in found(scan(archived.where, roots=[str(archived.archive / "hub")]), "hf:acme/left").states


def test_to_another_machine_all_of_an_archive_is_foreign(archived: World) -> None:
    paths.archives_file().unlink()
    for root in (archived.hub.path, archived.ollama.path, archived.home / "models"):
        shutil.rmtree(root)
    where = replace(archived.where, config=replace(archived.where.config, archives=(str(archived.archive),)))
    now = scan(where)
    inside = [i for i in now.items if i.root.startswith(str(archived.archive))]
    assert len(inside) == 5 and all(FOREIGN in i.states for i in inside)


def test_a_backup_says_of_what(world: World) -> None:
    assert world.do_archive("hf:acme/one", "ollama:llama3.2:3b", keep=True).ok
    now = world.scan()
    copies = [i for i in now.items if i.root.startswith(str(world.archive))]
    assert {i.id: (i.states, extra(i, "backup of")) for i in copies} == {
        "hf:acme/one": (("ok",), f"hf:acme/one in {world.hub.path}"),
        "ollama:llama3.2:3b": (("ok",), f"ollama:llama3.2:3b in {world.ollama.path}"),
    }
    assert found(now, "hf:acme/one").states == ("ok",)


def test_a_copy_that_nothing_here_links_to_is_a_backup_of_what_is_still_here(world: World) -> None:
    assert world.do_archive("ollama:llama3.2:3b", keep=True).ok
    manifest = archives.read(str(world.archive))
    assert manifest is not None
    entries = tuple(replace(e, linked=True, kept=False) for e in manifest.entries)
    archives.write(DISK, str(world.archive), replace(manifest, entries=entries))
    (copy,) = [i for i in world.scan().items if i.root.startswith(str(world.archive))]
    assert copy.states == ("ok",) and extra(copy, "backup of") == f"ollama:llama3.2:3b in {world.ollama.path}"


def test_a_cache_that_is_read_from_its_archive_is_not_foreign(archived: World) -> None:
    env = {**archived.where.env, "HF_HOME": str(archived.archive)}
    env.pop("HF_HUB_CACHE", None)
    now = scan(replace(archived.where, env=env))
    (root,) = [r.root for r in now.roots if r.root.path == str(archived.archive / "hub")]
    assert root.archive and not root.only_archive and root.origin == "HF_HOME"
    assert found(now, "hf:acme/one").states == ("ok",)


def test_unfinished_copies_are_named_and_running_ones_are_not(archived: World) -> None:
    incoming = archived.archive / archives.INCOMING
    incoming.mkdir(exist_ok=True)
    header = {"place": "hub/models--acme--right", "root": "/x", "origin": "y"}
    with staging.open_staging(DISK, str(incoming), "key", header) as held:
        write(Path(held.tree) / "x", bytes(100_000))
        assert "unfinished-archive" not in {p.code for r in archived.scan().roots for p in r.problems}
    problems = [(r.root.path, p) for r in archived.scan().roots for p in r.problems if p.code == "unfinished-archive"]
    ((root, problem),) = problems
    assert root == str(archived.archive / "hub") and problem.path == str(incoming / "key")
    assert "hub/models--acme--right" in problem.message and "cachetui jobs forget ID" in problem.hint


def test_an_unfinished_move_is_named_beside_where_it_goes(archived: World) -> None:
    incoming = archived.drive / archives.INCOMING
    incoming.mkdir()
    header = {"verb": "move-root", "root": "/home/u/cache", "place": f"{archived.drive}/cache"}
    with staging.open_staging(DISK, str(incoming), "move-key", header):
        pass
    where = replace(archived.where, cache_dirs=(str(archived.drive / "other"),))
    Hub(archived.drive / "other").repo("acme/x").revision({"config.json": b"{}"})
    problems = [p for r in scan(where).roots for p in r.problems if p.code == "unfinished-archive"]
    assert [p.path for p in problems] == [str(incoming / "move-key")]
    assert f"moving /home/u/cache to {archived.drive}/cache did not end" in problems[0].message


# ---- away


def test_unplugged_it_is_offline_with_its_size_and_everything_else_goes_on(archived: World) -> None:
    before = archived.scan()
    unplug(archived)
    now = archived.scan()
    assert now.complete and not now.problems
    for target in (*TARGETS, f"dir:{archived.home}/models/loose"):
        item = found(now, target)
        assert item.states == ("offline",), target
        assert item.away == item.size >= found(before, target).size, target
        assert now.ledger.frees([item]) <= item.allocated <= 8 * 4096
        assert extra(item, "lies in").startswith(str(archived.archive)) and extra(item, "last seen")
        assert codes(item) == {"offline"}
    assert found(now, "hf:acme/right").states == ("ok",)
    assert not [r for r in now.roots if r.root.archive]
    (away,) = now.offline
    assert (away.path, away.items) == (str(archived.archive), 5) and away.size >= sum(i.away for i in now.items)
    assert all(r.away == 0 or r.size >= 0 for r in now.roots)
    assert sum(r.size for r in now.roots) == found(now, "hf:acme/right").size


def test_plugged_in_elsewhere_the_links_are_offline_and_the_archive_is_there(archived: World) -> None:
    if os.geteuid() != 0:
        pytest.skip(second.NOT_ROOT)
    other = archived.drive.with_name("other")
    second.move(archived.drive, other)
    try:
        now = archived.scan()
        assert not now.offline
        assert found(now, "hf:acme/one").states == ("offline",)
        there = next(i for i in now.items if i.id == "hf:acme/one" and i.root == str(other / "models/hub"))
        assert FOREIGN in there.states
    finally:
        second.unmount(other)


def test_without_a_record_its_size_is_not_known_and_that_is_said(archived: World) -> None:
    unplug(archived)
    paths.archives_file().unlink()
    item = found(archived.scan(), "hf:acme/one")
    assert (item.states, item.size, codes(item)) == (("offline",), 0, {"offline"})
    assert extra(item, "archive") == "no record of it: its size is not known"
    tag = found(archived.scan(), "ollama:llama3.2:3b")
    assert tag.size > 0 and tag.away == tag.size, "the manifest tells the size of layers"


def test_a_root_whose_drive_is_away_is_shown_and_the_others_are_read(archived: World) -> None:
    here, nowhere = archived.hub.path, f"{archived.drive}-nowhere/at/all"
    shutil.rmtree(here)
    here.symlink_to(archived.archive / "hub")
    shutil.rmtree(archived.home / "models")
    (archived.home / "models").symlink_to(nowhere)
    assert {r.root.path: r.root.offline for r in archived.scan().roots if r.root.store == "hf"} == {
        str(archived.archive / "hub"): False
    }
    unplug(archived)
    now = archived.scan()
    away = {r.root.path: r.root for r in now.roots if r.root.offline}
    assert set(away) == {str(archived.archive / "hub"), nowhere}
    hub = away[str(archived.archive / "hub")]
    assert (hub.store, hub.given) == ("hf", str(here))
    (problem,) = hub.problems
    assert problem.code == "root-offline" and "last seen" in problem.message
    assert now.complete and found(now, "ollama:llama3.2:3b").states == ("offline",)


def test_a_variable_that_names_a_drive_which_is_away(archived: World) -> None:
    unplug(archived)
    env = {**archived.where.env, "HF_HOME": str(archived.archive)}
    roots, _ = find_roots(replace(archived.where, env=env))
    assert ("hf", str(archived.archive / "hub"), True) in [(r.store, r.path, r.offline) for r in roots]
    env["HF_HOME"] = "/never/heard/of"
    roots, _ = find_roots(replace(archived.where, env=env))
    assert not [r for r in roots if r.path.startswith("/never")]


# ---- by hand


def test_a_repo_that_was_moved_by_hand_names_the_payloads_it_lost(world: World) -> None:
    world.drive.joinpath("mine").mkdir()
    repo = world.hub.path / "models--acme--left"
    shutil.move(repo, world.drive / "mine" / repo.name)
    repo.symlink_to(world.drive / "mine" / repo.name)
    for hint in (world.hub.path / "blobs").rglob("*.refs"):
        hint.unlink()
    now = world.scan()
    left = found(now, "hf:acme/left")
    assert left.states == ("damaged", "archived") and codes(left) == {"left-behind", "hand-made-archive"}
    message = next(p for p in left.problems if p.code == "left-behind")
    assert "2 of its files" in message.message and message.hint.startswith("cachetui adopt hf:acme/left")
    (kept,) = [i for i in now.items if i.kind == "orphan"]
    assert kept.states == ("ok",) and codes(kept) == {"needed-elsewhere"}
    plan = world.plan(kept.id)
    assert not plan.accepted and "moved away" in plan.refused[0].refused
    if os.geteuid() == 0:
        unplug(world)
        assert found(world.scan(), "hf:acme/left").states == ("offline",)


def test_a_folder_and_files_of_models_that_were_moved_by_hand(world: World, tmp_path: Path) -> None:
    models = world.home / "models"
    far = world.drive / "far"
    write(far / "pub" / "name" / "config.json", b'{"model_type": "llama"}')
    write(far / "pub" / "name" / "w.gguf", GGUF)
    write(far / "photos" / "2020" / "a.jpg", b"x" * 5000)
    names = ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf")
    for name in names:
        write(far / name, GGUF)
    write(models / "whole" / "config.json", b"{}")
    for link, target in (
        *((models / n, far / n) for n in names), (models / "name", far / "pub/name"),
        (models / "photos", far / "photos"),
        (models / "gone", Path("/mnt/none/gone")), (models / "gone.gguf", Path("/mnt/none/gone.gguf")),
        (models / "whole" / "w.gguf", far / names[0]), (models / "near", models / "whole"),
        (models / "broken", models / "nothing"),
    ):  # fmt: skip
        link.symlink_to(target)
    now = world.scan()
    items = {i.name: i for i in now.items if i.root == str(models) and i.name != "loose"}
    assert {n: (i.kind, i.states, i.size - i.away, i.away) for n, i in items.items()} == {
        names[0]: ("file", ("archived",), 0, 2 * len(GGUF)),
        "name": ("folder", ("archived",), 0, len(GGUF) + 23),
        "gone": ("folder", ("offline",), 0, 0),
        "gone.gguf": ("file", ("offline",), 0, 0),
        "whole": ("folder", ("archived",), 2, len(GGUF)),
    }
    root = next(r for r in now.roots if r.root.path == str(models))
    assert [(p.code, os.path.basename(p.path)) for p in root.problems] == [
        ("broken-link", "broken"), ("link-outside", "photos"),
    ]  # fmt: skip
    assert root.allocated == du(str(models))
    assert now.ledger.root_of(items["name"]).size == found(now, f"dir:{models}/loose").size + 2
    plan = world.plan(items["name"].id, items[names[0]].id)
    assert [[s.path for s in i.steps] for i in plan.items] == [["name"], list(names)]
    assert all(i.frees <= 8 * 4096 for i in plan.items)
    refused = world.plan(f"{items['name'].id}:w.gguf").refused[0].refused
    assert str(far / "pub/name") in refused


def test_a_whole_cache_that_was_moved_by_hand_says_so(world: World) -> None:
    far = world.drive / "cache"
    here = world.hub.path
    shutil.move(here, far)
    here.symlink_to(far)
    root = next(r for r in world.scan().roots if r.root.path == str(far))
    assert [(p.code, p.hint) for p in root.problems] == [("moved-root", f"cachetui adopt {far} records what is in it")]


def test_folders_of_hf_home_that_lie_elsewhere(world: World) -> None:
    home = world.hub.path.parent
    far = world.drive / "sets"
    write(far / "a___b" / "default" / "x.arrow", bytes(40_000))
    write(world.drive / "xet" / "chunk", bytes(30_000))
    (home / "datasets").mkdir()
    (home / "datasets" / "a___b").symlink_to(far / "a___b")
    (home / "assets").symlink_to("/mnt/none/assets")
    (home / "xet").symlink_to(world.drive / "xet")
    now = world.scan()
    items = {i.name: i for i in now.items if i.root == str(home)}
    assert (items["a/b"].states, items["a/b"].away) == (("archived",), 40_000)
    assert items["assets"].states == ("offline",)
    assert str(world.drive / "xet") in [r.root.path for r in now.roots], "a linked folder is a root, as before"
    write(world.drive / archives.MANIFEST, b"{}")
    (item,) = [i for i in world.scan().items if i.name == "xet"]
    assert (item.root, item.states) == (str(home), ("archived",))


# ---- no answer


def test_nothing_hangs_on_a_mount_that_does_not_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FUSE mount whose server never says a word: whoever touches it waits for ever."""
    from cachetui import afar

    point = world.home / "server"
    with _dead_mount(point):
        monkeypatch.setattr(afar, "_MOUNTS", afar._Mounts())
        hub = world.hub.path
        (hub / "models--far--away").symlink_to(point / "models--far--away")
        (world.home / "step").symlink_to(point / "deeper")
        (hub / "models--far--two").symlink_to(world.home / "step" / "models--far--two")
        (world.home / "models" / "m.gguf").symlink_to(point / "m.gguf")
        blob = next((world.ollama.path / "blobs").iterdir())
        blob.unlink()
        blob.symlink_to(point / blob.name)
        env = {**world.where.env, "LLAMA_CACHE": str(point / "llama"), "HF_HOME": str(hub.parent)}
        asked = replace(world.where, env=env, cache_dirs=(str(point / "given"),))
        now = filesystem.within(60, lambda: scan(asked), None)
        assert now is not None, "it hangs"
        assert found(now, "hf:far/away").states == found(now, "hf:far/two").states == ("offline",)
        assert "does not answer" in found(now, "hf:far/two").problems[0].message
        assert found(now, f"dir:{world.home}/models/m.gguf").states == ("offline",)
        assert found(now, "hf:acme/one").states == ("ok",)
        assert [r.root.path for r in now.roots if r.root.offline] == [str(point / "given")]


class _dead_mount:
    """FUSE without a server. Closing its descriptor ends all waiting."""

    def __init__(self, point: Path) -> None:
        self.point = point

    def __enter__(self) -> None:
        import ctypes

        if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
            pytest.skip(f"{second.NOT_ROOT} and /dev/fuse")
        self.point.mkdir()
        self.fd = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.fd},rootmode=40000,user_id=0,group_id=0".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"dead", os.fsencode(self.point), b"fuse.dead", 0, options) != 0:
            os.close(self.fd)
            pytest.skip(f"mounting FUSE is not allowed here: {os.strerror(ctypes.get_errno())}")

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        second.unmount(self.point)


def test_what_a_manifest_lists_is_an_item_of_the_archive_whatever_it_holds(world: World) -> None:
    """Folders without weights: alone by what lies in them they would be no models."""
    home = world.hub.path.parent
    kept = home / "datasets" / "org___set"
    write(kept / "default" / "a.arrow", b"{}" * 3000)
    (item,) = [i for i in world.scan().items if i.root == str(home)]
    assert world.do_archive(item.id).ok
    now = world.scan()
    here = now.by_key[item.key]
    assert (here.states, here.away) == (("archived",), 6000)
    folders = str(world.archive / "folders")
    (there,) = [i for i in now.items if i.root == folders]
    assert extra(there, "linked from") == f"{item.id} in {home}"
    kept.unlink()
    (there,) = [i for i in world.scan().items if i.root == folders]
    assert FOREIGN in there.states and there.size == 6000
    root = next(r for r in world.scan().roots if r.root.path == folders)
    assert root.allocated == du(folders)
    if os.geteuid() == 0:
        kept.symlink_to(os.path.join(folders, there.path))
        unplug(world)
        away = world.scan().by_key[item.key]
        assert away.states == ("offline",) and away.size >= 6000
