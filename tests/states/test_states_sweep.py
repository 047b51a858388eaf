"""Writing a state fails or is killed at every call: the old file or the new one is there, whole, and nothing else."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from states_world import changed, make

from cachetui import states
from cachetui.fs import DISK, Fs, open_dir
from cachetui.states.writing import temporary_name

T = TypeVar("T")
NEW = changed(system="new")


class Killed(BaseException):
    """The process is gone: nothing may catch it."""


class FaultyFs(Fs):
    """A disk on which the `at`-th change goes wrong."""

    def __init__(self, at: int, fault: str) -> None:
        self.at, self.fault = at, fault
        self.count = 0
        self.dead = False

    def _call(self, operation: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        if self.dead:
            raise Killed
        self.count += 1
        sticky = self.fault.endswith("+") and self.count > self.at
        if self.count != self.at and not sticky:
            return function(*args, **kwargs)
        if self.fault in ("before", "after", "torn"):
            self.dead = True
            if self.fault == "torn" and operation == "pwrite":
                function(args[0], args[1][: len(args[1]) // 2], *args[2:])
            elif self.fault == "after":
                function(*args, **kwargs)
            raise Killed
        code = getattr(errno, self.fault.rstrip("+"))
        raise OSError(code, os.strerror(code))


def can_be_nameless(folder: Path) -> bool:
    fd = open_dir(str(folder))
    try:
        os.close(DISK.create_nameless(fd))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


@pytest.mark.parametrize("fault", ["before", "after", "torn", "EIO", "ENOSPC+", "EACCES", "EROFS+"])
@pytest.mark.parametrize("there", [True, False], ids=["over an old one", "new"])
@pytest.mark.parametrize("nameless", [True, False], ids=["nameless", "named"])
def test_before_or_after(home: Path, fault: str, there: bool, nameless: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`nameless`: on a file system where a file may have no name before it is whole; else as everywhere."""
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif not can_be_nameless(home):
        pytest.skip("this file system has no files without a name")
    path, ends = home / "photo_cache.pt", set()
    for at in itertools.count(1):
        for name in os.listdir(home):
            (home / name).unlink()
        if there:
            old = make(path)
        fs = FaultyFs(at, fault)
        done = failed = False
        try:
            make(path, seed=1, identity=NEW, fs=fs)
            done = True
        except OSError:
            failed = True
        except Killed:
            pass
        names = set(os.listdir(home))
        assert names <= {path.name, temporary_name(path.name)} if there or not nameless else names <= {path.name}
        if path.name in names:
            assert states.check(str(path)) is None
            now = states.read(str(path))
            assert now.identity == NEW or (there and now == old)
            ends.add("after" if now.identity == NEW else "before")
        else:
            assert not there
            ends.add("before")
        assert not done or path.name in names
        if failed and fault in ("EIO", "EACCES"):
            assert temporary_name(path.name) not in names, "litter"
        assert make(path, seed=2, identity=NEW).identity == NEW
        assert os.listdir(home) == [path.name], "what a killed writer left is still there"
        if fs.count < at:
            break
    assert ends == {"before", "after"}
