"""Exchanges as they are meant to go: what is checked, refused, said, brought back, and in what order it is durable."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from plans_world import World, tree
from swap_world import LEFT, RIGHT, SWAPS, adopt, archive_hub, drive, fill_drive, incoming, move_root, root, state, undo

from cachetui.cli.plan import outcome_lines, plan_data, plan_lines
from cachetui.fs import DISK, Fs
from cachetui.plans import trash
from cachetui.plans.executor import execute
from cachetui.plans.model import Replacement
from cachetui.plans.record import Record
from cachetui.plans.swap import whole_root
from cachetui.plans.vault import INCOMING

T = TypeVar("T")
BY_NAME = {s.name: s for s in SWAPS}
TARGETS = ("hf:acme/left", "hf:acme/right")


@pytest.fixture
def world(home: Path, world: World) -> World:
    """The stores, and a drive with copies of them."""
    fill_drive(world)
    return world


@pytest.mark.parametrize("swap", SWAPS, ids=lambda s: s.name)
def test_there_and_back(world: World, swap: Any) -> None:
    """The name stays, what stands there is another; undo puts all of it back, and what was staged where it was."""
    swap.ready(world)
    before = state(world)
    outcome = swap.do(world, swap.targets, False, DISK)
    assert outcome.ok, outcome
    now = state(world)
    held = now["trash"]
    assert held and all(verb in ("archive", "restore", "relink", "adopt", "move") for verb, _ in held)
    assert {k: v for k, v in now.items() if k != "trash"} != {k: v for k, v in before.items() if k != "trash"}
    assert all(o.ok for o in undo(world, DISK))
    assert state(world) == before


def test_an_archived_repo_is_a_link_and_its_payloads_went_along(world: World) -> None:
    payloads = {p for p in (world.hub.path / "blobs").glob("*/*") if len(p.name) == 64}
    outcome = execute(archive_hub(world, TARGETS, True))
    assert outcome.ok and outcome.freed > 0 and not trash.entries(world.roots())
    for name in (LEFT, RIGHT):
        assert os.readlink(world.hub.path / name) == str(drive(world) / "hub" / name)
        assert all(p.read_bytes() for p in (world.hub.path / name / "snapshots").glob("*/*"))
    assert payloads and not any(p.exists() for p in payloads)


def test_a_payload_that_another_repo_needs_stays(world: World) -> None:
    plan = archive_hub(world, TARGETS[:1], False)
    assert [s.holders for s in plan.items[0].stays] == [("hf:acme/right",)]
    assert execute(plan).ok
    assert all(p.exists() for p in (world.hub.path / RIGHT / "snapshots").glob("*/*"))
    assert world.remove("hf:acme/right", permanent=True).ok  # now the entry has the last name of what was shared
    assert undo(world, DISK)[0].ok
    assert all(p.exists() for p in (world.hub.path / LEFT / "snapshots").glob("*/*"))


def test_what_changed_since_the_plan_is_left(world: World) -> None:
    plan = archive_hub(world, TARGETS, True)
    (world.hub.path / LEFT / "refs/new").write_text("x")
    outcome = execute(plan)
    assert [r.done for r in outcome.results] == [False, True]
    assert "changed on disk after the plan" in outcome.results[0].message
    assert not (world.hub.path / LEFT).is_symlink() and (world.hub.path / RIGHT).is_symlink()
    assert all(p.exists() for p in (world.hub.path / LEFT / "snapshots").glob("*/*"))  # its shared payload stayed


@dataclass
class Meddling(Fs):
    """Somebody else does something just before the first call of a kind."""

    operation: str
    meddle: Callable[[], object]
    done: bool = False
    seen: list[str] = field(default_factory=list)

    def _call(self, operation: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        self.seen.append(operation)
        if operation == self.operation and not self.done:
            self.done = True
            self.meddle()
        return function(*args, **kwargs)


def test_a_file_that_is_written_at_this_very_moment_is_not_lost(world: World) -> None:
    new = world.hub.path / LEFT / "blobs/new"
    fs = Meddling("exchange", lambda: new.write_text("just downloaded"))
    outcome = execute(archive_hub(world, TARGETS[:1], True), fs=fs)
    assert not outcome.ok and "replaced at this very moment" in outcome.results[0].message
    assert new.read_text() == "just downloaded" and not (world.hub.path / LEFT).is_symlink()


def test_a_drive_that_goes_during_the_exchange_takes_it_back(world: World) -> None:
    before = tree(world.hub.path)
    top = drive(world)
    for operation in ("symlink", "exchange"):
        fs = Meddling(operation, lambda: top.rename(top.with_name("unplugged")))
        outcome = execute(archive_hub(world, TARGETS, True), fs=fs)
        top.with_name("unplugged").rename(top)
        assert not outcome.ok and "leads nowhere" in outcome.results[0].message
        assert tree(world.hub.path) == before
        assert fs.seen.count("exchange") == (0 if operation == "symlink" else 2)  # there and back, once noticed


def test_a_mount_point_without_its_drive_counts_as_nowhere(world: World) -> None:
    top = drive(world)
    plan = archive_hub(world, TARGETS[:1], True)
    shutil.rmtree(top / "hub" / LEFT)
    (top / "hub" / LEFT).mkdir()
    assert "leads nowhere" in execute(plan).results[0].message


def test_something_else_that_stands_there_refuses_undo(world: World) -> None:
    assert execute(archive_hub(world, TARGETS, False)).ok
    (entry,) = trash.entries(world.roots())
    (world.hub.path / LEFT).unlink()
    (world.hub.path / LEFT).mkdir()
    conflicts, _ = trash.check(entry)
    assert list(conflicts.values()) == [f"something else is at {LEFT} now; move that away first"]
    (outcome,) = undo(world, DISK)
    assert [r.done for r in outcome.results] == [False, True]
    assert (world.hub.path / RIGHT / "refs/main").is_file() and not (world.hub.path / RIGHT).is_symlink()
    (world.hub.path / LEFT).rmdir()
    (world.hub.path / LEFT).symlink_to("elsewhere")
    assert not undo(world, DISK)[0].ok
    (world.hub.path / LEFT).unlink()  # the link was deleted meanwhile: a plain rename
    assert undo(world, DISK)[0].ok
    assert not (world.hub.path / LEFT).is_symlink() and not trash.entries(world.roots())


def test_a_restored_folder_that_was_used_since_refuses_undo(world: World) -> None:
    """It would be lost from sight with what was downloaded into it."""
    swap = BY_NAME["restore"]
    swap.ready(world)
    assert swap.do(world, TARGETS[:1], False, DISK).ok
    (world.hub.path / LEFT / "refs/new").write_text("x")
    (outcome,) = undo(world, DISK)
    assert not outcome.ok and "was changed since" in outcome.results[0].message
    (world.hub.path / LEFT / "refs/new").unlink()
    assert not (world.hub.path / LEFT).is_symlink()


def test_nothing_is_overwritten_where_nothing_was(world: World) -> None:
    BY_NAME["adopt"].ready(world)
    plan = adopt(world, ("hf:acme/linked", "hf:acme/staged"), False)
    (world.hub.path / "models--acme--linked").mkdir()
    outcome = execute(plan)
    assert [r.done for r in outcome.results] == [False, True] and "something is there now" in outcome.results[0].message
    assert not (world.hub.path / "models--acme--linked").is_symlink()


def test_what_is_staged_elsewhere_is_refused(world: World) -> None:
    """Only what lies in the trash folder is sure to be on the same mount, and ours."""
    BY_NAME["restore"].ready(world)
    plan = BY_NAME["restore"].plan(world, TARGETS[:1], True)
    for target in (str(drive(world) / "hub" / LEFT), str(world.hub.path / RIGHT)):
        steps = (replace(plan.items[0].steps[0], replacement=Replacement("tree", target)),)
        outcome = execute(replace(plan, items=(replace(plan.items[0], steps=steps),)))
        assert not outcome.ok and "must be staged in" in outcome.results[0].message
    assert os.readlink(world.hub.path / LEFT) == str(drive(world) / "hub" / LEFT)


def test_a_staging_folder_that_is_gone_is_made_again_by_undo(world: World) -> None:
    swap = BY_NAME["restore"]
    swap.ready(world)
    before = tree(incoming(world, world.hub.path, LEFT))
    assert swap.do(world, TARGETS, False, DISK).ok
    shutil.rmtree(world.hub.path.parent / f".cachetui-trash/{INCOMING}")
    assert undo(world, DISK)[0].ok
    assert tree(incoming(world, world.hub.path, LEFT)) == before


def test_a_full_disk_gives_up_a_spare_entry_for_the_links(world: World) -> None:
    """A link longer than 59 bytes needs a block of its own on ext4."""
    assert execute(archive_hub(world, TARGETS[:1], False)).ok and undo(world, DISK)[0].ok
    entries = world.hub.path.parent / ".cachetui-trash/entries"

    class Full(Fs):
        def symlink(self, target: str, parent: int, name: str) -> None:
            if len(list(entries.iterdir())) > 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().symlink(target, parent, name)

    assert len(list(entries.iterdir())) == 3
    assert execute(archive_hub(world, TARGETS, False), fs=Full()).ok
    assert len(list(entries.iterdir())) == 3  # the one in use, and two that are ready again


@dataclass
class Tracing(Fs):
    """Notes every call: (operation, path it works on or in, name)."""

    trace: list[tuple[str, str, str]] = field(default_factory=list)

    def _call(self, operation: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        fds = [a for a in (*kwargs.values(), *args) if isinstance(a, int) and a > 2]
        folder = os.readlink(f"/proc/self/fd/{fds[0]}") if fds else ""
        names = [a for a in args if isinstance(a, str)]
        result = function(*args, **kwargs)
        self.trace.append((operation, folder, names[-1] if names else ""))
        return result


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks /proc which file a descriptor is of")
def test_nothing_is_unlinked_before_links_folders_and_journal_are_durable(world: World) -> None:
    """I6, from a trace: intent, links, their folder; exchanges, both folders; the commit; only then unlinks."""
    fs = Tracing()
    assert execute(archive_hub(world, TARGETS, True), fs=fs).ok
    slot = str(world.hub.path.parent / ".cachetui-trash/entries/0001")
    order = [(op, folder.removeprefix(slot)) for op, folder, _ in fs.trace]

    def at(wanted: tuple[str, str], after: int = 0) -> int:
        return order.index(wanted, after)

    links = [n for n, step in enumerate(order) if step == ("symlink", "/files")]
    exchanges = [n for n, (op, _) in enumerate(order) if op == "exchange"]
    unlinks = [n for n, (op, _) in enumerate(order) if op in ("unlink", "rmdir")]
    assert len(links) == len(exchanges) == 2 and unlinks
    durable_links = at(("fsync", "/files"), links[-1])
    assert order[links[0] - 2 : links[0]] == [("pwrite", "/record"), ("fsync", "/record")]
    assert durable_links < exchanges[0]
    last_move = max(n for n, (op, _) in enumerate(order) if op in ("exchange", "rename"))
    durable_entry = at(("fsync", "/files"), last_move)
    for folder in (str(world.hub.path), *{f for op, f, _ in fs.trace if op == "rename" and "/hub/blobs" in f}):
        moves = [n for n, (op, f, _) in enumerate(fs.trace) if f == folder and op in ("rename", "exchange")]
        assert at(("fsync", folder), moves[-1] if moves else exchanges[-1]) < unlinks[0]
    committed = at(("fsync", "/record"), at(("pwrite", "/record"), durable_entry))
    assert durable_entry < committed < unlinks[0]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks /proc which file a descriptor is of")
def test_what_is_staged_and_what_is_back_is_durable_before_what_follows(world: World) -> None:
    """A staged folder's leaving before the exchange; the way back before the link is unlinked."""
    hub = str(world.hub.path)
    assert execute(archive_hub(world, TARGETS, False)).ok
    fs = Tracing()
    (outcome,) = undo(world, fs)
    order = [(op, folder) for op, folder, _ in fs.trace]
    assert outcome.ok
    back = [n for n, (op, _) in enumerate(order) if op == "exchange"]
    unlinks = [n for n, (op, folder) in enumerate(order) if op == "unlink" and folder.endswith("/files")]
    assert len(back) == len(unlinks) == 2
    files = order[unlinks[0]][1]
    assert max(order.index(("fsync", hub), back[-1]), order.index(("fsync", files), back[-1])) < unlinks[0]
    assert order.index(("fsync", files), unlinks[-1]) < order.index(("pwrite", f"{files[:-5]}record"), unlinks[-1])
    BY_NAME["restore"].ready(world)
    fs = Tracing()
    assert execute(BY_NAME["restore"].plan(world, TARGETS, True), fs=fs).ok
    order = [(op, folder) for op, folder, _ in fs.trace]
    staged = [n for n, step in enumerate(order) if step == ("rename", str(incoming(world, world.hub.path, "x").parent))]
    first = next(n for n, (op, _) in enumerate(order) if op == "exchange")
    assert len(staged) == 2 and order.index(("fsync", order[staged[-1]][1]), staged[-1]) < first


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks /proc which file a descriptor is of")
def test_what_is_taken_back_is_durable_before_its_link_goes(world: World) -> None:
    top = drive(world)

    class Pulled(Tracing):
        def exchange(self, a_fd: int, a: str, b_fd: int, b: str) -> None:
            super().exchange(a_fd, a, b_fd, b)
            if top.exists():
                top.rename(top.with_name("unplugged"))

    fs = Pulled()
    assert not execute(archive_hub(world, TARGETS[:1], True), fs=fs).ok
    order = [(op, folder) for op, folder, _ in fs.trace]
    back = max(n for n, (op, _) in enumerate(order) if op == "exchange")
    unlink = next(n for n, (op, folder) in enumerate(order) if op == "unlink" and folder.endswith("/files"))
    for folder in (str(world.hub.path), order[unlink][1]):
        assert back < order.index(("fsync", folder), back) < unlink


