"""Stands in for the worker of prompts where there is no torch: answers with what it was asked, in the same protocol."""

from __future__ import annotations

import json
import os
from typing import Any

from cachetui.jobs.worker import Channel, WorkCancelled, WorkFailed, serve

_LOADED: dict[str, Any] = {}


def work(request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """`load` and `ask`; what the model is called decides what goes wrong."""
    if request["op"] == "load":
        runnable = request["runnable"]
        name = runnable["wanted"]["name"]
        if "heavy" in name:
            raise WorkFailed(f"{name} does not fit\x1b[2J", "take --bits 4", {"code": "no-memory"})
        if "dies" in name:
            os._exit(5)
        _LOADED.update(runnable)
        channel.progress("load", 1, 2, "w", "tensors")
        return {"device": "cpu", "dtype": "bfloat16", "quantization": "", "folder": runnable["wanted"]["folder"]}
    said = json.dumps({key: value for key, value in request.items() if key != "op"}, sort_keys=True)
    channel.event("token", text="Red.\n")
    if "stop" in request["text"]:
        while not channel.cancelled():
            channel.heartbeat()
        raise WorkCancelled({"text": "Red.", "tokens": 1, "finish": "cancelled"})
    channel.event("token", text="\x1b]0;owned\x07 ")
    channel.event("token", text=said)
    return {
        "text": f"Red.\n\x1b]0;owned\x07 {said}", "tokens": 12, "prompt_tokens": 30, "first_token_seconds": 0.25,
        "seconds": 1.0, "tokens_per_second": 16.0, "finish": "stop", "state_used": bool(request["state"]),
        "state": request["state"], "state_seconds": 0.004, "reason": "no saved state was given", "advice": "be brief",
        "held": 0,
    }  # fmt: skip


if __name__ == "__main__":
    serve(work)
