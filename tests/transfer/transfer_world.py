"""What the tests of archiving share: the small stores of the tests of plans, a second file system, what is where."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "plans"))

from plans_world import ALL as PLAN_ALL
from plans_world import World as PlansWorld
from plans_world import content
from second import second

from cachetui.config import Where
from cachetui.fs import DISK, Fs
from cachetui.model import Item
from cachetui.plans.model import Outcome
from cachetui.plans.recovery import recover
from cachetui.store import Selection
from cachetui.targets import resolve
from cachetui.transfer import adopting, archiving, model, restoring
from cachetui.transfer.model import TransferPlan

ALL = PLAN_ALL | {model.DAMAGED, model.PARTIAL, model.NETWORK, model.PINNED}


@dataclass
class World(PlansWorld):
    """A home with stores, and another drive."""

    drive: Path = Path()

    @property
    def archive(self) -> Path:
        return self.drive / "models"

    def selections(self, *targets: str) -> list[Selection]:
        found = self.scan()
        return [s for t in targets for s in resolve(found, t)]

    def item(self, target: str) -> Item:
        return self.selections(target)[0].item

    def plan_archive(self, *targets: str, **how: bool) -> TransferPlan:
        found = self.scan()
        chosen = [s for t in targets for s in resolve(found, t)]
        return archiving.prepare(found, chosen, str(self.archive), **how)  # type: ignore[arg-type]

    def do_archive(self, *targets: str, fs: Fs = DISK, **how: bool) -> Outcome:
        return archiving.execute(self.plan_archive(*targets, **how), accept=ALL, fs=fs)

    def plan_restore(self, *targets: str, keep: bool = False) -> TransferPlan:
        found = self.scan()
        return restoring.prepare(found, [s for t in targets for s in resolve(found, t)], keep=keep)

    def do_restore(self, *targets: str, fs: Fs = DISK, keep: bool = False) -> Outcome:
        return restoring.execute(self.plan_restore(*targets, keep=keep), accept=ALL, fs=fs)

    def do_adopt(self, what: str | Path, fs: Fs = DISK) -> Outcome:
        plan = self.plan_adopt(what)
        return adopting.execute(plan, accept=ALL, fs=fs)

    def plan_adopt(self, what: str | Path) -> TransferPlan:
        return adopting.prepare(self.scan(), str(what) if isinstance(what, Path) else self.selections(what))

    def restart(self) -> None:
        recover(self.roots())


@contextmanager
def world_on(tmp_path: Path, home: Path, where: Where, size: str = "128m") -> Iterator[World]:
    """A built world with a drive of its own."""
    with second(tmp_path, size=size) as drive:
        env = {**where.env, "CACHETUI_ONLY_BELOW": str(tmp_path), "CACHETUI_AND_BELOW": str(drive)}
        made = World(home, replace(where, env=env), drive)
        made.build()
        yield made


def files_of(top: Path) -> dict[str, str]:
    """sha256 of every file that can be opened below a folder, through links, by path."""
    found = {}
    for folder, _, names in os.walk(top, followlinks=True):
        for name in names:
            path = Path(folder, name)
            if path.is_file():
                found[str(path.relative_to(top))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


__all__ = ["ALL", "World", "content", "files_of", "world_on"]
