"""What refuses, what asks again, what stays untouched."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from plans_world import ALL, FaultyFs, Killed, World, blobs, content

from cachetui import fs, inuse
from cachetui.fs import DISK, open_dir
from cachetui.plans import lock, model, trash
from cachetui.plans.executor import execute
from cachetui.plans.recovery import recover
from cachetui.plans.removal import prepare
from cachetui.plans.vault import open_vault
from cachetui.scan import scan
from cachetui.store import Selection

ONE = "models--acme--one"


def test_a_plan_changes_nothing(world: World) -> None:
    everything = {str(p): p.lstat().st_mtime_ns for p in world.home.rglob("*")}
    plan = world.plan("hf:acme/one", "hf:acme/left", "ollama:llama3.2:3b")
    assert plan.accepted and plan.digest == world.plan("hf:acme/one", "hf:acme/left", "ollama:llama3.2:3b").digest
    assert {str(p): p.lstat().st_mtime_ns for p in world.home.rglob("*")} == everything


@pytest.mark.parametrize("harm", ["file", "new", "gone", "ref"])
def test_what_changed_after_the_plan_is_left_and_the_rest_goes(world: World, harm: str) -> None:
    """I2: each name is looked at again at the moment it goes."""
    plan = world.plan("hf:acme/one@main", "hf:acme/left")
    snapshot = next(world.hub.path.glob(f"{ONE}/snapshots/*/sub")).parent
    match harm:
        case "file":
            (snapshot / "config.json").unlink()
            (snapshot / "config.json").write_text("mine now")
        case "new":
            (snapshot / "sub/added.bin").write_bytes(b"x")
        case "gone":
            (snapshot / "config.json").unlink()
        case "ref":
            (world.hub.path / ONE / "refs/main").write_text("0" * 40)
    before = world.stores()
    outcome = execute(plan)
    assert [r.done for r in outcome.results] == [False, True]
    assert "changed" in outcome.results[0].message or "gone" in outcome.results[0].message
    assert {k: v for k, v in world.stores().items() if ONE in k} == {k: v for k, v in before.items() if ONE in k}


def test_pinned_is_refused_with_the_way_on(world: World) -> None:
    found = world.scan()
    items = [i.with_states(model_state) for i, model_state in ((_item(world, "hf:acme/one"), "pinned"),)]
    plan = prepare(found, [Selection(items[0])])
    assert plan.accepted == () and "cachetui unpin hf:acme/one" in plan.refused[0].refused


def _item(world: World, id_: str):  # type: ignore[no-untyped-def]
    return next(i for i in world.scan().items if i.id == id_)


def test_a_mapped_file_whose_descriptor_is_closed_is_in_use(world: World) -> None:
    """I8, by a real process that maps a weight as a loader does."""
    blob = next(p for p in (world.hub.path / ONE / "blobs").iterdir() if p.read_bytes() == content("new"))
    with _child(_MAP, str(blob)) as pid:
        plan = world.plan("hf:acme/one", "hf:acme/left")
        assert [sorted(c.code for c in i.cautions) for i in plan.items] == [[model.IN_USE], []]
        assert f"({pid}, mapped)" in plan.items[0].cautions[0].message
        before = world.stores()
        outcome = execute(plan)
        assert [r.done for r in outcome.results] == [False, True] and "in use" in outcome.results[0].message
        assert {k for k in before if ONE in k} <= set(world.stores())
        assert execute(world.plan("hf:acme/one"), accept=frozenset((model.IN_USE,))).ok
    assert world.plan("ollama:llama3.2:3b").cautions == frozenset()


_MAP = """
import ctypes, mmap, os, sys, time
fd = os.open(sys.argv[1], os.O_RDONLY)
libc = ctypes.CDLL(None)
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.mmap.restype = ctypes.c_void_p
assert libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_PRIVATE, fd, 0)  # Python's own keeps a descriptor open
os.close(fd)
print("ready", flush=True)
time.sleep(60)
"""
_LOCK = """
import fcntl, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(fd, fcntl.LOCK_EX)
print("ready", flush=True)
time.sleep(60)
"""


@contextmanager
def _child(code: str, *args: str) -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", code, *args], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        try:
            yield child.pid
        finally:
            child.kill()


def test_a_held_hub_lock_asks(world: World) -> None:
    path = world.hub.repo("acme/one").lock("etag")
    with _child(_LOCK, str(path)):
        assert world.plan("hf:acme/one").cautions == {model.LOCKED}
    assert world.plan("hf:acme/one").cautions == frozenset()


def test_a_young_partial_asks(world: World) -> None:
    partial = next(world.hub.path.rglob("*.incomplete"))
    os.utime(partial)
    assert world.plan("hf:acme/one").cautions == {model.YOUNG}


def test_undo_never_overwrites(world: World) -> None:
    world.remove("hf:acme/one", "hf:acme/left")
    new = world.hub.path / ONE
    new.mkdir()
    (new / "mine").write_text("new")
    held = blobs(world.home)
    outcome = world.undo()
    assert [r.done for r in outcome.results] == [False, True]
    assert "something else is at models--acme--one" in outcome.results[0].message
    assert (new / "mine").read_text() == "new" and blobs(world.home) == held
    (new / "mine").unlink()
    new.rmdir()
    assert world.undo().ok
    assert trash.entries(world.roots()) == ()


def test_a_part_comes_back_only_into_its_repo(world: World) -> None:
    before = world.stores()
    assert world.remove("hf:acme/one@main").ok
    time.sleep(0.01)
    assert world.remove("hf:acme/one").ok
    newest, oldest = trash.entries(world.roots())
    conflicts, _ = trash.check(oldest)
    assert "bring that back first" in conflicts[0]
    assert not trash.restore(oldest).ok
    assert trash.restore(newest).ok and trash.restore(oldest).ok
    assert world.stores() == before


def test_one_item_of_several_comes_back_with_what_it_shares(world: World) -> None:
    before = world.stores()
    assert world.remove("hf:acme/left", "hf:acme/right").ok
    (entry,) = trash.entries(world.roots())
    assert [i.number for i in entry.items] == [0, 1]
    assert trash.restore(entry, frozenset((0,))).ok
    snapshot = next(world.hub.path.glob("models--acme--left/snapshots/*"))
    assert (snapshot / "model.safetensors").read_bytes() == content("payload")
    (entry,) = trash.entries(world.roots())
    assert [i.target for i in entry.items] == ["hf:acme/right"]
    assert trash.restore(entry).ok
    assert world.stores() == before


def test_content_that_stayed_is_there_after_undo_even_if_others_dropped_it(world: World) -> None:
    """The entry's second name brings the payload back, and the hint is listed again so that nobody sweeps it."""
    before = world.stores()
    assert world.remove("hf:acme/left").ok
    payload = world.hub.payload(content("payload"))
    hint = payload.with_name(payload.name + ".refs")
    payload.unlink()  # as huggingface_hub does when the other repo goes
    hint.write_text("models--acme--right/blobs/gone\n")
    assert world.undo().ok
    assert payload.read_bytes() == content("payload") and payload.stat().st_nlink == 1
    lines = hint.read_text().splitlines()
    assert any(line.startswith("models--acme--left/blobs/") for line in lines)
    assert {k: v for k, v in world.stores().items() if not k.endswith(".refs")} == {
        k: v for k, v in before.items() if not k.endswith(".refs")
    }


