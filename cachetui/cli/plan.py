"""Showing a plan and what became of it, for people and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cachetui import units
from cachetui.cli.data import Json, path_fields, plain
from cachetui.plans.model import Outcome, Plan, PlannedItem, Stay, Step
from cachetui.text import safe

_STEPS = 12
DONE = {
    "delete": "Deleted",
    "undo": "Back",
    "empty trash": "Gone from the trash",
    "archive": "Archived",
    "restore": "Restored",
    "relink": "Linked",
    "adopt": "Adopted",
    "move": "Moved",
    "repair": "Repaired",
}
"""What became of something, by the verb of an operation."""


def plan_data(plan: Plan) -> Json:
    """The plan as data: exactly what the confirm screen shows."""
    return {
        "verb": plan.verb,
        "digest": plan.digest,
        "permanent": plan.permanent,
        "frees_now": plan.frees_now,
        "frees_when_emptied": plan.frees_when_emptied,
        "up_to": plan.up_to,
        "disks": [
            {**path_fields(d.mount, "mount"), "frees_now": d.frees_now, "frees_when_emptied": d.frees_when_emptied}
            for d in plan.disks
        ],
        "cautions": sorted(plan.cautions),
        "notes": [plain(n) for n in plan.notes],
        "places": [
            {**path_fields(p.root, "root"), **path_fields(p.path), "kind": p.kind, "note": plain(p.note)}
            for p in plan.places
        ],
        "items": [_item_data(i) for i in plan.items],
    }


def _item_data(i: PlannedItem) -> Json:
    return {
        "target": plain(i.target),
        "id": i.selection.item.id,
        "store": i.selection.item.store,
        **path_fields(i.selection.item.root, "root"),
        "refused": plain(i.refused) or None,
        "via_server": i.via_server or None,
        "frees": i.frees,
        "in_use": [{"pid": u.pid or None, "name": plain(u.name), "how": u.how} for u in i.users],
        "goes": [_step_data(s) for s in i.steps],
        "stays": [{**path_fields(s.path), "size": s.size, "needed_by": [plain(h) for h in s.holders]} for s in i.stays],
        "cautions": [{"code": c.code, "message": plain(c.message)} for c in i.cautions],
    }


def _step_data(s: Step) -> Json:
    return {
        **path_fields(s.path),
        "phase": str(s.phase),
        "type": s.was.type,
        "entries": s.entries,
        "size": s.size,
        "allocated": s.allocated,
        "frees": s.frees,
        **({"replaced_by": {"kind": s.replacement.kind, **path_fields(s.replacement.target)}} if s.replacement else {}),
    }


def outcome_data(outcome: Outcome) -> Json:
    """What an operation did."""
    return {
        "verb": outcome.verb,
        "operation": outcome.operation or None,
        "ok": outcome.ok,
        "freed": outcome.freed,
        "moved": outcome.moved,
        "messages": [plain(m) for m in outcome.messages],
        "results": [
            {
                "target": plain(r.target),
                **path_fields(r.root, "root"),
                "done": r.done,
                "message": plain(r.message),
                "freed": r.freed,
                "moved": r.moved,
            }
            for r in outcome.results
        ],
    }


def plan_lines(plan: Plan, binary: bool) -> list[str]:
    """The plan for people: what goes, what stays and why, what is refused and why, what comes back and when."""

    def size(n: int) -> str:
        return units.size(n, binary=binary)

    lines: list[str] = []
    if plan.accepted:
        lines.append(_heading(plan))
    for i in plan.accepted:
        lines.append(f"  {safe(i.target)}   {size(sum(s.size for s in i.steps))}, frees {size(i.frees)}")
        lines.append(f"      in {safe(i.selection.item.root)}")
        for s in i.steps[:_STEPS]:
            inside = f" ({s.entries} entries)" if s.entries > 1 else ""
            lines.append(f"      {safe(s.path)}{inside}{_replaced(s)}")
        if len(i.steps) > _STEPS:
            lines.append(f"      and {len(i.steps) - _STEPS} more")
        if i.via_server:
            lines.append(f"      deleted by the server at {safe(i.via_server)}")
        lines += [f"      ! {safe(c.message)} [{c.code}]" for c in i.cautions]
    lines += stay_lines([s for i in plan.accepted for s in i.stays], size)
    if plan.refused:
        lines.append("Refused:")
        lines += [f"  {safe(i.target)}: {safe(i.refused)}" for i in plan.refused]
    lines += [safe(n) for n in plan.notes]
    lines += [f"{safe(p.root)}: {safe(p.note)}" for p in plan.places if p.note]
    if plan.accepted:
        up_to = "up to " if plan.up_to else ""
        later = plan.frees_when_emptied - plan.frees_now
        if plan.frees_now or plan.permanent:
            lines.append(f"Comes back now: {up_to}{size(plan.frees_now)}.")
        if not plan.permanent:
            lines.append(f"Comes back when the trash is emptied: {up_to}{size(later)}.")
        if len(plan.disks) > 1:
            lines += [f"  {size(d.frees_when_emptied)} on {safe(d.mount)}" for d in plan.disks]
    return lines


def _heading(plan: Plan) -> str:
    if plan.swaps:
        return "Is replaced, and goes for good:" if plan.permanent else "Is replaced, and goes to the trash:"
    return "Goes for good:" if plan.permanent else "Goes to the trash:"


def _replaced(step: Step) -> str:
    if step.replacement is None:
        return ""
    if step.replacement.kind == "link":
        return f", replaced by a link to {safe(step.replacement.target)}"
    return ", replaced by the copy that was made here"


def stay_lines(stays: Sequence[Stay], size: Callable[[int], str]) -> list[str]:
    """What stays, and who needs it."""
    if not stays:
        return []
    lines = ["Stays, because others need it:"]
    for s in stays[:_STEPS]:
        lines.append(f"  {safe(s.path)}   {size(s.size)}, needed by {', '.join(safe(h) for h in s.holders)}")
    if len(stays) > _STEPS:
        lines.append(f"  and {len(stays) - _STEPS} more, {size(sum(s.size for s in stays[_STEPS:]))}")
    return lines


def outcome_lines(outcome: Outcome, binary: bool) -> list[str]:
    """What an operation did, for people."""

    def size(n: int) -> str:
        return units.size(n, binary=binary)

    lines = [safe(m) for m in outcome.messages]
    for r in outcome.results:
        if not r.done:
            lines.append(f"Not done: {safe(r.target)}: {safe(r.message)}")
        elif r.message:
            lines.append(f"{safe(r.target)}: {safe(r.message)}")
    done = [r for r in outcome.results if r.done]
    if not done:
        return lines
    lines.append(f"{DONE.get(outcome.verb, outcome.verb)}: {_names([r.target for r in done])}")
    if outcome.freed:
        lines.append(f"{size(outcome.freed)} {'freed in the archive' if outcome.verb == 'restore' else 'came back'}.")
    if outcome.moved:
        lines.append(
            f"{size(outcome.moved)} now in the trash. Bring back: cachetui undo {safe(outcome.operation)}   "
            f"Free the space: cachetui trash empty {safe(outcome.operation)}"
        )
    return lines


def _names(targets: Sequence[str]) -> str:
    shown = ", ".join(safe(t) for t in targets[:5])
    return shown + (f" and {len(targets) - 5} more" if len(targets) > 5 else "")
