"""What archiving, restoring and adopting will do, as data: the dialog and --dry-run --json show exactly this."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from cachetui.model import Root
from cachetui.plans.model import Caution, Stay, Step
from cachetui.store import Selection

DAMAGED, PARTIAL, NETWORK, PINNED = "damaged", "partial", "network", "pinned"
"""Values of `Caution.code` beside those of plans.model."""


@dataclass(frozen=True, slots=True)
class Drive:
    """Where an archive is to be, looked at before anything starts. Sizes in bytes."""

    directory: str
    """Absolute; links above it resolved."""
    mount: str
    """Mount point it lies on; empty where unknown."""
    label: str
    filesystem: str
    """Type, e.g. ext4, exfat; empty where unknown."""
    free: int
    links: bool
    """It can hold symbolic links."""
    writable: bool
    probed: bool
    """`links` was tried out; False: only what the mount table tells."""
    network: bool
    same_as: tuple[str, ...] = ()
    """Roots that lie on the same file system."""
    refused: str = ""
    """Why nothing can be archived there; empty when it can."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One folder or file that is copied, or one link that is set. Paths of the root's side are relative to the root."""

    source: str
    """Absolute path of what is copied; of a link that is set: where it leads."""
    place: str
    """Relative to the archive (archive), or to the root (restore, adopt)."""
    bytes: int = 0
    """Apparent bytes to be written."""
    files: int = 0
    there: bool = False
    """A copy is there already: it is compared and used."""


@dataclass(frozen=True, slots=True)
class TransferItem:
    """One item of a plan."""

    selection: Selection
    target: str
    root: str
    place: str = ""
    """Path in the archive, relative to it."""
    parts: tuple[Part, ...] = ()
    steps: tuple[Step, ...] = ()
    """What is exchanged and what goes with it, as it is now; looked at again when the copy is proven."""
    stays: tuple[Stay, ...] = ()
    cautions: tuple[Caution, ...] = ()
    notes: tuple[str, ...] = ()
    frees: int = 0
    """Blocks that come back here."""
    refused: str = ""

    @property
    def bytes(self) -> int:
        """Apparent bytes to be written."""
        return sum(p.bytes for p in self.parts if not p.there)

    @property
    def files(self) -> int:
        """Files to be written."""
        return sum(p.files for p in self.parts if not p.there)


@dataclass(frozen=True, slots=True)
class TransferPlan:
    """What will happen, complete."""

    verb: str
    """archive, restore or adopt."""
    directory: str
    """The archive; of a restore from several the first."""
    items: tuple[TransferItem, ...]
    drive: Drive | None = None
    keep: bool = False
    """archive: a backup, the original stays. restore: the copy in the archive stays."""
    keep_original: bool = False
    """The original stays in the trash until that is emptied."""
    asks: tuple[Caution, ...] = ()
    """Cautions of the plan as a whole."""
    notes: tuple[str, ...] = ()
    refused: str = ""
    """Why nothing of it will be done; empty when it will."""
    roots: tuple[Root, ...] = ()
    """Of the scan it was made from: they are looked at again before anything is exchanged."""

    @property
    def accepted(self) -> tuple[TransferItem, ...]:
        """Items that will be acted on."""
        return () if self.refused else tuple(i for i in self.items if not i.refused)

    @property
    def cautions(self) -> frozenset[str]:
        """Codes that need their own confirmation before `execute`."""
        return frozenset(c.code for c in (*self.asks, *(c for i in self.accepted for c in i.cautions)))

    @property
    def bytes(self) -> int:
        """Apparent bytes that will be written; what several items need is written once."""
        return sum({(p.place, p.source): p.bytes for i in self.accepted for p in i.parts if not p.there}.values())

    @property
    def frees(self) -> int:
        """Blocks that come back here: at once, or when the trash is emptied (`keep_original`)."""
        return sum(i.frees for i in self.accepted)

    @property
    def digest(self) -> str:
        """sha256 of everything that will be done: two equal digests are the same act."""
        acts = [(i.root, i.target, i.refused, i.place, [asdict(p) for p in i.parts], i.frees) for i in self.items]
        head = [self.verb, self.directory, self.keep, self.keep_original, self.refused]
        body = json.dumps([head, acts], sort_keys=True)
        return hashlib.sha256(body.encode("utf-8", "surrogateescape")).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "verb": self.verb,
            "directory": self.directory,
            "drive": None if self.drive is None else asdict(self.drive),
            "keep": self.keep,
            "keep_original": self.keep_original,
            "refused": self.refused,
            "cautions": [asdict(c) for c in self.asks],
            "notes": list(self.notes),
            "bytes": self.bytes,
            "frees": self.frees,
            "digest": self.digest,
            "items": [_item(i) for i in self.items],
        }


def _item(item: TransferItem) -> dict[str, Any]:
    return {
        "target": item.target,
        "root": item.root,
        "place": item.place,
        "bytes": item.bytes,
        "files": item.files,
        "frees": item.frees,
        "parts": [asdict(p) for p in item.parts],
        "stays": [asdict(s) for s in item.stays],
        "cautions": [asdict(c) for c in item.cautions],
        "notes": list(item.notes),
        "refused": item.refused,
    }


ArchivePlan: TypeAlias = TransferPlan
AdoptPlan: TypeAlias = TransferPlan
