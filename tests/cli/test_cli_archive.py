"""cachetui archive, restore, jobs: through the real program, to a drive of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_world import DONE, TRANSFER, begin, content, held_when, load, worker_of
from cli_shape import fits
from cli_terminal import Terminal
from cli_world import Run, World
from huggingface_hub import scan_cache_dir
from processes import alive, wait_for
from second import mounted, second, unmount

from cachetui.cli.transfer import INCLUDE
from cachetui.config import Where
from cachetui.demo.builders import Hub, safetensors_bytes
from cachetui.jobs import requests, runner
from cachetui.jobs.model import JobState

PLAIN, SHARED, TAG = "hf:org/plain", "hf:org/shared-a", "ollama:llama3.2:3b"


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another file system; nothing outside the test is looked at."""
    monkeypatch.setenv("CACHETUI_ONLY_BELOW", str(tmp_path))
    with second(tmp_path, size="400m") as found:
        if not str(found).startswith(str(tmp_path)):
            pytest.skip("the drive has to lie below the test's folder")
        yield found


@pytest.fixture
def archive(drive: Path) -> Path:
    return drive / "models"


@pytest.fixture
def big(world: World) -> Path:
    """The hub folder of a repo of 105 MB, ten days old."""
    repo = world.hub.repo("org/big")
    repo.revision({"config.json": b"{}", "model.bin": os.urandom(1 << 20) * 100})
    world.age()
    return repo.path


def states(run: Run, target: str) -> list[tuple[str, list[str]]]:
    return [(i["root"], i["states"]) for i in run("ls", "--json").data["items"] if i["id"] == target]


def test_archive_load_and_restore(world: World, spawn: Run, archive: Path) -> None:
    before = content(world.hub.path), content(world.ollama.path)
    loads = load("org/plain", "org/shared-a", "org/shared-b")
    answer = spawn("archive", PLAIN, SHARED, TAG, "--to", str(archive), "-y")
    assert "needed by hf:org/shared-b" in answer.out
    assert f"Archived: {PLAIN}, {SHARED}, {TAG}" in answer.out
    assert (world.hub.path / "models--org--plain").is_symlink()
    assert load("org/plain", "org/shared-a", "org/shared-b") == loads
    assert load("org/plain", "org/shared-a", HF_HUB_CACHE=str(archive / "hub")) == {
        name: found for name, found in loads.items() if "shared-b" not in name
    }
    info = scan_cache_dir(archive / "hub")
    assert (len(info.repos), info.warnings) == (2, [])
    root = str(world.hub.path)
    assert (root, ["archived"]) in states(spawn, PLAIN)
    answer = spawn("restore", PLAIN, SHARED, TAG, "-y")
    assert f"Restored: {PLAIN}, {SHARED}, {TAG}" in answer.out
    after = content(world.hub.path), content(world.ollama.path)
    for there, then in zip(after, before, strict=True):  # what was shared comes back as a file of its own
        own = lambda found: {k: v for k, v in found.items() if "shared-a/blobs/" not in k}  # noqa: E731
        assert own(there) == own(then)
    assert load("org/plain", "org/shared-a", "org/shared-b") == loads
    left = [p for p in archive.rglob("*") if p.is_file() and p.stat().st_size > 1000 and "trash" not in str(p)]
    assert [p.name for p in left] == []


def test_a_dry_run_shows_the_plan_and_changes_nothing(world: World, run: Run, drive: Path, home: Path) -> None:
    everything = content(home.parent)
    data = run("archive", SHARED, PLAIN, TAG, "--to", str(drive / "models"), "--dry-run", "--json").data
    fits(data, {**DONE, "plan": TRANSFER})
    assert (data["verb"], data["dry_run"], data["outcome"], data["job"]) == ("archive", True, None, None)
    first = data["plan"]["items"][0]
    assert [s["needed_by"] for s in first["stays"]] == [["hf:org/shared-b"]]
    assert first["place"] == "hub/models--org--shared-a"
    assert data["plan"]["bytes"] > 20_000
    text = run("archive", SHARED, "--to", str(drive / "models"), "--dry-run").out
    assert "needed by hf:org/shared-b" in text and "Comes back here: " in text
    assert content(home.parent) == everything
    assert list(drive.iterdir()) == []


