"""Programs that make a model: their reasons, stopped, and ended with the worker that started them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cachetui.engine.errors import NOT_INSTALLED, Cancelled, EngineError
from cachetui.engine.programs import run


def alive(pid: int) -> bool:
    """Whether it still runs; one that nobody waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_it_runs_and_its_last_words_are_heard() -> None:
    heard: list[bytes] = []
    run([sys.executable, "-c", "import time; print('half', flush=True); time.sleep(0.5)"], "failed", heard.append)
    assert heard[0] == b"" and b"half\n" in heard


def test_why_it_failed_is_said() -> None:
    with pytest.raises(EngineError, match=r"^it failed: ValueError: no such model$"):
        run([sys.executable, "-c", "raise ValueError('no such   model')"], "it failed", lambda _: None)
    with pytest.raises(EngineError, match="it was ended by SIGKILL"):
        run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], "it failed", lambda _: None)
    with pytest.raises(EngineError, match="exit code 3"):
        run([sys.executable, "-c", "raise SystemExit(3)"], "it failed", lambda _: None)
    with pytest.raises(EngineError) as found:
        run(["/nowhere/program"], "it failed", lambda _: None)
    assert found.value.code == NOT_INSTALLED


def test_it_is_ended_when_it_is_to_stop(tmp_path: Path) -> None:
    note = tmp_path / "pid"

    def look(_: bytes) -> None:
        if note.exists() and note.read_text():
            raise Cancelled

    with pytest.raises(Cancelled):
        run(["sh", "-c", f"echo $$ > {note}; exec sleep 600"], "failed", look)
    assert not alive(int(note.read_text()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel of Linux does this")
def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = (
        "from cachetui.engine.programs import run\n"
        f"run(['sh', '-c', 'echo $$ > {note}; exec sleep 600'], 'failed', lambda _: None)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", script])
    while not (note.exists() and note.read_text()):
        time.sleep(0.01)
    pid = int(note.read_text())
    assert alive(pid)
    starter.kill()
    starter.wait()
    while alive(pid):
        time.sleep(0.01)
