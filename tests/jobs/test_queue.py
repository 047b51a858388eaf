"""The queue: who may start, pause, cancel, and what the next start of the program is offered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jobs_world import SETTINGS, WORKER
from processes import alive, stopped, wait_for
from second import mounted, unmount

from cachetui import paths
from cachetui.config import Where
from cachetui.fs import Fs
from cachetui.jobs import requests, unfinished
from cachetui.jobs.model import Job, JobState, Spec
from cachetui.jobs.queue import Queue


class Told:
    """What a listener heard."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def __call__(self, job: Job) -> None:
        self.jobs.append(job)

    def states(self, id_: str) -> list[str]:
        """The states a job went through."""
        found: list[str] = []
        for job in self.jobs:
            if job.id == id_ and found[-1:] != [job.state]:
                found.append(str(job.state))
        return found


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def jobs(told: Told) -> Iterator[Queue]:
    """A queue with the test worker; two of kind `pair` at once."""
    made = Queue(told, {"pair": 2}, settings=SETTINGS)
    yield made
    made.close()


def spec(id_: str, *drives: str, kind: str = "one", resumable: bool = False, **request: Any) -> Spec:
    return Spec(id_, kind, id_, request, drives, resumable)


def state(jobs: Queue, id_: str) -> JobState:
    return next(j.state for j in jobs.jobs() if j.id == id_)


def until(jobs: Queue, id_: str, wanted: JobState) -> Job:
    wait_for(lambda: state(jobs, id_) is wanted)
    return next(j for j in jobs.jobs() if j.id == id_)


def test_jobs_of_a_kind_wait_for_each_other(jobs: Queue, told: Told, tmp_path: Path) -> None:
    go = tmp_path / "go"
    for name in "abc":
        jobs.submit(spec(name, until=str(go)))
    until(jobs, "a", JobState.RUNNING)
    assert [state(jobs, n) for n in "bc"] == [JobState.QUEUED] * 2
    assert jobs.active()
    go.touch()
    done = until(jobs, "c", JobState.DONE)
    assert done.result == {"ok": True} and done.started and done.ended and done.started <= done.ended
    wait_for(lambda: told.states("c")[-1] == "done")
    assert told.states("a") == ["queued", "running", "done"]
    order = [j.id for j in told.jobs if j.state is JobState.RUNNING]
    assert order.index("a") < order.index("b") < order.index("c")
    assert not jobs.active()
    jobs.clear()
    assert jobs.jobs() == ()


def test_two_of_a_kind_but_one_writer_on_a_drive(jobs: Queue, tmp_path: Path) -> None:
    go = tmp_path / "go"
    jobs.submit(spec("a", "/mnt/x", kind="pair", until=str(go)))
    jobs.submit(spec("b", "/mnt/x", "/", kind="pair", until=str(go)))
    jobs.submit(spec("c", "/mnt/y", kind="pair", until=str(go)))
    jobs.submit(spec("d", "/mnt/z", kind="pair", until=str(go)))
    jobs.submit(spec("e", "/mnt/y", kind="other", until=str(go)))
    jobs.submit(spec("f", "/mnt/w", kind="third", until=str(go)))
    until(jobs, "f", JobState.RUNNING)
    assert [str(state(jobs, n)) for n in "abcdef"] == ["running", "queued", "running", "queued", "queued", "running"]
    go.touch()
    for name in "abcdef":
        until(jobs, name, JobState.DONE)


def test_one_writer_on_a_drive_however_its_path_is_spelled(jobs: Queue, tmp_path: Path) -> None:
    go, drive, twin = tmp_path / "go", tmp_path / "drive", tmp_path / "twin"
    drive.mkdir()
    (tmp_path / "link").symlink_to(drive)

    def ask(id_: str, to: Path) -> None:
        made = requests.archive(Where({}, str(tmp_path), str(tmp_path)), (), str(to))
        jobs.submit(replace(made, id=id_, kind="pair", request={"until": str(go)}, resumable=False))

    ask("before", drive / "not/there/yet")
    until(jobs, "before", JobState.RUNNING)
    with mounted(drive):  # it came while the first one was about to write there
        ask("after", tmp_path / "link/models")
        twin.mkdir()
        subprocess.run(["mount", "--bind", drive, twin], check=True)
        try:
            ask("twice", twin / "models")
            assert [state(jobs, n) for n in ("after", "twice")] == [JobState.QUEUED] * 2
            go.touch()
            for name in ("before", "after", "twice"):
                until(jobs, name, JobState.DONE)
        finally:
            unmount(twin)


def test_cancel_what_waits_and_what_runs(jobs: Queue, tmp_path: Path) -> None:
    never = str(tmp_path / "never")
    jobs.submit(spec("a", until=never))
    jobs.submit(spec("b", until=never))
    jobs.submit(spec("c"))
    jobs.cancel("b")
    assert state(jobs, "b") is JobState.CANCELLED
    jobs.cancel("a")
    assert until(jobs, "a", JobState.CANCELLED).result in (None, {"so_far": True})
    until(jobs, "c", JobState.DONE)
    jobs.cancel("c")  # too late: nothing happens
    assert state(jobs, "c") is JobState.DONE


