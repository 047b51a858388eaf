"""An archive, open for change: one writer, its manifest kept true, what earlier runs left tidied up."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from cachetui import archives
from cachetui.archives import HUB, INCOMING, OLLAMA, Entry, Manifest
from cachetui.fs import Fs, open_below, open_dir
from cachetui.plans import lock
from cachetui.transfer import faults, staging

_TAG = "CACHEDIR.TAG"
_TAG_TEXT = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# This file is a cache directory tag created by huggingface_hub.\n"
    b"# For information about cache directory tags, see:\n"
    b"#\thttps://bford.info/cachedir/\n"
)
"""As huggingface_hub 2.4 writes it into a hub cache (_local_folder.py, CACHEDIR_TAG_CONTENT)."""


class Shelf:
    """The archive at `directory`, locked. What it changes in the manifest is on disk when the call returns."""

    def __init__(self, fs: Fs, directory: str, fd: int, manifest: Manifest) -> None:
        self.fs = fs
        self.directory = directory
        self.manifest = manifest
        self.incoming = os.path.join(directory, INCOMING)
        self._fd = fd

    def present(self) -> None:
        """Raise CopyError when the archive is no longer at its path: its drive was unmounted or unplugged."""
        mine = os.fstat(self._fd)
        try:
            here = os.stat(self.directory)
        except OSError:
            raise faults.gone(self.directory) from None
        if (here.st_dev, here.st_ino) != (mine.st_dev, mine.st_ino):
            raise faults.gone(self.directory)

    def enter(self, entry: Entry) -> None:
        """Add or replace an entry. Raises OSError."""
        self._save(self.manifest.with_entry(entry))

    def linked(self, path: str) -> None:
        """Note that the links to the entry at `path` are set. Raises OSError."""
        entry = self.manifest.at(path)
        if entry is not None:
            self._save(self.manifest.with_entry(replace(entry, linked=True, kept=False)))

    def drop(self, path: str) -> None:
        """Take the entry at `path` out. Raises OSError."""
        self._save(self.manifest.without(path))

    def _save(self, manifest: Manifest) -> None:
        self.present()
        archives.write(self.fs, self.directory, manifest)
        self.manifest = manifest
        self.remember()

    def remember(self) -> None:
        """Note in the registry what lies here; the archive itself knows it anyway."""
        with suppress(OSError):
            archives.remember(self.fs, self.directory, self.manifest)

    def prepare_hub(self) -> None:
        """Make the hub cache, tagged as the library does it. Raises OSError."""
        self.make(HUB)
        hub = open_below(self._fd, HUB)
        try:
            with suppress(FileExistsError):
                fd = self.fs.create(hub, _TAG, 0o644)
                try:
                    self.fs.write_at(fd, _TAG_TEXT, 0)
                    self.fs.fsync(fd)
                finally:
                    os.close(fd)
                self.fs.fsync(hub)
        finally:
            os.close(hub)

    def prepare_ollama(self, prefix: str) -> None:
        """Make the folders of an Ollama store at `prefix`. Raises OSError."""
        for name in ("blobs", "manifests"):
            self.make(f"{prefix}/{name}")

    def make(self, path: str) -> None:
        """Make a folder of the archive and what is missing above it; never elsewhere, should the drive be gone.

        Raises CopyError, OSError.
        """
        self.present()
        fd = os.dup(self._fd)
        try:
            for name in path.split("/"):
                with suppress(FileExistsError):
                    self.fs.mkdir(fd, name, 0o777)
                    self.fs.fsync(fd)
                inner = open_dir(name, fd)
                os.close(fd)
                fd = inner
        finally:
            os.close(fd)

    def holds(self, place: str) -> bool:
        """Whether an entry that somebody relies on (linked, or a backup) has a file at or below this path."""
        return any(
            f.path == place or f.path.startswith(f"{place}/")
            for e in self.manifest.entries
            if e.linked or e.kept
            for f in e.files
        )

    def tidy(self) -> None:
        """Put right what a killed run left: links that are set but not noted, staging of what is complete.

        Raises OSError.
        """
        for entry in self.manifest.entries:
            if not entry.linked and not entry.kept and self._is_linked(entry):
                self.linked(entry.path)
            elif entry.linked and self._is_back(entry):
                self.enter(replace(entry, linked=False, kept=True))
        for key, header in staging.leftovers(self.incoming):
            if isinstance(place := header.get("place"), str) and self.holds(place):
                with staging.open_staging(self.fs, self.incoming, key, header) as left:
                    left.discard()

    def _is_linked(self, entry: Entry) -> bool:
        if entry.host != socket.gethostname():
            return False
        if entry.store == OLLAMA:
            shared = {f.path for e in self.manifest.entries if e.linked for f in e.files}
            places = [f.path for f in entry.files if f.path != entry.path and f.path not in shared]
            return any(self._leads_here(f"{entry.root}/blobs/{os.path.basename(p)}", p) for p in places)
        return self._leads_here(f"{entry.root}/{entry.origin}" if entry.origin else entry.root, entry.path)

    def _is_back(self, entry: Entry) -> bool:
        """Whether it was restored: something real stands where the link was."""
        if entry.host != socket.gethostname() or entry.store == OLLAMA or not entry.origin:
            return False
        path = f"{entry.root}/{entry.origin}"
        return os.path.lexists(path) and not os.path.islink(path)

    def _leads_here(self, link: str, place: str) -> bool:
        try:
            return os.readlink(link) == os.path.join(self.directory, place)
        except OSError:
            return False


@contextmanager
def open_shelf(fs: Fs, directory: str, *, create: bool = False) -> Iterator[Shelf]:
    """The archive at an absolute path, made where it is missing (the folder above it must exist).

    Raises lock.HeldError while another process writes there, ManifestError, FileNotFoundError, OSError.
    """
    if create and not os.path.isdir(directory):
        above, name = os.path.split(directory)
        parent = open_dir(above)
        try:
            with suppress(FileExistsError):
                fs.mkdir(parent, name, 0o777)
            fs.fsync(parent)
        finally:
            os.close(parent)
    fd = open_dir(directory)
    try:
        incoming = _open_incoming(fs, fd)
        try:
            with lock.exclusive(fs, incoming):
                manifest = archives.read(directory)
                if manifest is None:
                    if not create:
                        raise FileNotFoundError(2, "there is no archive there", directory)
                    manifest = archives.new_manifest()
                    archives.write(fs, directory, manifest)
                shelf = Shelf(fs, directory, fd, manifest)
                shelf.tidy()
                yield shelf
        finally:
            os.close(incoming)
    finally:
        os.close(fd)


def _open_incoming(fs: Fs, fd: int) -> int:
    with suppress(FileExistsError):
        fs.mkdir(fd, INCOMING)
        fs.fsync(fd)
    return open_dir(INCOMING, fd)
