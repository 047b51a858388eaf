"""Somebody else works on the trash for a moment, after all the copying: it is waited for, and told."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from transfer_world import ALL, World

from cachetui.fs import DISK, open_dir
from cachetui.plans import lock, places
from cachetui.plans.model import Outcome
from cachetui.plans.trash import reserve
from cachetui.plans.vault import open_vault
from cachetui.transfer import archiving, moving, restoring
from cachetui.transfer.copying import CopyProgress

VERBS = ("archive", "restore", "move-root")


@dataclass
class Holder:
    """Takes the lock of a trash when a copy is read back, and lets it go when somebody waits for it."""

    folder: str
    stays: bool = False
    told: list[str] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)
    taken: bool = False

    def advance(self, phase: str, done: int, total: int, name: str) -> None:
        if phase == "check" and not self.taken:
            self.taken = True
            self.stack.enter_context(lock.exclusive(DISK, open_dir(self.folder)))
        if phase == "wait":
            self.told.append(name)
            if not self.stays:
                self.stack.close()


def act(world: World, verb: str, progress: CopyProgress, *, cancel: bool = False) -> Outcome:
    """The verb on a repo, or on its root."""

    def cancelled() -> bool:
        return cancel and bool(getattr(progress, "told", ()))

    if verb == "move-root":
        root = next(r for r in world.roots() if r.path == str(world.hub.path))
        plan = moving.prepare(world.where, root, str(world.drive / "hub"))
        return moving.execute(plan, accept=ALL, progress=progress, cancelled=cancelled)
    if verb == "restore":
        return restoring.execute(world.plan_restore("hf:acme/one"), accept=ALL, progress=progress, cancelled=cancelled)
    return archiving.execute(world.plan_archive("hf:acme/one"), accept=ALL, progress=progress, cancelled=cancelled)


@pytest.fixture(params=VERBS)
def verb(request: pytest.FixtureRequest, drive_world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name == "restore":
        assert drive_world.do_archive("hf:acme/one").ok
    reserve(drive_world.roots(), drive_world.where)
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    return name


def trash_of(world: World, verb: str) -> str:
    root = next(r for r in world.roots() if r.path == str(world.hub.path))
    path = places.beside(os.path.dirname(root.path)) if verb == "move-root" else places.choose(root).path
    with open_vault(DISK, path, create=True):
        return path


def test_a_holder_is_waited_for_and_named(drive_world: World, verb: str) -> None:
    holder = Holder(trash_of(drive_world, verb))
    outcome = act(drive_world, verb, holder)
    assert outcome.ok, outcome
    assert holder.taken and holder.told and "another cachetui" in holder.told[0]
    assert drive_world.hub.path.is_symlink() is (verb == "move-root")


def test_one_that_stays_leaves_the_copy_and_says_how_to_go_on(
    drive_world: World, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LONG", 0.2)
    holder = Holder(trash_of(drive_world, verb), stays=True)
    outcome = act(drive_world, verb, holder)
    (result,) = outcome.results
    assert not result.done and "another cachetui" in result.message and "same command again" in result.message
    holder.stack.close()
    again = Holder("", taken=True)
    assert act(drive_world, verb, again).ok


def test_waiting_can_be_cancelled(drive_world: World, verb: str) -> None:
    holder = Holder(trash_of(drive_world, verb), stays=True)
    (result,) = act(drive_world, verb, holder, cancel=True).results
    assert not result.done and result.message.startswith("cancelled")
    holder.stack.close()