def test_a_whole_root_is_named_as_such_and_comes_back(world: World) -> None:
    hub = world.hub.path
    plan = move_root(world, (), False)
    assert plan.items[0].target == f"root:{hub}" and plan.places[0].kind == "sibling"
    outcome = execute(plan)
    assert outcome.ok and outcome.results[0].root == str(hub) and outcome.results[0].moved > 0
    assert os.readlink(hub) == str(drive(world) / "whole") and world.scan().roots
    (entry,) = trash.entries(world.roots())
    assert (entry.verb, entry.root) == ("move", str(hub))
    drive(world).rename(drive(world).with_name("unplugged"))
    assert trash.entries(world.roots()) == (entry,)
    (outcome,) = (trash.restore(entry),)
    assert outcome.ok and hub.is_dir() and not hub.is_symlink()


def test_emptying_the_trash_of_a_moved_root_keeps_the_link(world: World) -> None:
    hub = world.hub.path
    assert execute(move_root(world, (), False)).ok
    outcome = trash.empty(trash.entries(world.roots()))
    assert outcome.ok and outcome.freed > 0
    assert hub.is_symlink() and (hub / LEFT / "refs/main").exists() and not trash.entries(world.roots())


def test_what_was_deleted_before_the_root_moved_is_said_not_to_come_back(world: World) -> None:
    assert move_root(world, (), True).notes == ()
    assert world.remove("hf:acme/one@~orphan").ok
    plan = move_root(world, (), True)
    assert plan.notes == ("what was deleted from it before cannot be brought back once it has moved: 1 in its trash",)
    assert execute(plan).ok
    (entry,) = trash.entries(world.roots())
    why, _ = trash.check(entry)
    assert ["is a link now" in w for w in why.values()] == [True]


