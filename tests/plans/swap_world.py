"""What the tests of exchanges share: a home, a drive with copies, and every kind of exchange as a plan."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from plans_world import ALL, FaultyFs, World, blobs, tree

from cachetui.fs import Fs
from cachetui.model import Item, Root
from cachetui.plans import places, trash
from cachetui.plans.executor import execute
from cachetui.plans.model import Outcome, Phase, Plan, PlannedItem, Replacement, Step
from cachetui.plans.swap import step, whole_root
from cachetui.plans.vault import INCOMING
from cachetui.store import Selection

T = TypeVar("T")
State = dict[str, tuple[object, ...]]
LEFT, RIGHT = "models--acme--left", "models--acme--right"


def drive(world: World) -> Path:
    """Where the archives are."""
    return world.home.parent / "drive"


def fill_drive(world: World) -> None:
    """Copies of everything, as archiving leaves them: two-hop links materialised, a whole cache with its links."""
    top = drive(world)
    for name in (LEFT, RIGHT):
        _materialised(world.hub.path / name, top / "hub" / name)
    shutil.copytree(top / "hub", top / "again")
    shutil.copytree(world.ollama.path / "blobs", top / "ollama/blobs")
    shutil.copytree(world.hub.path, top / "whole", symlinks=True)


def _materialised(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)
    for blob in (target / "blobs").iterdir():
        if blob.is_symlink():
            blob.unlink()
            shutil.copy(source / "blobs" / blob.name, blob)


def root(world: World, path: Path) -> Root:
    """A root of the world by its path."""
    return next(r for r in world.roots() if r.path == str(path))


def planned(where: Root, target: str, steps: Sequence[Step]) -> PlannedItem:
    """An item of a plan that no scan knows."""
    return PlannedItem(
        Selection(Item(target, where.store, where.path, "model", target, steps[0].path)), target, tuple(steps)
    )


def plan_of(verb: str, permanent: bool, items: Sequence[PlannedItem]) -> Plan:
    """A plan for these items, with the usual trash of their roots."""
    roots = dict.fromkeys(i.selection.item.root for i in items)
    found = []
    for path in roots:
        st = os.stat(path)
        found.append(places.choose(Root(items[0].selection.item.store, path, st.st_dev, st.st_ino, "")))
    return Plan(verb, tuple(items), tuple(found), permanent)


def archive_hub(world: World, targets: Sequence[str], permanent: bool) -> Plan:
    """Repo folders become links; payloads of the shared store that nobody else needs go along."""
    plan = world.plan(*targets)
    top = drive(world) / "hub"
    items = [
        replace(
            i,
            steps=tuple(
                replace(s, replacement=Replacement("link", str(top / s.path))) if s.phase is Phase.REFERENCE else s
                for s in i.steps
            ),
        )
        for i in plan.items
    ]
    return replace(plan, verb="archive", items=tuple(items), permanent=permanent)


def archive_ollama(world: World, targets: Sequence[str], permanent: bool) -> Plan:
    """Each blob that no other tag needs becomes a link; manifests stay."""
    plan = world.plan(*targets)
    top = drive(world) / "ollama"
    items = [
        replace(
            i,
            steps=tuple(
                replace(s, replacement=Replacement("link", str(top / s.path)))
                for s in i.steps
                if s.phase is Phase.CONTENT
            ),
        )
        for i in plan.items
    ]
    return replace(plan, verb="archive", items=tuple(items), permanent=permanent)


def incoming(world: World, store: Path, name: str) -> Path:
    """Where something is staged for a root."""
    return store.parent / places.NAME / INCOMING / "job" / name


def _ready_restore(world: World) -> None:
    _ready_relink(world)
    for name in (LEFT, RIGHT):
        shutil.copytree(drive(world) / "hub" / name, incoming(world, world.hub.path, name), symlinks=True)
    incoming(world, world.hub.path, "log").write_text("what was copied")


def _link_of(target: str) -> str:
    return "models--" + target.removeprefix("hf:").replace("/", "--")


def restore(world: World, targets: Sequence[str], permanent: bool) -> Plan:
    """Links become the staged folders."""
    items = []
    for target in targets:
        staged = Replacement("tree", str(incoming(world, world.hub.path, _link_of(target))))
        made = step(str(world.hub.path), _link_of(target), staged)
        items.append(planned(root(world, world.hub.path), target, [made]))
    return plan_of("restore", permanent, items)


def _ready_blobs(world: World) -> None:
    for blob in sorted((world.ollama.path / "blobs").iterdir()):
        staged = incoming(world, world.ollama.path, blob.name)
        staged.parent.mkdir(parents=True, exist_ok=True)
        blob.rename(staged)
        blob.symlink_to(drive(world) / "ollama/blobs" / blob.name)


def restore_blobs(world: World, targets: Sequence[str], permanent: bool) -> Plan:
    """Links to blobs become the staged files; one item has all of them."""
    store = world.ollama.path
    made = [
        step(str(store), f"blobs/{p.name}", Replacement("tree", str(incoming(world, store, p.name))), Phase.CONTENT)
        for p in sorted((store / "blobs").iterdir())
    ]
    return plan_of("restore", permanent, [planned(root(world, store), t, made) for t in targets])


def _ready_relink(world: World) -> None:
    for name in (LEFT, RIGHT):
        shutil.rmtree(world.hub.path / name)
        (world.hub.path / name).symlink_to(drive(world) / "hub" / name)


def relink(world: World, targets: Sequence[str], permanent: bool) -> Plan:
    """Links that lead elsewhere from now on."""
    items = []
    for target in targets:
        name = _link_of(target)
        made = step(str(world.hub.path), name, Replacement("link", str(drive(world) / "again" / name)))
        items.append(planned(root(world, world.hub.path), target, [made]))
    return plan_of("relink", permanent, items)


def _ready_adopt(world: World) -> None:
    staged = incoming(world, world.hub.path, LEFT)
    shutil.copytree(drive(world) / "hub" / LEFT, staged, symlinks=True)


def adopt(world: World, targets: Sequence[str], permanent: bool) -> Plan:
    """A link and a folder where nothing was."""
    where = root(world, world.hub.path)
    items = []
    for target, found in (
        ("hf:acme/linked", Replacement("link", str(drive(world) / "hub" / LEFT))),
        (
            "hf:acme/staged",
            Replacement("tree", str(incoming(world, world.hub.path, LEFT))),
        ),
    ):
        if target in targets:
            items.append(planned(where, target, [step(where.path, _link_of(target), found)]))
    return plan_of("adopt", permanent, items)


def move_root(world: World, targets: Sequence[str], permanent: bool) -> Plan:
    """The hub cache itself becomes a link."""
    return whole_root(root(world, world.hub.path), str(drive(world) / "whole"), permanent=permanent)


@dataclass
class Swap:
    """A kind of exchange, and what has to be there before it."""

    name: str
    targets: tuple[str, ...]
    plan: Callable[[World, Sequence[str], bool], Plan]
    ready: Callable[[World], None] = lambda world: None
    probes: tuple[str, ...] = ()
    """Below the home: what resolves at every instant."""

    def __str__(self) -> str:
        return self.name

    def do(self, world: World, targets: Sequence[str], permanent: bool, fs: Fs) -> Outcome:
        """Carry it out."""
        return execute(self.plan(world, targets, permanent), accept=ALL, fs=fs)


_HUB, _BLOBS = ".cache/huggingface/hub", ".ollama/models/blobs"
_CONFIGS = tuple(f"{_HUB}/{name}/{below}" for name in (LEFT, RIGHT) for below in ("refs/main", "snapshots/*/*"))
SWAPS = [
    Swap("archive", ("hf:acme/left", "hf:acme/right"), archive_hub, probes=_CONFIGS),
    Swap("ollama", ("ollama:llama3.2:3b", "ollama:llama3.2:latest"), archive_ollama, probes=(f"{_BLOBS}/*",)),
    Swap("restore", ("hf:acme/left", "hf:acme/right"), restore, _ready_restore, _CONFIGS),
    Swap("blobs", ("ollama:llama3.2:3b",), restore_blobs, _ready_blobs, (f"{_BLOBS}/*",)),
    Swap("relink", ("hf:acme/left",), relink, _ready_relink, _CONFIGS),
    Swap("adopt", ("hf:acme/linked", "hf:acme/staged"), adopt, _ready_adopt, _CONFIGS),
    Swap("move", ("",), move_root, probes=(*_CONFIGS, _HUB)),
]


def undo(world: World, fs: Fs) -> tuple[Outcome, ...]:
    """Bring everything of the newest operation back, root by root."""
    entries = trash.entries(world.roots())
    return tuple(trash.restore(e, fs=fs) for e in entries if e.id == entries[0].id)


def state(world: World) -> State:
    """Everything on disk as a value: stores, drive, what is staged, and what the trash says that it holds."""
    found = {**tree(world.home / ".cache"), **tree(world.home / ".ollama"), **tree(drive(world))}
    for incoming in world.home.rglob(f"{places.NAME}/{INCOMING}"):
        found |= tree(incoming)
    held = [(e.verb, i.target) for e in trash.entries(world.roots()) for i in e.items]
    return {**found, "trash": tuple(sorted(held))}


def content(world: World) -> set[str]:
    """Hashes of all content on this machine and the drive; the shared store's hints are none."""
    hints = set(world.home.rglob("*.refs"))
    texts = {p: p.read_bytes() for p in hints}
    for p in hints:
        p.unlink()
    try:
        return blobs(world.home / ".cache") | blobs(world.home / ".ollama") | blobs(drive(world))
    finally:
        for p, text in texts.items():
            p.write_bytes(text)


