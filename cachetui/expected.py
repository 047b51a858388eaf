"""What content ought to be, known without a network: the hash a name promises, a listing, a record, a manifest."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cachetui import afar, walk
from cachetui.model import Item, Problem
from cachetui.subsets import Subset, lacking

SHA256, GIT_SHA1, STATE_DATA = "sha256", "git-sha1", "data-sha256"
"""Algorithms of `Digest`: of the bytes, of git's blob object (sha1 of `blob N\\0` and the bytes), of what follows the
header of a saved state (sha256)."""
MAX_TREE = 8 << 20
_HEX = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

DAMAGED_CODES = frozenset(
    (
        "broken-link", "link-loop", "no-content", "dangling-ref", "bad-ref", "not-a-folder", "no-snapshots",
        "layer-missing", "bad-manifest", "dangling-manifest", "left-behind", "damaged-state",
    )
)  # fmt: skip
INCOMPLETE_CODES = frozenset(("unfinished-download", "partial", "litter"))
UNKNOWN_CODES = frozenset(
    (
        "unreadable", "outside-link", "linked-folder", "offline", "manifest-link", "special-file", "outside",
        "other-filesystem", "too-deep", "state-version",
    )
)  # fmt: skip
"""Codes of a scan's problems, by what they say about an item that is verified."""


class Digest(NamedTuple):
    """A hash that content ought to have."""

    algorithm: str
    """SHA256, GIT_SHA1 or STATE_DATA."""
    value: str
    """Lower-case hex."""
    source: str
    """Where it is known from, in words that follow `by`: `its name`, `the repo's listing` ..."""
    firm: bool = True
    """False where other content may be right too: it proves what matches, and condemns nothing."""


class ExpectedFile(NamedTuple):
    """One file with content."""

    path: str
    """Absolute; the last part is the file itself, or a link that programs follow."""
    name: str
    """What programs call it: its format is told from this, and people know it by it."""
    size: int = -1
    """Bytes it ought to have; -1 where nothing tells."""
    digests: tuple[Digest, ...] = ()


@dataclass
class Expected:
    """What an item ought to be: its files, and what is wrong with it before a byte of them is read."""

    files: list[ExpectedFile] = field(default_factory=list)
    damaged: list[Problem] = field(default_factory=list)
    incomplete: list[Problem] = field(default_factory=list)
    unknown: list[Problem] = field(default_factory=list)
    """What cannot be checked, and why."""

    def sort_in(self, problems: Iterable[Problem], but: Iterable[str] = ()) -> None:
        """Put a scan's problems where they belong; those with codes in `but` are known better."""
        left_out = frozenset(but)
        for p in dict.fromkeys(problems):
            if p.code in left_out:
                continue
            if p.code in DAMAGED_CODES:
                self.damaged.append(p)
            elif p.code in INCOMPLETE_CODES:
                self.incomplete.append(p)
            elif p.code in UNKNOWN_CODES:
                self.unknown.append(p)


def named_digest(name: str, source: str = "its name") -> tuple[Digest, ...]:
    """What a file name in hex promises: 64 digits sha256, 40 git-sha1; anything else nothing."""
    if not _HEX.fullmatch(name):
        return ()
    return (Digest(SHA256 if len(name) == 64 else GIT_SHA1, name, source),)


class TreeRow(NamedTuple):
    """One file of a repo's listing at a commit."""

    size: int
    digest: Digest | None


def read_tree(path: str) -> dict[str, TreeRow]:
    """A `trees/<commit>.json` (huggingface_hub's _tree_cache.py) by file name; empty where there is none to use."""
    try:
        data = json.loads(walk.read_small(path, MAX_TREE))
        files = data["files"] if data["format_version"] == 1 else {}
        return {name: _tree_row(row) for name, row in files.items() if _is_inner(name) and isinstance(row, dict)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _is_inner(name: str) -> bool:
    return bool(name) and "\0" not in name and not any(part in ("", ".", "..") for part in name.split("/"))


def _tree_row(row: Mapping[str, object]) -> TreeRow:
    lfs = row.get("lfs_sha256")
    size = row.get("lfs_size") if lfs is not None else row.get("size")
    value = lfs if lfs is not None else row.get("blob_id")
    digests = named_digest(value, "the repo's listing") if isinstance(value, str) else ()
    known = isinstance(size, int) and not isinstance(size, bool) and size >= 0
    return TreeRow(size if known and isinstance(size, int) else -1, digests[0] if digests else None)


def missing_files(
    listed: Mapping[str, TreeRow], there: Iterable[str], path: str, asked: Sequence[Subset] = ()
) -> Problem | None:
    """That a revision lacks files which its listing has and a copy needs; `asked`: what the download was to take."""
    missing = sorted(lacking(listed, there, asked))
    if not missing:
        return None
    shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    message = f"{len(missing)} of {len(listed)} files were not downloaded: {shown}"
    return Problem("not-downloaded", message, path, "download the repo again to fetch the rest")


def plain_files(item: Item, base: str) -> Expected:
    """Of content that nobody keeps books of: the files as they are. `base`: absolute path of the item's root."""
    found = Expected()
    path = os.path.join(base, item.path)
    if item.path and os.path.islink(path):  # an archived folder
        found.files += [ExpectedFile(a, name) for a, name in files_below(afar.follow(path).real)]
    else:
        found.files += [ExpectedFile(f"{base}/{b.path}", b.path) for b in item.content]
    found.sort_in(item.problems)
    return found


def files_below(path: str) -> list[tuple[str, str]]:
    """(absolute path, path below it) of the regular files in a folder, or the one file. Never raises."""
    try:
        st = os.lstat(path)
    except OSError:
        return []
    if stat.S_ISREG(st.st_mode):
        return [(path, path.rpartition("/")[2])]
    return [(f"{path}/{b.path}", b.path) for b in sorted(walk.tree(path).files)]
