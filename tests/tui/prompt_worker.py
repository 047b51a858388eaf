"""A worker that answers without a model, for the UI: what it does stands in the question. `python prompt_worker.py`.

`CACHETUI_TEST_GO`: a file that answers wait for where the question says `wait`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from cachetui.jobs.worker import Channel, WorkCancelled, WorkFailed, serve

_ANSWER = "A red boat lies on calm water.\n\nBehind it:\n1. a pier\n2. a low sun"
_WEIGHTS = 8


def work(request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """load, ask, save-state as workers/prompt.py has them; figures that never change."""
    match request["op"]:
        case "load":
            return _load(request["runnable"], channel)
        case "save-state":
            path = Path(request["output"]) / "boat.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 1000)
            return {"path": str(path), "bytes": 12_000_000, "tokens": 130}
    return _ask(request, channel)


def _load(runnable: dict[str, Any], channel: Channel) -> dict[str, Any]:
    if "phi-2" in runnable["wanted"]["name"]:
        raise WorkFailed("it needs 5.6 GB, and 2.1 GB are free", "load it with 4 bits, or free another model")
    for n in range(_WEIGHTS):
        channel.progress("load", n + 1, _WEIGHTS, "model.layers", "tensors")
    return {"device": "cpu", "dtype": "bfloat16", "quantization": "", "seconds": 3.2}


def _ask(request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    text = request["text"]
    if text.startswith("fail"):
        raise WorkFailed("out of memory: the picture became 16,384 tokens", "lower the picture: 500k pixels are enough")
    if text.startswith("die"):
        os._exit(9)
    answer = text.removeprefix("say ") if text.startswith("say ") else _ANSWER
    if path := os.environ.get("CACHETUI_TEST_SAYS"):
        answer = Path(path).read_text("utf-8", "surrogatepass")
    said = ""
    for n, word in enumerate(answer.split(" ")):
        piece = word if n == 0 else " " + word
        channel.event("token", text=piece)
        said += piece
        while "wait" in text and n == 3 and not Path(os.environ["CACHETUI_TEST_GO"]).exists():
            if channel.cancelled():
                raise WorkCancelled(_figures(said, request) | {"finish": "cancelled"})
            time.sleep(0.005)
    return _figures(said, request)


def _figures(said: str, request: dict[str, Any]) -> dict[str, Any]:
    used = bool(request["auto_state"]) and "again" in request["text"]
    return {
        "text": said, "tokens": len(said.split()), "prompt_tokens": 150, "first_token_seconds": 0.08 if used else 1.3,
        "seconds": 2.5, "tokens_per_second": 21.4, "finish": "stop", "state_used": used,
        "state_seconds": 0.002 if used else 0.0, "reason": "", "advice": "",
    }  # fmt: skip


if __name__ == "__main__":
    serve(work)
