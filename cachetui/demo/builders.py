"""Builders of real layouts: what huggingface_hub and Ollama leave on disk, made without them.

The demo, the tests and the screenshots are made with these. Formats follow huggingface_hub 2.4
(file_download.py, utils/_shared_blobs.py, _tree_cache.py) and Ollama 0.33 (manifest/, docs/import).
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

LFS_THRESHOLD = 64 * 1024
"""Files from this size on are LFS files (named by sha256), as on the Hub for most weights."""
SHARED_MARKER = ".huggingface-shared-blobs"
_PLURAL = {"model": "models", "dataset": "datasets", "space": "spaces", "kernel": "kernels"}


@dataclass(frozen=True)
class Filler:
    """Content of `size` bytes that costs no time to write: real blocks where the file system can reserve them.

    Named by a hash of `seed` and size, like content is named by its own hash.
    """

    size: int
    seed: str = ""
    head: bytes = b""
    """What the file starts with, e.g. a safetensors header."""

    @property
    def digest(self) -> str:
        """A stable stand-in for the sha256 of the content."""
        return hashlib.sha256(f"{self.seed}:{self.size}".encode() + self.head).hexdigest()


Content = bytes | Filler


def write(path: Path, content: Content) -> None:
    """Write a file, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as f:
        if isinstance(content, bytes):
            f.write(content)
            return
        f.write(content.head)
        f.flush()
        if content.size > 0:
            try:
                os.posix_fallocate(f.fileno(), 0, content.size)
            except (OSError, AttributeError):
                f.truncate(content.size)


def sha256(content: Content) -> str:
    """Of the content (of a Filler: its stand-in)."""
    return content.digest if isinstance(content, Filler) else hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    """The git blob hash, the etag of a file that is not in LFS."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def etag(content: Content) -> str:
    """The name huggingface_hub gives the blob: git-sha1 for small files, sha256 for LFS ones."""
    if isinstance(content, bytes) and len(content) < LFS_THRESHOLD:
        return git_sha1(content)
    return sha256(content)


def length(content: Content) -> int:
    """Bytes."""
    return content.size if isinstance(content, Filler) else len(content)


def commit_of(*parts: str) -> str:
    """A stable 40-hex commit hash."""
    return hashlib.sha1("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def safetensors_bytes(tensors: Mapping[str, tuple[str, tuple[int, ...]]], data: bool = True) -> bytes:
    """A valid safetensors file: name -> (dtype, shape); zeros as data, or only the header without `data`."""
    widths = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I8": 1, "U8": 1, "F8_E4M3": 1}
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        count = widths[dtype]
        for n in shape:
            count *= n
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + count]}
        offset += count
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + (bytes(offset) if data else b"")


def gguf_bytes(values: Mapping[str, str | int], padding: int = 0) -> bytes:
    """A valid GGUF v3 file without tensors: key-values of strings and uint32, then `padding` zero bytes."""

    def string(text: str) -> bytes:
        raw = text.encode()
        return struct.pack("<Q", len(raw)) + raw

    out = b"GGUF" + struct.pack("<IQQ", 3, 0, len(values))
    for key, value in values.items():
        out += string(key)
        out += struct.pack("<I", 8) + string(value) if isinstance(value, str) else struct.pack("<II", 4, value)
    return out + bytes(padding)


def set_age(path: Path, days: float, now: float) -> None:
    """Set atime and mtime of everything below (links themselves too) to `days` before `now` (POSIX seconds)."""
    when = now - days * 86400
    for folder, names, files in os.walk(path, topdown=False):
        for name in names + files:
            os.utime(Path(folder) / name, (when, when), follow_symlinks=False)
    os.utime(path, (when, when), follow_symlinks=False)


@dataclass
class HubRepo:
    """One repo folder of a hub cache."""

    hub: Hub
    repo_id: str
    kind: str = "model"

    @property
    def folder(self) -> str:
        """Its name in the cache."""
        return "--".join([_PLURAL[self.kind], *self.repo_id.split("/")])

    @property
    def path(self) -> Path:
        """Of the folder."""
        return self.hub.path / self.folder

    def revision(
        self,
        files: Mapping[str, Content],
        *,
        refs: Collection[str] = ("main",),
        commit: str = "",
        real_files: bool = False,
        shared: Collection[str] = (),
        tree: bool = True,
        missing: Collection[str] = (),
        no_exist: Collection[str] = (),
    ) -> str:
        """Add a revision as a finished download leaves it; returns its commit hash.

        `real_files`: as on Windows or without symlinks. `shared`: names whose bytes lie in the shared store.
        `missing`: names that the tree lists but that were not downloaded. `no_exist`: markers of absent files.
        """
        commit = commit or commit_of(self.folder, *sorted(f"{n}:{etag(c)}" for n, c in files.items()), *sorted(refs))
        snapshot = self.path / "snapshots" / commit
        snapshot.mkdir(parents=True, exist_ok=True)
        (self.path / "blobs").mkdir(exist_ok=True)
        for name, content in files.items():
            if name in missing:
                continue
            entry = snapshot / name
            if real_files:
                write(entry, content)
                continue
            blob = self.path / "blobs" / etag(content)
            if name in shared:
                self.hub.publish(self, content)
            elif not blob.exists():
                write(blob, content)
            entry.parent.mkdir(parents=True, exist_ok=True)
            if not entry.is_symlink():
                entry.symlink_to(os.path.relpath(blob, entry.parent))
        for ref in refs:
            write(self.path / "refs" / ref, commit.encode())
        for name in no_exist:
            write(self.path / ".no_exist" / commit / name, b"")
        if tree:
            write(self.path / "trees" / f"{commit}.json", self._tree(files))
        return commit

    def _tree(self, files: Mapping[str, Content]) -> bytes:
        rows: dict[str, dict[str, object]] = {}
        for name, content in files.items():
            row: dict[str, object] = {"size": length(content), "blob_id": etag(content)[:40]}
            if len(etag(content)) == 64:
                row |= {"lfs_sha256": sha256(content), "lfs_size": length(content)}
            rows[name] = row
        return json.dumps({"format_version": 1, "files": rows}).encode()

    def partial(self, content: Content, *, of: str = "") -> Path:
        """What a killed download leaves: `blobs/<etag>.<8hex>.incomplete`."""
        name = of or etag(content)
        path = self.path / "blobs" / f"{name}.{commit_of(name)[:8]}.incomplete"
        write(path, content)
        return path

    def orphan(self, content: Content) -> Path:
        """A blob that no snapshot names."""
        path = self.path / "blobs" / etag(content)
        write(path, content)
        return path

    def lock(self, name: str) -> Path:
        """A lock file, as every download leaves."""
        path = self.hub.path / ".locks" / self.folder / f"{name}.lock"
        write(path, b"")
        return path


@dataclass
class Hub:
    """A hub cache (the folder that holds models--*)."""

    path: Path

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        tag = b"Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag.\n"
        write(self.path / "CACHEDIR.TAG", tag)

    def repo(self, repo_id: str, kind: str = "model") -> HubRepo:
        """A repo in it (nothing is written yet)."""
        return HubRepo(self, repo_id, kind)

    def payload(self, content: Content) -> Path:
        """Where the bytes lie in the shared store; the name stands in for the Xet hash."""
        xet = hashlib.sha256(b"xet" + sha256(content).encode()).hexdigest()
        return self.path / "blobs" / xet[:2] / xet

    def publish(self, repo: HubRepo, content: Content) -> Path:
        """Put content into the shared store and link the repo's blob to it, as the Xet path does."""
        write(self.path / "blobs" / SHARED_MARKER, b"1\n")
        payload = self.payload(content)
        if not payload.exists():
            write(payload, content)
            payload.chmod(0o444)
        blob = repo.path / "blobs" / etag(content)
        blob.parent.mkdir(parents=True, exist_ok=True)
        line = f"{repo.folder}/blobs/{blob.name}\n"
        refs = payload.with_name(payload.name + ".refs")
        known = refs.read_text() if refs.exists() else ""
        if line not in known:
            refs.write_text(known + line)
        payload.with_name(payload.name + ".lock").touch()
        if not blob.is_symlink():
            blob.symlink_to(os.path.relpath(payload, blob.parent))
        return payload


