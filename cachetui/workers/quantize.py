"""Quantize a model and keep the result; or say that it is there already. One `requests.quantize`."""

from __future__ import annotations

import logging
import os
import time

from cachetui.fs import DISK
from cachetui.hub_making import NameTakenError, publish
from cachetui.jobs.model import Json
from cachetui.jobs.worker import Channel, WorkCancelled, WorkFailed, main
from cachetui.quant_items import loading
from cachetui.quantized_entries.listing import Entry
from cachetui.quantized_entries.ways import way_of
from cachetui.wanted import Wanted

_BYTES = ("hash", "identify", "convert", "quantize")


def work(request: Json, channel: Channel) -> Json:
    """{"entry", "key", "size", "made", "replaced", "seconds", "peak_memory", "files", "named",
    "use"}."""
    from cachetui.engine.environment import prepare

    prepare(offline=True)
    from cachetui.engine.entries import ensure
    from cachetui.engine.errors import Cancelled, EngineError

    logging.getLogger("cachetui.quantized").addHandler(_Lines(channel))
    wanted = Wanted.from_json(request["wanted"])

    def progress(phase: str, done: int, total: int, name: str) -> None:
        channel.progress(phase, done, total, name, "bytes" if phase in _BYTES else "tensors")

    begun = time.monotonic()
    try:
        had = ensure(
            wanted,
            request["folder"],
            rank=int(request["rank"]),
            target=str(request["target"]),
            needed=int(request.get("size") or 0),
            way=way_of(request.get("way")),
            progress=progress,
            cancelled=channel.cancelled,
        )
    except EngineError as e:
        raise WorkFailed(e.reason, e.advice, {"code": e.code}) from None
    except Cancelled:
        raise WorkCancelled from None
    manifest = had.entry.manifest
    assert manifest is not None
    return {
        "entry": had.entry.path,
        "key": manifest.key,
        "size": manifest.size,
        "made": had.made,
        "replaced": had.replaced,
        "seconds": time.monotonic() - begun,
        "peak_memory": manifest.peak_memory,
        "files": len(manifest.files),
        "named": _named(request, had.entry),
        "use": loading(manifest, had.entry.path),
    }


def _named(request: Json, entry: Entry) -> str:
    """The snapshot that programs find by the name that was asked for; empty where none was. Raises WorkFailed."""
    if not request.get("name") or entry.manifest is None:
        return ""
    try:
        return publish(DISK, request["hub"], request["name"], os.path.realpath(entry.path), entry.manifest.digests)
    except NameTakenError as e:
        raise WorkFailed(str(e), f"the entry itself is kept in {entry.path}", {"code": "name-taken"}) from None


class _Lines(logging.Handler):
    """Warnings, for whoever looks at the job."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.WARNING)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        self._channel.log(record.getMessage())


if __name__ == "__main__":
    main(work)
