"""Holds one model and answers questions about it until its parent is gone.

{"op": "load", "runnable": {...}}: first, once. {"op": "ask", "text", "images", "system", "max_new_tokens",
"temperature", "seed", "max_pixels", "resize", "state", "auto_state", "folders"}: events `token`, then the answer.
{"op": "save-state", "images", "system", "output", "max_pixels", "resize"}: what it became.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cachetui.jobs.model import Json
from cachetui.jobs.worker import Channel, WorkCancelled, WorkFailed, serve
from cachetui.runnable import Runnable

if TYPE_CHECKING:
    from cachetui.engine.images import Picture
    from cachetui.engine.prompting import Question
    from cachetui.workers.engines import Engine


class Desk:
    """The model of this process, and the requests about it."""

    def __init__(self) -> None:
        self._engine: Engine | None = None

    def answer(self, request: Json, channel: Channel) -> Json:
        """One request. Raises WorkFailed with {"code"}, WorkCancelled."""
        from cachetui.engine.environment import prepare

        prepare(offline=True)
        from cachetui.engine.errors import Cancelled, EngineError

        try:
            match request.get("op"):
                case "load":
                    return self._load(Runnable.from_json(request["runnable"]), channel)
                case "ask":
                    return self._ask(request, channel)
                case "save-state":
                    return self._save(request)
        except EngineError as e:
            raise WorkFailed(e.reason, e.advice, {"code": e.code}) from None
        except Cancelled:
            raise WorkCancelled from None
        raise WorkFailed(f"there is no request {request.get('op')!r}")

    def _load(self, runnable: Runnable, channel: Channel) -> Json:
        from cachetui.workers.engines import engine_of

        begun = time.perf_counter()
        engine = engine_of(runnable)

        def progress(phase: str, done: int, total: int, name: str) -> None:
            channel.progress(phase, done, total, name, "tensors")

        told = engine.load(runnable, progress, channel.cancelled)
        self._engine = engine
        return {"engine": runnable.engine, **told, "seconds": time.perf_counter() - begun, **_memory()}

    def _ask(self, request: Json, channel: Channel) -> Json:
        engine = self._must_be_loaded()
        question = _question(request)

        def on_token(text: str) -> None:
            channel.event("token", text=text)

        answer = engine.ask(question, on_token, channel.cancelled, str(request.get("state") or ""))
        result = {**answer.to_json(), **_memory()}
        if answer.finish == "cancelled":
            raise WorkCancelled(result)
        return result

    def _save(self, request: Json) -> Json:
        from cachetui.workers.engines import Transformers

        engine = self._must_be_loaded()
        if not isinstance(engine, Transformers):
            raise WorkFailed("only models that transformers runs have saved states")
        return engine.save_state(_pictures(request), str(request.get("system") or ""), str(request["output"]))

    def _must_be_loaded(self) -> Engine:
        if self._engine is None:
            raise WorkFailed("no model is loaded")
        return self._engine


def _memory() -> Json:
    from cachetui.engine.usage import gpu_bytes

    return {"gpu_memory": gpu_bytes()}


def _pictures(request: Json) -> list[Picture]:
    from cachetui.engine.images import open_picture

    size: Any = request.get("resize")
    return [
        open_picture(
            str(spec),
            max_pixels=int(request.get("max_pixels") or 0),
            resize=(int(size[0]), int(size[1])) if size else None,
            seed=int(request.get("seed") or 0),
        )
        for spec in request.get("images") or ()
    ]


def _question(request: Json) -> Question:
    from cachetui.engine.prompting import Question

    return Question(
        str(request.get("text") or ""),
        _pictures(request),
        str(request.get("system") or ""),
        int(request.get("max_new_tokens") or 128),
        float(request.get("temperature") or 0.0),
        int(request.get("seed") or 0),
    )


if __name__ == "__main__":
    serve(Desk().answer)
