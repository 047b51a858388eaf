"""What the download tests share: repos, one way to pull, and a folder as a comparable value."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server import HubServer, Repo

from cachetui.config import Where
from cachetui.download import pulling
from cachetui.download.client import Client
from cachetui.download.planning import PullPlan, Request, prepare
from cachetui.fs import DISK, Fs
from cachetui.scan import scan

FAST = {"connections": 4, "chunk": 1 << 18, "piece": 1 << 20, "patience": 6.0, "first_wait": 0.01}
MB = 1 << 20


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def model(weights: int = 3 * MB, seed: int = 1) -> Repo:
    """A small model: LFS weights, plain files, a sub-folder, an empty file, one content under two names."""
    files = {
        "config.json": b'{"model_type": "tiny"}',
        "tokenizer.json": noise(200_000, seed + 1),
        "sub/deep/notes.txt": b"hello",
        "sub/same.txt": b"hello",
        "empty": b"",
        "model.safetensors": noise(weights, seed),
    }
    return Repo(files, frozenset(["model.safetensors"]))


@dataclass
class World:
    """One server and one place to download to."""

    server: HubServer
    tmp: Path

    @property
    def where(self) -> Where:
        return Where(dict(os.environ), str(self.tmp / "home"), str(self.tmp))

    @property
    def cache(self) -> Path:
        return self.tmp / "ours"

    def client(self, timeout: float = 1.0) -> Client:
        return Client(timeout)

    def plan(self, target: str = "hf:acme/m", *, look: bool = False, **more: Any) -> PullPlan:
        self.cache.mkdir(exist_ok=True)
        (self.cache / "models--other--here").mkdir(exist_ok=True)  # so that it is used as it is
        given = more if "local_dir" in more or "cache_dir" in more else {"cache_dir": str(self.cache), **more}
        found = prepare(
            self.where, Request(target, **given), self.client(), scan(self.where) if look else None, memory=False
        )
        (self.cache / "models--other--here").rmdir()
        return found

    def pull(
        self,
        target: str = "hf:acme/m",
        *,
        fs: Fs = DISK,
        settings: dict[str, Any] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        timeout: float = 1.0,
        look: bool = False,
        **more: Any,
    ) -> dict[str, Any]:
        plan = self.plan(target, look=look, **more)
        assert not plan.refused, plan.refused
        job = plan.job() | {"settings": FAST | (settings or {})}
        return pulling.pull(job, tell=lambda *_: None, cancelled=cancelled, fs=fs, client=self.client(timeout))

    def theirs(self, repo: str = "acme/m", **more: Any) -> Path:
        """The same with huggingface_hub."""
        from huggingface_hub import snapshot_download

        folder = self.tmp / "theirs"
        snapshot_download(repo, endpoint=self.server.endpoint, **{"cache_dir": folder, **more})
        return folder


def tree(folder: Path, *, ignore: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """Every name below a folder: type, mode, and where a link points or what a file holds."""
    found: dict[str, tuple[str, ...]] = {}
    for top, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(top, name)
            inside = str(path.relative_to(folder))
            st = path.lstat()
            mode = oct(stat.S_IMODE(st.st_mode))
            if any(part in inside for part in ignore):
                continue
            if path.is_symlink():
                found[inside] = ("link", os.readlink(path))
            elif path.is_dir():
                found[inside] = ("dir", mode)
            else:
                found[inside] = ("file", mode, hashlib.sha256(path.read_bytes()).hexdigest())
    return found


def unfinished(folder: Path) -> list[str]:
    """Partials that lie there."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*.cachetui-part"))
