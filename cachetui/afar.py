"""What lies elsewhere: where a link leads, without waiting for a drive or a server that is away.

A mount whose server is gone blocks whoever touches it, for minutes or for ever. So network mounts are asked for a
sign of life first, all at once and with a time limit; what lies on one that gives none is never touched.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from cachetui import filesystem
from cachetui.manifest import MANIFEST
from cachetui.model import ARCHIVED, DAMAGED, LIES_IN, OFFLINE, PARTIAL, Blob, Item, Problem, Revision

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds that a network mount has to answer, and that reading one item from it may take."""
_TRUSTED_SECONDS = 30.0
"""How long an answer, or the lack of one, is believed."""
_LOOK_SECONDS = 1.0
"""How long the mount table is."""
_MAX_LINKS = 40
HINT = "plug that drive in, or connect to that server"
"""What to do about what is offline."""
_MAX_ABOVE = 4


@dataclass(frozen=True, slots=True)
class Lead:
    """Where a path leads."""

    path: str
    """Absolute, as a link's text says it; links on the way not resolved."""
    real: str = ""
    """With all links resolved; empty where nothing is there."""
    stat: os.stat_result | None = None
    """Of what is there."""
    loop: bool = False
    """It leads to itself."""
    silent: bool = False
    """It lies on a mount that does not answer."""
    reason: str = ""
    """Why it cannot be reached although something is there, e.g. `permission denied`."""

    @property
    def state(self) -> str:
        """Why nothing can be read there, as it follows `which`."""
        if self.reason:
            return f"cannot be read: {self.reason}"
        return "does not answer now" if self.silent else "is not there now"


