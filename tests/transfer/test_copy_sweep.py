"""Whatever call of a copy is killed or fails: the source is whole, nothing half is published, the next run ends it.

Every file-changing call from the staging folder to the rename goes through `Fs._call`; the N-th is killed before,
killed after, or fails, for N = 1.. until a run is clean.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from copy_world import KEY, CountingFs, Tree, awkward, run, value
from plans_world import Killed

from cachetui.transfer import copying, reading
from cachetui.transfer.copying import CopyError
from cachetui.transfer.staging import leftovers

FAULTS = ["before", "after", "short", "EIO", "ENOSPC", "ENOSPC+", "EACCES", "EROFS+", "EXDEV"]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where the system has such a folder: thousands of runs, each with its fsyncs."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="cachetui-", dir=memory if os.access(memory, os.W_OK) else None) as path:
        yield Path(path)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of everything, read in pieces of 32 kB."""
    for module in (reading, copying):
        monkeypatch.setattr(module, "CHUNK", 1 << 15)
    monkeypatch.setattr(copying, "_BEGIN", 1 << 16)
    monkeypatch.setattr(copying, "_SETTLE_FILES", 3)
    monkeypatch.setattr(copying, "_MANY", 3)
    return awkward(tmp_path / "source")


@pytest.mark.parametrize("fault", FAULTS)
def test_every_call(fault: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = value(source)
    ends: Counter[str] = Counter()
    for at in itertools.count(1):
        target = tmp_path / "target"
        fs = CountingFs(at=at, fault=fault)
        ends[_attempt(source, target, fs, before)] += 1
        shutil.rmtree(target, ignore_errors=True)
        if not fs.hit:
            break
    with capsys.disabled():
        print(f"\n  copy {fault:8} {sum(ends.values()) - 1:4} calls: {dict(ends)}", end="")


def _attempt(source: Path, target: Path, fs: CountingFs, before: Tree) -> str:
    what = f"{fs.fault} at call {fs.at}"
    place = target / "out/item"
    how = "done"
    try:
        run(source, target, fs=fs)
    except Killed:
        how = "killed"
    except OSError as e:
        how = "failed"
        assert not isinstance(e, CopyError) or e.advice, (what, e)
    assert value(source) == before, what
    _whole_or_nothing(place, before, what)
    assert how != "done" or place.exists(), what
    assert {key for key, _ in leftovers(str(target / "incoming"))} <= {KEY}, what
    if place.exists() and how != "done":
        assert not (target / "incoming" / KEY / "tree").exists(), what
    if how != "done" or (target / "incoming" / KEY).exists():
        run(source, target)
    if fs.fault == "EXDEV" and fs.hit == "link":  # as on a file system without second names: it is a copy
        assert value(place).keys() == before.keys()
    else:
        assert value(place) == before, what
    assert os.listdir(target / "incoming") == [], what
    return how


def _whole_or_nothing(place: Path, before: Tree, what: str) -> None:
    """At the place where the copy will be there is nothing, or every name with all its bytes."""
    if place.exists():
        now = value(place)
        for path, expected in before.items():
            assert now.pop(path)[-2:-1] == expected[-2:-1], (what, path)
        assert not now, what


@pytest.mark.parametrize("fault", ["before", "after", "EIO", "ENOSPC+"])
def test_the_next_run_is_stopped_too(
    fault: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first kill in the middle, before or after the rename to its place; the second at every call of the next."""
    before = value(source)
    whole = CountingFs()
    run(source, tmp_path / "count", fs=whole)
    runs = 0
    for first in (whole.count // 3, whole.count * 2 // 3, whole.count - 6):
        for at in itertools.count(1):
            target = tmp_path / "target"
            with pytest.raises(Killed):
                run(source, target, fs=CountingFs(at=first, fault="after"))
            fs = CountingFs(at=at, fault=fault)
            _attempt(source, target, fs, before)
            shutil.rmtree(target, ignore_errors=True)
            runs += 1
            if not fs.hit:
                break
    with capsys.disabled():
        print(f"\n  resumed copy {fault:8} {runs:4} runs", end="")


def test_the_sweep_would_see_a_half_copy(source: Path, tmp_path: Path) -> None:
    """The judge itself."""
    before = value(source)
    run(source, tmp_path / "t")
    place = tmp_path / "t/out/item"
    (place / "sub/b.bin").write_bytes(b"half")
    with pytest.raises(AssertionError):
        _whole_or_nothing(place, before, "")


def test_an_order_that_survives_power_failure(source: Path, tmp_path: Path) -> None:
    """From the trace: every file is fsynced before the log names it finished, everything before the rename."""
    trace: list[tuple[str, str]] = []

    class Tracing(CountingFs):
        def _call(self, operation, function, *args, **kwargs):  # type: ignore[no-untyped-def]
            path = os.readlink(f"/proc/self/fd/{args[0]}") if args and isinstance(args[0], int) else str(args[0])
            log = path.endswith("/log") and operation == "pwrite"
            trace.append((operation, path if not log else "log " + bytes(args[1]).decode("ascii", "replace")))
            return function(*args, **kwargs)

    run(source, tmp_path / "t", fs=Tracing())
    rename = next(n for n, (op, _) in enumerate(trace) if op == "rename")
    synced: set[str] = set()
    written: set[str] = set()
    for op, path in trace[:rename]:
        if op == "fsync":
            synced.add(path)
        elif op in ("pwrite", "ftruncate") and "/tree/" in path:
            written.add(path)
            synced.discard(path)
        if path.startswith("log") and '"sha256":"' in path and '"sha256":""' not in path:
            name = path.partition('"file":"')[2].partition('"')[0].encode().decode("unicode_escape")
            assert any(p.endswith(f"/tree/{name}") for p in synced) or "\\" in ascii(name), path
    tree = tmp_path / f"t/incoming/{KEY}/tree"
    assert written and written <= synced
    folders = {str(tree), str(tree / "sub"), str(tree / "sub/deep"), str(tree / "empty"), str(tree.parent)}
    assert folders <= synced
    assert any(op == "fsync" and path.endswith("/log") for op, path in trace[:rename])
    after = [path for op, path in trace[rename:] if op == "fsync"]
    assert str(tmp_path / "t/out") in after and str(tree.parent) in after
    assert not any(op in ("unlink", "rmdir") for op, _ in trace[:rename])
