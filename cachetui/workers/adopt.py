"""Take up an archive, or links that lead to what was moved by hand."""

from __future__ import annotations

from cachetui.jobs.model import Json
from cachetui.jobs.worker import Channel, main
from cachetui.workers import common


def work(request: Json, channel: Channel) -> Json:
    """One `requests.adopt`."""
    from cachetui.transfer import adopting

    scan = common.look(request, channel)
    what = request["directory"] or common.selections(scan, request)
    plan = adopting.prepare(scan, what)
    common.must_be_as_shown(plan, request)
    accept = frozenset(request["accept"])
    return common.carry_out(
        channel, lambda told, stop: adopting.execute(plan, accept=accept, progress=told, cancelled=stop)
    )


if __name__ == "__main__":
    main(work)