class _Mounts:
    """Which network mounts there are and which of them are silent."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.points: tuple[str, ...] = ()
        self.silent: frozenset[str] = frozenset()
        self.looked = self.asked = -_TRUSTED_SECONDS

    def now(self) -> frozenset[str]:
        """Mount points that give no sign of life; asks them where the last answer is old or the mounts are others."""
        with self.lock:
            if time.monotonic() - self.looked < _LOOK_SECONDS:
                return self.silent if self.points else frozenset()
            points = tuple(m.point for m in filesystem.mounts() if m.network)
            self.looked = time.monotonic()
            if points and (points != self.points or time.monotonic() - self.asked > _TRUSTED_SECONDS):
                self.silent = _silent(points)
                self.asked = time.monotonic()
            self.points = points
            return self.silent if points else frozenset()


def _silent(points: tuple[str, ...]) -> frozenset[str]:
    answered: list[str] = []

    def ask(point: str) -> None:
        try:
            os.statvfs(point)  # a stat is answered from memory
        except OSError as e:
            if e.errno in (errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.ESTALE):
                return
        answered.append(point)

    threads = [threading.Thread(target=ask, args=(point,), daemon=True) for point in points]
    for thread in threads:
        thread.start()
    end = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0.0))
    return frozenset(points) - frozenset(answered)


_MOUNTS = _Mounts()


def is_silent(path: str) -> bool:
    """Whether an absolute path leads onto a mount that does not answer. Touches nothing on such a mount."""
    silent = _MOUNTS.now()
    if not silent:
        return False
    table = [m for m in filesystem.mounts() if m.point != "/"]
    done, left, links = "/", [p for p in path.split("/") if p], 0
    while left:
        name = left.pop(0)
        done = os.path.normpath(os.path.join(done, name))
        mount = filesystem.mount_of(done, table)
        if mount is not None and mount.point in silent:
            return True
        try:
            text = os.readlink(done)
        except OSError:
            continue
        links += 1
        if links > _MAX_LINKS:
            return False
        left = [p for p in text.split("/") if p] + left
        done = "/" if text.startswith("/") else os.path.dirname(done)
    return False


def reach(path: str) -> Lead:
    """What is at an absolute path. Never raises, never blocks on a mount that does not answer."""
    if is_silent(path):
        return Lead(path, silent=True)
    try:
        real = os.path.realpath(path, strict=True)
        return Lead(path, real, os.stat(real))
    except OSError as e:
        absent = e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENODEV)
        return Lead(path, loop=e.errno == errno.ELOOP, reason="" if absent else (e.strerror or str(e)).lower())
    except ValueError:
        return Lead(path)


def dangling(path: str) -> str:
    """Where an absolute path leads that nothing is at, when a link on the way is why; empty where none is."""
    rest: list[str] = []
    top = path
    while os.path.dirname(top) != top and not is_silent(os.path.dirname(top)):
        if os.path.islink(top):
            lead = follow(top)
            return os.path.join(lead.path, *rest) if lead.stat is None and not lead.loop else ""
        rest.insert(0, os.path.basename(top))
        top = os.path.dirname(top)
    return ""


def follow(link: str) -> Lead:
    """Where the link at an absolute path leads. Never raises."""
    try:
        text = os.readlink(link)
    except OSError:
        return Lead(link)
    lead = reach(link)
    path = os.path.normpath(os.path.join(os.path.dirname(link), text))
    return Lead(path, lead.real, lead.stat, lead.loop, lead.silent, lead.reason)


def patiently(path: str, ask: Callable[[], T], otherwise: T) -> T:
    """What `ask` finds out at a real path that may be slow; `otherwise` where a network mount takes too long.

    Raises what `ask` raises.
    """
    if not filesystem.is_network(path):
        return ask()
    failed: list[Exception] = []

    def guarded() -> T:
        try:
            return ask()
        except Exception as e:
            failed.append(e)
            return otherwise

    found = filesystem.within(PATIENCE, guarded, otherwise)
    if failed:
        raise failed[0]
    return found


def archive_above(real: str) -> str:
    """The folder of the archive that a real path lies in, by the manifest there; empty where it is in none."""
    folder = real
    for _ in range(_MAX_ABOVE):
        folder = os.path.dirname(folder)
        if os.path.lexists(os.path.join(folder, MANIFEST)):
            return folder
    return ""


def leaves(root: str, dev: int, lead: Lead) -> bool:
    """Whether what a link leads to was put elsewhere: on another drive, or in an archive.

    A link that stays in its root, or leads to another folder of the same drive, is only a link.
    """
    if lead.stat is None:
        return not (lead.loop or lead.path == root or lead.path.startswith(root + os.sep))
    if lead.real == root or lead.real.startswith(root + os.sep):
        return False
    return lead.stat.st_dev != dev or bool(archive_above(lead.real))


def offline(item: Item, lead: Lead, link: str) -> Item:
    """The item when what its link leads to cannot be reached now; how large it is is not known here."""
    hint = "check its permissions" if lead.reason else HINT
    problem = Problem("offline", f"lies at {lead.path}, which {lead.state}", link, hint)
    item = replace(item, problems=(*item.problems, problem), extra=(*item.extra, (LIES_IN, lead.path)))
    return item.with_states(OFFLINE).with_sizes()


def slow(item: Item, lead: Lead, link: str) -> Item:
    """The item when it is there but could not be read in time."""
    message = f"lies at {lead.real}, which answers too slowly to look what is in it"
    problem = Problem("slow", message, link, "it is read again with the next scan")
    item = replace(item, problems=(*item.problems, problem), extra=(*item.extra, (LIES_IN, lead.real)))
    return item.with_states(ARCHIVED)


def archived(base: Item, far: Item, real: str) -> Item:
    """What `base`, an item that is only a link, is like: as `far`, the same read where it really lies.

    Its content stands in `links` under the names it has through the link, with no blocks: those are counted there.
    """

    def path(there: str) -> str:
        return base.path + there[len(far.path) :]

    def blobs(content: Sequence[Blob]) -> tuple[Blob, ...]:
        return tuple(b._replace(path=path(b.path), allocated=0, nlink=1) for b in content)

    def revisions(those: Sequence[Revision]) -> tuple[Revision, ...]:
        return tuple(replace(r, path=path(r.path)) for r in those)

    item = replace(
        base,
        links=blobs(far.content),
        revisions=revisions(far.revisions),
        parts=revisions(far.parts),
        file_count=far.file_count,
        last_used=far.last_used,
        last_modified=far.last_modified,
        problems=(*base.problems, *far.problems),
        traits=far.traits,
        extra=(*base.extra, *far.extra, (LIES_IN, real)),
    )
    return item.with_states(*(s for s in far.states if s in (PARTIAL, DAMAGED)), ARCHIVED).with_away(far.size)


def refuse_part(item: Item) -> str:
    """Why no single revision or file of an item goes: it is only a link. Empty where it is not."""
    if os.path.islink(os.path.join(item.root, item.path) if item.path else item.root):
        return f"it is a link to {dict(item.extra).get(LIES_IN, 'another place')}: delete single parts of it there"
    return ""
