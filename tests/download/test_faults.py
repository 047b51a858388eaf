"""Servers and networks that misbehave: what came stays, what is wrong is never placed, and the reason is said."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hub_world import FAST, MB, World, model, noise, tree, unfinished
from server import Repo

from cachetui.download import errors, pulling
from cachetui.download.client import Client
from cachetui.download.errors import PullCancelled, PullError

WEIGHTS = "model.safetensors"


def whole(world: World) -> None:
    assert tree(world.cache) == tree(world.theirs())
    assert not unfinished(world.cache)


@pytest.mark.parametrize("kind", ["cut", "reset", "stall"])
@pytest.mark.parametrize("path", [WEIGHTS, "tokenizer.json"])
def test_a_broken_connection_goes_on_from_its_byte(world: World, kind: str, path: str) -> None:
    world.server.add("acme/m", model())
    for after in (0, 100_000, 150_001):
        world.server.fail(kind, path, after=after)
    world.pull(timeout=0.5)
    whole(world)
    ours = [r for r in world.server.requests if r.range and (r.host == "cdn" or path in r.path)]
    assert ours, "it asked for the rest only"


@pytest.mark.parametrize("kind", ["503", "429"])
def test_busy_servers_are_asked_again(world: World, kind: str) -> None:
    world.server.add("acme/m", model())
    world.server.fail(kind, times=7)
    world.pull()
    whole(world)


def test_retry_after_is_honoured(world: World) -> None:
    world.server.add("acme/m", Repo({"config.json": b"{}"}))
    world.server.fail("429", wait="1")
    began = time.monotonic()
    world.pull()
    assert time.monotonic() - began >= 1.0


def test_a_retry_after_beyond_patience_ends_it(world: World) -> None:
    world.server.add("acme/m", Repo({"config.json": b"{}"}))
    world.server.fail("503", wait="3600")
    with pytest.raises(PullError, match="asks to wait longer") as found:
        world.pull()
    assert found.value.code == errors.STALLED


def test_without_a_byte_it_gives_up_and_keeps_what_came(world: World) -> None:
    world.server.add("acme/m", model())
    world.pull(include=("*.json",))
    world.server.fail("cut", WEIGHTS, times=1, after=MB // 2)
    world.server.fail("503", WEIGHTS, times=-1, after=1)
    with pytest.raises(PullError, match="no byte came") as found:
        world.pull(settings={"patience": 1.0, "connections": 1})
    assert "goes on where it stopped" in found.value.advice
    world.server.faults.clear()
    plan = world.plan()
    assert plan.files and next(f for f in plan.files if f.path == WEIGHTS).action == "resume"
    before = world.server.sent("/content/")
    world.pull()
    assert world.server.sent("/content/") - before <= 3 * MB - MB // 4
    whole(world)


def test_a_flipped_byte_is_fetched_once_more(world: World) -> None:
    repo = world.server.add("acme/m", model())
    for path, at in ((WEIGHTS, 2 * MB), ("config.json", 3)):
        world.server.fail("flip", path, after=at, times=len(repo.files[path]) // MB or 1)
    world.pull(settings={"connections": 1})
    whole(world)


@pytest.mark.parametrize("path", [WEIGHTS, "config.json"])
def test_a_byte_that_stays_flipped_is_reported_and_nothing_placed(world: World, path: str) -> None:
    world.server.add("acme/m", model())
    world.server.fail("flip", path, after=5, times=-1)
    with pytest.raises(PullError, match=f"{path} came twice") as found:
        world.pull()
    assert found.value.code == errors.CONTENT
    assert not unfinished(world.cache)
    repo = world.cache / "models--acme--m"
    assert not list(repo.glob(f"snapshots/*/{path}")) and not (repo / "refs").exists()
    assert (repo / "blobs").is_dir() and len(list((repo / "blobs").iterdir())) == 4, "the other files are in place"


@pytest.mark.parametrize("path", [WEIGHTS, "tokenizer.json"])
def test_another_size_than_listed(world: World, path: str) -> None:
    world.server.add("acme/m", model())
    world.server.fail("wrong-size", path, after=150_000, times=-1)
    with pytest.raises(PullError, match=r"sends 150000 bytes|has no byte"):
        world.pull()
    world.server.faults.clear()
    world.pull()
    whole(world)


def test_a_file_that_changes_on_the_way_starts_over(world: World) -> None:
    world.server.add("acme/m", model())
    for _ in range(3):
        world.server.fail("changed", WEIGHTS)
    world.pull(settings={"connections": 1})
    whole(world)


def test_ranges_that_are_never_satisfied(world: World) -> None:
    world.server.add("acme/m", model())
    world.server.fail("416", WEIGHTS, times=-1)
    with pytest.raises(PullError, match="has no byte"):
        world.pull()
    world.server.faults.clear()
    world.pull()
    whole(world)


def test_an_address_that_expired_is_asked_for_anew(world: World) -> None:
    world.server.add("acme/m", model())
    world.pull(include=("*.json",))
    world.server.fail("cut", WEIGHTS, after=300_000)
    world.server.fail("expired", WEIGHTS, times=1)
    world.pull(settings={"connections": 1})
    whole(world)


def test_a_server_without_etags(world: World) -> None:
    world.server.add("acme/m", model())
    world.server.fail("no-etag", times=-1)
    world.server.fail("cut", WEIGHTS, after=500_000)
    world.pull()
    world.server.faults.clear()
    whole(world)


def test_a_server_without_ranges_is_left_to_the_library(world: World) -> None:
    world.server.add("acme/m", model(12 * MB))
    world.server.fail("no-range", times=-1)
    done = world.pull(settings={"chunk": 1 << 24})
    assert done["engine"] == "hub"
    whole(world)


def test_without_ranges_small_files_start_over(world: World) -> None:
    world.server.add("acme/m", Repo({"tokenizer.json": noise(400_000)}))
    world.server.fail("no-range", times=-1)
    world.server.fail("cut", after=100_000, times=2)
    world.pull(settings={"chunk": 1 << 20})
    whole(world)


def test_a_server_that_never_sends_all_is_given_up(world: World) -> None:
    world.server.add("acme/m", Repo({"tokenizer.json": noise(100_000)}))
    world.server.fail("no-range", times=-1)
    world.server.fail("cut", after=50_000, times=-1)
    with pytest.raises(PullError, match="from the beginning only"):
        world.pull(settings={"chunk": 1 << 20})


def test_the_library_as_engine_is_verified(world: World) -> None:
    world.server.add("acme/m", model())
    world.server.fail("flip", WEIGHTS, after=7)
    with pytest.raises(PullError, match="not what its hash says"):
        world.pull(engine="hub")


def test_the_library_as_engine(world: World) -> None:
    world.server.add("acme/m", model())
    assert world.pull(engine="hub")["engine"] == "hub"
    whole(world)


def test_what_is_not_there(world: World) -> None:
    world.server.add("acme/m", model())
    for target, code in (("hf:acme/none", errors.NO_REPO), ("hf:acme/m@none", errors.NO_REVISION)):
        with pytest.raises(PullError) as found:
            world.plan(target)
        assert found.value.code == code
    assert [r.code for r in world.plan("hf:acme/m:none").refused] == [errors.NO_FILE]
    assert not world.cache.exists() or not list(world.cache.iterdir())


def test_a_file_that_is_listed_and_gone(world: World) -> None:
    world.server.add("acme/m", model())
    world.server.fail("gone", "config.json", times=-1)
    with pytest.raises(PullError, match=r"config\.json: there is no such file"):
        world.pull()


def test_gated_and_private_repos_say_what_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = world.server.add("acme/m", model())
    repo.gated = True
    refused = world.plan().refused
    assert [r.code for r in refused] == [errors.GATED]
    assert "accept its licence" in refused[0].advice and "hf auth login" in refused[0].advice
    monkeypatch.setenv("HF_TOKEN", "hf_letmein")
    world.pull()
    assert {r.authorization for r in world.server.requests if r.host == "cdn"} == {""}
    repo.private = True
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(PullError) as found:
        world.plan()
    assert "hf_wrong" not in str(found.value) + found.value.advice


def test_the_token_goes_to_the_hub_alone_and_is_written_nowhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.server.add("acme/m", model())
    monkeypatch.setenv("HF_TOKEN", "hf_letmein")
    plan = world.plan()
    assert "hf_letmein" not in repr(plan.to_json()) + repr(plan.job()) + repr(world.client())
    world.server.fail("cut", WEIGHTS, after=300_000)
    world.pull()
    assert {r.authorization for r in world.server.requests if r.host == "hub"} == {"Bearer hf_letmein"}
    assert {r.authorization for r in world.server.requests if r.host == "cdn"} == {""}
    for file in world.tmp.rglob("*"):
        assert not file.is_file() or b"hf_letmein" not in file.read_bytes()


def test_offline_is_said_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PullError) as found:
        world.plan()
    assert found.value.code == errors.OFFLINE and not world.server.requests


def test_nobody_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr("cachetui.download.client.time.sleep", lambda _: None)
    monkeypatch.setattr(constants, "ENDPOINT", "http://user:secret@127.0.0.1:9")
    with pytest.raises(PullError) as found:
        world.plan()
    assert found.value.code == errors.UNREACHABLE and "secret" not in str(found.value)


def test_before_each_pause_it_is_said_that_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("cachetui.download.client.time.sleep", lambda _: None)
    with pytest.raises(PullError):
        Client(tries=3, told=told.append).json("http://user:secret@127.0.0.1:9/api")
    assert told == [f"127.0.0.1:9 does not answer; asking again in {n} s" for n in (1, 2)]


def test_a_page_that_is_no_hub(world: World) -> None:
    client = world.client()
    with pytest.raises(PullError):
        client.json("/login")


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "C:evil", "a\\..\\evil", "a//b", "./x"])
def test_paths_that_leave_the_folder_are_refused(world: World, path: str) -> None:
    world.server.add("acme/m", Repo({path: b"x"}))
    with pytest.raises(PullError, match="leave its folder"):
        world.plan()


def test_cancelling_keeps_what_came(world: World) -> None:
    world.server.add("acme/m", model(6 * MB))
    world.server.rate = 3e6
    stop = threading.Event()

    def cancelled() -> bool:
        if world.server.sent("/content/") > 2 * MB:
            stop.set()
        return stop.is_set()

    with pytest.raises(PullCancelled):
        world.pull(cancelled=cancelled)
    have = next(f for f in world.plan().files if f.path == WEIGHTS).have
    assert have > MB
    world.server.rate = 0
    asked = len(world.server.requests)
    world.pull()
    assert sum(r.sent for r in world.server.requests[asked:] if r.host == "cdn") == 6 * MB - have
    whole(world)


def test_a_lock_that_the_library_holds_is_waited_for(world: World) -> None:
    from huggingface_hub.utils import WeakFileLock

    repo = world.server.add("acme/m", model())
    world.pull(include=("*.json",))
    etag = next(f for f in world.plan().files if f.path == WEIGHTS).etag
    held, go = threading.Event(), threading.Event()

    def other() -> None:
        with WeakFileLock(Path(world.cache, ".locks/models--acme--m", f"{etag}.lock")):
            held.set()
            go.wait(10)
            Path(world.cache, "models--acme--m/blobs", etag).write_bytes(repo.files[WEIGHTS])

    thread = threading.Thread(target=other)
    thread.start()
    held.wait(10)
    before = world.server.sent("/content/")
    threading.Timer(0.7, go.set).start()
    done = world.pull()
    thread.join()
    assert WEIGHTS in done["here"] and world.server.sent("/content/") == before
    whole(world)


def test_who_is_waited_for_is_said_and_what_to_do_after_a_while(world: World) -> None:
    world.server.add("acme/m", model())
    world.pull(include=("*.json",))
    etag = next(f for f in world.plan().files if f.path == WEIGHTS).etag
    lock = Path(world.cache, ".locks/models--acme--m", f"{etag}.lock")
    code = (
        "import sys, filelock; f = filelock.FileLock(sys.argv[1]); f.acquire(); print(1, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(lock)]
    told: list[str] = []
    logged: list[str] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"1\n"
        job = world.plan().job() | {"settings": FAST | {"lock_patience": 0.0}}
        with pytest.raises(PullCancelled):
            pulling.pull(
                job,
                tell=lambda *n: told.append(n[3]),
                cancelled=lambda: len(logged) > 0 and sum("waits" in t for t in told) > 2,
                log=logged.append,
                client=world.client(),
            )
        assert other.stdin is not None
        other.stdin.close()
    (line,) = logged
    assert f"(process {other.pid}), which downloads {WEIGHTS}" in next(t for t in told if "waits" in t)
    assert told[-1].endswith("end it, or cancel this")
    assert f"(process {other.pid})" in line and "end it and this goes on" in line and "what came stays" in line
    world.pull()
    whole(world)
