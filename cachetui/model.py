"""What a scan is made of: blobs, items, roots, problems.

Everything here is a frozen value: no I/O, no user interface. Paths are `str` with surrogateescape
(`os.fsdecode`), so that any file name survives the round trip; inside a root they are relative to it
and use "/" on every platform.

Three different numbers answer "how big is it" and each is computed in one place, here:

- `size`: apparent bytes of the item's distinct blobs (what `scan_cache_dir` reports on a clean repo);
- `allocated`: disk blocks of everything that belongs to it, folders included (what `du` reports);
- what deleting a selection really frees: `Ledger.frees` in ledger.py, over all stores together.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

# States an item can be in. An item with no other state is "ok".
OK, PARTIAL, DAMAGED, ORPHAN, PINNED = "ok", "partial", "damaged", "orphan", "pinned"
ARCHIVED, OFFLINE, FOREIGN, IN_USE, READ_ONLY, FOREIGN_OWNER = (
    "archived",
    "offline",
    "foreign",
    "in-use",
    "read-only",
    "not-yours",
)
"""`archived`: lies elsewhere and is there; `offline`: lies elsewhere and is not there now; `foreign`: lies in an
archive, and nothing on this machine links to it."""

ARCHIVE_GROUP = "Archive "
"""`Root.group` of archives starts with this; the label of the drive follows."""
LIES_IN = "lies in"
"""Label of the row (`Item.extra`) that says where an archived or offline item really is: an absolute path."""

# Pseudo revisions: parts of a repo that no snapshot names. "~" cannot occur in a git ref.
ORPHANS, PARTIALS, LITTER = "~orphan", "~partial", "~litter"


class Blob(NamedTuple):
    """One name of one inode that holds content.

    `path` is relative to the root, sizes are bytes (`allocated` = st_blocks * 512), `mtime` is POSIX seconds.
    """

    path: str
    dev: int
    ino: int
    size: int
    allocated: int
    nlink: int
    mtime: float


@dataclass(frozen=True, slots=True)
class Problem:
    """Something odd on disk, as a value: what it is, where, and what the user can do about it."""

    code: str
    """Stable kebab-case name, e.g. `broken-link`."""
    message: str
    """What is wrong, one sentence; may contain outside strings, so never print it unescaped."""
    path: str = ""
    """Absolute path it is about, or empty."""
    hint: str = ""
    """What to do about it."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of an item and the files it names: parallel arrays, for a cache can hold a million.

    `commit` is a commit hash, a manifest digest, "" where the store has no revisions, or one of ORPHANS,
    PARTIALS, LITTER for content that no revision names.
    """

    commit: str
    refs: tuple[str, ...]
    path: str
    """The revision's folder (or manifest), relative to the root."""
    names: tuple[str, ...]
    """File names relative to `path`, or the role of a layer."""
    index: array[int]
    """For each name, the position in `Item.content`; -1 where the content is missing."""
    size: int
    """Apparent bytes of the distinct blobs it names."""
    last_modified: float | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def is_part(self) -> bool:
        """True for content that no revision names."""
        return self.commit.startswith("~")


@dataclass(frozen=True, slots=True)
class Traits:
    """What kind of model it is, read from config or header without running anything."""

    formats: tuple[str, ...] = ()
    """Of the weights: safetensors, gguf, pytorch, onnx, mlx, tensorflow, flax, coreml, openvino."""
    quantization: str = ""
    """E.g. `GPTQ 4-bit`, `AWQ 4-bit`, `bitsandbytes nf4`, `FP8`, `MLX 4-bit`, `Q4_K_M`, `bf16`; empty if unknown."""
    family: str = ""
    """Architecture family: config's model_type, GGUF's general.architecture."""
    parameters: str = ""
    """As the source writes it, e.g. `3.2B`."""
    loads_with: tuple[str, ...] = ()
    """Programs that load it: transformers, llama.cpp, mlx_lm, GPT-QModel, ollama, diffusers."""
    purpose: str = ""
    """`inference and training` or `inference only`; empty if unknown."""
    redundant: tuple[str, ...] = ()
    """Files that repeat the same weights in another format (e.g. .bin beside .safetensors)."""


NO_TRAITS = Traits()


