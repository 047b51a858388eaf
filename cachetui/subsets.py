"""Which files of a repo were asked for, where not all were: what makes a download of a part whole.

No program that downloads keeps a record of that: huggingface_hub's listing names every file of the commit. Ours is a
help, not a truth: what cannot be read of it counts as not there, and then such a repo is shown as partial.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cachetui import checked, paths
from cachetui.alternatives import matches, needed
from cachetui.fs import DISK, Fs
from cachetui.ownfile import OwnFile

_MAX_FILE = 4 << 20


@dataclass(frozen=True, slots=True)
class Subset:
    """One download of a part of a commit."""

    root: str
    """Real path of the hub cache."""
    folder: str
    """Of the repo in it."""
    commit: str
    path: str = ""
    """One file or folder; empty for all."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, name: str) -> bool:
        """Whether this file was asked for."""
        if self.path and not (name == self.path or name.startswith(self.path.rstrip("/") + "/")):
            return False
        return (not self.include or matches(name, self.include)) and not matches(name, self.exclude)

    def words(self) -> str:
        """For people; outside strings."""
        left_out = f"without {', '.join(self.exclude)}" if self.exclude else ""
        return " ".join(w for w in (self.path, ", ".join(self.include), left_out) if w)


def known(root: str, folder: str, commit: str) -> tuple[Subset, ...]:
    """What was asked for of a commit; empty where all of it was, or where nothing is known. Never raises."""
    return tuple(s for s in _read() if (s.root, s.folder, s.commit) == (root, folder, commit))


def lacking(listed: Iterable[str], there: Iterable[str], asked: Iterable[Subset] = ()) -> set[str]:
    """The listed files that are not there and ought to be: needed, and asked for where that is known."""
    present = set(there)
    missing = needed(listed, present) - present
    subsets = tuple(asked)
    return {n for n in missing if any(s.takes(n) for s in subsets)} if subsets else missing


def remember(cache: str, folder: str, commit: str, request: Mapping[str, Any], path: str, fs: Fs = DISK) -> None:
    """Note what a download asks for, before it begins: of all files it takes the notes back. Raises OSError."""
    asked = Subset(os.path.realpath(cache), folder, commit, path, tuple(request["include"]), tuple(request["exclude"]))
    is_all = not (asked.path or asked.include or asked.exclude)
    if is_all and not known(asked.root, folder, commit):
        return
    with OwnFile(paths.subsets_file(), fs) as file:
        rows = [s for s in _read() if os.path.lexists(os.path.join(s.root, s.folder))]
        if is_all:
            rows = [s for s in rows if (s.root, s.folder, s.commit) != (asked.root, folder, commit)]
        elif asked not in rows:
            rows.append(asked)
        file.write(json.dumps({"version": 1, "subsets": [asdict(s) for s in rows]}, indent=1) + "\n")


def _read() -> Iterable[Subset]:
    try:
        body = checked.load(str(paths.subsets_file()), _MAX_FILE)
        return [_subset(checked.mapping(row)) for row in checked.rows(checked.mapping(body), "subsets")] if body else []
    except checked.CheckError:
        return []


def _subset(row: Mapping[str, Any]) -> Subset:
    root, folder, commit, path = (checked.text(row, key) for key in ("root", "folder", "commit", "path"))
    return Subset(
        root, folder, commit, path, tuple(checked.strings(row, "include")), tuple(checked.strings(row, "exclude"))
    )