def test_json_of_an_archiving_and_a_restore(world: World, run: Run, archive: Path) -> None:
    shown = run("archive", PLAIN, "--to", str(archive), "--dry-run", "--json").data["plan"]
    data = run("archive", PLAIN, "--to", str(archive), "-y", "--json").data
    fits(data, {**DONE, "plan": TRANSFER})
    assert data["plan"]["digest"] == shown["digest"]
    assert data["job"] == {"state": "done", "reason": "", "advice": ""}
    assert data["outcome"]["ok"] is True
    assert data["outcome"]["freed"] == data["plan"]["frees"] > 0
    assert run("restore", PLAIN, "--dry-run", "--json").data["plan"]["items"][0]["bytes"] == shown["bytes"]
    data = run("restore", PLAIN, "-y", "--keep", "--json").data
    fits(data, {**DONE, "plan": TRANSFER})
    assert data["outcome"]["ok"] is True
    assert (archive / "hub/models--org--plain").is_dir()


def test_a_backup_leaves_the_original(world: World, run: Run, archive: Path) -> None:
    before = content(world.hub.path)
    answer = run("archive", PLAIN, "--to", str(archive), "--keep", "-y")
    assert "The originals stay" in answer.out and "came back" not in answer.out
    assert content(world.hub.path) == before
    assert content(archive / "hub/models--org--plain") == content(world.hub.path / "models--org--plain")


def test_the_original_in_the_trash_comes_back_with_undo(world: World, run: Run, archive: Path) -> None:
    before = content(world.hub.path)
    answer = run("archive", PLAIN, "--to", str(archive), "--keep-original", "-y")
    assert "now in the trash" in answer.out
    assert (world.hub.path / "models--org--plain").is_symlink()
    run("undo", "-y")
    assert content(world.hub.path) == before


def test_a_kept_original_whose_copy_is_away_is_emptied_only_when_told(world: World, run: Run, archive: Path) -> None:
    run("archive", PLAIN, "--to", str(archive), "--keep-original", "-y")
    archive.rename(archive.with_name("away"))
    answer = run("trash", "empty", "-y", code=1)
    assert "is not there now" in answer.err and "--include offline" in answer.err
    assert len(run("trash", "--json").data["entries"]) == 1
    assert "is not there now" in run("trash", "empty", "--dry-run").err
    run("trash", "empty", "-y", "--include", "offline")
    assert run("trash", "--json").data["entries"] == []


def test_where_to_may_stand_in_the_configuration(world: World, run: Run, archive: Path, home: Path) -> None:
    assert "say where to" in run("archive", PLAIN, "-y", code=2).err
    (home / ".config/cachetui").mkdir(parents=True)
    (home / ".config/cachetui/config.toml").write_text(f'archive_dir = "{archive}"\n')
    run("archive", PLAIN, "-y")
    assert (archive / "hub/models--org--plain").is_dir()


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ([PLAIN, "--to", "DRIVE/m"], 2, "add -y"),
        (["--to", "DRIVE/m", "-y"], 2, "name what to archive"),
        (["hf:no/such", "--to", "DRIVE/m", "-y"], 1, "hf:no/such"),
        ([PLAIN, "--to", "HOME/elsewhere", "-y"], 1, "same file system"),
        ([f"{PLAIN}@main", "--to", "DRIVE/m", "-y"], 1, "only a whole item"),
        ([PLAIN, "--to", "DRIVE/m", "--keep", "--keep-original", "-y"], 2, "--keep leaves the originals"),
        (["hf:org/broken", "--to", "DRIVE/m", "-y"], 1, "--include damaged|damaged"),
        (["--filter", "size>1TB", "--to", "DRIVE/m", "-y"], 0, "Nothing passes"),
        ([PLAIN, "--to", "DRIVE/m", "--include", "nonsense", "-y"], 2, "nonsense"),
    ],
)
def test_refusals(world: World, run: Run, drive: Path, home: Path, args: list[str], code: int, says: str) -> None:
    before = content(home)
    given = [a.replace("DRIVE", str(drive)).replace("HOME", str(home)) for a in args]
    answer = run("archive", *given, code=code)
    assert any(word in answer.out + answer.err for word in says.split("|")), answer
    after = {k: v for k, v in content(home).items() if not k.startswith(".local")}  # notes of our own
    assert after == before
    assert "interrupted" not in run("ls").err


