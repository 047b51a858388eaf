"""Bring items back from their archive, prove the copies, put them where the links are."""

from __future__ import annotations

from cachetui.jobs.model import Json
from cachetui.jobs.worker import Channel, main
from cachetui.workers import common


def work(request: Json, channel: Channel) -> Json:
    """One `requests.restore`."""
    from cachetui.transfer import restoring

    scan = common.look(request, channel)
    plan = restoring.prepare(scan, common.selections(scan, request), keep=request["keep"])
    common.must_be_as_shown(plan, request)
    accept = frozenset(request["accept"])
    return common.carry_out(
        channel, lambda told, stop: restoring.execute(plan, accept=accept, progress=told, cancelled=stop)
    )


if __name__ == "__main__":
    main(work)
