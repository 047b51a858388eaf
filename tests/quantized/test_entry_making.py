"""Making an entry: killed or failing at every call it is whole or not there; of two makers one makes, both have it."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from entry_world import FILES, IDENTITY, make
from plans_world import FaultyFs, Killed

from cachetui.quantized_entries import check, checking, entries
from cachetui.quantized_entries.making import Making, NoPlace

FAULTS = ["before", "after", "short", "torn", "EIO", "ENOSPC", "ENOSPC+", "EACCES", "EROFS+"]


@pytest.fixture
def memory() -> Iterator[Path]:
    """In memory where the system has such a folder: hundreds of runs, each with its fsyncs."""
    shm = Path("/dev/shm")
    with TemporaryDirectory(prefix="cachetui-", dir=shm if os.access(shm, os.W_OK) else None) as path:
        yield Path(path)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_call(fault: str, memory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends: Counter[str] = Counter()
    for at in itertools.count(1):
        folder = memory / "q"
        fs = FaultyFs(at, fault)
        how = "done"
        try:
            make(folder, fs=fs)
        except Killed:
            how = "killed"
        except (OSError, NoPlace):
            how = "failed"
        ends[how] += 1
        what = f"{fault} at call {at}, {fs.hit}"
        for entry in entries(str(folder)):
            if entry.kind == "entry":
                assert check(entry.path, full=True), what
            elif how == "failed" and fault in ("EIO", "ENOSPC", "EACCES"):
                assert entry.kind == "unfinished" and fs.hit in ("unlink", "rmdir"), what
        if how == "done":
            assert [e.kind for e in entries(str(folder))] == ["entry"], what
        again = make(folder)
        assert check(again.path, full=True) and len(entries(str(folder))) == 1, what
        assert sorted(os.listdir(folder)) == [".cachetui-locks", IDENTITY.key], what
        shutil.rmtree(folder)
        if not fs.hit:
            break
    with capsys.disabled():
        print(f"\n  make an entry {fault:8} {sum(ends.values()) - 1:4} calls: {dict(ends)}", end="")
    assert sum(ends.values()) > 10


@pytest.mark.parametrize("fault", ["before", "after", "EIO", "ENOSPC+"])
def test_the_next_run_is_stopped_too(fault: str, memory: Path) -> None:
    """The first is killed before the rename; the second at every call, those that take away what the first left too."""
    whole = FaultyFs(10**6, "before")
    make(memory / "count", fs=whole)
    for at in itertools.count(1):
        folder = memory / "q"
        with pytest.raises(Killed):
            make(folder, fs=FaultyFs(whole.count - 2, "after"))
        assert [e.kind for e in entries(str(folder))] == ["unfinished"]
        fs = FaultyFs(at, fault)
        with contextlib.suppress(Killed, OSError, NoPlace):
            make(folder, fs=fs)
        assert all(e.kind == "unfinished" or check(e.path, full=True) for e in entries(str(folder))), (
            fault,
            at,
            fs.hit,
        )
        assert check(make(folder).path, full=True) and len(entries(str(folder))) == 1
        shutil.rmtree(folder)
        if not fs.hit:
            break
    assert at > whole.count


def test_the_engines_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Making(str(tmp_path / "q"), IDENTITY) as making:
        (Path(making.begin()) / "half.safetensors").write_bytes(b"x")
        raise RuntimeError
    assert entries(str(tmp_path / "q")) == ()


def test_what_was_saved_must_be_files(tmp_path: Path) -> None:
    for name, spoil in (("link", lambda p: p.symlink_to("/etc/passwd")), ("", None)):
        with pytest.raises(ValueError), Making(str(tmp_path), IDENTITY) as making:
            folder = Path(making.begin())
            if spoil is not None:
                spoil(folder / name)
            from cachetui.quantized_entries import Source

            making.publish(Source("x"))
        assert entries(str(tmp_path)) == ()


def test_a_damaged_one_is_said_and_never_overwritten(tmp_path: Path) -> None:
    entry = Path(make(tmp_path).path)
    os.truncate(entry / "model.safetensors", 10)
    with Making(str(tmp_path), IDENTITY) as making:
        assert making.there is None and making.damaged is not None and making.damaged.code == checking.CUT
    with pytest.raises(FileExistsError):
        make(tmp_path)
    assert (entry / "model.safetensors").stat().st_size == 10 and len(entries(str(tmp_path))) == 1


_OTHER = """
import sys, time
sys.path[:0] = sys.argv[2].split(":")
from pathlib import Path
from entry_world import IDENTITY, FILES
from cachetui.quantized_entries import Source
from cachetui.quantized_entries.making import Making
with Making(sys.argv[1], IDENTITY, waiting=lambda who: print("waits", who, flush=True)) as making:
    if making.there is not None:
        print("there", flush=True)
    else:
        folder = Path(making.begin())
        print("makes", flush=True)
        sys.stdin.readline()
        for name, content in FILES.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        making.publish(Source("org/name"))
        print("made", flush=True)
"""


def _start(folder: Path) -> subprocess.Popen[str]:
    paths = ":".join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    return subprocess.Popen(
        [sys.executable, "-c", _OTHER, str(folder), paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_two_processes_make_one(tmp_path: Path) -> None:
    first = _start(tmp_path)
    assert first.stdout is not None and first.stdin is not None
    assert first.stdout.readline() == "makes\n"
    second = _start(tmp_path)
    assert second.stdout is not None
    assert f"process {first.pid}" in second.stdout.readline()
    first.stdin.write("\n")
    first.stdin.flush()
    assert second.communicate(timeout=30)[0].endswith("there\n")
    assert first.communicate(timeout=30)[0] == "made\n"
    assert len(entries(str(tmp_path))) == 1


def test_a_killed_maker_lets_the_next_one_begin_anew(tmp_path: Path) -> None:
    first = _start(tmp_path)
    assert first.stdout is not None and first.stdout.readline() == "makes\n"
    first.kill()
    first.communicate(timeout=30)
    assert [e.kind for e in entries(str(tmp_path))] == ["unfinished"]
    make(tmp_path)
    assert [e.kind for e in entries(str(tmp_path))] == ["entry"]


def test_waiting_can_be_ended(tmp_path: Path) -> None:
    stop = threading.Event()
    with Making(str(tmp_path), IDENTITY), pytest.raises(checking.Cancelled):
        Making(str(tmp_path), IDENTITY, waiting=lambda _: stop.set(), cancelled=stop.is_set).__enter__()


def test_a_folder_that_cannot_be_used_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NoPlace, match="cannot be written to") as found:
        make(tmp_path / "file" / "q")
    assert "--quant-dir" in found.value.advice
    import errno
    import fcntl

    def none(fd: int, flags: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(NoPlace, match="has no locks"):
        make(tmp_path / "q")


def test_files_in_folders_are_part_of_it(tmp_path: Path) -> None:
    entry = Path(make(tmp_path).path)
    assert (entry / "tokenizer/vocab.json").read_bytes() == FILES["tokenizer/vocab.json"]
