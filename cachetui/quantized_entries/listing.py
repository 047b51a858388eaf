"""What lies in a folder of quantized models: entries, what an older convention left, and makings that did not end."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass

from cachetui.quantized_entries.identity import Identity
from cachetui.quantized_entries.manifest import KEY, Manifest, ManifestError, read

ENTRY, OLDER, UNFINISHED = "entry", "older", "unfinished"
"""Values of `Entry.kind`. `older`: md5-named, file or folder; its content is never looked at (it may be a pickle)."""
LEGACY = re.compile(r"[0-9a-f]{32}(\.(pt|pth|bin|safetensors))?")
STAGING = ".cachetui-making-"
"""What the folder of an entry that is being made begins with; its key follows."""
LOCKS = ".cachetui-locks"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in the folder."""

    path: str
    """Absolute."""
    kind: str
    manifest: Manifest | None = None
    """None where it has none that can be used."""
    problem: str = ""
    """Why not."""

    @property
    def name(self) -> str:
        """For people."""
        if self.manifest is not None:
            return self.manifest.name
        name = os.path.basename(self.path)
        return f"unfinished {name[len(STAGING) :][:12]}" if self.kind == UNFINISHED else name


def kind_of(name: str, st: os.stat_result) -> str:
    """What a name in the folder is; empty for what is not of this program or the older convention."""
    is_folder, is_link = stat.S_ISDIR(st.st_mode), stat.S_ISLNK(st.st_mode)
    if KEY.fullmatch(name) and (is_folder or is_link):
        return ENTRY
    if LEGACY.fullmatch(name) and (is_folder or is_link or stat.S_ISREG(st.st_mode)):
        return OLDER
    if name.startswith(STAGING) and KEY.fullmatch(name[len(STAGING) :]) and is_folder:
        return UNFINISHED
    return ""


def entries(folder: str) -> tuple[Entry, ...]:
    """Everything there, by name. Never raises: a folder that is not there or cannot be read holds nothing."""
    try:
        with os.scandir(folder) as listing:
            named = sorted((e.name, e.stat(follow_symlinks=False)) for e in listing)
    except OSError:
        return ()
    found = []
    for name, st in named:
        if kind := kind_of(name, st):
            found.append(look(f"{folder}/{name}", kind))
    return tuple(found)


def look(path: str, kind: str) -> Entry:
    """One of them; of an entry what it says of itself."""
    if kind != ENTRY:
        return Entry(path, kind)
    try:
        manifest = read(os.path.realpath(path))
    except ManifestError as e:
        return Entry(path, kind, None, str(e))
    if manifest.key != os.path.basename(path):
        return Entry(path, kind, None, "its manifest belongs to another entry")
    return Entry(path, kind, manifest)


def find(folder: str, identity: Identity) -> Entry | None:
    """The entry of an identity, good or not; None where there is none."""
    path = f"{folder}/{identity.key}"
    return look(path, ENTRY) if os.path.isdir(path) else None