class Stub(NamedTuple):
    """An item of which only the name is known yet: what a scan reports first."""

    id: str
    kind: str
    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Item:
    """One thing a person would name, keep or delete: a repo, an Ollama tag, a folder, an orphan blob."""

    id: str
    """A TARGET (see targets.py) that names exactly this item within its root."""
    store: str
    root: str
    """Absolute real path of the root it lies in."""
    kind: str
    """model, dataset, space, kernel, folder, file, orphan, partial, or what the store calls it."""
    name: str
    path: str
    """Of its folder or file, relative to the root; "" is the root itself."""
    blobs: tuple[Blob, ...] = ()
    """Content that lies inside the item: its names go when the item goes."""
    links: tuple[Blob, ...] = ()
    """Content it needs that lies outside (payloads, layers): these names go with the last item that needs them."""
    overhead: int = 0
    """Allocated bytes of folders, links, refs and other files that are not content."""
    revisions: tuple[Revision, ...] = ()
    parts: tuple[Revision, ...] = ()
    """Content inside that no revision names: ORPHANS, PARTIALS, LITTER."""
    file_count: int = 0
    last_used: float | None = None
    last_modified: float | None = None
    states: tuple[str, ...] = (OK,)
    problems: tuple[Problem, ...] = ()
    traits: Traits = NO_TRAITS
    uid: int = -1
    gid: int = -1
    size: int = 0
    """Apparent bytes of its distinct blobs."""
    allocated: int = 0
    """Blocks of everything that belongs to it, shared content and folders included."""
    extra: tuple[tuple[str, str], ...] = ()
    """Rows for the details pane that only this store knows: (label, value)."""
    away: int = 0
    """Of `size`: bytes that lie elsewhere, behind links. They are counted where they lie."""

    @property
    def key(self) -> tuple[str, str]:
        """Unique in a scan: (root, id)."""
        return (self.root, self.id)

    @property
    def content(self) -> tuple[Blob, ...]:
        """All content; what `Revision.index` points into."""
        return self.blobs + self.links if self.links else self.blobs

    def with_sizes(self) -> Item:
        """The same item with `size` and `allocated` computed from its content and overhead, each inode once."""
        size = allocated = 0
        if not self.links and all(b.nlink == 1 for b in self.blobs):
            for b in self.blobs:
                size += b.size
                allocated += b.allocated
        else:
            seen: set[tuple[int, int]] = set()
            for b in self.content:
                if (b.dev, b.ino) not in seen:
                    seen.add((b.dev, b.ino))
                    size += b.size
                    allocated += b.allocated
        return replace(self, size=size, allocated=allocated + self.overhead)

    def with_away(self, size: int) -> Item:
        """The same item of which all `size` bytes lie elsewhere."""
        return replace(self, size=size, away=size, allocated=self.overhead + sum(b.allocated for b in self.content))

    def with_states(self, *more: str) -> Item:
        """The same item with these states added; `ok` goes when any other is there."""
        states = [s for s in self.states if s != OK]
        states += [s for s in more if s not in states]
        return replace(self, states=tuple(states) or (OK,))


@dataclass(frozen=True, slots=True)
class Root:
    """A folder that a store keeps its things in."""

    store: str
    path: str
    """Absolute and real (links resolved)."""
    dev: int
    ino: int
    origin: str
    """Why it is looked at: `HF_HOME`, `default`, `--cache-dir`, `config`, `.env of /some/project` ..."""
    given: str = ""
    """As the user or environment wrote it, where that differs from `path`."""
    writable: bool = True
    group: str = ""
    """Heading it stands under in the tree when that is not the store's title, e.g. `Projects`."""
    problems: tuple[Problem, ...] = ()
    archive: str = ""
    """Id of the archive it is a part of; empty for most."""
    offline: bool = False
    """It lies on a drive that is not there now: known of, but nothing in it can be read."""
    ours_only: bool = False
    """A folder of the user's own: only what this program made in it is read, counted and acted on."""

    @property
    def only_archive(self) -> bool:
        """True where it is looked at as a part of an archive alone: no program of this machine is told to read it."""
        return bool(self.archive) and self.group.startswith(ARCHIVE_GROUP)


@dataclass(frozen=True)
class RootScan:
    """One root, scanned."""

    root: Root
    items: tuple[Item, ...] = ()
    other: int = 0
    """Allocated bytes of what is in the root but is no item: the root folder itself, locks, tokens, tags, trash."""
    nested: tuple[str, ...] = ()
    """Other roots that lie inside this one; they are counted there, not here."""
    problems: tuple[Problem, ...] = ()
    blind: tuple[str, ...] = ()
    """What could not be read and may refer to shared content (I7): while not empty, shared content is kept."""
    reflinks: bool = False
    """The file system can share extents between files, so what frees says is an upper bound."""
    complete: bool = True
    away: int = 0
    """Apparent bytes of content that its items name and that lies elsewhere, each blob once."""

    @cached_property
    def allocated(self) -> int:
        """Blocks of the whole root, each blob once: equals `du` of it less `nested`."""
        return self.other + sum(i.overhead for i in self.items) + sum(b.allocated for b in self._distinct())

    @cached_property
    def size(self) -> int:
        """Apparent bytes of the root's content, each blob once."""
        return sum(b.size for b in self._distinct()) - self.away

    def _distinct(self) -> Iterator[Blob]:
        linked = any(item.links for item in self.items)
        seen: set[tuple[int, int]] = set()
        for item in self.items:
            for b in item.content:
                if linked or b.nlink > 1:
                    if (b.dev, b.ino) in seen:
                        continue
                    seen.add((b.dev, b.ino))
                yield b


@dataclass(frozen=True, slots=True)
class OfflineArchive:
    """An archive that this machine knows and that is not there now."""

    id: str
    label: str
    """Of its file system; its path where that has none."""
    path: str
    """Where it was last seen."""
    seen: float
    """POSIX seconds."""
    size: int
    """Apparent bytes of all that was archived there."""
    items: int


class Reporter(Protocol):
    """Who listens to a scan. Called from the scanning thread, often: must be quick and never raise."""

    def named(self, root: Root, stubs: Sequence[Stub]) -> None:
        """Names of a root are known; sizes will come."""

    def sized(self, root: Root, item: Item) -> None:
        """One item is complete."""

    def done(self, root: RootScan) -> None:
        """A root is complete (or as far as it got)."""

    def cancelled(self) -> bool:
        """True when the scan should stop and keep what it has."""


class Silent:
    """A reporter for who only wants the result."""

    def named(self, root: Root, stubs: Sequence[Stub]) -> None:
        """Ignored."""

    def sized(self, root: Root, item: Item) -> None:
        """Ignored."""

    def done(self, root: RootScan) -> None:
        """Ignored."""

    def cancelled(self) -> bool:
        """Never."""
        return False
