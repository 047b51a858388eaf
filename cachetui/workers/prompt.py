"""Holds one model and answers questions about it until its parent is gone.

{"op": "load", "runnable": {...}}: first, once. {"op": "ask", "text", "images", "system", "max_new_tokens",
"temperature", "seed", "max_pixels", "resize", "state", "auto_state"}: events `token`, then the answer; with
`auto_state` a saved state that fits is used. {"op": "save-state", "images", "system", "output", "max_pixels",
"resize", "seed"}: what it became; `output` is a file, a folder, or empty for the default folder. {"op": "free"}: let
go of what would stay when this process ends. Results have `held`: bytes outside of this process.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cachetui.jobs.model import Json
from cachetui.jobs.worker import Channel, WorkCancelled, WorkFailed, serve
from cachetui.runnable import Runnable

if TYPE_CHECKING:
    from cachetui.engine.prompting import Question
    from cachetui.states import Identity
    from cachetui.workers.engines import Engine, Seen


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
                    return self._save(request, channel)
                case "free":
                    self._must_be_loaded().free()
                    return {}
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
            channel.progress(phase, done, total, name, "tensors" if phase == "load" else "steps")

        told = engine.load(runnable, progress, channel.cancelled)
        self._engine = engine
        return {"engine": runnable.engine, **told, "seconds": time.perf_counter() - begun, "held": engine.held()}

    def _ask(self, request: Json, channel: Channel) -> Json:
        engine = self._must_be_loaded()
        seen = _seen(request)
        system = str(request.get("system") or "")
        state = self._state(engine, request, seen, system)
        question = _question(request, seen, system)

        def on_token(text: str) -> None:
            channel.event("token", text=text)

        answer = engine.ask(question, on_token, channel.cancelled, state)
        result = {**answer.to_json(), "state": state, "held": engine.held()}
        if answer.finish == "cancelled":
            raise WorkCancelled(result)
        return result

    def _state(self, engine: Engine, request: Json, seen: Seen, system: str) -> str:
        """The saved state to go on from: the one that is named, else one that fits. Raises EngineError."""
        from cachetui.workers.engines import Transformers

        named = str(request.get("state") or "")
        if not isinstance(engine, Transformers) or not (named or request.get("auto_state")):
            return named
        if named:
            told = (("images", "max_pixels", "resize") if seen.pictures else ()) + (("system",) if system else ())
            who = engine.identity(seen, system)
            if not seen.pictures and (seen.max_pixels or seen.resize):
                told += ("max_pixels", "resize")
                who = replace(who, max_pixels=seen.max_pixels, resize=seen.resize)
            if told:
                _must_fit(named, who, told)
            return named
        if not (seen.pictures or system):
            return ""
        from cachetui.workers.states import fitting

        return fitting(engine.identity(seen, system))

    def _save(self, request: Json, channel: Channel) -> Json:
        from cachetui.workers.engines import Transformers

        engine = self._must_be_loaded()
        if not isinstance(engine, Transformers):
            raise WorkFailed("only models that transformers runs have saved states")
        channel.progress("read pictures", 0, 0)
        system, output = str(request.get("system") or ""), str(request.get("output") or "")
        return engine.save_state(_seen(request), system, output, channel.cancelled)

    def _must_be_loaded(self) -> Engine:
        if self._engine is None:
            raise WorkFailed("no model is loaded")
        return self._engine


def _must_fit(path: str, who: Identity, fields: tuple[str, ...]) -> None:
    """What was asked besides the state must be what the state is of. Raises EngineError."""
    from cachetui import states
    from cachetui.engine.errors import UNSUPPORTED, EngineError
    from cachetui.engine.state import must_match

    try:
        must_match(states.read(path), who, fields)
    except states.StateError as e:
        raise EngineError(f"{path}: {e.reason}", e.advice, UNSUPPORTED) from None


def _seen(request: Json) -> Seen:
    from cachetui.engine.images import open_picture
    from cachetui.workers.engines import Seen

    sides: Any = request.get("resize")
    resize = (int(sides[0]), int(sides[1])) if sides else None
    most, seed = int(request.get("max_pixels") or 0), int(request.get("seed") or 0)
    specs = request.get("images") or ()
    return Seen([open_picture(str(s), max_pixels=most, resize=resize, seed=seed) for s in specs], most, resize)


def _question(request: Json, seen: Seen, system: str) -> Question:
    from cachetui.engine.prompting import Question

    return Question(
        str(request.get("text") or ""),
        seen.pictures,
        system,
        int(request.get("max_new_tokens") or 128),
        float(request.get("temperature") or 0.0),
        int(request.get("seed") or 0),
    )


if __name__ == "__main__":
    serve(Desk().answer)
