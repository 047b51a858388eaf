"""What an archive's manifest says about files that lie in it: their sha256, and which ought to be there."""

from __future__ import annotations

import os
from collections.abc import Collection

from cachetui.archives import MANIFEST, Entry, File, Manifest, ManifestError, read
from cachetui.expected import SHA256, Digest, Expected
from cachetui.model import Item, Problem

_CLIMB = 8
_SOURCE = "the archive's manifest"


class Archives:
    """The manifests above the files that are verified, each read once."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}
        self._manifests: dict[str, Manifest | None] = {}
        self._files: dict[str, dict[str, File]] = {}
        self._faults: dict[str, str] = {}

    def directory_of(self, path: str) -> str:
        """The archive that a real path lies in; empty where it lies in none."""
        folder = os.path.dirname(path)
        known = self._above.get(folder)
        if known is None:
            known = self._above[folder] = self._climb(folder)
        return known

    def _climb(self, folder: str) -> str:
        for _ in range(_CLIMB):
            if os.path.lexists(os.path.join(folder, MANIFEST)):
                return folder
            if folder == os.path.dirname(folder):
                break
            folder = os.path.dirname(folder)
        return ""

    def manifest(self, directory: str) -> Manifest | None:
        """Of an archive; None where it cannot be used, which `fault` explains."""
        if directory not in self._manifests:
            found = None
            try:
                found = read(directory)
            except ManifestError as e:
                self._faults[directory] = str(e)
            self._manifests[directory] = found
            entries = found.entries if found is not None else ()
            self._files[directory] = {f.path: f for e in entries for f in e.files if f.sha256}
        return self._manifests[directory]

    def file(self, path: str) -> tuple[Digest, int] | None:
        """(hash, size) of a file by its real path; None where no manifest knows it."""
        directory = self.directory_of(path)
        if not directory or self.manifest(directory) is None:
            return None
        row = self._files[directory].get(path[len(directory) + 1 :])
        return (Digest(SHA256, row.sha256, _SOURCE), row.size) if row is not None else None

    def lacks(self, item: Item, reals: Collection[str], found: Expected) -> None:
        """Add what the manifest of an archived item lists and what is not there. `reals`: its files, real paths."""
        for directory in sorted({d for path in reals if (d := self.directory_of(path))} | self._home(item)):
            manifest = self.manifest(directory)
            if manifest is None:
                if directory in self._faults:
                    message = f"the archive's manifest cannot be used: {self._faults[directory]}"
                    found.unknown.append(Problem("archive-manifest", message, os.path.join(directory, MANIFEST)))
                continue
            for entry in manifest.entries:
                if _is_of(entry, item, directory):
                    _missing(entry, directory, reals, found)

    def _home(self, item: Item) -> set[str]:
        real = os.path.realpath(os.path.join(item.root, item.path))
        return {d for d in (self.directory_of(real),) if d}


def _is_of(entry: Entry, item: Item, directory: str) -> bool:
    place = os.path.join(directory, entry.path)
    here = os.path.join(item.root, item.path)
    return place in (here, os.path.realpath(here)) or (entry.target == item.id and entry.root == item.root)


def _missing(entry: Entry, directory: str, reals: Collection[str], found: Expected) -> None:
    for f in entry.files:
        path = os.path.join(directory, f.path)
        if path not in reals and not os.path.lexists(path):
            found.damaged.append(Problem("missing", f"{_SOURCE} lists it, and it is not there", path))
