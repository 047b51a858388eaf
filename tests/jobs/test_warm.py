"""Loaded models that wait: who shares one, when it is freed, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import alive, wait_for

from cachetui.jobs.child import Settings
from cachetui.jobs.model import Ended, JobState
from cachetui.jobs.warm import Pool, free_memory
from cachetui.runnable import TRANSFORMERS, Runnable
from cachetui.wanted import Wanted

WORKER = str(Path(__file__).with_name("session_worker.py"))
SETTINGS = Settings(command=lambda kind: [sys.executable, WORKER], grace=5.0)
PLENTY = 1 << 40


@pytest.fixture
def make_pool() -> Iterator[Callable[..., Pool]]:
    """make_pool(idle_seconds=..., free_memory=...): with the test worker; none is left running."""
    made: list[Pool] = []

    def do(**more: Any) -> Pool:
        made.append(Pool(**{"settings": SETTINGS, "idle_seconds": 0, "free_memory": lambda device: PLENTY, **more}))
        return made[-1]

    yield do
    for pool in made:
        pool.close()


def model(name: str, size: int = 0, **wanted: Any) -> Runnable:
    """One that needs `size` bytes."""
    return Runnable(f"hf:{name}", TRANSFORMERS, Wanted(f"/models/{name}", name, **wanted), sizes=(("as stored", size),))


def pid_of(ended: Ended) -> int:
    assert ended.state is JobState.DONE and ended.result is not None, ended
    return int(ended.result["pid"])


def test_the_second_question_is_answered_by_the_same_process(make_pool: Any) -> None:
    pool = make_pool()
    first = pool.ask(model("a"), {})
    second = pool.ask(model("a"), {})
    assert pid_of(first) == pid_of(second)
    assert (first.result["loaded_now"], second.result["loaded_now"]) == (True, False)
    assert (first.result["asked"], second.result["asked"]) == (2, 3)
    others = {pid_of(pool.ask(m, {})) for m in (model("b"), model("a", bits=4), model("a", device="cpu"))}
    assert len(others | {pid_of(first)}) == 4
    warm = pool.sessions()
    assert [(w.name, w.device, w.quantization, w.busy, w.loaded) for w in warm] == [
        ("a", "auto", "", False, True),
        ("b", "auto", "", False, True),
        ("a", "auto", "nf4", False, True),
        ("a", "cpu", "", False, True),
    ]
    assert all(w.memory > 1_000_000 and w.pid for w in warm)


def test_freed_on_demand_and_loaded_anew(make_pool: Any, tmp_path: Path) -> None:
    pool = make_pool()
    pid = pid_of(pool.ask(model("a"), {}))
    assert pool.free(model("a").key)
    assert not alive(pid) and pool.sessions() == ()
    assert not pool.free(model("a").key)
    again = pool.ask(model("a"), {})
    assert again.result["loaded_now"] and pid_of(again) != pid


def test_freeing_one_that_answers_ends_the_answer(make_pool: Any, tmp_path: Path) -> None:
    pool = make_pool()
    found: list[Ended] = []
    request = {"until": str(tmp_path / "never"), "deaf": True}
    thread = threading.Thread(target=lambda: found.append(pool.ask(model("a"), request)))
    thread.start()
    wait_for(lambda: [w for w in pool.sessions() if w.loaded and w.busy])
    assert pool.free(model("a").key)
    thread.join(60)
    assert (found[0].state, found[0].reason) == (JobState.CANCELLED, "the model was freed")


def test_what_nobody_asks_is_freed(make_pool: Any, tmp_path: Path) -> None:
    pool, go = make_pool(idle_seconds=0.3), tmp_path / "go"
    first = pid_of(pool.ask(model("a"), {}))
    wait_for(lambda: not alive(first))
    assert pool.sessions() == ()
    thread = threading.Thread(target=lambda: pool.ask(model("a"), {"until": str(go)}))
    thread.start()
    pid = wait_for(lambda: [w.pid for w in pool.sessions() if w.loaded])[0]
    other = pid_of(pool.ask(model("b"), {}))
    wait_for(lambda: not alive(other))  # b is long due, and so would a be: but it answers
    assert alive(pid)
    go.touch()
    thread.join(60)
    wait_for(lambda: not alive(pid))


def test_room_is_made_by_the_longest_unused(make_pool: Any) -> None:
    pids: dict[str, int] = {}

    def free(device: str) -> int:
        assert device == "cpu"
        return 100 - 40 * sum(alive(pid) for pid in pids.values())

    pool = make_pool(free_memory=free)
    for name in ("a", "b"):
        pids[name] = pid_of(pool.ask(model(name, 40, device="cpu"), {}))
    pool.ask(model("a", 40, device="cpu"), {})
    pids["c"] = pid_of(pool.ask(model("c", 40, device="cpu"), {}))
    assert {name for name, pid in pids.items() if alive(pid)} == {"a", "c"}
    pids["d"] = pid_of(pool.ask(model("d", 1000, device="cpu"), {}))  # it is tried all the same: estimates may be wrong
    assert {name for name, pid in pids.items() if alive(pid)} == {"d"}


def test_a_model_whose_worker_was_killed_is_loaded_anew(make_pool: Any, tmp_path: Path) -> None:
    pool = make_pool()
    pid = pid_of(pool.ask(model("a"), {}))
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pool.sessions() == ())
    assert pid_of(pool.ask(model("a"), {})) != pid
    dead = pool.ask(model("a"), {"die": 9})
    assert dead.state is JobState.FAILED and "last words" in dead.reason
    assert pool.sessions() == ()


def test_closing_ends_all_of_them(make_pool: Any, tmp_path: Path) -> None:
    pool = make_pool()
    idle = pid_of(pool.ask(model("a"), {}))
    thread = threading.Thread(target=lambda: pool.ask(model("b"), {"until": str(tmp_path / "never"), "deaf": True}))
    thread.start()
    busy = wait_for(lambda: [w.pid for w in pool.sessions() if w.name == "b" and w.loaded])[0]
    pool.close()
    thread.join(60)
    assert not alive(idle) and not alive(busy)
    assert pool.ask(model("a"), {}).state is JobState.CANCELLED


def test_free_memory_is_told() -> None:
    assert free_memory("cpu") > 1 << 20
