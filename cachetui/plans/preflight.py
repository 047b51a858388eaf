"""Looking at the disk for a plan: identities, sizes, owners, mounts, what really comes back. Changes nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cachetui.fs import open_dir
from cachetui.plans.model import Identity, Phase, Stay, Step
from cachetui.plans.planner import Draft
from cachetui.plans.survey import Inode, Measure, measure, mount_points, mounted_below, parent_of, reason


@dataclass
class Found:
    """What the disk says about one draft."""

    draft: Draft
    refused: str = ""
    forbidden: bool = False
    """Refused only because this user may not move the files; a server may."""
    steps: list[Step] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    stays: list[Stay] = field(default_factory=list)


def look(drafts: Sequence[Draft], kept: Mapping[Inode, int]) -> list[Found]:
    """Measure every name that goes. `kept`: how many names each inode has in a trash, which go when that is emptied."""
    found = [Found(d, d.refused, stays=list(d.stays)) for d in drafts]
    points = mount_points()
    for root in dict.fromkeys(d.key[0] for d in drafts):
        mine = [f for f in found if f.draft.key[0] == root and not f.refused]
        try:
            fd = open_dir(root)
        except OSError as e:
            for f in mine:
                f.refused = f"its folder cannot be read: {reason(e)}"
            continue
        try:
            for f in mine:
                _look_at(f, fd, root, points)
        finally:
            os.close(fd)
    _drop_what_others_need(found)
    _share_out(found, kept)
    return found


def _look_at(found: Found, root_fd: int, root: str, points: tuple[str, ...]) -> None:
    needs = dict(found.draft.needs)
    not_yours = ""
    for path, phase in found.draft.paths:
        try:
            with parent_of(root_fd, path) as (parent, name):
                was, below = measure(parent, name)
                not_yours = not_yours or forbidden(parent, was, below)
        except FileNotFoundError:
            found.refused = f"{path} is not there any more: scan again"
        except OSError as e:
            found.refused = f"{path}: {reason(e)}"
        if not found.refused and (mounted := mounted_below(f"{root}/{path}", points)):
            found.refused = f"a file system is mounted inside it, at {mounted}"
        if found.refused:
            return
        found.steps.append(Step(path, phase, was, below.entries, below.size, below.allocated, 0, needs.get(path, ())))
        found.measures.append(below)
    found.refused, found.forbidden = not_yours, bool(not_yours)


def forbidden(parent: int, was: Identity, below: Measure) -> str:
    """Why this user may not move a name away; empty when he may."""
    st = os.fstat(parent)
    me = os.geteuid()
    if below.foreign and me != 0:
        return f"{below.foreign} belongs to {_owner_of(parent, below.foreign)}, not to you"
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=parent, effective_ids=True):
        readonly = os.fstatvfs(parent).f_flag & os.ST_RDONLY
        return "its file system is mounted read-only" if readonly else "you may not write to the folder it lies in"
    if st.st_mode & stat.S_ISVTX and me not in (0, st.st_uid) and below.foreign:
        return "the folder it lies in lets only owners remove things"
    if below.locked:
        return f"you may not write to {below.locked}"
    return ""


def _owner_of(parent: int, path: str) -> str:
    try:
        uid = os.stat(path, dir_fd=parent, follow_symlinks=False).st_uid
    except OSError:
        return "another user"
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return f"user {uid}"


def _drop_what_others_need(found: Sequence[Found]) -> None:
    """Content that is shared with an item which turned out to be refused stays for it."""
    refused = {f.draft.key for f in found if f.refused and not f.forbidden}
    for f in found:
        for n in range(len(f.steps) - 1, -1, -1):
            step = f.steps[n]
            if holders := [key[1] for key in step.needs if key in refused]:
                f.stays.append(Stay(step.path, step.size, tuple(holders)))
                del f.steps[n], f.measures[n]


def _share_out(found: Sequence[Found], kept: Mapping[Inode, int]) -> None:
    """Give each inode's blocks to the step that takes its last name; hard links elsewhere keep it alive."""
    names: dict[Inode, int] = dict(kept)
    for f in found:
        if f.refused and not f.forbidden:
            continue
        for n, (step, below) in enumerate(zip(f.steps, f.measures, strict=True)):
            frees = below.single
            for inode, (seen, links, blocks) in below.linked.items():
                before = names.get(inode, 0)
                names[inode] = before + seen
                if before < links <= before + seen:
                    frees += blocks
            f.steps[n] = replace(step, frees=frees)


def content_paths(found: Iterable[Found]) -> list[str]:
    """Absolute paths of all single files that go as content, for asking who shares their extents."""
    return [
        os.path.join(f.draft.key[0], s.path)
        for f in found
        if not f.refused
        for s in f.steps
        if s.phase is Phase.CONTENT and s.was.type == "file"
    ]
