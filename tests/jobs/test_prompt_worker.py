"""The worker of prompts with a real model in it: it answers, keeps states, and killed leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from needs import needs
from processes import alive, wait_for

from cachetui.jobs.model import Ended, JobState, Progress
from cachetui.jobs.session import Session
from cachetui.runnable import TRANSFORMERS, Runnable
from cachetui.wanted import Wanted

torch = needs("torch")
pytestmark = pytest.mark.models

COLOUR_VLM = Path(__file__).parents[1] / "data" / "colour_vlm"
COLOURS = {"red": (214, 40, 35), "blue": (40, 70, 210)}
QUESTION = "what colour is this picture ?"


class Colours:
    """A session with the model that names colours."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.temporary = base / "tmp"
        self.temporary.mkdir()
        self.folder = base / "colour"
        shutil.copytree(COLOUR_VLM, self.folder)
        from PIL import Image

        for name, colour in COLOURS.items():
            Image.new("RGB", (60, 44), colour).save(base / f"{name}.png")
        self.runnable = Runnable("dir:colour", TRANSFORMERS, Wanted(str(self.folder), "colour", device="cpu"))
        self.session = self.opened()
        self.events: list[Any] = []

    def opened(self) -> Session:
        """A session of its own."""
        return Session({"op": "load", "runnable": self.runnable.to_json()})

    def ask(self, *images: str, **more: Any) -> Ended:
        """What colour is it?"""
        paths = [str(self.base / i) for i in images]
        request = {"op": "ask", "text": QUESTION, "images": paths, "max_new_tokens": 8, **more}
        return self.session.ask(request, self.events.append)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Colours]:
    """Loaded once, in an environment with secrets and a temporary folder of its own."""
    base = tmp_path_factory.mktemp("colours")
    with pytest.MonkeyPatch.context() as patch:
        made = Colours(base)
        patch.setenv("HOME", str(base))
        patch.setenv("XDG_DATA_HOME", str(base / "data"))
        patch.setenv("XDG_STATE_HOME", str(base / "state"))
        patch.setenv("XDG_CACHE_HOME", str(base / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(base / "config"))
        patch.setenv("CACHETUI_STATES", str(base / "states"))
        patch.setenv("TMPDIR", str(made.temporary))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("HF_TOKEN", "hf_secret")
        patch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_secret")
        told: list[Progress] = []
        assert made.session.load(told.append).state is JobState.DONE
        assert {p.phase for p in told} >= {"load"}
        yield made
        made.session.close()


def test_it_says_what_colour_a_picture_has(colours: Colours) -> None:
    for name in COLOURS:
        colours.events.clear()
        answer = colours.ask(f"{name}.png")
        assert answer.state is JobState.DONE and answer.result is not None
        assert answer.result["text"].strip() == f"the picture is {name} ."
        assert "".join(e["text"] for e in colours.events) == answer.result["text"]
        assert (answer.result["finish"], answer.result["state_used"], answer.result["state"]) == ("stop", False, "")
        assert answer.result["first_token_seconds"] > 0
    assert colours.session.loaded is not None and colours.session.loaded["model_class"].startswith("Llava")
    assert colours.session.loaded["folder"] == str(colours.folder)
    assert colours.session.memory() > 100_000_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_no_token_is_in_its_environment(colours: Colours) -> None:
    env = Path(f"/proc/{colours.session.pid}/environ").read_bytes()
    assert b"hf_secret" not in env and b"HF_HUB_OFFLINE=1" in env


def test_a_state_is_saved_found_and_refused(colours: Colours) -> None:
    save = {"op": "save-state", "images": [str(colours.base / "red.png")], "system": "", "output": ""}
    saved = colours.session.ask(save)
    assert saved.state is JobState.DONE and saved.result is not None, saved
    path = saved.result["path"]
    assert os.path.dirname(path) == str(colours.base / "states") and os.path.basename(path).startswith("red-colour-")
    found = colours.ask("red.png", auto_state=True)
    for answer in (colours.ask(state=path), colours.ask("red.png", state=path), found):
        assert answer.result is not None
        assert "red" in answer.result["text"]
        assert (answer.result["state_used"], answer.result["state"]) == (True, path)
    other = colours.ask("blue.png", auto_state=True)
    assert other.result is not None and "blue" in other.result["text"] and not other.result["state_used"]
    for wrong, field in (
        (colours.ask("blue.png", state=path), "images"),
        (colours.ask("red.png", state=path, resize=[30, 22]), "resize"),
        (colours.ask(state=path, max_pixels=100), "max-pixels"),
        (colours.ask(state=path, system="Be brief."), "system"),
    ):
        assert wrong.state is JobState.FAILED and f"{field}: the state has" in wrong.reason, wrong
        assert wrong.result == {"code": "state-mismatch"}
    exact = colours.session.ask({**save, "output": str(colours.base / "red_cache.pt")})
    assert exact.result is not None and exact.result["path"] == str(colours.base / "red_cache.pt")


def test_what_goes_wrong_is_said_and_the_model_stays(colours: Colours) -> None:
    pid = colours.session.pid
    (colours.base / "text.png").write_text("no picture")
    for images in (["gone.png"], ["text.png"]):
        ended = colours.ask(*images)
        assert ended.state is JobState.FAILED and images[0] in ended.reason, ended
    pickle = colours.base / "old.pt"
    pickle.write_bytes(b"PK\x03\x04" + bytes(64))
    assert "never unpickled" in colours.ask(state=str(pickle)).reason
    assert "no request" in colours.session.ask({"op": "dance"}).reason
    assert colours.ask("red.png").state is JobState.DONE and colours.session.pid == pid


def test_killed_while_it_loads(colours: Colours) -> None:
    session = colours.opened()
    pids: list[int] = []

    def kill(progress: Progress) -> None:
        if progress.phase in ("prepare", "load") and not pids:  # before that a tiny model is loaded
            pids.append(session.pid)
            os.kill(session.pid, signal.SIGKILL)

    ended = session.load(kill)
    assert ended.state is JobState.FAILED and "SIGKILL" in ended.reason
    assert pids and not alive(pids[0]) and session.pid == 0
    assert list(colours.temporary.iterdir()) == []


def test_the_program_is_killed_while_it_answers(colours: Colours, tmp_path: Path) -> None:
    """Nothing of the worker is left: no process, no temporary file."""
    program = tmp_path / "program.py"
    program.write_text(
        "import json, sys\nfrom cachetui.jobs.session import Session\n"
        f"s = Session({{'op': 'load', 'runnable': json.loads({colours_json(colours)!r})}})\n"
        "s.load()\n"
        "tell = lambda event: print(s.pid, flush=True)\n"
        f"ask = {{'op': 'ask', 'text': {QUESTION!r}, 'images': [{str(colours.base / 'red.png')!r}]}}\n"
        "while True: s.ask(ask, tell)\n"
    )
    env = {**os.environ, "TMPDIR": str(colours.temporary), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, env=env) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait(60)
    wait_for(lambda: not alive(pid))
    assert list(colours.temporary.iterdir()) == []


@pytest.mark.sweep
@pytest.mark.parametrize("moment", range(12))
def test_killed_at_any_moment(colours: Colours, moment: int) -> None:
    """While it starts, loads, answers or saves: no process and no temporary file stays, and a state is whole or not."""
    from cachetui import states

    output = colours.base / "swept.safetensors"
    session = colours.opened()
    timer = threading.Timer(0.2 + moment * 0.7, session.kill)
    timer.start()
    save = {"op": "save-state", "images": [str(colours.base / "red.png")], "system": "", "output": str(output)}
    ended = session.ask(save)
    while ended.state is JobState.DONE:
        ended = session.ask(save)
    session.close()
    assert session.pid == 0 and list(colours.temporary.iterdir()) == []
    assert not output.exists() or states.check(str(output)) is None
    if output.exists():
        states.write(states.read(str(output)), [])  # the next one to save there takes away what was begun
    assert [p.name for p in colours.base.iterdir() if p.name.endswith(".new")] == []


def colours_json(colours: Colours) -> str:
    import json

    return json.dumps(colours.runnable.to_json())
