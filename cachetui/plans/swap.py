"""Plans in which something takes the place of what goes: their steps, and the exchange of a whole root.

`execute` carries them out like a deletion. Reads the disk, changes nothing.
"""

from __future__ import annotations

import os

from cachetui.fs import open_dir
from cachetui.model import Item, Root
from cachetui.plans import places, trash
from cachetui.plans.exchange import ChangedError
from cachetui.plans.model import (
    NOTHING,
    ROOT,
    Caution,
    Identity,
    Phase,
    Plan,
    PlannedItem,
    Replacement,
    Step,
    TrashPlace,
)
from cachetui.plans.preflight import forbidden
from cachetui.plans.survey import Measure, measure, mount_points, mounted_below, parent_of, reason
from cachetui.store import Selection
from cachetui.text import encode_target

_MOUNTED = "a file system is mounted at {}: a mount cannot be exchanged with a link"
_NO_WAY = "the folder it lies in cannot hold a trash, so it cannot be exchanged with a link"
_STUCK = "what was deleted from it before cannot be brought back once it has moved: {} in its trash"


def step(root: str, path: str, replacement: Replacement | None, phase: Phase = Phase.REFERENCE) -> Step:
    """A step for what stands at `path` below `root` now, also for nothing. Raises OSError."""
    fd = open_dir(root)
    try:
        with parent_of(fd, path) as (parent, name):
            return _step(parent, name, path, replacement, phase)
    finally:
        os.close(fd)


def _step(parent: int, name: str, path: str, replacement: Replacement | None, phase: Phase) -> Step:
    try:
        was, below = measure(parent, name)
    except FileNotFoundError:
        return Step(path, phase, NOTHING, 0, 0, 0, 0, (), replacement)
    return _of(was, below, path, replacement, phase)


def _of(was: Identity, below: Measure, path: str, replacement: Replacement | None, phase: Phase) -> Step:
    return Step(path, phase, was, below.entries, below.size, below.allocated, _frees(below), (), replacement)


def _frees(below: Measure) -> int:
    return below.single + sum(blocks for seen, links, blocks in below.linked.values() if seen == links)


def whole_root(
    root: Root, link: str, *, verb: str = "move", permanent: bool = True, cautions: tuple[Caution, ...] = ()
) -> Plan:
    """The plan for exchanging a root folder itself with a link to `link` (absolute, complete and durable).

    Its one item is refused, with the reason, where that cannot be done. With `permanent` what was there is freed at
    once, else it stays in the trash and undo exchanges it back.
    """
    item = Item(f"root:{encode_target(root.path)}", root.store, root.path, "root", root.given or root.path, "")
    place = TrashPlace(root.path, places.beside(os.path.dirname(root.path)), "sibling")
    steps: tuple[Step, ...] = ()
    refused = ""
    try:
        steps = (_whole(root, link),)
    except ChangedError as e:
        refused = str(e)
    except OSError as e:
        refused = reason(e)
    if places.choose(root).path != place.path and not refused:
        refused = _NO_WAY
    planned = PlannedItem(Selection(item), item.id, steps, cautions=cautions, refused=refused)
    stuck = sum(len(e.items) for e in trash.entries([root]) if e.root == root.path)
    return Plan(verb, (planned,), (place,), permanent, notes=(_STUCK.format(stuck),) if stuck else ())


def _whole(root: Root, link: str) -> Step:
    """Raises ChangedError with the reason where the root cannot be exchanged, OSError."""
    if mounted := mounted_below(root.path, mount_points()):
        raise ChangedError(_MOUNTED.format(mounted))
    parent = open_dir(os.path.dirname(root.path))
    try:
        was, below = measure(parent, os.path.basename(root.path))
        if (was.dev, was.ino) != (root.dev, root.ino):
            raise ChangedError("its folder was replaced: scan again")
        if why := forbidden(parent, was, below):
            raise ChangedError(why)
        return _of(was, below, ROOT, Replacement("link", link), Phase.REFERENCE)
    finally:
        os.close(parent)
