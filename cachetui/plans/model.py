"""A plan is data: what goes, what stays and why, what is refused, how many bytes come back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol

from cachetui.store import Selection

if TYPE_CHECKING:  # psutil, which it needs, is imported when somebody asks who uses what
    from cachetui.inuse import User

# Reasons to ask again, beyond the plan itself (I8). Values of `Caution.code`.
IN_USE, LOCKED, YOUNG, UNCHECKED, PERMANENT, NO_UNDO, SERVER, LINKED_FROM = (
    "in-use", "locked", "young", "unchecked", "permanent", "no-undo", "server", "linked-from",
)  # fmt: skip


ROOT = "."
"""`Step.path` of a root as a whole."""


class Phase(StrEnum):
    """References go first, blobs last."""

    REFERENCE = "reference"
    CONTENT = "content"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a name was when the plan was made; compared again at the moment it goes (I2). Sizes in bytes."""

    dev: int
    ino: int
    type: str
    """file, dir, link or other; none where nothing is there, and a replacement comes."""
    size: int
    mtime_ns: int


NOTHING = Identity(0, 0, "none", 0, 0)
"""`Step.was` of a name that does not exist yet."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """What stands in the place of a name from the moment that it goes."""

    kind: Literal["link", "tree"]
    target: str
    """link: the text of the symbolic link, an absolute path. tree: absolute path of a folder or file that was staged
    inside the trash folder (in `incoming/`), complete and durable."""


@dataclass(frozen=True, slots=True)
class Step:
    """One name that goes, by one rename."""

    path: str
    """Relative to the root; ROOT where the root folder itself is exchanged with a link."""
    phase: Phase
    was: Identity
    entries: int
    """Names that go with it (1 for a file, everything below for a folder)."""
    size: int
    """Apparent bytes below it."""
    allocated: int
    """Blocks below it."""
    frees: int
    """Blocks that come back when it is gone for good: inodes of which no name is left anywhere."""
    needs: tuple[tuple[str, str], ...] = ()
    """Keys of items that must be gone before this may go: shared content goes with its last holder."""
    replacement: Replacement | None = None
    """What it is exchanged with, atomically; None where nothing takes its place."""


@dataclass(frozen=True, slots=True)
class Stay:
    """Content that the selection uses and that stays, with who still needs it."""

    path: str
    size: int
    holders: tuple[str, ...]
    """Ids of items; or a reason in words when the holder is not known."""


@dataclass(frozen=True, slots=True)
class Caution:
    """Something that needs its own confirmation."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """One selection in a plan."""

    selection: Selection
    target: str
    """The selection as a TARGET."""
    steps: tuple[Step, ...] = ()
    stays: tuple[Stay, ...] = ()
    cautions: tuple[Caution, ...] = ()
    users: tuple[User, ...] = ()
    """Processes that have its files open or mapped."""
    refused: str = ""
    """Why nothing of it will be touched; empty when it will."""
    via_server: str = ""
    """URL of the server whose API deletes it, when files are not touched directly."""

    @property
    def frees(self) -> int:
        """Blocks that come back once it is gone for good."""
        return sum(s.frees for s in self.steps)


@dataclass(frozen=True, slots=True)
class TrashPlace:
    """Where what is deleted from a root goes."""

    root: str
    path: str
    """Absolute path of the trash folder; empty where none works and only permanent deletion is possible."""
    kind: str
    """sibling, mount-top, inside (.locks) or none."""
    note: str = ""
    """What the user should know about it; empty for the usual place."""


@dataclass(frozen=True, slots=True)
class DiskShare:
    """What a plan gives back on one file system. Sizes in bytes."""

    mount: str
    """The folder it is mounted on; empty where unknown."""
    frees_now: int
    frees_when_emptied: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What will happen, complete: the confirm screen and --dry-run --json show exactly this."""

    verb: str
    items: tuple[PlannedItem, ...]
    places: tuple[TrashPlace, ...]
    permanent: bool = False
    up_to: bool = False
    """The file system shares extents between files (reflinks), so `frees` is an upper bound."""
    notes: tuple[str, ...] = ()
    disks: tuple[DiskShare, ...] = ()
    """What comes back where."""

    @property
    def accepted(self) -> tuple[PlannedItem, ...]:
        """Items that will be acted on."""
        return tuple(i for i in self.items if not i.refused)

    @property
    def refused(self) -> tuple[PlannedItem, ...]:
        """Items that will not be touched, each with its reason."""
        return tuple(i for i in self.items if i.refused)

    @property
    def frees_when_emptied(self) -> int:
        """Blocks that come back in the end."""
        return sum(i.frees for i in self.accepted)

    @property
    def frees_now(self) -> int:
        """Blocks that come back at once: nothing while it only moves to the trash."""
        return sum(i.frees for i in self.accepted if self.permanent or any(c.code == NO_UNDO for c in i.cautions))

    @property
    def swaps(self) -> bool:
        """True when something else takes the place of what goes."""
        return any(s.replacement is not None for i in self.items for s in i.steps)

    @property
    def cautions(self) -> frozenset[str]:
        """Codes that need their own confirmation before `execute`."""
        return frozenset(c.code for i in self.accepted for c in i.cautions)

    @property
    def digest(self) -> str:
        """sha256 of everything that will be touched: two equal digests are the same act."""
        acts = [
            (i.selection.item.root, i.target, i.refused, [asdict(s) for s in i.steps], i.via_server) for i in self.items
        ]
        return hashlib.sha256(
            json.dumps([self.verb, self.permanent, acts], sort_keys=True).encode("utf-8", "surrogateescape")
        ).hexdigest()


