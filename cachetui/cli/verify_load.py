"""cachetui verify --load: does it load? Each model in a process of its own, offline."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetui import units
from cachetui.cli import common, data, transfer
from cachetui.cli.common import Failed, Session
from cachetui.cli.data import Json, plain
from cachetui.cli.prompt_run import too_large
from cachetui.cli.prompt_show import Tell, number, seconds
from cachetui.cli.table import out, style
from cachetui.jobs.model import JobState
from cachetui.text import safe, safe_block

if TYPE_CHECKING:
    from cachetui.runnable import Runnable
    from cachetui.store import Selection

LOADS, FAILS, UNCHECKED = "loads", "fails", "not checked"
_COLOURS = {LOADS: "green", FAILS: "red", UNCHECKED: "yellow"}


@dataclass(frozen=True)
class Row:
    """What became of one model. Strings may come from outside."""

    target: str
    outcome: str
    """loads, fails, not checked."""
    folder: str = ""
    """What it was loaded from."""
    model_class: str = ""
    loader: str = ""
    seconds: float = 0.0
    memory: int = 0
    reason: str = ""
    advice: str = ""

    def to_json(self) -> Json:
        """For --json."""
        return {
            "target": plain(self.target), "outcome": self.outcome, **data.path_fields(self.folder, "folder"),
            "class": plain(self.model_class), "loader": self.loader, "seconds": self.seconds, "memory": self.memory,
            "reason": plain(self.reason), "advice": plain(self.advice),
        }  # fmt: skip


def run(session: Session, found: Sequence[Selection], *, named: bool, as_json: bool) -> int:
    """Check each and say so. `named`: the user named them, so what cannot be checked counts as a failure."""
    from cachetui.cli.progress import Bar

    subjects = [s for selection in found for s in _subjects(session, selection, named=named)]
    if not subjects:
        raise Failed("there is no model here that could be loaded; cachetui ls shows what there is")
    rows: list[Row] = []
    with transfer.stoppable() as stop, Bar(session.binary) as bar:
        for n, subject in enumerate(subjects, 1):
            if stop.is_set():
                break
            if not isinstance(subject, Row) and not sys.stderr.isatty():
                common.say(f"{n} of {len(subjects)}: {safe(subject.target)} ...")
            row = subject if isinstance(subject, Row) else _check(subject, bar.tell, stop)
            if stop.is_set():
                break
            rows.append(row)
            bar.clear()
            if not as_json:
                _show(row, session.binary)
    failed = [r for r in rows if r.outcome == FAILS or (named and r.outcome == UNCHECKED)]
    if as_json:
        data.emit({
            "verb": "verify", "load": True, "rows": [r.to_json() for r in rows], "failed": len(failed),
            "cancelled": stop.is_set(),
        })  # fmt: skip
    else:
        count = {word: sum(r.outcome == word for r in rows) for word in _COLOURS}
        out(", ".join(f"{n} {word}" for word, n in count.items() if n))
    if stop.is_set():
        common.say(f"Interrupted: {len(rows)} of {len(subjects)} were checked.")
        return transfer.INTERRUPTED
    return 1 if failed else 0


def _subjects(session: Session, selection: Selection, *, named: bool) -> list[Runnable | Row]:
    """What is to be loaded: of a repo with several GGUF files each; nothing of what is no model, unless named."""
    from dataclasses import replace

    from cachetui.runnable import NotRunnable, runnable_of

    if not named and session.scan.root_of(selection.item).root.only_archive:
        return []
    try:
        found = runnable_of(selection, None, session.where)
        if not named and (large := too_large(found, binary=session.binary)):
            why = f"it {large[0]}; cachetui verify --load {found.target} tries it all the same"
            return [Row(found.target, UNCHECKED, reason=why)]
        return [found]
    except NotRunnable as e:
        if e.choices:
            files = [replace(selection, file=name) for name in e.choices]
            return [s for file in files for s in _subjects(session, file, named=named)]
        if not named and e.code in ("not-a-model", "state"):
            return []
        return [Row(selection.item.id, UNCHECKED, reason=e.reason, advice=e.advice)]


def _check(subject: Runnable, tell: Tell, stop: threading.Event) -> Row:
    from cachetui.jobs import runner
    from cachetui.jobs.model import Spec

    spec = Spec("load-check", "load-check", f"load {subject.target}", {"runnable": subject.to_json()})
    ended = runner.run(spec, tell, stop)
    result = ended.result or {}
    if ended.state is not JobState.DONE:
        folder = subject.file or subject.wanted.folder
        return Row(subject.target, FAILS, folder, reason=ended.reason or "it was stopped", advice=ended.advice)
    return Row(
        subject.target,
        LOADS,
        str(result.get("folder", "")),
        str(result.get("model_class", "")),
        str(result.get("loader", "")),
        number(result, "seconds"),
        int(number(result, "memory")),
        advice="; ".join(map(str, result.get("notes") or ())),
    )


def _show(row: Row, binary: bool) -> None:
    word = style(row.outcome.ljust(len(UNCHECKED)), fg=_COLOURS[row.outcome])
    how = ", ".join(
        w
        for w in (
            row.model_class,
            row.loader,
            seconds(row.seconds),
            units.size(row.memory, binary=binary) if row.memory else "",
        )
        if w
    )
    out(f"{word}  {safe(row.target)}" + (f"  ({safe(how)})" if how else ""))
    indent = " " * (len(UNCHECKED) + 2)
    for line in (f"from {row.folder}" if row.folder else "", row.reason, row.advice):
        if line:
            out(indent + safe_block(line).replace("\n", "\n" + indent))
