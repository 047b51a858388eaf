"""Copy a whole root to another folder, prove the copy, put a link in its place."""

from __future__ import annotations

from cachetui.jobs import requests
from cachetui.jobs.model import Json
from cachetui.jobs.worker import Channel, main
from cachetui.workers import common


def work(request: Json, channel: Channel) -> Json:
    """One `requests.move_root`."""
    from cachetui.transfer import moving

    scan = common.look(request, channel)
    root = common.root_at(scan, request["root"])
    kept = bool(request.get("keep_original"))
    plan = moving.prepare(requests.where_of(request["where"]), root, request["to"], keep_original=kept)
    common.must_be_as_shown(plan, request)
    accept = frozenset(request["accept"])
    return common.carry_out(
        channel, lambda told, stop: moving.execute(plan, accept=accept, progress=told, cancelled=stop)
    )


if __name__ == "__main__":
    main(work)
