"""Quantize, keep, load, damage and make again a tiny model in a folder. {"folder": ...} -> {"checks": [...]}."""

from __future__ import annotations

from cachetui.jobs.model import Json
from cachetui.jobs.worker import Channel, WorkCancelled, WorkFailed, main


def work(request: Json, channel: Channel) -> Json:
    """Each check is {"name", "ok", "note"}; after one that failed the rest is left out."""
    from cachetui.engine.environment import prepare

    prepare(offline=True)
    from cachetui.engine.errors import Cancelled, EngineError
    from cachetui.engine.self_test import NAMES, TestFailed, checks

    found: list[Json] = []
    try:
        for name, note in checks(request["folder"], channel.cancelled):
            found.append({"name": name, "ok": True, "note": note})
            channel.progress("test", len(found), len(NAMES), name, "checks")
    except Cancelled:
        raise WorkCancelled({"checks": found}) from None
    except (TestFailed, EngineError, OSError) as e:
        failed = NAMES[len(found)] if len(found) < len(NAMES) else "the rest"
        found.append({"name": failed, "ok": False, "note": str(e) or type(e).__name__})
        if isinstance(e, EngineError) and e.advice:
            raise WorkFailed(e.reason, e.advice, {"checks": found}) from None
    return {"checks": found}


if __name__ == "__main__":
    main(work)