def test_a_live_instance_is_named_and_nothing_is_done(world: World) -> None:
    """I10."""
    assert world.remove("hf:acme/left").ok
    (entry,) = trash.entries(world.roots())
    plan = world.plan("hf:acme/right")
    before = world.stores()
    with open_vault(DISK, entry.trash):
        outcome = execute(plan)
        assert not outcome.ok and f"process {os.getpid()}" in outcome.results[0].message
        assert not trash.restore(entry).ok and not trash.empty([entry]).ok
    assert world.stores() == before
    assert execute(plan).ok


def test_recovery_only_reports_while_somebody_works_or_when_told_so(world: World) -> None:
    plan, whole = world.plan("hf:acme/one@main"), world.stores()
    with pytest.raises(Killed):
        execute(plan, fs=FaultyFs(28, "before"))
    halfway = world.stores()
    assert halfway != whole
    roots = world.roots()
    assert [r.action for r in recover(roots, dry_run=True)] == ["pending"]
    with open_vault(DISK, recover(roots, dry_run=True)[0].trash):
        (busy,) = recover(roots)
        assert busy.action == "pending" and "process" in busy.message
    assert world.stores() == halfway
    assert [r.action for r in recover(roots)] == ["reverted"]
    assert recover(roots) == ()


def test_a_dead_holder_does_not_hold(world: World) -> None:
    assert world.remove("hf:acme/left").ok
    folder = Path(trash.entries(world.roots())[0].trash)
    (folder / "lock").write_text(json.dumps({"pid": 2**22 + 1, "started": 1.0, "host": "x"}).ljust(256))
    fd = open_dir(str(folder))
    try:
        assert lock.holder(fd) == ""
    finally:
        os.close(fd)
    assert world.undo().ok


