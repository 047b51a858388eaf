"""What a verification found, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cachetui import units
from cachetui.cli import data
from cachetui.cli.common import Session
from cachetui.cli.table import out, style
from cachetui.model import Item
from cachetui.text import safe
from cachetui.verify.model import CANNOT_TELL, DAMAGED, INCOMPLETE, INTACT, OUTCOMES, Finding, Verdict
from cachetui.verify.report import counts

_COLOURS = {INTACT: "green", DAMAGED: "red", INCOMPLETE: "yellow", CANNOT_TELL: "cyan"}
_WORDS = {CANNOT_TELL: "cannot tell"}


@dataclass(frozen=True)
class Report:
    """What was found."""

    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    items: int = 0
    """How many were asked for."""
    cancelled: bool = False


def show(session: Session, report: Report, items: Sequence[Item]) -> None:
    """Each item, worst last, with what was found; then the sum."""
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
    found = counts(report.verdicts)
    parts = [f"{found[o]} {_word(o)}" for o in reversed(OUTCOMES) if found[o]]
    read, known = sum(v.read for v in report.verdicts), sum(v.remembered for v in report.verdicts)
    text = (", ".join(parts) or "Nothing to verify") + f"; {units.size(read, binary=session.binary)} read"
    if known:
        text += f", {units.size(known, binary=session.binary)} unchanged since they were read (--full reads them too)"
    out(text + ".")


def emit(report: Report, more: data.Json | None = None) -> None:
    """One JSON object."""
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
            **(more or {}),
        }
    )


def _verdict_data(v: Verdict) -> dict[str, Any]:
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
