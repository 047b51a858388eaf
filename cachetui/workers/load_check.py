"""Does a model load? {"runnable": {...}} -> folder, class, seconds, memory; the process ends with it."""

from __future__ import annotations

import time

from cachetui.jobs.model import Json
from cachetui.jobs.worker import Channel, WorkCancelled, WorkFailed, main
from cachetui.runnable import MLX, TRANSFORMERS, Runnable


def work(request: Json, channel: Channel) -> Json:
    """Load it, and run one step of it where that can be done for any architecture."""
    from cachetui.engine.environment import prepare

    prepare(offline=True)
    from cachetui.engine.errors import Cancelled, EngineError

    runnable = Runnable.from_json(request["runnable"])

    def progress(phase: str, done: int, total: int, name: str) -> None:
        channel.progress(phase, done, total, name, "tensors" if phase == "load" else "steps")

    begun = time.perf_counter()
    try:
        if runnable.engine in (TRANSFORMERS, MLX):
            from cachetui.engine.checking import check

            return check(runnable.wanted, progress=progress, cancelled=channel.cancelled).to_json()
        from cachetui.workers.engines import engine_of

        told = engine_of(runnable).load(runnable, progress, channel.cancelled)
    except EngineError as e:
        raise WorkFailed(e.reason, e.advice, {"code": e.code}) from None
    except Cancelled:
        raise WorkCancelled from None
    loader = "Ollama's server" if runnable.url else "llama.cpp"
    return {**told, "loader": loader, "seconds": time.perf_counter() - begun, "memory": told["weights"]}


if __name__ == "__main__":
    main(work)
