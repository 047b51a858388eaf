"""Whether an entry is what its manifest says: quickly on every load, by hash the first time and when asked."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from cachetui import walk
from cachetui.quantized_entries.identity import file_digest
from cachetui.quantized_entries.manifest import MANIFEST, File, Manifest, ManifestError, read

# Values of `Checked.code`.
OK, NO_MANIFEST, FOREIGN, MISSING, CUT, CHANGED, STRANGE, UNREADABLE = (
    "ok", "no-manifest", "foreign-manifest", "missing-file", "cut-file", "changed-file", "strange-file", "unreadable",
)  # fmt: skip
_LOADED = (
    ".safetensors", ".json", ".bin", ".pt", ".pth", ".pkl", ".model", ".txt", ".jinja", ".py", ".gguf", ".npz", ".h5",
)  # fmt: skip
"""Of a name that no manifest knows, what a library might load."""


class Cancelled(Exception):
    """It was asked to stop."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found; true where the entry is good."""

    path: str
    """Of the entry's folder."""
    code: str = OK
    reason: str = ""
    """One sentence; outside strings."""
    file: str = ""
    """Which one it is about, relative to the entry."""
    hashed: int = 0
    """Bytes that were read."""
    manifest: Manifest | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return self.code == OK


def check(
    path: str,
    *,
    full: bool = False,
    progress: Callable[[int, int, str], None] = lambda *_: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Checked:
    """Sizes and times of all files, and the hashes of those whose time is another one; with `full` of all.

    `progress(done, total, name)` counts bytes. Never raises for what is on disk. Raises Cancelled.
    """
    real = os.path.realpath(path)  # an archived entry is a link
    try:
        manifest = read(real)
    except ManifestError as e:
        missing = not os.path.lexists(f"{real}/{MANIFEST}")
        return Checked(path, NO_MANIFEST if missing else FOREIGN, str(e))
    if manifest.key != os.path.basename(path.rstrip("/")):
        return Checked(path, FOREIGN, "its manifest belongs to another entry", MANIFEST, 0, manifest)
    doubtful: list[File] = []
    for f in manifest.files:
        found = _look(path, real, f, manifest)
        if isinstance(found, Checked):
            return found
        if full or found != f.mtime_ns:
            doubtful.append(f)
    if name := strange(real, manifest):
        why = f"{name} is no part of it, and a library might load it"
        return Checked(path, STRANGE, why, name, 0, manifest)
    done, total = 0, sum(f.size for f in doubtful)
    for f in doubtful:

        def told(count: int, name: str = f.path) -> None:
            nonlocal done
            done += count
            progress(done, total, name)
            if cancelled():
                raise Cancelled

        try:
            digest = file_digest(f"{real}/{f.path}", told)
        except OSError as e:
            return Checked(path, UNREADABLE, f"{f.path} cannot be read: {e.strerror or e}", f.path, done, manifest)
        if digest != f.sha256:
            why = f"{f.path} is not what was written: its sha256 is another one"
            return Checked(path, CHANGED, why, f.path, done, manifest)
    return Checked(path, hashed=done, manifest=manifest)


def _look(path: str, real: str, f: File, manifest: Manifest) -> int | Checked:
    """The time of a file that has its size, or what is wrong with it."""
    try:
        st = os.lstat(f"{real}/{f.path}")
    except FileNotFoundError:
        return Checked(path, MISSING, f"{f.path} is missing", f.path, 0, manifest)
    except OSError as e:
        return Checked(path, UNREADABLE, f"{f.path} cannot be read: {e.strerror or e}", f.path, 0, manifest)
    if not stat.S_ISREG(st.st_mode):
        return Checked(path, CHANGED, f"{f.path} is no file any more", f.path, 0, manifest)
    if st.st_size < f.size:
        return Checked(path, CUT, f"{f.path} is cut: {st.st_size:,} of {f.size:,} bytes", f.path, 0, manifest)
    if st.st_size > f.size:
        return Checked(path, CHANGED, f"{f.path} has {st.st_size:,} bytes, not {f.size:,}", f.path, 0, manifest)
    return st.st_mtime_ns


def strange(real: str, manifest: Manifest) -> str:
    """A name in an entry that a library might load and that the manifest does not know; empty for none."""
    known = {MANIFEST, *(f.path for f in manifest.files)}
    tally = walk.tree(real)
    names = [b.path for b in tally.files] + [name for name, _ in tally.links]
    return next((n for n in sorted(names) if n not in known and n.lower().endswith(_LOADED)), "")
