"""Decode a picture for the UI, away from it: a picture is a stranger's file, so memory and time are limited."""

from __future__ import annotations

import base64
import os

from cachetui.jobs.model import Json
from cachetui.jobs.worker import Channel, WorkFailed, main
from cachetui.workers.limits import limit

_MEMORY = 3 << 30
_SECONDS = 30
_MOST = 4096
"""Pixels on a side that are sent at most."""


def work(request: Json, channel: Channel) -> Json:
    """`picture` (path or `noise`), `max_pixels`, `resize`, `seed` as a prompt has them; `room`: [width, height].

    {"size", "original": [width, height] after and before lowering, "bytes" of the file,
    "width", "height", "rgb": base64 of what fits into the room}. Raises WorkFailed.
    """
    limit(_MEMORY, _SECONDS)
    try:
        from cachetui.engine.errors import EngineError
        from cachetui.engine.images import open_picture
    except ImportError as e:
        raise WorkFailed(f"{e.name} is not installed", "pip install 'cachetui[models]'") from None
    spec = str(request["picture"])
    resize = request.get("resize")
    try:
        picture = open_picture(
            spec,
            max_pixels=int(request.get("max_pixels") or 0),
            resize=(int(resize[0]), int(resize[1])) if resize else None,
            seed=int(request.get("seed") or 0),
        )
    except EngineError as e:
        raise WorkFailed(str(e), e.advice) from None
    except MemoryError:
        raise WorkFailed("the picture needs too much memory", "lower its resolution with another program") from None
    room = tuple(min(max(int(n), 1), _MOST) for n in request["room"])
    small = picture.image.copy()
    if request.get("stretch"):
        ratio = min(room[0] / small.width, room[1] / small.height)
        small = small.resize((max(round(small.width * ratio), 1), max(round(small.height * ratio), 1)))
    else:
        small.thumbnail(room)
    return {
        "size": list(picture.size),
        "original": list(picture.original),
        "bytes": os.stat(spec).st_size if spec != "noise" else 0,
        "width": small.width,
        "height": small.height,
        "rgb": base64.b64encode(small.convert("RGB").tobytes()).decode("ascii"),
    }


if __name__ == "__main__":
    main(work)
