"""What archive, restore, adopt and move-root share: show the plan, ask, run the job, say what became of it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from cachetui import units
from cachetui.cli import choose, common
from cachetui.cli.common import Failed
from cachetui.cli.data import Json, path_fields, plain
from cachetui.plans import model as plans
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.jobs.model import Ended, Spec
    from cachetui.plans.model import Caution, Outcome
    from cachetui.transfer.model import Drive, TransferItem, TransferPlan

INCLUDE = (
    plans.IN_USE, plans.LOCKED, plans.YOUNG, plans.UNCHECKED, plans.NO_UNDO, plans.SERVER, plans.PERMANENT,
    "damaged", "partial", "network", "pinned",
)  # fmt: skip
INTERRUPTED = 130


def plan_data(plan: TransferPlan) -> Json:
    """The plan as data: exactly what is shown."""
    return {
        "verb": plan.verb,
        "digest": plan.digest,
        **path_fields(plan.directory, "directory"),
        "drive": _drive_data(plan.drive) if plan.drive is not None else None,
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


def _drive_data(drive: Drive) -> Json:
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
        lines.append(f"To copy: {size(plan.bytes)}, each file read back and compared before anything goes.")
        lines += _coming_back(plan, size)
    return lines


def _heading(plan: TransferPlan, size: Any) -> str:
    where = safe(plan.directory)
    if plan.drive is not None:
        label = f' "{safe(plan.drive.label)}"' if plan.drive.label else ""
        where += f" ({safe(plan.drive.filesystem) or 'unknown file system'}{label}, {size(plan.drive.free)} free)"
    what = {"archive": "Is copied to" if plan.keep else "Goes to", "restore": "Comes back from", "adopt": "Is taken up"}
    return f"{what.get(plan.verb, plan.verb)} {where}:" if where else f"{what.get(plan.verb, plan.verb)}:"


def _coming_back(plan: TransferPlan, size: Any) -> list[str]:
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


def go(
    plan: TransferPlan,
    spec_of: Any,
    include: Sequence[str],
    how: tuple[bool, bool, bool],
    *,
    binary: bool,
    question: str,
) -> int:
    """Show, ask, run the job that `spec_of(accept)` describes, say. `how`: dry_run, yes, as_json. The exit code."""
    dry_run, yes, as_json = how
    if not as_json:
        for line in plan_lines(plan, binary):
            click.echo(line)
    if dry_run or not plan.accepted:
        if as_json:
            emit(plan.verb, dry_run, plan_data(plan), None)
        return 0 if dry_run else 1
    asks = {c.code: c.message for c in (*plan.asks, *(c for i in plan.accepted for c in i.cautions))}
    accept = choose.agree(question, asks, include, does=plan.verb, how=(yes, as_json))
    if accept is None:
        common.say("Nothing was done.")
        return 1
    missing = [c for c in plan.asks if c.code not in accept]
    if missing:
        raise Failed(f"not done without a confirmation of its own: {missing[0].message} (--include {missing[0].code})")
    spec = spec_of(accept)
    ended = run(spec, binary=binary)
    if as_json:
        emit(plan.verb, dry_run, plan_data(plan), ended)
    else:
        show(ended, spec.id, binary)
    return code_of(ended)


def emit(verb: str, dry_run: bool, plan: Json | None, ended: Ended | None) -> None:
    """The one JSON object."""
    from cachetui.cli import data
    from cachetui.cli.plan import outcome_data

    outcome = _outcome(ended) if ended is not None else None
    data.emit(
        {
            "verb": verb,
            "dry_run": dry_run,
            "plan": plan,
            "outcome": outcome_data(outcome) if outcome is not None else None,
            "job": None
            if ended is None
            else {"state": str(ended.state), "reason": plain(ended.reason), "advice": plain(ended.advice)},
        }
    )


def run(spec: Spec, *, binary: bool) -> Ended:
    """Do a job here and now, with a bar on the terminal; Control-C stops it, a second one at once. Raises Failed."""
    from cachetui.cli.progress import Bar
    from cachetui.jobs import runner, unfinished

    known = False
    try:
        known = unfinished.claim(spec)
    except unfinished.TakenError as e:
        raise Failed(str(e)) from None
    except OSError:
        pass  # then the next start cannot offer it; its copy is still found on the drive
    if not sys.stderr.isatty():
        common.say(f"{spec.title} ...")
    with Bar(binary) as bar, _stoppable() as cancel:
        ended = runner.run(spec, bar.tell, cancel, on_log=bar.log)
    with suppress(OSError):
        unfinished.settle(spec, ended, known)
    return ended


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """An event that Control-C sets; the second one interrupts at once."""
    cancel = threading.Event()

    def stop(*_: object) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()
        common.say("Stopping ... (once more: at once)")

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)


def show(ended: Ended, spec_id: str, binary: bool) -> None:
    """What became of a job, for people."""
    from cachetui.cli.plan import outcome_lines
    from cachetui.jobs.model import JobState

    outcome = _outcome(ended)
    if outcome is not None:
        for line in outcome_lines(outcome, binary):
            click.echo(line)
    elif ended.state is JobState.FAILED:
        common.say(f"Not done: {ended.reason}")
    if ended.state is JobState.FAILED and ended.advice:
        common.say(ended.advice[:1].upper() + ended.advice[1:] + ".")
    if ended.state is JobState.CANCELLED:
        common.say(f"Interrupted. The same command again, or cachetui jobs resume {spec_id}, goes on where it stopped.")


def _outcome(ended: Ended) -> Outcome | None:
    from cachetui.jobs.outcomes import outcome_of

    return outcome_of(ended.result) if ended.result is not None else None


def code_of(ended: Ended) -> int:
    """0 done, 1 failed or partly, 130 interrupted."""
    from cachetui.jobs.model import JobState

    return {JobState.DONE: 0, JobState.CANCELLED: INTERRUPTED}.get(ended.state, 1)
