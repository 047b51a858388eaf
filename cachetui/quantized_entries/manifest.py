"""What an entry says of itself: its files with hash and size, what it depends on, how it came to be.

It is sealed by a hash over all of it, so that a flipped byte in it is not mistaken for one in a file. Nothing read
here is believed: what does not fit is refused in words.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cachetui import checked, walk
from cachetui.checked import CheckError
from cachetui.quantized_entries.identity import Identity

MANIFEST = "cachetui-entry.json"
KEY = re.compile(r"[0-9a-f]{64}")
_VERSION = 1
_MAX_BYTES = 16 << 20
_MAX_FILES = 20_000

ManifestError = CheckError
"""A manifest that cannot be used; the message says why, without the path."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of an entry."""

    path: str
    """Relative to the entry."""
    size: int
    """Bytes."""
    sha256: str
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Source:
    """What it was made from, for people; what counts is in the identity."""

    name: str
    """ORG/NAME, or the folder's own name."""
    target: str = ""
    """TARGET of the model."""
    folder: str = ""
    """Absolute path that was loaded."""


@dataclass(frozen=True)
class Manifest:
    """All of it."""

    identity: Identity
    source: Source
    files: tuple[File, ...]
    made: float
    """POSIX seconds."""
    seconds: float = 0.0
    """That loading, quantizing and saving took."""
    peak_memory: int = 0
    """Bytes: the largest resident set of the process that made it."""
    device: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)
    """Full versions of what made it, Python included."""

    @property
    def key(self) -> str:
        """Name of the folder."""
        return self.identity.key

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(f.size for f in self.files)

    @property
    def digests(self) -> dict[str, str]:
        """sha256 of each file by its path."""
        return {f.path: f.sha256 for f in self.files}

    @property
    def name(self) -> str:
        """For people: model and way of quantizing."""
        return f"{self.source.name} {self.identity.label}"

    def text(self) -> str:
        """As it stands on disk."""
        body: dict[str, Any] = {
            "version": _VERSION,
            "key": self.key,
            "identity": self.identity.to_json(),
            "source": asdict(self.source),
            "files": [asdict(f) for f in self.files],
            "made": self.made,
            "seconds": self.seconds,
            "peak_memory": self.peak_memory,
            "device": self.device,
            "libraries": dict(self.libraries),
        }
        return json.dumps({**body, "seal": _seal(body)}, indent=1) + "\n"


def read(folder: str) -> Manifest:
    """The manifest of an entry's folder. Raises ManifestError."""
    body = dict(checked.mapping(_parsed(f"{folder}/{MANIFEST}")))
    version = body.get("version")
    if version != _VERSION:
        raise ManifestError(f"it is of version {version!r}, which this program does not know")
    if body.pop("seal", "") != _seal(body):
        raise ManifestError("its manifest was changed: the hash over it is another one")
    files = tuple(_file(checked.mapping(row)) for row in checked.rows(body, "files"))
    if len({f.path for f in files}) < len(files) or len(files) > _MAX_FILES:
        raise ManifestError("its manifest names a file twice, or too many")
    source = checked.mapping(body.get("source"))
    libraries = checked.mapping(body.get("libraries"))
    found = Manifest(
        Identity.from_json(body.get("identity")),
        Source(*(checked.text(source, name) for name in ("name", "target", "folder"))),
        files,
        checked.number(body, "made"),
        checked.number(body, "seconds"),
        checked.size(body, "peak_memory"),
        checked.text(body, "device"),
        {str(k): checked.text(libraries, k) for k in libraries},
    )
    if found.key != body.get("key"):
        raise ManifestError("its key is not that of what it says it depends on")
    return found


def _parsed(path: str) -> Any:
    """What stands in the file, whose atime stays."""
    try:
        raw = walk.read_small(path, _MAX_BYTES)
    except FileNotFoundError:
        raise ManifestError(f"it has no {MANIFEST}") from None
    except OSError as e:
        raise ManifestError(f"its manifest cannot be read: {(e.strerror or str(e)).lower()}") from e
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise ManifestError("its manifest is damaged: no JSON") from None


def _seal(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _file(row: Mapping[str, Any]) -> File:
    path, digest, mtime = checked.below(checked.text(row, "path")), checked.text(row, "sha256"), row.get("mtime_ns")
    if not KEY.fullmatch(digest) or path == MANIFEST or type(mtime) is not int:
        raise ManifestError("a file in its manifest has no hash or no time")
    return File(path, checked.size(row, "size"), digest, mtime)
