"""Copy items to another drive, prove the copies, put links in their place."""

from __future__ import annotations

from cachetui.jobs.model import Json
from cachetui.jobs.worker import Channel, main
from cachetui.workers import common


def work(request: Json, channel: Channel) -> Json:
    """One `requests.archive`."""
    from cachetui.transfer import archiving

    scan = common.look(request, channel)
    plan = archiving.prepare(
        scan,
        common.selections(scan, request),
        request["to"],
        keep=request["keep"],
        keep_original=request["keep_original"],
        bulk=request["bulk"],
    )
    common.must_be_as_shown(plan, request)
    accept = frozenset(request["accept"])
    return common.carry_out(
        channel, lambda told, stop: archiving.execute(plan, accept=accept, progress=told, cancelled=stop)
    )


if __name__ == "__main__":
    main(work)
