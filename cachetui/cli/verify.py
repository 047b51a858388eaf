"""cachetui verify: is the content what it ought to be?"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from cachetui.cli import common, transfer
from cachetui.cli.common import Failed, Session
from cachetui.cli.verify_show import Report, emit, show
from cachetui.model import Item
from cachetui.text import safe
from cachetui.verify.model import DAMAGED

if TYPE_CHECKING:
    from cachetui.cli.progress import Bar
    from cachetui.jobs.meter import Meter
    from cachetui.jobs.model import Json


@common.verb()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="EXPR",
    help="Only what passes, e.g. 'size>5GB' (repeatable).",
)
@click.option("--store", metavar="STORE", help="Only items of this store, e.g. hf or ollama.")
@common.root_option
@click.option("--full", is_flag=True, help="Read everything from the drive, also what did not change since last time.")
@click.option("--load", is_flag=True, help="Instead: load each model in an offline process, and say from which folder.")
@click.option("--online", is_flag=True, help="Ask the Hub for the hashes that nothing here knows.")
@click.option(
    "--repair", is_flag=True, help="Put the same content from elsewhere on this machine in place of what is damaged."
)
@click.option("--quarantine", is_flag=True, help="Move what is damaged to the trash, so that it is downloaded again.")
@click.option("--nice/--no-nice", default=True, help="At low priority (default), or as fast as it goes.")
@common.where_options
@common.changing_options
@common.binary_option
@common.json_option
def verify(
    targets: tuple[str, ...],
    filters: tuple[str, ...],
    store: str | None,
    root: str | None,
    full: bool,
    load: bool,
    online: bool,
    repair: bool,
    quarantine: bool,
    nice: bool,
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    binary: bool,
    as_json: bool,
) -> int:
    """Compare items with the hashes that are known of them, offline. Without TARGET: everything.

    Each ends as intact, damaged (what, where), incomplete, or cannot tell (why). What was read once is read again
    when it changed, with --full in any case. Exits with 1 when something is damaged (and was not repaired); what is
    incomplete or cannot be told is said. --repair and --quarantine show a plan first, and undo takes them back.

    \b
    Examples:
      cachetui verify
      cachetui verify hf:Qwen/Qwen3-VL-2B-Instruct --full
      cachetui verify --store ollama --json
      cachetui verify --repair --dry-run
      cachetui verify --load qwen3
    """
    if load and (full or online or repair or quarantine):
        raise click.UsageError("--load compares no hashes: leave --full, --online, --repair and --quarantine out")
    if repair and quarantine:
        raise click.UsageError("--repair or --quarantine, not both")
    if (dry_run or yes) and not (repair or quarantine):
        raise click.UsageError("--dry-run and --yes belong to --repair or --quarantine: verifying changes nothing")
    if (repair or quarantine) and not (dry_run or yes) and (as_json or not sys.stdin.isatty()):
        common.must_agree("", yes=False, as_json=as_json)  # better said now than after hours of reading
    session = common.begin(common.to_where(cache_dir, search), dry_run=dry_run, binary=binary)
    only = common.real_root(session, root)
    if load:
        return _load(session, targets, filters, store, only, as_json=as_json)
    items = _items(session, targets, filters, store, only)
    if online:
        report = _run_online(session, items, full=full, nice=nice)
    else:
        report = _run(session, items, everything=len(items) == len(session.scan.items), full=full, nice=nice)
    for note in report.notes:
        common.say(safe(note))
    if not as_json:
        show(session, report, items)
    if report.cancelled:
        common.say(f"Interrupted: {len(report.verdicts)} of {report.items} were verified; the rest is not known.")
    if (repair or quarantine) and not report.cancelled:
        from cachetui.cli.verify_repair import act

        return act(session, report, repair=repair, dry_run=dry_run, yes=yes, as_json=as_json)
    if as_json:
        emit(report)
    if report.cancelled:
        return transfer.INTERRUPTED
    return 1 if any(v.outcome == DAMAGED for v in report.verdicts) else 0


def _load(
    session: Session,
    targets: Sequence[str],
    filters: Sequence[str],
    store: str | None,
    root: str | None,
    *,
    as_json: bool,
) -> int:
    from cachetui.cli import verify_load
    from cachetui.store import Selection

    if targets:
        found = [common.find(session, t, root) for t in targets]
        passing = {i.key for i in common.filtered(session, filters, [s.item for s in found])}
        found = [s for s in found if s.item.key in passing and store in (None, s.item.store)]
    else:
        found = [Selection(i) for i in _items(session, (), filters, store, root)]
    return verify_load.run(session, found, named=bool(targets), as_json=as_json)


def _items(
    session: Session, targets: Sequence[str], filters: Sequence[str], store: str | None, root: str | None
) -> list[Item]:
    if store is not None:
        common.must_be_store(store)
    if targets:
        found = list({s.item.key: s.item for s in (common.find(session, t, root) for t in targets)}.values())
    else:
        found = [i for i in session.scan.items if root is None or i.root == root]
    return common.filtered(session, filters, [i for i in found if store in (None, i.store)])


def _run(session: Session, items: Sequence[Item], *, everything: bool, full: bool, nice: bool) -> Report:
    """The worker's report. Raises Failed."""
    from cachetui.cli.progress import Bar
    from cachetui.jobs import requests, runner
    from cachetui.jobs.model import JobState

    if not items:
        return Report(())
    spec = requests.verify(session.where, () if everything else [i.key for i in items], full=full)
    spec = replace(spec, request={**spec.request, "nice": nice})
    with transfer.stoppable() as stop, Bar(session.binary) as bar:
        ended = runner.run(spec, bar.tell, stop)
    if ended.state is JobState.FAILED:
        raise Failed(safe(ended.reason) + (f"\n{safe(ended.advice)}" if ended.advice else ""))
    return _report(ended.result, len(items), ended.state is JobState.CANCELLED)


def _run_online(session: Session, items: Sequence[Item], *, full: bool, nice: bool) -> Report:
    """In this process, for workers that do not download may not use the network."""
    from cachetui import verify as core
    from cachetui.cli.progress import Bar
    from cachetui.jobs.meter import Meter
    from cachetui.verify.disks import step_aside
    from cachetui.verify.online import Hub

    if nice:
        step_aside()
    notes: list[str] = []
    hub = Hub(notes.append)
    with transfer.stoppable() as stop, Bar(session.binary) as bar:
        listener = _Listener(bar, Meter())
        found = tuple(
            core.check(
                session.scan, items, full=full, progress=listener, cancelled=stop.is_set, note=notes.append, ask=hub.ask
            )
        )
        return Report(found, tuple(notes), len(items), stop.is_set())


class _Listener:
    """Draws the progress of a check in this process (verify.Progress)."""

    def __init__(self, bar: Bar, meter: Meter) -> None:
        self._bar = bar
        self._meter = meter

    def advance(self, phase: str, done: int, total: int, name: str) -> None:
        """`done` of `total` items (look) or bytes (verify)."""
        unit = "items" if phase == "look" else "bytes"
        message = {"phase": phase, "done": done, "total": total, "unit": unit, "name": name}
        if (p := self._meter.update(message, time.monotonic())) is not None:
            self._bar.tell(p)


def _report(result: Json | None, items: int, cancelled: bool) -> Report:
    from cachetui.verify.report import verdict_of

    body = result or {}
    verdicts = tuple(verdict_of(v) for v in body.get("verdicts", ()))
    return Report(verdicts, tuple(body.get("notes", ())), body.get("items", items), cancelled)
