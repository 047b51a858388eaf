"""The worker of prompts on engines other than transformers: a GGUF file, an Ollama server."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asking import COLOUR_VLM, COLOURS, QUESTION
from test_ollama_engine import Replay

from cachetui.jobs.worker import Channel, WorkFailed
from cachetui.runnable import GGUF, OLLAMA, Runnable
from cachetui.wanted import Wanted
from cachetui.workers.prompt import Desk


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker sets for itself is not this process's."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.fixture
def channel() -> Iterator[Channel]:
    """One that nobody listens to."""
    fd = os.open(os.devnull, os.O_WRONLY)
    yield Channel(fd)
    os.close(fd)


def ask(desk: Desk, channel: Channel, **more: Any) -> dict[str, Any]:
    return desk.answer({"op": "ask", "text": QUESTION, "max_new_tokens": 12, **more}, channel)


def test_a_server_is_asked_and_told_to_let_go(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    with Replay() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        desk = Desk()
        runnable = Runnable("ollama:tiny", OLLAMA, Wanted("/models", "tiny"), url=server.url)
        loaded = desk.answer({"op": "load", "runnable": runnable.to_json()}, channel)
        assert (loaded["engine"], loaded["folder"]) == ("ollama", server.url)
        answer = ask(desk, channel)
        assert answer["text"] and not answer["state_used"] and answer["state"] == ""
        with pytest.raises(WorkFailed, match="only models that transformers runs"):
            ask(desk, channel, state="/a/state")
        with pytest.raises(WorkFailed, match="only models that transformers runs"):
            desk.answer({"op": "save-state", "images": [], "system": "x", "output": ""}, channel)
        desk.answer({"op": "free"}, channel)
        name, body = server.asked[-1]
        assert (name, body["keep_alive"]) == ("generate", 0)
        server.shutdown()


@pytest.mark.models
def test_a_gguf_file_with_its_projector(channel: Channel, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="needs xllamacpp (extra gguf)")
    pytest.importorskip("gguf", reason="needs gguf, which writes the small model's files")
    import colour_gguf

    image = pytest.importorskip("PIL.Image")
    file, projector = colour_gguf.build(COLOUR_VLM, tmp_path)
    image.new("RGB", (60, 44), COLOURS["red"]).save(tmp_path / "red.png")
    desk = Desk()
    wanted = Wanted(str(tmp_path), "colour", device="cpu")
    runnable = Runnable("dir:x", GGUF, wanted, str(file), str(projector), images=True)
    loaded = desk.answer({"op": "load", "runnable": runnable.to_json()}, channel)
    assert (loaded["folder"], loaded["images"], loaded["held"]) == (str(file), True, 0)
    assert "red" in ask(desk, channel, images=[str(tmp_path / "red.png")])["text"]


def test_nothing_is_asked_before_a_model_is_loaded(channel: Channel) -> None:
    with pytest.raises(WorkFailed, match="no model is loaded"):
        ask(Desk(), channel)