class Progress(Protocol):
    """Who listens to an operation."""

    def advance(self, done: int, total: int, name: str) -> None:
        """`done` of `total` steps (or entries, when emptying) are made; `name` is an outside string."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one item."""

    target: str
    root: str
    done: bool
    message: str = ""
    """Why not, or what else to know."""
    freed: int = 0
    """Blocks measured from inodes whose last name went (I9)."""
    moved: int = 0
    """Blocks that now lie in the trash."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation did. `operation` names it for undo; empty where nothing was done."""

    verb: str
    results: tuple[Result, ...]
    operation: str = ""
    messages: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True when every item was done."""
        return all(r.done for r in self.results)

    @property
    def freed(self) -> int:
        """Blocks that came back."""
        return sum(r.freed for r in self.results)

    @property
    def moved(self) -> int:
        """Blocks that went to the trash."""
        return sum(r.moved for r in self.results)


@dataclass(frozen=True, slots=True)
class TrashedItem:
    """One item inside a trash entry."""

    number: int
    target: str
    name: str
    size: int
    """Apparent bytes."""
    allocated: int
    frees: int
    """Blocks that come back when it is emptied; content kept only as a second name counts nothing."""


@dataclass(frozen=True, slots=True)
class TrashEntry:
    """What one operation deleted from one root. It lies on the root's file system and describes itself."""

    id: str
    """Operation id; the same in every root the operation touched."""
    path: str
    """Absolute path of the entry's folder."""
    trash: str
    root: str
    """Absolute path of the root, found relative to the trash where a drive is mounted elsewhere than before."""
    store: str
    deleted: float
    """POSIX seconds."""
    items: tuple[TrashedItem, ...]
    by: str = ""
    """user@host."""
    verb: str = "delete"
    """What was done: delete, or archive, restore, relink, move ... where something else took its place."""

    @property
    def frees(self) -> int:
        """Blocks that come back when it is emptied."""
        return sum(i.frees for i in self.items)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a start found unfinished and did about it."""

    trash: str
    operation: str
    action: str
    """finished, reverted, pending (a live instance holds the root, or --dry-run) or failed."""
    message: str


def total_entries(items: Sequence[PlannedItem]) -> int:
    """Number of renames a plan takes."""
    return sum(len(i.steps) for i in items)
