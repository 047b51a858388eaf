"""Showing a plan of transfer/, for people and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cachetui import units
from cachetui.cli.data import Json, path_fields, plain
from cachetui.cli.transfer import Offer
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.jobs.model import Spec
    from cachetui.plans.model import Caution
    from cachetui.transfer.model import Drive, TransferItem, TransferPlan
    from cachetui.transfer.moving import MovePlan


def offer(plan: TransferPlan, binary: bool, question: str, spec: Callable[[frozenset[str]], Spec]) -> Offer:
    """A plan of archiving, restoring or adopting as an offer."""
    return Offer(
        plan.verb,
        plan_data(plan),
        plan_lines(plan, binary),
        bool(plan.accepted),
        plan.asks,
        [c for i in plan.accepted for c in i.cautions],
        question,
        spec,
    )


def plan_data(plan: TransferPlan) -> Json:
    """The plan as data: exactly what is shown."""
    return {
        "verb": plan.verb,
        "digest": plan.digest,
        **path_fields(plan.directory, "directory"),
        "drive": drive_data(plan.drive) if plan.drive is not None else None,
        "keep": plan.keep,
        "keep_original": plan.keep_original,
        "refused": plain(plan.refused) or None,
        "bytes": plan.bytes,
        "frees": plan.frees,
        "cautions": sorted(plan.cautions),
        "asks": [_caution_data(c) for c in plan.asks],
        "notes": [plain(n) for n in plan.notes],
        "items": [_item_data(i) for i in plan.items],
    }


def drive_data(drive: Drive) -> Json:
    return {
        **path_fields(drive.directory, "directory"),
        **path_fields(drive.mount, "mount"),
        "label": plain(drive.label),
        "filesystem": plain(drive.filesystem),
        "free": drive.free,
        "links": drive.links,
        "probed": drive.probed,
        "writable": drive.writable,
        "network": drive.network,
        "same_as": [plain(r) for r in drive.same_as],
        "refused": plain(drive.refused) or None,
        "notes": [plain(n) for n in drive.notes],
    }


def _caution_data(caution: Caution) -> Json:
    return {"code": caution.code, "message": plain(caution.message)}


def _item_data(i: TransferItem) -> Json:
    return {
        "target": plain(i.target),
        "id": i.selection.item.id,
        "store": i.selection.item.store,
        **path_fields(i.root, "root"),
        **path_fields(i.place, "place"),
        "refused": plain(i.refused) or None,
        "bytes": i.bytes,
        "files": i.files,
        "frees": i.frees,
        "parts": [
            {
                **path_fields(p.source, "source"),
                **path_fields(p.place, "place"),
                "bytes": p.bytes,
                "files": p.files,
                "there": p.there,
            }
            for p in i.parts
        ],
        "stays": [{**path_fields(s.path), "size": s.size, "needed_by": [plain(h) for h in s.holders]} for s in i.stays],
        "cautions": [_caution_data(c) for c in i.cautions],
        "notes": [plain(n) for n in i.notes],
    }


def plan_lines(plan: TransferPlan, binary: bool) -> list[str]:
    """The plan for people: what goes where, what stays with whom, what is refused, what comes back here."""
    from cachetui.cli.plan import stay_lines

    def size(n: int) -> str:
        return units.size(n, binary=binary)

    lines: list[str] = []
    if plan.accepted:
        lines.append(_heading(plan, size))
    for i in plan.accepted:
        files = "1 file" if i.files == 1 else f"{i.files} files"
        copied = f"{size(i.bytes)} in {files} to copy" if i.parts and i.bytes else "nothing to copy"
        lines.append(f"  {safe(i.target)}   {copied}" + (f", frees {size(i.frees)} here" if i.frees else ""))
        lines.append(f"      in {safe(i.root)}")
        if i.place:
            lines.append(f"      {'from' if plan.verb == 'restore' else 'to'} {safe(i.place)}")
        lines += [f"      {safe(n)}" for n in i.notes]
        lines += [f"      ! {safe(c.message)} [{c.code}]" for c in i.cautions]
    lines += stay_lines([s for i in plan.accepted for s in i.stays], size)
    refused = [i for i in plan.items if i.refused]
    if plan.refused:
        lines.append(f"Refused: {safe(plan.refused)}")
    elif refused:
        lines.append("Refused:")
        lines += [f"  {safe(i.target)}: {safe(i.refused)}" for i in refused]
    lines += [safe(n) for n in plan.notes]
    lines += [f"! {safe(c.message)} [{c.code}]" for c in plan.asks]
    if plan.accepted:
        if plan.bytes or plan.verb != "adopt":
            lines.append(f"To copy: {size(plan.bytes)}, each file read back and compared before anything goes.")
        lines += _coming_back(plan, size)
    return lines


def _heading(plan: TransferPlan, size: Callable[[int], str]) -> str:
    what = {
        "archive": "Is copied to" if plan.keep else "Goes to",
        "restore": "Comes back from",
        "adopt": "Is taken up in",
    }
    return f"{what[plan.verb]} {_on(plan.directory, plan.drive, size)}:"


def _on(directory: str, drive: Drive | None, size: Callable[[int], str]) -> str:
    if drive is None:
        return safe(directory)
    label = f' "{safe(drive.label)}"' if drive.label else ""
    return f"{safe(directory)} ({safe(drive.filesystem) or 'unknown file system'}{label}, {size(drive.free)} free)"


def _coming_back(plan: TransferPlan, size: Callable[[int], str]) -> list[str]:
    if plan.verb == "archive" and plan.keep:
        return ["The originals stay: this is a backup."]
    if plan.verb == "archive" and plan.keep_original:
        return [
            f"Comes back here when the trash is emptied: {size(plan.frees)}. Links take the place of the originals."
        ]
    if plan.verb == "archive":
        return [
            f"Comes back here: {size(plan.frees)}. Links take the place of the originals; restore brings them back."
        ]
    if plan.verb == "restore":
        return ["The copies in the archive stay." if plan.keep else "Then the copies in the archive go."]
    return []


def move_data(plan: MovePlan) -> Json:
    """The plan of moving a root as data."""
    return {
        "verb": plan.verb,
        "digest": plan.digest,
        **path_fields(plan.root.path, "root"),
        "store": plan.root.store,
        **path_fields(plan.place, "place"),
        "drive": drive_data(plan.drive),
        "keep_original": plan.keep_original,
        "refused": plain(plan.refused) or None,
        "bytes": plan.bytes,
        "files": plan.files,
        "frees": plan.frees,
        "line": plain(plan.line) or None,
        "cautions": sorted(plan.cautions),
        "asks": [_caution_data(c) for c in plan.asks],
        "notes": [plain(n) for n in plan.notes],
    }


def move_lines(plan: MovePlan, binary: bool) -> list[str]:
    """The plan of moving a root for people."""

    def size(n: int) -> str:
        return units.size(n, binary=binary)

    if plan.refused:
        return [f"Refused: {safe(plan.root.path)}: {safe(plan.refused)}"]
    when = " when the trash is emptied" if plan.keep_original else ""
    return [
        f"Moves to {_on(plan.place, plan.drive, size)}:",
        f"  {safe(plan.root.path)}   {size(plan.bytes)} in {plan.files} files to copy",
        *(f"  {safe(n)}" for n in plan.notes),
        *(f"  ! {safe(c.message)} [{c.code}]" for c in plan.asks),
        f"To copy: {size(plan.bytes)}, each file read back and compared before anything goes.",
        f"Comes back here{when}: {size(plan.frees)}. A link takes its place.",
    ]
