"""What the tests of plans share: small stores of real layouts, whole trees as values, a disk that fails on demand."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cachetui.config import Where
from cachetui.demo.builders import Hub, OllamaStore, local_dir
from cachetui.fs import Fs
from cachetui.ledger import Scan
from cachetui.model import Root
from cachetui.plans import model, trash
from cachetui.plans.executor import execute
from cachetui.plans.model import Outcome, Plan
from cachetui.plans.removal import prepare
from cachetui.scan import find_roots, scan
from cachetui.targets import resolve

T = TypeVar("T")
ALL = frozenset(
    (model.IN_USE, model.LOCKED, model.YOUNG, model.UNCHECKED, model.PERMANENT, model.NO_UNDO, model.SERVER)
)
BIG = 70_000


def content(seed: str, size: int = BIG) -> bytes:
    """Bytes that nothing else has."""
    return (hashlib.sha256(seed.encode()).digest() * (size // 32 + 1))[:size]


@dataclass
class World:
    """A home with two stores, as other programs leave them."""

    home: Path
    where: Where

    @property
    def hub(self) -> Hub:
        return Hub(self.home / ".cache/huggingface/hub")

    @property
    def ollama(self) -> OllamaStore:
        return OllamaStore(self.home / ".ollama/models")

    def build(self) -> None:
        """One repo with two revisions that share a blob, two that share a payload, two tags that share a layer."""
        hub = self.hub
        one = hub.repo("acme/one")
        one.revision({"config.json": b'{"a": 1}', "shared.bin": content("shared"), "old.bin": content("old")}, refs=())
        one.revision({"config.json": b'{"a": 2}', "shared.bin": content("shared"), "sub/new.bin": content("new")})
        one.orphan(content("orphan"))
        one.partial(content("partial"))
        one.lock("x")
        for name in ("left", "right"):
            files = {"config.json": name.encode(), "model.safetensors": content("payload"), "own.bin": content(name)}
            hub.repo(f"acme/{name}").revision(files, shared=("model.safetensors", "own.bin"))
        for path in hub.path.rglob("*.incomplete"):
            os.utime(path, (1, 1))
        loose = {"config.json": b"{}", "model.safetensors": content("loose")}
        local_dir(self.home / "models/loose", loose, "0" * 40, 1.0)
        ollama = self.ollama
        ollama.model("llama3.2:3b", {"model": content("weights"), "template": b"t"}, config={"model_type": "3B"})
        ollama.model("llama3.2:latest", {"model": content("weights"), "license": b"l"})

    def scan(self) -> Scan:
        return scan(self.where)

    def roots(self) -> tuple[Root, ...]:
        return find_roots(self.where)[0]

    def plan(self, *targets: str, permanent: bool = False) -> Plan:
        found = self.scan()
        return prepare(found, [s for t in targets for s in resolve(found, t)], permanent=permanent)

    def remove(self, *targets: str, permanent: bool = False, fs: Fs | None = None) -> Outcome:
        plan = self.plan(*targets, permanent=permanent)
        return execute(plan, accept=ALL, fs=fs or Fs())

    def undo(self, fs: Fs | None = None) -> Outcome:
        newest = trash.entries(self.roots())[0]
        return trash.restore(newest, fs=fs or Fs())

    def stores(self) -> dict[str, tuple[object, ...]]:
        """Everything in the stores, as a value (trash left out)."""
        return {**tree(self.hub.path), **tree(self.ollama.path), **tree(self.home / "models")}


def tree(top: Path) -> dict[str, tuple[object, ...]]:
    """Every name below a folder with its type, mode and content; trash folders and empty `.locks` are left out."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, names, files in os.walk(top):
        names[:] = [n for n in names if not n.startswith(".cachetui-trash")]
        for name in names + files:
            path = Path(folder, name)
            st = path.lstat()
            if stat.S_ISLNK(st.st_mode):
                found[str(path)] = ("link", os.readlink(path))
            elif stat.S_ISREG(st.st_mode):
                found[str(path)] = ("file", stat.S_IMODE(st.st_mode), hashlib.sha256(path.read_bytes()).hexdigest())
            else:
                found[str(path)] = ("dir", stat.S_IMODE(st.st_mode))
    return found


def blobs(top: Path) -> set[str]:
    """Hashes of all content anywhere below a folder: nothing of it may get lost."""
    found = set()
    for folder, _, files in os.walk(top):
        for name in files:
            path = Path(folder, name)
            if (
                path.is_file()
                and not path.is_symlink()
                and name not in ("record", "lock", ".gitignore", "history.jsonl")
            ):
                found.add(hashlib.sha256(path.read_bytes()).hexdigest())
    return found


class Killed(BaseException):
    """The process is gone: nothing may catch it."""


@dataclass
class FaultyFs(Fs):
    """A disk on which the `at`-th change goes wrong."""

    at: int
    fault: str
    """before, after (killed there), short (half is written), torn (and then it is killed), or an errno name; `ENOSPC+`
    from then on always."""
    count: int = 0
    hit: str = ""
    dead: bool = field(default=False, repr=False)

    def _call(self, operation: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        if self.dead:
            raise Killed
        self.count += 1
        sticky = self.fault.endswith("+")
        if self.count == self.at or (sticky and self.count > self.at):
            self.hit = operation
            if self.fault == "before":
                self.dead = True
                raise Killed
            if self.fault in ("short", "torn"):
                if operation == "pwrite":
                    args = (args[0], args[1][: len(args[1]) // 2 + 1], *args[2:])
                result = function(*args, **kwargs)
                if self.fault == "short":
                    return result
                self.dead = True
                raise Killed
            if self.fault == "after":
                function(*args, **kwargs)
                self.dead = True
                raise Killed
            code = getattr(errno, self.fault.rstrip("+"))
            raise OSError(code, os.strerror(code))
        return function(*args, **kwargs)


FAULTS: Sequence[str] = ("before", "after", "EIO", "ENOSPC+", "EACCES", "EROFS+")

__all__ = ["ALL", "FAULTS", "FaultyFs", "Killed", "World", "blobs", "content", "tree"]
