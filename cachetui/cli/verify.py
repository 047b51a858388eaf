"""cachetui verify: is the content what it ought to be?"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from cachetui import units
from cachetui.cli import common
from cachetui.cli.common import Failed, Session
from cachetui.model import Item
from cachetui.text import safe
from cachetui.verify.model import CANNOT_TELL, DAMAGED, INCOMPLETE, INTACT, OUTCOMES, Finding, Verdict

if TYPE_CHECKING:
    from cachetui.jobs.model import Json, Progress

_COLOURS = {INTACT: "green", DAMAGED: "red", INCOMPLETE: "yellow", CANNOT_TELL: "cyan"}
_WORDS = {CANNOT_TELL: "cannot tell"}
_INTERRUPTED = 130


@dataclass(frozen=True)
class Report:
    """What was found."""

    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    items: int = 0
    """How many were asked for."""
    cancelled: bool = False


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
@click.option("--online", is_flag=True, help="Ask the Hub for the hashes that nothing here knows.")
@click.option("--nice/--no-nice", default=True, help="At low priority (default), or as fast as it goes.")
@common.where_options
@common.binary_option
@common.json_option
def verify(
    targets: tuple[str, ...],
    filters: tuple[str, ...],
    store: str | None,
    root: str | None,
    full: bool,
    online: bool,
    nice: bool,
    cache_dir: tuple[str, ...],
    search: tuple[str, ...],
    binary: bool,
    as_json: bool,
) -> int:
    """Compare items with the hashes that are known of them, offline. Without TARGET: everything.

    Each ends as intact, damaged (what, where), incomplete, or cannot tell (why). What was read once is read again
    when it changed, with --full in any case. Exits with 1 when something is damaged; what is incomplete or cannot be
    told is said.

    \b
    Examples:
      cachetui verify
      cachetui verify hf:Qwen/Qwen3-VL-2B-Instruct --full
      cachetui verify --store ollama --json
    """
    session = common.begin(common.to_where(cache_dir, search), binary=binary)
    items = _items(session, targets, filters, store, common.real_root(session, root))
    report = _run(session, items, everything=len(items) == len(session.scan.items), full=full, nice=nice)
    for note in report.notes:
        common.say(safe(note))
    if as_json:
        _emit(report)
    else:
        _show(session, report, items)
    if report.cancelled:
        common.say(
            f"Interrupted: {len(report.verdicts)} of {report.items} were verified; the rest can be any of these."
        )
        return _INTERRUPTED
    return 1 if any(v.outcome == DAMAGED for v in report.verdicts) else 0


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
    from cachetui.cli.progress import Line
    from cachetui.jobs import requests, runner
    from cachetui.jobs.model import JobState

    if not items:
        return Report(())
    spec = requests.verify(session.where, () if everything else [i.key for i in items], full=full)
    spec = replace(spec, request={**spec.request, "nice": nice})
    with _stopping() as stop, Line() as line:
        ended = runner.run(spec, lambda p: line.show(_progress(p, session.binary)), stop)
    if ended.state is JobState.FAILED:
        raise Failed(safe(ended.reason) + (f"\n{safe(ended.advice)}" if ended.advice else ""))
    return _report(ended.result, len(items), ended.state is JobState.CANCELLED)


def _report(result: Json | None, items: int, cancelled: bool) -> Report:
    from cachetui.verify.report import verdict_of

    body = result or {}
    verdicts = tuple(verdict_of(v) for v in body.get("verdicts", ()))
    return Report(verdicts, tuple(body.get("notes", ())), body.get("items", items), cancelled)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that Control-C sets, so that what was found so far is told; the second one ends at once."""
    stop = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _progress(p: Progress, binary: bool) -> str:
    if p.unit != "bytes":
        return f"looking at {p.done} of {p.total}: {p.name}" if p.total else "looking"

    def size(n: float) -> str:
        return units.size(int(n), binary=binary)

    share = f"{p.done * 100 // p.total} %, " if p.total else ""
    text = f"verifying {share}{size(p.done)} of {size(p.total)}"
    if p.rate:
        text += f", {size(p.rate)}/s"
    if p.eta is not None:
        minutes, seconds = divmod(int(p.eta), 60)
        text += f", {minutes}:{seconds:02} left"
    if p.stalled:
        text += f", nothing came for {int(p.stalled)} s"
    return f"{text}: {p.name}"


def _show(session: Session, report: Report, items: Sequence[Item]) -> None:
    from cachetui.cli.table import out, style

    sizes = {i.key: i.size for i in items}
    width = max((len(_word(v.outcome)) for v in report.verdicts), default=0)
    for v in sorted(report.verdicts, key=lambda v: (-OUTCOMES.index(v.outcome), v.target)):
        word = style(_word(v.outcome).ljust(width), fg=_COLOURS[v.outcome])
        size = units.size(sizes.get((v.root, v.target), 0), binary=session.binary)
        out(f"{word}  {size.rjust(9)}  {safe(v.target)}")
        for f in v.findings:
            for line in _finding_lines(f):
                out(f"    {line}")
        if v.partly:
            out("    not all of it was read")
    _sum(session, report)


def _word(outcome: str) -> str:
    return _WORDS.get(outcome, outcome)


def _finding_lines(f: Finding) -> list[str]:
    name = f"{safe(f.name)}: " if f.name else ""
    lines = [f"{name}{safe(f.message)}"]
    if f.outcome == DAMAGED or not f.name:
        lines.append(f"  {safe(f.path)}")
    if f.offer:
        lines.append(f"  -> {safe(f.offer)}")
    return lines


def _sum(session: Session, report: Report) -> None:
    from cachetui.cli.table import out
    from cachetui.verify.report import counts

    found = counts(report.verdicts)
    parts = [f"{found[o]} {_word(o)}" for o in reversed(OUTCOMES) if found[o]]
    read, known = sum(v.read for v in report.verdicts), sum(v.remembered for v in report.verdicts)
    text = (", ".join(parts) or "Nothing to verify") + f"; {units.size(read, binary=session.binary)} read"
    if known:
        text += f", {units.size(known, binary=session.binary)} unchanged since they were read (--full reads them too)"
    out(text + ".")


def _emit(report: Report) -> None:
    from cachetui.cli import data
    from cachetui.verify.report import counts

    data.emit(
        {
            "verb": "verify",
            "complete": not report.cancelled,
            "items": report.items,
            "counts": counts(report.verdicts),
            "read": sum(v.read for v in report.verdicts),
            "remembered": sum(v.remembered for v in report.verdicts),
            "notes": [data.plain(n) for n in report.notes],
            "verdicts": [_verdict_data(v) for v in report.verdicts],
        }
    )


def _verdict_data(v: Verdict) -> dict[str, Any]:
    from cachetui.cli import data

    return {
        "id": data.plain(v.target),
        **data.path_fields(v.root, "root"),
        "outcome": v.outcome,
        "files": v.files,
        "read": v.read,
        "remembered": v.remembered,
        "partly": v.partly,
        "findings": [
            {
                "code": f.code,
                "outcome": f.outcome,
                "name": data.plain(f.name) or None,
                **data.path_fields(f.path),
                "message": data.plain(f.message),
                "offer": data.plain(f.offer) or None,
                "copy": data.plain(f.copy) or None,
                "algorithm": f.algorithm or None,
                "digest": f.digest or None,
            }
            for f in v.findings
        ],
    }