def test_a_root_in_a_folder_that_may_not_be_written_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    where = root(world, world.hub.path)
    assert "scan again" in whole_root(replace(where, ino=1), "/x").items[0].refused
    real = os.access

    def access(path: Any, mode: int, **more: Any) -> bool:
        inside = os.readlink(f"/proc/self/fd/{more['dir_fd']}") if "dir_fd" in more else ""
        return inside != str(world.hub.path.parent) and real(path, mode, **more)

    monkeypatch.setattr(os, "access", access)
    refused = whole_root(where, "/x")
    assert "may not write to the folder it lies in" in refused.items[0].refused
    assert not execute(refused).ok


def test_records_of_deletions_are_as_older_versions_know_them(world: World) -> None:
    """Only an exchange has what they do not understand, and then they leave the entry alone."""
    assert world.remove("hf:acme/one").ok and execute(archive_hub(world, TARGETS, False)).ok
    found = {}
    for entry in trash.entries(world.roots()):
        with Path(entry.path, "record").open("rb") as file:
            line = json.loads(file.readline()[9:])
            found[entry.verb] = set(line) | {k for m in line["moves"] for k in m}
            record = Record.read(os.dup(file.fileno()))
            assert record.intent is not None and record.intent.verb == entry.verb
            os.close(record.fd)
    assert not found["delete"] & {"verb", "whole", "replacement", "staged"}
    assert found["archive"] > {"verb", "replacement"} and "whole" not in found["archive"]


def test_the_plan_says_what_takes_its_place(world: World) -> None:
    plan = archive_hub(world, TARGETS[:1], True)
    target = drive(world) / "hub" / LEFT
    lines = "\n".join(plan_lines(plan, False))
    assert lines.startswith("Is replaced, and goes for good:") and f"replaced by a link to {target}" in lines
    steps = plan_data(plan)["items"][0]["goes"]
    assert [s.get("replaced_by", {}).get("kind") for s in steps] == ["link", *[None] * (len(steps) - 1)]
    assert steps[0]["replaced_by"]["path"] == str(target)
    assert plan.digest != replace(plan, items=tuple(replace(i, steps=()) for i in plan.items)).digest
    assert "Archived: hf:acme/left" in outcome_lines(execute(plan), False)
