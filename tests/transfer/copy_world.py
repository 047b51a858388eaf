"""What the tests of copying share: awkward trees, whole trees as values, one copy from survey to its place."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from plans_world import FaultyFs

from cachetui.fs import DISK, Fs
from cachetui.transfer.copying import Copied, CopyProgress, copy, never
from cachetui.transfer.pieces import survey
from cachetui.transfer.staging import open_staging

T = TypeVar("T")
Tree = dict[str, tuple[object, ...]]
KEY = "job"
HEADER = {"of": "item"}


def awkward(top: Path) -> Path:
    """A folder with one of everything that a copy must keep."""
    (top / "sub/deep").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "a.bin").write_bytes(b"a" * 5000)
    (top / "nothing").touch()
    (top / "sub/b.bin").write_bytes(bytes(range(256)) * 300)
    os.link(top / "a.bin", top / "sub/second")
    os.link(top / "a.bin", top / "sub/deep/third")
    (top / "link").symlink_to("sub/b.bin")
    (top / "sub/dangling").symlink_to("../../nowhere")
    Path(os.fsdecode(os.fsencode(top) + b"/\xff\n name")).write_bytes(b"odd")
    with (top / "sub/holes").open("wb") as file:
        file.seek(300_000)
        file.write(b"data")
        file.truncate(700_000)
    os.setxattr(top / "a.bin", "user.origin", b"there") if top.stat().st_dev == Path("/").stat().st_dev else None
    (top / "a.bin").chmod(0o444)
    (top / "empty").chmod(0o2750)
    for n, name in enumerate(("a.bin", "link", "sub/b.bin", "sub/deep", "empty", "sub")):
        os.utime(top / name, ns=(10**18 + n, 10**18 + 7 * n), follow_symlinks=False)
    return top


def grow(top: Path, seed: int, depth: int = 0) -> Path:
    """A random tree."""
    dice = random.Random(seed)
    top.mkdir()
    files: list[Path] = []
    for n in range(dice.randrange(1, 7)):
        path = top / f"{n}{dice.choice(('', ' ', '~', chr(0xE9), chr(0x202E)))}"
        kind = dice.randrange(7)
        if kind == 0 and depth < 3:
            grow(path, dice.randrange(10**6), depth + 1)
        elif kind == 1:
            path.symlink_to(dice.choice(("..", "0", "/nowhere", "x" * 200)))
        elif kind == 2 and files:
            os.link(dice.choice(files), path)
        else:
            with path.open("wb") as file:
                for _ in range(dice.randrange(4)):
                    file.seek(dice.randrange(100_000), os.SEEK_CUR)
                    file.write(dice.randbytes(dice.randrange(20_000)))
                file.truncate(file.tell() + dice.choice((0, 0, 50_000)))
            path.chmod(dice.choice((0o644, 0o400, 0o600, 0o755)))
            os.utime(path, ns=(dice.randrange(10**18), dice.randrange(10**18)))
            files.append(path)
    top.chmod(dice.choice((0o755, 0o700, 0o777)))
    os.utime(top, ns=(dice.randrange(10**18), dice.randrange(10**18)))
    return top


def value(top: Path) -> Tree:
    """A tree with types, modes, times, contents, second names (as the first of their names) and link texts."""
    found: Tree = {}
    names: dict[int, str] = {}
    for folder, folders, files in os.walk(os.fsencode(top)):
        folders.sort()
        for name in [b"."] + sorted(files) + [f for f in folders if os.path.islink(os.path.join(folder, f))]:
            path = os.path.normpath(os.path.join(folder, name))
            st = os.lstat(path)
            key = os.fsdecode(os.path.relpath(path, os.fsencode(top)))
            if stat.S_ISLNK(st.st_mode):
                found[key] = ("link", os.readlink(path), st.st_mtime_ns)
            elif stat.S_ISREG(st.st_mode):
                content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
                first = names.setdefault(st.st_ino, key)
                found[key] = ("file", stat.S_IMODE(st.st_mode), st.st_mtime_ns, st.st_uid, content, first)
            else:
                found[key] = ("dir", stat.S_IMODE(st.st_mode), st.st_mtime_ns, st.st_uid)
    return found


def run(
    source: Path,
    target: Path,
    *,
    fs: Fs = DISK,
    progress: CopyProgress | None = None,
    cancelled: Callable[[], bool] = never,
    publish: bool = True,
) -> Copied:
    """Copy `source` to `target`/out/item the way that archiving does it."""
    known = target / "known"  # what the manifest of an archive is for
    copied = Copied((), 0, 0, True, "")
    with open_staging(fs, str(target / "incoming"), KEY, HEADER) as staging:
        if not known.exists():
            copied = copy(survey(str(source)), staging, fs=fs, progress=progress, cancelled=cancelled)
            if publish:
                staging.publish(str(target / "out"), "item")
                known.touch()
        if publish:
            staging.discard()
    return copied


@dataclass
class CountingFs(FaultyFs):
    """Counts the bytes that are written; `short` writes the half of what it is given at the failing call."""

    at: int = 0
    fault: str = "none"
    bytes: int = 0
    _one: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def _call(self, operation: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        with self._one:  # many files are fsynced at once; each call is counted
            return self._counted(operation, function, *args, **kwargs)

    def _counted(self, operation: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        if self.fault == "short":
            self.count += operation == "pwrite"
            if operation != "pwrite" or self.count != self.at:
                return function(*args, **kwargs)
            self.hit = operation
            return function(args[0], args[1][: len(args[1]) // 2 + 1], args[2])
        if operation == "pwrite":
            self.bytes += len(args[1])
        return super()._call(operation, function, *args, **kwargs)


__all__ = ["HEADER", "KEY", "CountingFs", "Tree", "awkward", "grow", "run", "value"]