def test_what_is_in_use_needs_its_own_confirmation(world: World, spawn: Run, archive: Path) -> None:
    blob = max((world.hub.path / "models--org--plain/blobs").iterdir(), key=lambda p: p.stat().st_size)
    with blob.open("rb"):
        answer = spawn("archive", PLAIN, TAG, "--to", str(archive), "-y", code=1)
        assert "[in-use]" in answer.out and f"Not done: {PLAIN}: needs a confirmation of its own" in answer.out
        assert f"Archived: {TAG}" in answer.out
        assert not (world.hub.path / "models--org--plain").is_symlink()
        spawn("archive", PLAIN, "--to", str(archive), "-y", "--include", "in-use")
    assert (world.hub.path / "models--org--plain").is_symlink()


def test_a_drive_that_is_too_small_is_said_before(world: World, big: Path, run: Run, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", size="90m") as small:
        answer = run("archive", "hf:org/big", "--to", str(small / "m"), "-y", code=1)
        assert "too small" in answer.out
        assert list(small.iterdir()) == []


def test_control_c_and_go_on(world: World, big: Path, spawn: Run, archive: Path) -> None:
    before = content(big)
    process = begin("archive", "hf:org/big", "--to", str(archive), "-y")
    pid = held_when(process, lambda: list(archive.glob(".cachetui-incoming/*/tree/blobs/*")))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "The same command again" in err
    assert not alive(pid)
    assert not big.is_symlink() and content(big) == before
    assert "interrupted: archive hf:org/big" in spawn("ls").err
    answer = spawn("archive", "hf:org/big", "--to", str(archive), "-y")
    assert "Archived: hf:org/big" in answer.out
    assert big.is_symlink() and content(big) == before
    assert "interrupted" not in spawn("ls").err
    assert list(archive.glob(".cachetui-incoming/*/tree")) == []


def test_on_a_terminal_it_asks_shows_a_bar_and_obeys_control_c(world: World, big: Path, archive: Path) -> None:
    before = content(big)
    screen = Terminal("archive", "hf:org/big", "--to", str(archive))
    screen.until("Archive 1? [y/N]")
    assert "To copy: 104.9 MB" in screen.seen.decode()
    screen.send("n\n")
    assert screen.wait() == 1
    assert not archive.exists()
    screen = Terminal("archive", "hf:org/big", "--to", str(archive))
    screen.until("Archive 1? [y/N]")
    screen.send("y\n")
    pid = worker_of(screen.pid)
    wait_for(lambda: list(archive.glob(".cachetui-incoming/*/tree/blobs/*")))
    os.kill(pid, signal.SIGSTOP)  # a slow drive
    screen.send("\x03")
    screen.until("Stopping ... (once more: at once)")
    assert screen.wait() == 130
    assert "goes on where it stopped" in screen.seen.decode()
    assert not alive(pid) and content(big) == before
    screen = Terminal("archive", "hf:org/big", "--to", str(archive), "-y")
    assert screen.wait() == 0
    seen = screen.seen.decode()
    assert "Archived: hf:org/big" in seen and "\x1b[2J" not in seen
    assert big.is_symlink() and content(big) == before


def test_killed_and_resumed_by_its_id(world: World, big: Path, spawn: Run, archive: Path) -> None:
    before = content(big)
    process = begin("archive", "hf:org/big", "--to", str(archive), "-y")
    pid = held_when(process, lambda: list(archive.glob(".cachetui-incoming/*/tree/blobs/*")))
    assert "this already" in spawn("archive", "hf:org/big", "--to", str(archive), "-y", code=1).err  # it lives
    assert spawn("jobs", "--json").data == {"schema": 1, "unfinished": []}
    process.kill()
    process.communicate()
    wait_for(lambda: not alive(pid))
    [job] = spawn("jobs", "--json").data["unfinished"]
    assert (job["kind"], job["title"]) == ("archive", f"archive hf:org/big to {archive}")
    assert job["id"] in spawn("jobs").out
    data = spawn("jobs", "resume", job["id"][:12], "--json").data
    assert data["job"]["state"] == "done" and data["outcome"]["ok"] is True
    assert big.is_symlink() and content(big) == before
    assert spawn("jobs").out == "Nothing was interrupted.\n"
    assert "names no interrupted jobs" in spawn("jobs", "resume", "archive", code=1).err


def test_an_interrupted_copy_is_discarded(world: World, big: Path, spawn: Run, archive: Path) -> None:
    before = content(world.hub.path)
    process = begin("archive", "hf:org/big", "--to", str(archive), "-y")
    held_when(process, lambda: list(archive.glob(".cachetui-incoming/*/tree/blobs/*")))
    process.kill()
    process.communicate()
    assert "add -y" in spawn("jobs", "forget", "archive", code=2).err
    assert "1 unfinished copies discarded" in spawn("jobs", "forget", "archive", "-y").out
    assert content(world.hub.path) == before
    assert sum(p.stat().st_size for p in archive.rglob("*") if p.is_file()) < 100_000
    assert "interrupted" not in spawn("ls").err


def test_an_interrupted_restore_goes_on(world: World, big: Path, spawn: Run, archive: Path) -> None:
    before = content(big)
    spawn("archive", "hf:org/big", "--to", str(archive), "-y")
    process = begin("restore", "hf:org/big", "-y")
    top = world.hub.path.parent
    held_when(process, lambda: list(top.glob(".cachetui-trash/incoming/*/tree/blobs/*")))
    assert big.is_symlink() and content(big) == before  # it loads all the time
    process.kill()
    process.communicate()
    assert "interrupted: restore hf:org/big" in spawn("ls").err
    spawn("jobs", "resume", "restore")
    assert not big.is_symlink() and content(big) == before
    assert not (archive / "hub/models--org--big").exists()


def test_pulled_out_in_the_middle(world: World, big: Path, spawn: Run, drive: Path) -> None:
    before = content(big)
    process = begin("archive", "hf:org/big", "--to", str(drive / "m"), "-y")
    pid = held_when(process, lambda: list(drive.glob("m/.cachetui-incoming/*/tree/blobs/*")))
    unmount(drive)
    os.kill(pid, signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, (out, err)
    assert "Not done: hf:org/big" in out
    assert not big.is_symlink() and content(big) == before


def test_what_changed_since_it_was_shown_is_not_touched(world: World, archive: Path, where: Where) -> None:
    spec = requests.archive(where, [(str(world.hub.path), PLAIN)], str(archive), digest="0" * 64)
    ended = runner.run(spec, lambda p: None, threading.Event())
    assert ended.state is JobState.FAILED
    assert (ended.reason, ended.begun) == ("it changed since it was shown", False)
    assert not (world.hub.path / "models--org--plain").is_symlink()


def test_names_that_attack(world: World, spawn: Run, archive: Path) -> None:
    names = ["\x1b]0;evil\x07", "[@click=x]", "\u202egnp", "not\udcffutf8"]
    hub = Hub(world.hub.path)
    for name in names:
        folder = hub.path / f"models--org--{name}"
        os.makedirs(folder / "snapshots" / ("a" * 40))
        (folder / "refs").mkdir()
        (folder / "refs/main").write_text("a" * 40)
        (folder / "snapshots" / ("a" * 40) / "model.safetensors").write_bytes(
            safetensors_bytes({"w": ("BF16", (9, 9))})
        )
    world.age()
    args = ("archive", "--filter", "id~org/", "--filter", "size<1kB", "--to", str(archive), "-y")
    answer = spawn(*args, "--include", "damaged")
    assert "\x1b" not in answer.out + answer.err and "\u202e" not in answer.out + answer.err
    for name in names:
        assert (hub.path / f"models--org--{name}").is_symlink(), name
    data = spawn("restore", "--filter", "state=archived", "-y", "--json").data
    assert data["job"] == {"state": "done", "reason": "", "advice": ""}
    for name in names:
        assert not (hub.path / f"models--org--{name}").is_symlink(), name


def test_every_caution_can_be_agreed_to() -> None:
    from cachetui.plans import model as plans
    from cachetui.transfer import model as transfer

    codes = {plans.IN_USE, plans.LOCKED, plans.YOUNG, plans.UNCHECKED, plans.SERVER, plans.NO_UNDO, plans.PERMANENT}
    assert set(INCLUDE) == codes | {transfer.DAMAGED, transfer.PARTIAL, transfer.NETWORK, transfer.PINNED}


def test_a_resumed_job_keeps_no_secret(world: World, big: Path, spawn: Run, archive: Path, home: Path) -> None:
    os.environ["HF_TOKEN"] = "hf_verysecret"
    try:
        process = begin("archive", "hf:org/big", "--to", str(archive), "-y")
        pid = held_when(process, lambda: list(archive.glob(".cachetui-incoming/*/tree/blobs/*")))
    finally:
        del os.environ["HF_TOKEN"]
    assert b"hf_verysecret" not in Path(f"/proc/{pid}/environ").read_bytes()
    process.kill()
    process.communicate()
    found = subprocess.run(["grep", "-rl", "hf_verysecret", str(home.parent)], capture_output=True, text=True)
    assert found.stdout == ""
    assert json.loads((home / ".local/state/cachetui/jobs.json").read_text())["jobs"]