@pytest.mark.parametrize("harm", ["garbage", "flipped", "newer"])
def test_a_record_that_is_not_understood_is_left_alone(world: World, harm: str) -> None:
    assert world.remove("hf:acme/left").ok
    held = blobs(world.home)
    (entry,) = trash.entries(world.roots())
    record = Path(entry.path, "record")
    raw = bytearray(record.read_bytes())
    match harm:
        case "garbage":
            raw[:64] = b"\xff" * 64
        case "flipped":
            raw[40] ^= 1
        case "newer":
            import zlib

            line = json.dumps({"n": 0, "version": 99}).encode()
            raw[: len(line) + 10] = b"%08x %s\n" % (zlib.crc32(line), line)
    record.write_bytes(raw)
    for _ in range(2):
        assert [r.action for r in recover(world.roots())] == ["failed"]
        assert world.remove("hf:acme/one@~orphan").ok and world.undo().ok
    assert blobs(world.home) == held
    assert any(Path(entry.path, "files").iterdir())


def test_a_record_cannot_speak_of_another_root(world: World, tmp_path: Path) -> None:
    """A drive from a stranger: its records move nothing outside of the roots its trash is a place of."""
    assert world.remove("hf:acme/left").ok
    (entry,) = trash.entries(world.roots())
    record = Path(entry.path, "record")
    line = record.read_bytes().split(b"\n", 1)[0][9:]
    body = json.loads(line)
    target = tmp_path / "elsewhere"
    target.mkdir()
    body["root"], body["relative"] = str(target), os.path.relpath(target, entry.trash)
    import zlib

    done = {"n": 1, "operation": body["operation"], "do": "done", "items": [0]}
    lines = [json.dumps(part).encode() for part in (body, done)]
    signed = [b"%08x %s\n" % (zlib.crc32(part), part) for part in lines]
    for raw in (signed[0], b"".join(signed)):  # killed in the middle, and lying in the trash
        record.write_bytes(raw.ljust(4096, b"\0"))
        assert all(r.action != "reverted" for r in recover(world.roots()))
        for found in trash.entries(world.roots()):
            assert not trash.restore(found).ok
        assert list(target.iterdir()) == []


