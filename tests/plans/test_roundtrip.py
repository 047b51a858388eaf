"""Deleting and bringing back, judged by the hash of everything in the stores."""

from __future__ import annotations

import pytest
from plans_world import ALL, World, blobs

from cachetui.fs import DISK
from cachetui.plans import history, trash
from cachetui.plans.executor import execute

TARGETS = [
    ("hf:acme/one",),
    ("hf:acme/one@main",),
    ("hf:acme/one@main:sub/new.bin",),
    ("hf:acme/one:shared.bin",),
    ("hf:acme/one@~orphan",),
    ("hf:acme/one@~partial",),
    ("hf:acme/left",),
    ("hf:acme/left", "hf:acme/right"),
    ("hf:acme/left@main", "hf:acme/one@main", "hf:acme/right"),
    ("ollama:llama3.2:3b",),
    ("ollama:llama3.2:3b", "ollama:llama3.2:latest"),
    ("dir:models/loose",),
    ("hf:acme/one", "hf:acme/left", "hf:acme/right", "ollama:llama3.2:3b", "ollama:llama3.2:latest"),
]


@pytest.mark.parametrize("targets", TARGETS, ids="+".join)
def test_delete_and_undo(world: World, targets: tuple[str, ...]) -> None:
    before, held = world.stores(), blobs(world.home)
    outcome = world.remove(*targets)
    assert outcome.ok, outcome
    assert world.stores() != before
    assert blobs(world.home) == held
    entries = trash.entries(world.roots())
    assert {e.id for e in entries} == {outcome.operation}
    for entry in entries:
        back = trash.restore(entry)
        assert back.ok, back
    assert world.stores() == before
    assert trash.entries(world.roots()) == ()
    assert blobs(world.home) == held
    verbs = [r.verb for r in history.records()]
    assert verbs[-1] == "delete" and verbs[0] == "undo"


@pytest.mark.parametrize("targets", TARGETS, ids="+".join)
def test_what_it_frees_is_what_du_sees(world: World, targets: tuple[str, ...]) -> None:
    plan = world.plan(*targets, permanent=True)
    before = _blocks(world)
    outcome = execute(plan, accept=ALL)
    assert outcome.ok, outcome
    assert before - _blocks(world) == outcome.freed == plan.frees_now
    assert trash.entries(world.roots()) == ()


@pytest.mark.parametrize("targets", TARGETS, ids="+".join)
def test_emptying_frees_what_was_promised(world: World, targets: tuple[str, ...]) -> None:
    plan = world.plan(*targets)
    assert plan.frees_now == 0
    before = _blocks(world)
    moved = execute(plan, accept=ALL)
    assert moved.ok and moved.freed == 0 and moved.moved >= plan.frees_when_emptied
    emptied = trash.empty(trash.entries(world.roots()), fs=DISK)
    assert emptied.ok
    assert before - _blocks(world) == emptied.freed == plan.frees_when_emptied


def test_what_only_the_trash_still_names_counts_as_coming_back(world: World) -> None:
    """The payload has a second name in the first entry; emptied together, its blocks come back."""
    first = world.plan("hf:acme/left")
    assert execute(first, accept=ALL).ok
    second = world.plan("hf:acme/right")
    for_good = world.plan("hf:acme/right", permanent=True)
    assert execute(second, accept=ALL).ok
    emptied = trash.empty(trash.entries(world.roots()))
    assert emptied.ok and emptied.freed == first.frees_when_emptied + second.frees_when_emptied
    assert for_good.frees_now < second.frees_when_emptied


def _blocks(world: World) -> int:
    """Allocated bytes of all stores, each inode once, as du counts."""
    seen = {}
    for top in (world.hub.path, world.ollama.path, world.home / "models"):
        for path in (top, *top.rglob("*")):
            st = path.lstat()
            seen[st.st_dev, st.st_ino] = st.st_blocks * 512
    return sum(seen.values())
