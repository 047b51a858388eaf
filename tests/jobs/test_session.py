"""A worker that stays, in a real child process: it answers, is cancelled, ends, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from processes import alive, stopped, wait_for

from cachetui.jobs.child import Settings
from cachetui.jobs.model import Ended, JobState
from cachetui.jobs.session import Session

WORKER = str(Path(__file__).with_name("session_worker.py"))
SETTINGS = Settings(command=lambda kind: [sys.executable, WORKER], grace=5.0)
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture
def open_session() -> Iterator[Callable[..., Session]]:
    """open_session(load keys..., settings={...}): a session with the test worker; none is left running."""
    begun: list[Session] = []

    def do(settings: dict[str, Any] | None = None, **load: Any) -> Session:
        begun.append(Session({"op": "load", **load}, settings=replace(SETTINGS, **(settings or {}))))
        return begun[-1]

    yield do
    for session in begun:
        session.close()


def in_thread(work: Callable[[], Ended]) -> Callable[[], Ended]:
    """Start it; the answer waits for it."""
    found: list[Ended] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()

    def end() -> Ended:
        thread.join(60)
        return found[0]

    return end


def test_one_process_answers_again_and_again(open_session: Any) -> None:
    session = open_session(steps=3, held=1000)
    told: list[Any] = []
    events: list[Any] = []
    assert (session.pid, session.memory(), session.loaded) == (0, 0, None)
    first = session.ask({"tokens": 3}, events.append, on_progress=told.append)
    assert first.state is JobState.DONE and first.result is not None
    assert [(e["name"], e["text"]) for e in events] == [("token", f"{n}\udcff ") for n in range(3)]
    assert [(p.phase, p.done, p.total) for p in told][-1] == ("load", 3, 3)
    assert session.loaded["asked"] == 1 and first.result["asked"] == 2
    for n in range(30):  # as fast as it goes: an answer may not be taken for the next one's
        answer = session.ask({"tokens": n})
        assert answer.result == {"pid": session.pid, "asked": n + 3, "held": 0}
    assert not session.busy and not session.over
    assert session.memory() > 1_000_000
    session.ask({"held": 1 << 40})
    assert session.memory() > 1 << 40


def test_a_failure_leaves_it_ready(open_session: Any) -> None:
    session = open_session()
    ended = session.ask({"fail": ["too long", "write less"]})
    assert (ended.state, ended.reason, ended.advice) == (JobState.FAILED, "too long", "write less")
    assert session.ask({"tokens": 1}).state is JobState.DONE


def test_cancel_keeps_the_worker_and_what_there_is(open_session: Any, tmp_path: Path) -> None:
    session, cancel = open_session(), threading.Event()
    session.load()
    ended = in_thread(lambda: session.ask({"until": str(tmp_path / "no"), "tokens": 1}, lambda e: cancel.set(), cancel))
    assert (ended().state, ended().result) == (JobState.CANCELLED, {"so_far": 2})
    after = session.ask({})
    assert after.state is JobState.DONE and after.result["asked"] == 3


def test_who_waits_for_its_turn_can_give_up(open_session: Any, tmp_path: Path) -> None:
    session, go, cancel = open_session(), tmp_path / "go", threading.Event()
    first = in_thread(lambda: session.ask({"until": str(go)}))
    wait_for(lambda: session.busy)
    second = in_thread(lambda: session.ask({}, None, cancel))
    cancel.set()
    assert second().state is JobState.CANCELLED
    go.touch()
    assert first().state is JobState.DONE


def test_who_does_not_listen_is_killed(open_session: Any, tmp_path: Path) -> None:
    session, cancel = open_session({"grace": 0.3}), threading.Event()
    session.load()
    pid = session.pid
    request = {"until": str(tmp_path / "never"), "deaf": True, "tokens": 1}
    assert session.ask(request, lambda e: cancel.set(), cancel).state is JobState.CANCELLED
    assert not alive(pid)
    assert session.over
    assert session.ask({}).state is JobState.FAILED


@pytest.mark.parametrize("when", ["load", "ask"])
def test_a_worker_that_dies_says_its_last_words(open_session: Any, when: str) -> None:
    session = open_session(**({"die": 7} if when == "load" else {}))
    ended = session.ask({"die": 7})
    assert ended.state is JobState.FAILED
    assert "exit code 7" in ended.reason and "last words" in ended.reason
    assert session.over and session.pid == 0 and session.memory() == 0


def test_a_killed_worker_names_memory(open_session: Any, tmp_path: Path) -> None:
    session = open_session()
    session.load()
    ended = session.ask({"until": str(tmp_path / "never"), "tokens": 1}, lambda e: os.kill(session.pid, signal.SIGKILL))
    assert ended.state is JobState.FAILED
    assert "SIGKILL" in ended.reason and "memory" in ended.advice


def test_a_worker_killed_while_idle_is_over(open_session: Any) -> None:
    session = open_session()
    session.load()
    os.kill(session.pid, signal.SIGKILL)
    wait_for(lambda: session.over)
    assert session.memory() == 0


def test_freeing_it_ends_what_it_does(open_session: Any, tmp_path: Path) -> None:
    session = open_session()
    answer = in_thread(lambda: session.ask({"until": str(tmp_path / "never"), "deaf": True, "tokens": 1}))
    wait_for(lambda: session.loaded)
    pid = session.pid
    session.close()
    assert not alive(pid)
    assert (answer().state, answer().reason) == (JobState.CANCELLED, "the model was freed")


def test_freeing_it_lets_it_stop_by_itself_first(open_session: Any, tmp_path: Path) -> None:
    session = open_session()
    answer = in_thread(lambda: session.ask({"until": str(tmp_path / "never"), "tokens": 1}))
    wait_for(lambda: session.loaded)
    pid = session.pid
    session.close(patience=20)
    assert not alive(pid)
    assert (answer().state, answer().result) == (JobState.CANCELLED, {"so_far": 2})
    assert session.ask({}).state is JobState.FAILED


def test_a_load_that_fails_or_is_cancelled_leaves_no_process(open_session: Any, tmp_path: Path) -> None:
    refused = open_session(fail=["no safetensors", "pull it"])
    ended = refused.load()
    assert (ended.state, ended.reason) == (JobState.FAILED, "no safetensors")
    assert refused.over and refused.pid == 0
    pid_file, cancel = tmp_path / "pid", threading.Event()
    slow = open_session({"grace": 1000}, until=str(tmp_path / "never"), pid_file=str(pid_file), deaf=True)
    answer = in_thread(lambda: slow.load(None, cancel))
    pid = int(wait_for(lambda: pid_file.exists() and pid_file.read_text()))
    cancel.set()
    assert answer().state is JobState.CANCELLED
    assert not alive(pid) and slow.over


@pytest.mark.parametrize(
    ("raw", "says"), [("garbage\n", "not a line of JSON"), ('{"v": 1, "type": "result"}\n', "a result without content")]
)
def test_garbage_is_a_failure_in_words(open_session: Any, tmp_path: Path, raw: str, says: str) -> None:
    session = open_session()
    ended = session.ask({"raw": raw, "until": str(tmp_path / "never"), "deaf": True})
    assert ended.state is JobState.FAILED and says in ended.reason
    assert session.over


def test_what_a_listener_raises_is_raised_and_ends_the_worker(open_session: Any, tmp_path: Path) -> None:
    def impatient(_: object) -> None:
        raise KeyboardInterrupt

    session = open_session()
    session.load()
    pid = session.pid
    with pytest.raises(KeyboardInterrupt):
        session.ask({"tokens": 1, "until": str(tmp_path / "never"), "deaf": True}, impatient)
    assert not alive(pid)


@linux
def test_a_silent_worker_is_given_up(open_session: Any, tmp_path: Path) -> None:
    session = open_session({"silent": 2.5})
    session.load()
    pid = session.pid
    ended = session.ask({"until": str(tmp_path / "never"), "tokens": 1}, lambda e: os.kill(pid, signal.SIGSTOP))
    assert ended.state is JobState.FAILED and "no sign of life" in ended.reason
    assert not alive(pid)


def test_native_code_that_lets_nothing_be_said_is_no_silence(open_session: Any) -> None:
    session = open_session({"silent": 0.3})
    assert session.ask({"compute": 50_000_000}).state is JobState.DONE


def test_an_idle_worker_is_left_in_peace(open_session: Any) -> None:
    session = open_session({"silent": 0.2, "stalled": 0.1})
    session.load()
    threading.Event().wait(1.5)
    assert session.ask({}).state is JobState.DONE


def test_a_worker_that_cannot_start_says_why() -> None:
    session = Session({}, settings=Settings(command=lambda kind: ["/nothing/here"]))
    ended = session.ask({})
    assert ended.state is JobState.FAILED and "/nothing/here" in ended.reason
    assert session.over


def test_it_knows_no_token(open_session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "hf_secret")
    env = open_session().ask({"env": True}).result["env"]
    assert "hf_secret" not in env.values()
    assert env["HF_HUB_OFFLINE"] == "1"


@linux
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_the_program(tmp_path: Path, how: signal.Signals) -> None:
    """Also while it is busy and does not listen, and while it is stopped."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom cachetui.jobs.child import Settings\nfrom cachetui.jobs.session import Session\n"
        f"s = Session({{}}, settings=Settings(command=lambda k: [sys.executable, {WORKER!r}]))\n"
        "s.load()\nprint(s.pid, flush=True)\n"
        f"s.ask({{'until': {str(tmp_path / 'never')!r}, 'deaf': True}})\n"
    )
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: stopped(pid))
        parent.send_signal(how)
        parent.wait(30)
    wait_for(lambda: not alive(pid))