def test_a_failure_lets_the_next_one_start(jobs: Queue) -> None:
    jobs.submit(spec("a", "/mnt", fail=["no room", "make some"]))
    jobs.submit(spec("b", "/mnt"))
    failed = until(jobs, "a", JobState.FAILED)
    assert (failed.reason, failed.advice) == ("no room", "make some")
    until(jobs, "b", JobState.DONE)


def test_pause_and_go_on(jobs: Queue, told: Told, tmp_path: Path, pid_of: Callable[[], int]) -> None:
    go = tmp_path / "go"
    jobs.submit(spec("a", "/mnt", until=str(go), pid_file=str(tmp_path / "pid")))
    jobs.submit(spec("b", "/mnt"))
    pid = pid_of()
    jobs.pause("a")
    wait_for(lambda: stopped(pid))
    jobs.pause("b")
    assert [state(jobs, n) for n in "ab"] == [JobState.PAUSED] * 2
    go.touch()
    jobs.resume("a")
    until(jobs, "a", JobState.DONE)
    assert state(jobs, "b") is JobState.PAUSED  # it waits for the person, not for the drive
    jobs.resume("b")
    until(jobs, "b", JobState.DONE)
    wait_for(lambda: told.states("b")[-1] == "done")
    assert told.states("a") == ["queued", "running", "paused", "running", "done"]
    assert told.states("b") == ["queued", "paused", "queued", "running", "done"]


def test_the_same_job_twice_is_one(jobs: Queue, tmp_path: Path) -> None:
    go = tmp_path / "go"
    jobs.submit(spec("a", until=str(go)))
    until(jobs, "a", JobState.RUNNING)
    assert jobs.submit(spec("a", until=str(go))).state is JobState.RUNNING
    go.touch()
    until(jobs, "a", JobState.DONE)
    jobs.submit(spec("a"))
    until(jobs, "a", JobState.DONE)
    assert len(jobs.jobs()) == 1


def test_closing_ends_the_workers(told: Told, tmp_path: Path, pid_of: Callable[[], int]) -> None:
    jobs = Queue(told, settings=SETTINGS)
    jobs.submit(spec("a", until=str(tmp_path / "never"), deaf=True, pid_file=str(tmp_path / "pid")))
    jobs.submit(spec("b", until=str(tmp_path / "never")))
    pid = pid_of()
    jobs.close()
    assert not alive(pid)
    assert state(jobs, "b") is JobState.QUEUED


def test_a_listener_may_ask_the_queue(tmp_path: Path) -> None:
    seen: list[bool] = []
    ready = threading.Event()

    def listen(job: Job) -> None:
        ready.wait(30)
        seen.append(jobs.active())
        if job.id == "a" and job.state.ended:
            jobs.submit(spec("b"))

    jobs = Queue(listen, settings=SETTINGS)
    ready.set()
    jobs.submit(spec("a"))
    wait_for(lambda: any(j.id == "b" and j.state is JobState.DONE for j in jobs.jobs()))
    jobs.close()
    assert seen


OTHER = """
import sys, time
from cachetui.jobs.model import Spec
from cachetui.jobs.queue import Queue
from cachetui.jobs.runner import Settings
jobs = Queue(lambda job: None, {"one": 9}, settings=Settings(command=lambda kind: [sys.executable, sys.argv[1]]))
for name in sys.argv[2].split(","):
    jobs.submit(Spec(name, "one", "copy " + name, {"until": "/nowhere/never", "n\\udcff": 1}, (), name != "brief"))
while not all(j.progress for j in jobs.jobs()):
    time.sleep(0.01)
print("ready", flush=True)
if sys.stdin.readline() == "close\\n":
    jobs.close()
"""