def _as_nobody(work: object) -> int:
    """Run a function in a child without privileges and return its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            work()  # type: ignore[operator]
            os._exit(0)
        except BaseException as e:
            print(repr(e), file=sys.stderr)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_what_another_user_owns_or_guards_is_refused_before_anything_starts(world: World) -> None:
    for path in (world.home, *world.home.parents):
        if path == Path("/tmp"):
            break
        path.chmod(0o755)
    found = world.scan()
    foreign = prepare(found, [Selection(_item(world, "hf:acme/one"))]).items[0]
    assert not foreign.refused

    def look() -> None:
        plan = prepare(scan(world.where), [Selection(i) for i in found.items if i.id == "hf:acme/one"])
        assert "belongs to root" in plan.items[0].refused, plan.items[0]
        assert not execute(plan, accept=ALL).ok

    assert _as_nobody(look) == 0
    for path in world.home.rglob("*"):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    os.chown(world.hub.path, 0, 0)

    def write() -> None:
        plan = prepare(scan(world.where), [Selection(i) for i in found.items if i.id == "hf:acme/one"])
        assert "you may not write" in plan.items[0].refused, plan.items[0]

    assert _as_nobody(write) == 0
    assert pwd.getpwuid(0).pw_name == "root"


def test_a_folder_inside_a_folder_that_goes_is_named_once(world: World) -> None:
    plan = world.plan("hf:acme/one", "hf:acme/one@main", "hf:acme/one:config.json")
    assert [i.target for i in plan.items] == ["hf:acme/one"]


def test_two_revisions_in_one_plan_take_what_only_they_share(world: World) -> None:
    repo = world.hub.repo("acme/three")
    for n in range(3):
        files = {"own.bin": content(f"three{n}"), "last.bin": content("last" if n == 2 else "both")}
        repo.revision({**files, "pay.bin": content("paid" if n < 2 else "kept")}, refs=(f"r{n}",), shared=("pay.bin",))
    before = world.stores()
    plan = world.plan("hf:acme/three@r0", "hf:acme/three@r1")
    names = {s.path for i in plan.items for s in i.steps}
    assert world.hub.payload(content("paid")).relative_to(world.hub.path).as_posix() in names
    assert execute(plan).ok
    left = {p.read_bytes() for p in repo.path.rglob("*") if p.is_file()}
    assert content("both") not in left and content("last") in left and content("kept") in left
    assert not [p for p in repo.path.rglob("*") if p.is_symlink() and not p.exists()]
    assert world.undo().ok
    assert world.stores() == before


def test_nothing_is_read_through_links_or_left_open(world: World) -> None:
    """I3: a link in place of a folder on the way stops the item."""
    plan = world.plan("hf:acme/one@main")
    repo = world.hub.path / ONE
    repo.rename(world.home / "moved")
    repo.symlink_to(world.home / "moved")
    open_before = len(os.listdir("/proc/self/fd"))
    outcome = execute(plan)
    assert not outcome.ok
    assert (world.home / "moved/refs/main").exists()
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_an_archived_repo_goes_as_its_link_only(world: World) -> None:
    """I3: what a link leads to is somebody else's."""
    archive = world.home / "drive"
    archive.mkdir()
    (world.hub.path / ONE).rename(archive / ONE)
    (world.hub.path / ONE).symlink_to(archive / ONE)
    far, before = blobs(archive), world.stores()
    outcome = world.remove("hf:acme/one", permanent=True)
    assert outcome.ok and not (world.hub.path / ONE).is_symlink()
    assert blobs(archive) == far and world.stores() != before


def test_a_system_without_the_calls_refuses_and_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, before = world.plan("hf:acme/left"), world.stores()
    monkeypatch.setattr(fs, "HAS_DIR_FD", False)
    refused = world.plan("hf:acme/left").items[0].refused
    assert "lacks the calls" in refused
    assert not execute(plan, accept=ALL).ok
    assert recover(world.roots()) == () and trash.entries(world.roots()) == ()
    assert world.stores() == before


def test_a_lease_tells_who_cannot_be_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where other users' processes cannot be read, the kernel is asked about each file of ours."""
    blob = next(p for p in (world.hub.path / ONE / "blobs").iterdir() if p.read_bytes() == content("new"))

    def unreadable(*arguments: object) -> Iterator[tuple[None, inuse.User]]:
        yield None, inuse.Unchecked

    monkeypatch.setattr(inuse, "_linux", unreadable)
    assert world.plan("hf:acme/one", "hf:acme/left").cautions == frozenset()
    with _child(_MAP, str(blob)):
        plan = world.plan("hf:acme/one", "hf:acme/left")
        assert [{c.code for c in i.cautions} for i in plan.items] == [{model.IN_USE}, set()]


def test_recovery_never_drops_the_last_copy(world: World) -> None:
    """I1: the payload is swept by somebody else while a killed deletion holds its only other name."""
    before = world.stores()
    plan = world.plan("hf:acme/left")
    with pytest.raises(Killed):
        execute(plan, fs=FaultyFs(24, "before"))
    assert world.stores() != before
    world.hub.payload(content("payload")).unlink()
    assert [r.action for r in recover(world.roots())] == ["reverted"]
    assert world.stores() == before


def test_a_second_name_goes_only_while_the_first_stands(world: World) -> None:
    """I1: undo is done but for tidying up, when somebody sweeps the payload: its second name stays."""
    assert world.remove("hf:acme/left").ok
    (entry,) = trash.entries(world.roots())
    for at in range(1, 100):
        disk = FaultyFs(at, "before")
        with pytest.raises(Killed):
            trash.restore(entry, fs=disk)
        if disk.hit == "unlink":
            break
        recover(world.roots())
        if world.hub.path.joinpath("models--acme--left").exists():
            assert world.remove("hf:acme/left").ok
            (entry,) = trash.entries(world.roots())
    held = blobs(world.home)
    world.hub.payload(content("payload")).unlink()
    assert recover(world.roots()) == ()
    assert blobs(world.home) == held
