"""Compare items with their hashes, at low priority; what was found so far survives being cancelled."""

from __future__ import annotations

from cachetui.jobs.model import Json
from cachetui.jobs.worker import Channel, WorkCancelled, main
from cachetui.workers import common


def work(request: Json, channel: Channel) -> Json:
    """One `requests.verify`: {"verdicts": [...], "notes": [...], "items": how many were asked for}.

    `"nice": false` in the request keeps the priority.
    """
    from cachetui import verify
    from cachetui.verify.disks import step_aside
    from cachetui.verify.report import verdict_data

    if request.get("nice", True):
        step_aside()
    scan = common.look(request, channel)
    items = [s.item for s in common.selections(scan, request)] if request["targets"] else list(scan.items)
    found: list[Json] = []
    notes: list[str] = []
    listener = _Listener(channel)
    verdicts = verify.check(
        scan, items, full=request["full"], progress=listener, cancelled=channel.cancelled, note=notes.append
    )
    for verdict in verdicts:
        found.append(verdict_data(verdict))
    result: Json = {"verdicts": found, "notes": notes, "items": len(items)}
    if channel.cancelled():
        raise WorkCancelled(result)
    return result


class _Listener:
    """Hands progress on to the parent (verify.Progress)."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def advance(self, phase: str, done: int, total: int, name: str) -> None:
        """`done` of `total` items (look) or bytes (verify)."""
        self._channel.progress(phase, done, total, name, "items" if phase == "look" else "bytes")


if __name__ == "__main__":
    main(work)