@pytest.fixture
def other() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Another instance of the program, doing these jobs."""
    begun: list[subprocess.Popen[bytes]] = []

    def do(names: str) -> subprocess.Popen[bytes]:
        args = [sys.executable, "-c", OTHER, WORKER, names]
        process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        begun.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        return process

    yield do
    for process in begun:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("end", ["kill", "close"])
def test_what_a_dead_program_left_is_offered(jobs: Queue, other: Any, end: str) -> None:
    first = other("a,b,brief")
    assert jobs.unfinished() == ()  # it lives
    if end == "kill":
        first.kill()
    first.communicate(b"close\n")
    offered = jobs.unfinished()
    assert [s.id for s in offered] == ["a", "b"]  # `brief` cannot go on
    assert offered[0].request == {"until": "/nowhere/never", "n\udcff": 1}
    again = Spec("a", "one", "copy a", {})
    jobs.submit(Spec(**{**again.to_json(), "drives": (), "resumable": True}))
    assert [s.id for s in jobs.unfinished()] == ["b"]  # ours now
    until(jobs, "a", JobState.DONE)
    jobs.forget("b")
    assert jobs.unfinished() == ()
    assert json.loads(paths.jobs_file().read_text()) == {"v": 1, "jobs": []}


def test_what_another_instance_does_is_not_done_twice(jobs: Queue, other: Any) -> None:
    first = other("a")
    with pytest.raises(unfinished.TakenError, match=f"process {first.pid}"):
        jobs.submit(spec("a", resumable=True))
    assert jobs.jobs() == ()
    first.kill()
    first.communicate()
    jobs.submit(spec("a", resumable=True))
    until(jobs, "a", JobState.DONE)
    assert jobs.unfinished() == ()


def test_a_new_process_with_an_old_number_is_not_the_owner() -> None:
    unfinished.claim(spec("a", resumable=True))
    assert unfinished.offered() == ()  # ours, alive
    body = json.loads(paths.jobs_file().read_text())
    body["jobs"][0]["owner"]["started"] -= 1000
    paths.jobs_file().write_text(json.dumps(body))
    assert [s.id for s in unfinished.offered()] == ["a"]


def test_what_was_begun_and_not_done_is_kept_for_the_next_start(jobs: Queue, tmp_path: Path) -> None:
    def kept() -> list[str]:
        return [row["spec"]["id"] for row in json.loads(paths.jobs_file().read_text())["jobs"]]

    jobs.submit(spec("refused", resumable=True, fail=["no", ""]))  # nothing was copied: nothing to go on with
    until(jobs, "refused", JobState.FAILED)
    jobs.submit(spec("done", resumable=True, steps=5))
    until(jobs, "done", JobState.DONE)
    assert kept() == []
    jobs.submit(spec("full", resumable=True, steps=5, fail_late=["the drive is full", ""]))
    until(jobs, "full", JobState.FAILED)
    jobs.submit(spec("stopped", resumable=True, until=str(tmp_path / "never")))
    wait_for(lambda: any(j.id == "stopped" and j.progress for j in jobs.jobs()))
    jobs.cancel("stopped")
    until(jobs, "stopped", JobState.CANCELLED)
    assert kept() == ["full", "stopped"]
    jobs.submit(spec("full", resumable=True, fail=["still no drive", ""]))  # refused before it could go on
    until(jobs, "full", JobState.FAILED)
    assert kept() == ["stopped", "full"]
    jobs.submit(spec("full", resumable=True))
    until(jobs, "full", JobState.DONE)
    assert kept() == ["stopped"]
    assert jobs.unfinished() == ()  # ours, and we live


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b'{"v": 1}', b'{"v": 1, "jobs": [1, {"spec": {}, "owner": {}}, {"owner": 3}]}', b"[" * 99999],
)
def test_a_file_that_makes_no_sense_offers_nothing(content: bytes) -> None:
    paths.jobs_file().parent.mkdir(parents=True)
    paths.jobs_file().write_bytes(content)
    assert unfinished.offered() == ()
    unfinished.claim(spec("a", resumable=True))
    assert len(json.loads(paths.jobs_file().read_text())["jobs"]) == 1


def test_a_file_of_a_newer_program_is_left_alone(jobs: Queue) -> None:
    paths.jobs_file().parent.mkdir(parents=True)
    paths.jobs_file().write_text('{"v": 2, "later": true}')
    jobs.submit(spec("a", resumable=True))
    until(jobs, "a", JobState.DONE)
    assert paths.jobs_file().read_text() == '{"v": 2, "later": true}'


def test_a_state_folder_that_cannot_be_written_stops_no_job(told: Told) -> None:
    class Full(Fs):
        def _call(self, operation: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            raise OSError(28, os.strerror(28))

    jobs = Queue(told, settings=SETTINGS, fs=Full())
    jobs.submit(spec("a", resumable=True))
    until(jobs, "a", JobState.DONE)
    jobs.close()


def test_the_file_is_whole_at_every_instant(tmp_path: Path) -> None:
    """Killed at any call, it holds what it held before, or what it holds then."""
    unfinished.claim(spec("a", resumable=True))

    class Killed(Exception):
        pass

    class Dying(Fs):
        left = 0

        def _call(self, operation: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if self.left == 0:
                raise Killed
            self.left -= 1
            return function(*args, **kwargs)

    for calls in range(20):
        fs = Dying()
        fs.left = calls
        try:
            unfinished.claim(spec("b", resumable=True), fs=fs)
        except Killed:
            ids = [row["spec"]["id"] for row in json.loads(paths.jobs_file().read_text())["jobs"]]
            assert ids in (["a"], ["a", "b"])
        else:
            break
    else:
        pytest.fail("it never came to an end")
    assert calls >= 4
