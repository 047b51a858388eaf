"""What is written down before the first change: all that undo and recovery will need."""

from __future__ import annotations

import errno
import getpass
import os
import socket
from collections.abc import Sequence

from cachetui.fs import open_dir
from cachetui.plans.model import ROOT, Identity, Phase, PlannedItem, Replacement, Step, TrashedItem
from cachetui.plans.record import Act, Intent, Kept, Move
from cachetui.plans.survey import lstat_below, measure, parent_of
from cachetui.plans.vault import INCOMING

_ORDER = ((Phase.REFERENCE, False), (Phase.CONTENT, False), (Phase.CONTENT, True))
"""References, then content of one item, then content that several items of the plan hold."""


def make_intent(
    act: Act,
    operation: str,
    when: float,
    trash: str,
    root_fd: int,
    items: Sequence[PlannedItem],
    verb: str = "delete",
) -> Intent:
    """What is written down before the first change. Raises OSError.

    Where the root itself is exchanged, `root_fd` is of the folder that it lies in.
    """
    root = items[0].selection.item.root
    whole = is_whole(items)
    numbers = {(root, i.target): n for n, i in enumerate(items)}
    moves: list[Move] = []
    order = () if act is Act.SERVER else _ORDER
    for phase, shared in order:
        for n, item in enumerate(items):
            for step in item.steps:
                if step.phase is phase and bool(step.needs) is shared and all(k in numbers for k in step.needs):
                    needs = tuple(numbers[k] for k in step.needs)
                    slot, source = str(len(moves)), os.path.basename(root) if whole else step.path
                    more = _replacement(step, trash)
                    content = phase is Phase.CONTENT
                    moves.append(Move(n, source, slot, step.was, step.entries, content, needs, *more))
    base = os.path.dirname(root) if whole else root
    return Intent(
        operation=operation,
        act=act,
        root=base,
        relative=os.path.relpath(base, trash),
        store=items[0].selection.item.store,
        when=when,
        by=f"{_user()}@{socket.gethostname()}",
        items=tuple(_trashed(n, i) for n, i in enumerate(items)),
        homes=tuple(_home(i) for i in items),
        moves=tuple(moves),
        kept=_kept(root_fd, items, act),
        verb=verb,
        whole=whole,
    )


def is_whole(items: Sequence[PlannedItem]) -> bool:
    """Whether it is the root itself that these items exchange."""
    return any(s.path == ROOT for i in items for s in i.steps)


def _replacement(step: Step, trash: str) -> tuple[Replacement | None, Identity | None]:
    """A step's replacement as it is written down: what is staged is relative to the trash folder."""
    found = step.replacement
    if found is None or found.kind == "link":
        return found, None
    path = os.path.relpath(found.target, trash)
    if not path.startswith(f"{INCOMING}/"):
        raise OSError(errno.EXDEV, f"what takes its place must be staged in {trash}/{INCOMING}", found.target)
    top = open_dir(trash)
    try:
        with parent_of(top, path) as (parent, name):
            return Replacement("tree", path), measure(parent, name)[0]
    finally:
        os.close(top)


def _home(item: PlannedItem) -> str:
    """The folder that a part of an item makes no sense without; empty where the item goes as a whole."""
    home = item.selection.item.path
    return "" if item.selection.is_whole or any(s.path == home for s in item.steps) else home


def _trashed(number: int, item: PlannedItem) -> TrashedItem:
    return TrashedItem(
        number,
        item.target,
        item.selection.item.name,
        sum(s.size for s in item.steps),
        sum(s.allocated for s in item.steps),
        item.frees,
    )


def _kept(root_fd: int, items: Sequence[PlannedItem], act: Act) -> tuple[Kept, ...]:
    """Second names: of what stays for others, and where a server deletes of everything, its manifests last."""
    if act not in (Act.DELETE, Act.SERVER):
        return ()
    needed: dict[str, list[int]] = {}
    references: set[str] = set()
    for n, item in enumerate(items):
        paths = [s.path for s in item.stays]
        if act is Act.SERVER:
            paths += [s.path for s in item.steps]
            references |= {s.path for s in item.steps if s.phase is Phase.REFERENCE}
        for path in paths:
            needed.setdefault(path, []).append(n)
        for step in item.steps if act is Act.SERVER else ():
            needed[step.path] += [m for m, other in enumerate(items) for k in step.needs if k[1] == other.target]
    found: list[Kept] = []
    for path, numbers in sorted(needed.items(), key=lambda p: p[0] in references):
        st = lstat_below(root_fd, path)
        if st is not None:
            found.append(Kept(tuple(dict.fromkeys(numbers)), path, str(len(found)), st.st_ino, path in references))
    return tuple(found)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())