@dataclass
class OllamaStore:
    """An Ollama model store (the folder that holds manifests/ and blobs/)."""

    path: Path

    def __post_init__(self) -> None:
        (self.path / "blobs").mkdir(parents=True, exist_ok=True)
        (self.path / "manifests").mkdir(exist_ok=True)

    def blob(self, content: Content) -> str:
        """Store a layer; returns its digest `sha256:<hex>`."""
        digest = sha256(content)
        path = self.path / "blobs" / f"sha256-{digest}"
        if not path.exists():
            write(path, content)
        return f"sha256:{digest}"

    def model(
        self,
        name: str,
        layers: Mapping[str, Content],
        *,
        config: Mapping[str, object] | None = None,
        host: str = "registry.ollama.ai",
    ) -> Path:
        """Add a tag, `model:tag` or `namespace/model:tag`; `layers` is role -> content. Returns the manifest."""
        model, _, tag = name.partition(":")
        namespace, _, short = model.rpartition("/")
        settings = {"model_format": "gguf", "model_family": "llama", "model_families": ["llama"], "os": "linux"}
        raw = json.dumps(settings | dict(config or {})).encode()
        rows = [
            {
                "mediaType": f"application/vnd.ollama.image.{role.split('#')[0]}",
                "digest": self.blob(content),
                "size": length(content),
            }
            for role, content in layers.items()
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": self.blob(raw),
                "size": len(raw),
            },
            "layers": rows,
        }
        path = self.path / "manifests" / host / (namespace or "library") / short / (tag or "latest")
        write(path, json.dumps(manifest).encode())
        return path

    def orphan(self, content: Content) -> Path:
        """A layer that no manifest names."""
        return self.path / "blobs" / self.blob(content).replace(":", "-")

    def partial(self, content: Content, done: int) -> Path:
        """A pull that was stopped: a sparse file with `done` bytes written, and its part record."""
        name = f"sha256-{sha256(content)}-partial"
        path = self.path / "blobs" / name
        with path.open("wb") as f:
            f.write(b"\1" * done)
            f.truncate(length(content))
        part = {"N": 0, "Offset": 0, "Size": length(content), "Completed": done}
        write(self.path / "blobs" / f"{name}-0", json.dumps(part).encode())
        return path


def local_dir(path: Path, files: Mapping[str, Content], commit: str, now: float) -> Path:
    """What `hf download --local-dir` leaves: the files, and their commit and etag below .cache/huggingface."""
    for name, content in files.items():
        write(path / name, content)
        record = f"{commit}\n{etag(content)}\n{now}\n".encode()
        write(path / ".cache" / "huggingface" / "download" / f"{name}.metadata", record)
    write(path / ".cache" / "huggingface" / ".gitignore", b"*")
    return path
