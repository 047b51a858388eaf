"""Measure pictures, away from the program: a picture is a stranger's file, so memory and time are limited."""

from __future__ import annotations

import os

from cachetui.jobs.model import Json
from cachetui.jobs.worker import Channel, WorkCancelled, WorkFailed, main
from cachetui.workers.limits import limit

_MEMORY = 3 << 30
_SECONDS = 20
"""Of processor time for each picture."""


def work(request: Json, channel: Channel) -> Json:
    """`pictures` (paths or `noise`), `max_pixels`, `resize`, `seed` as a prompt has them.

    {"pictures": [{"size": [width, height] as the model gets it, "original": ..., "reason", "advice": why not}]}.
    """
    limit(_MEMORY, _SECONDS * (len(request["pictures"]) + 1))
    try:
        from cachetui.engine.errors import EngineError
        from cachetui.engine.images import open_picture
    except ImportError as e:
        raise WorkFailed(f"{e.name} is not installed", "pip install 'cachetui[models]'") from None
    resize = request.get("resize")
    found: list[Json] = []
    for n, spec in enumerate(request["pictures"]):
        if channel.cancelled():
            raise WorkCancelled
        channel.progress("measure", n, len(request["pictures"]), os.path.basename(spec), "items")
        try:
            picture = open_picture(
                spec,
                max_pixels=int(request.get("max_pixels") or 0),
                resize=(int(resize[0]), int(resize[1])) if resize else None,
                seed=int(request.get("seed") or 0),
            )
            found.append({"size": list(picture.size), "original": list(picture.original)})
        except EngineError as e:
            found.append({"reason": e.reason, "advice": e.advice})
        except MemoryError:
            found.append({"reason": "it needs too much memory", "advice": "lower its resolution first"})
    return {"pictures": found}


if __name__ == "__main__":
    main(work)
