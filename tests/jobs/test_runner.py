"""One job in a real child process: it ends as it should whatever the child does."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jobs_world import SETTINGS, WORKER
from processes import alive, stopped, wait_for

from cachetui.jobs.child import worker_command
from cachetui.jobs.model import JobState, Spec
from cachetui.jobs.runner import Settings, run

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


def test_a_job_tells_its_progress_and_its_result(start: Any) -> None:
    job = start(steps=1000, name="w\udcff\x1b[2J", log="hello", result={"name": "n\udcff", "n": [1, None]})
    ended = job.end()
    assert (ended.state, ended.result) == (JobState.DONE, {"name": "n\udcff", "n": [1, None]})
    last = job.told[-1]
    assert (last.phase, last.done, last.total, last.name) == ("copy", 1000, 1000, "w\udcff\x1b[2J")
    assert len(job.told) < 100  # throttled
    assert job.logged == ["hello"]


def test_a_worker_that_says_why_it_fails(start: Any) -> None:
    ended = start(fail=["the drive is full", "make room"]).end()
    assert (ended.state, ended.reason, ended.advice) == (JobState.FAILED, "the drive is full", "make room")
    ended = start(**{"raise": errno.ENOSPC}).end()
    assert ended.state is JobState.FAILED
    assert "No space left" in ended.reason and "/mnt/big/x" in ended.reason
    assert "make room" in ended.advice


def test_a_mistake_is_a_failure_with_its_name(start: Any) -> None:
    ended = start(result=5).end()  # dict(5)
    assert ended.state is JobState.FAILED
    assert ended.reason.startswith("TypeError")


def test_a_worker_that_ends_without_a_word(start: Any) -> None:
    ended = start(die=7).end()
    assert ended.state is JobState.FAILED
    assert "exit code 7" in ended.reason and "last words" in ended.reason


def test_a_killed_worker(start: Any, tmp_path: Path, pid_of: Callable[[], int]) -> None:
    job = start(resumable=True, pid_file=str(tmp_path / "pid"), until=str(tmp_path / "never"))
    os.kill(pid_of(), signal.SIGKILL)
    ended = job.end()
    assert ended.state is JobState.FAILED
    assert "SIGKILL" in ended.reason
    assert "goes on where it stopped" in ended.advice


def test_cancel_keeps_what_there_is(start: Any, tmp_path: Path, pid_of: Callable[[], int]) -> None:
    job = start(pid_file=str(tmp_path / "pid"), until=str(tmp_path / "never"))
    pid = pid_of()
    job.cancel.set()
    ended = job.end()
    assert (ended.state, ended.result) == (JobState.CANCELLED, {"so_far": True})
    assert not alive(pid)


def test_who_does_not_listen_is_killed(start: Any, tmp_path: Path, pid_of: Callable[[], int]) -> None:
    job = start({"grace": 0.3}, pid_file=str(tmp_path / "pid"), until=str(tmp_path / "never"), deaf=True)
    pid = pid_of()
    job.cancel.set()
    assert job.end().state is JobState.CANCELLED
    assert not alive(pid)


def test_an_impatient_interrupt_leaves_no_worker(tmp_path: Path, pid_of: Callable[[], int]) -> None:
    def impatient(_: object) -> None:
        raise KeyboardInterrupt

    request = {"pid_file": str(tmp_path / "pid"), "until": str(tmp_path / "never"), "deaf": True}
    with pytest.raises(KeyboardInterrupt):
        run(Spec("1", "test", "", request), impatient, threading.Event(), settings=replace(SETTINGS, grace=1000))
    assert not alive(pid_of())


@pytest.mark.parametrize(
    ("raw", "says"),
    [("garbage\n", "not a line of JSON"), ('{"v": 9, "type": "x"}\n', "version 9"), ("\xff\xfe\n", "not a line")],
)
def test_garbage_is_a_failure_in_words(start: Any, tmp_path: Path, raw: str, says: str) -> None:
    job = start(raw=raw, until=str(tmp_path / "never"), deaf=True)
    ended = job.end()
    assert ended.state is JobState.FAILED
    assert says in ended.reason


def test_unknown_messages_are_ignored(start: Any) -> None:
    raw = '{"v": 1, "type": "weather", "sun": true}\n{"v": 1, "type": "progress", "done": "x"}\n'
    assert start(raw=raw).end().state is JobState.DONE


def test_a_huge_line_is_a_failure(start: Any, tmp_path: Path) -> None:
    ended = start(huge_line=1 << 22, until=str(tmp_path / "never"), deaf=True).end()
    assert ended.state is JobState.FAILED
    assert "longer than" in ended.reason


def test_a_flood_on_stderr_neither_blocks_nor_fills_memory(start: Any) -> None:
    job = start(stderr=50_000, die=3)
    ended = job.end()
    assert "last words" in ended.reason
    assert len(ended.reason) < 10_000


def test_a_request_and_a_result_of_many_megabytes(start: Any) -> None:
    big = ["\udcff" * 1000] * 1000
    assert start(result={"big": big}).end().result == {"big": big}


@linux
def test_a_silent_worker_is_given_up(start: Any, tmp_path: Path, pid_of: Callable[[], int]) -> None:
    job = start({"silent": 2.5}, pid_file=str(tmp_path / "pid"), until=str(tmp_path / "never"), stuck=True)
    pid = pid_of()
    wait_for(lambda: job.run._started)
    os.kill(pid, signal.SIGSTOP)  # not by us: it just hangs
    ended = job.end()
    assert ended.state is JobState.FAILED
    assert "no sign of life" in ended.reason
    assert not alive(pid)


def test_work_that_stands_still_is_said_and_not_killed(start: Any, tmp_path: Path) -> None:
    """A copier stuck in the kernel: the process lives, its count does not grow."""
    go = tmp_path / "go"
    job = start({"silent": 30.0, "stalled": 0.5}, steps=3, until=str(go), stuck=True)
    wait_for(lambda: [p for p in job.told if p.stalled > 1])
    last = job.told[-1]
    assert (last.phase, last.done, last.rate) == ("copy", 3, 0.0)
    go.touch()
    assert job.end().state is JobState.DONE


@linux
def test_pause_and_go_on(start: Any, tmp_path: Path, pid_of: Callable[[], int]) -> None:
    go = tmp_path / "go"
    job = start({"silent": 0.6}, pid_file=str(tmp_path / "pid"), until=str(go))
    pid = pid_of()
    wait_for(lambda: job.told)
    job.run.pause()
    wait_for(lambda: stopped(pid))
    threading.Event().wait(1.5)  # longer than it may be silent: a pause is no silence
    assert job.thread.is_alive() and stopped(pid)
    job.run.resume()
    go.touch()
    assert job.end().state is JobState.DONE


@linux
def test_a_paused_job_can_be_cancelled(start: Any, tmp_path: Path, pid_of: Callable[[], int]) -> None:
    job = start(pid_file=str(tmp_path / "pid"), until=str(tmp_path / "never"))
    pid = pid_of()
    job.run.pause()
    wait_for(lambda: stopped(pid))
    job.cancel.set()
    assert job.end().state is JobState.CANCELLED
    assert not alive(pid)


@linux
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_parent(
    tmp_path: Path, pid_of: Callable[[], int], paused: bool, how: signal.Signals
) -> None:
    code = (
        "import pathlib, sys, threading, time\n"
        "from cachetui.jobs.model import Spec\nfrom cachetui.jobs.runner import Run, Settings\n"
        "request = {'pid_file': sys.argv[2], 'until': '/nowhere/never'}\n"
        "job = Run(Spec('1', 'test', '', request), lambda p: None, threading.Event(),"
        " settings=Settings(command=lambda kind: [sys.executable, sys.argv[1]]))\n"
        "threading.Thread(target=job.wait).start()\n"
        "while not job._started or not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)\n"
        "if sys.argv[3] == 'True': job.pause()\n"
        "print('ready', flush=True)\n"
        "time.sleep(1000)\n"
    )
    args = [sys.executable, "-c", code, WORKER, str(tmp_path / "pid"), str(paused)]
    parent = subprocess.Popen(args, stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
        pid = pid_of()
        if paused:
            wait_for(lambda: stopped(pid))
        assert alive(pid)
    finally:
        parent.send_signal(how)
        parent.communicate()
    wait_for(lambda: not alive(pid))


@linux
def test_the_worker_knows_no_secret(
    start: Any, tmp_path: Path, pid_of: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OLLAMA_API_KEY", "GITHUB_TOKEN"):
        monkeypatch.setenv(name, "hf_verysecret")
    monkeypatch.setenv("ALL_PROXY", "socks5://me:hf_verysecret@proxy")
    start(pid_file=str(tmp_path / "pid"), until=str(tmp_path / "never"))
    pid = pid_of()
    environ = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"HF_HUB_OFFLINE=1" in environ and b"HF_HOME=" in environ
    assert b"hf_verysecret" not in environ
    assert b"hf_verysecret" not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_worker_that_cannot_be_started() -> None:
    ended = run(Spec("1", "../evil", ""), lambda p: None, threading.Event())
    assert ended.state is JobState.FAILED and "no kind of job" in ended.reason
    missing = Settings(command=lambda kind: ["/nowhere/python"])
    assert "cannot be started" in run(Spec("1", "x", ""), lambda p: None, threading.Event(), settings=missing).reason
    assert worker_command("move-root")[-1] == "cachetui.workers.move_root"


def test_a_worker_is_no_user_interface() -> None:
    code = "import sys, pkgutil, cachetui.workers as w\n"
    code += "for m in pkgutil.iter_modules(w.__path__): __import__('cachetui.workers.' + m.name)\n"
    code += "import cachetui.jobs.queue\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"textual", "rich", "torch", "transformers"} & set(done.stdout.split())


def test_nothing_is_left_of_what_a_worker_started(start: Any, tmp_path: Path) -> None:
    """A grandchild that holds the streams open neither keeps the job waiting nor stays."""
    script = tmp_path / "worker.sh"
    script.write_text(f'sleep 1000 & echo $! > {tmp_path}/pid; exec "{sys.executable}" "{WORKER}"\n')
    job = start({"command": lambda kind: ["/bin/sh", str(script)], "grace": 0.5})
    assert job.end().state is JobState.DONE
    wait_for(lambda: not alive(int((tmp_path / "pid").read_text())))
