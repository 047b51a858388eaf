"""Hub caches to measure on: 20, 300 and 6,000 repos (718, 45 thousand and 1.09 million entries)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

# repos, files a revision, of which shared between the two revisions
SIZES = {"small": (20, 9, 3), "medium": (300, 37, 10), "large": (6000, 46, 12)}
CONFIG = b'{"model_type": "llama", "dtype": "bfloat16", "hidden_size": 4096}'


def _hex(kind: str, *parts: object) -> str:
    algorithm = hashlib.sha256 if kind == "lfs" else hashlib.sha1
    return algorithm("/".join(map(str, parts)).encode()).hexdigest()


def _repo(hub: int, number: int, files: int, common: int) -> int:
    """One repo with two revisions; returns the number of entries made."""
    name = f"models--org{number % 97}--model-{number:05}"
    os.mkdir(name, dir_fd=hub)
    repo = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=hub)
    for folder in ("blobs", "refs", "snapshots"):
        os.mkdir(folder, dir_fd=repo)
    blobs = os.open("blobs", os.O_RDONLY | os.O_DIRECTORY, dir_fd=repo)
    entries = 4
    commits = [_hex("git", number, r) for r in range(2)]
    for r, commit in enumerate(commits):
        os.mkdir(f"snapshots/{commit}", dir_fd=repo)
        os.mkdir(f"snapshots/{commit}/onnx", dir_fd=repo)
        snapshot = os.open(f"snapshots/{commit}", os.O_RDONLY | os.O_DIRECTORY, dir_fd=repo)
        entries += 2
        for f in range(files):
            shared = f < common
            lfs = f % 5 == 1
            etag = _hex("lfs" if lfs else "git", number, f, 0 if shared else r)
            if not shared or r == 0:
                fd = os.open(etag, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=blobs)
                if f == 0:
                    os.write(fd, CONFIG)
                else:
                    os.ftruncate(fd, 1000 * (f + 1) + number)
                os.close(fd)
                entries += 1
            file, up = {0: ("config.json", "../../"), 1: ("model.safetensors", "../../")}.get(
                f, (f"onnx/file_{f}.bin", "../../../") if f % 9 == 8 else (f"file_{f}.json", "../../")
            )
            os.symlink(f"{up}blobs/{etag}", file, dir_fd=snapshot)
            entries += 1
        os.close(snapshot)
    fd = os.open("refs/main", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=repo)
    os.write(fd, commits[1].encode())
    for opened in (fd, blobs, repo):
        os.close(opened)
    return entries + 1


def tree(size: str, base: Path) -> Path:
    """The cache of that size below `base`, as an HF_HOME; made once and kept."""
    home = base / size
    done = home / ".made"
    if not done.exists():
        repos, files, common = SIZES[size]
        (home / "hub").mkdir(parents=True)
        hub = os.open(home / "hub", os.O_RDONLY | os.O_DIRECTORY)
        entries = sum(_repo(hub, n, files, common) for n in range(repos))
        os.close(hub)
        done.write_text(str(entries))
    return home