@dataclass
class ProbingFs(FaultyFs):
    """Looks after every call whether the paths that must always resolve do."""

    probes: tuple[Path, ...] = ()
    unresolved: list[str] = field(default_factory=list)
    looks: int = 0

    def _call(self, operation: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        try:
            return super()._call(operation, function, *args, **kwargs)
        finally:
            for path in self.probes:
                self.looks += 1
                if not path.exists():
                    self.unresolved.append(f"{path} after {operation}")


def probes_of(world: World, swap: Swap) -> tuple[Path, ...]:
    """The paths that resolve at every instant, as they are now."""
    return tuple(found for pattern in swap.probes for found in sorted(world.home.glob(pattern)))


class Stage:
    """Fresh copies of one world with its drive, always at the same paths."""

    def __init__(self, world: World, plain: Path) -> None:
        self.world = world
        self.plain = plain
        for other in (world.hub.path / "models--acme--one", world.home / "models/loose"):  # not part of any exchange
            shutil.rmtree(other)
        fill_drive(world)
        for top in (world.home, drive(world)):
            shutil.copytree(top, plain / top.name, symlinks=True)
        self._states: dict[tuple[object, ...], State] = {}

    def fresh(self, swap: Swap, done: bool = False) -> World:
        """The world ready for an exchange, or with it done and the originals kept."""
        for top in (self.world.home, drive(self.world)):
            with suppress(FileNotFoundError):
                shutil.rmtree(top)
            shutil.copytree(self.plain / top.name, top, symlinks=True)
        os.chdir(self.world.home)
        swap.ready(self.world)
        if done:
            assert swap.do(self.world, swap.targets, False, Fs()).ok
        return self.world

    def state(self, swap: Swap, targets: frozenset[str], permanent: bool) -> State:
        """How everything looks when exactly these targets were exchanged."""
        key = (swap.name, targets, permanent)
        if key not in self._states:
            world = self.fresh(swap)
            chosen = [t for t in swap.targets if t in targets]
            if chosen:
                assert swap.do(world, chosen, permanent, Fs()).ok
            self._states[key] = state(world)
        return self._states[key]
