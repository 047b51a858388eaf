"""What archive, restore, adopt and move-root share: show the plan, ask, run the job, say what became of it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from cachetui.cli import choose, common
from cachetui.cli.common import Failed
from cachetui.cli.data import Json, plain
from cachetui.plans import model as plans

if TYPE_CHECKING:
    from cachetui.jobs.model import Ended, Spec
    from cachetui.plans.model import Caution, Outcome

INCLUDE = (
    plans.IN_USE, plans.LOCKED, plans.YOUNG, plans.UNCHECKED, plans.NO_UNDO, plans.SERVER, plans.PERMANENT,
    "damaged", "partial", "network", "pinned",
)  # fmt: skip
INTERRUPTED = 130


@dataclass(frozen=True)
class Offer:
    """A plan, ready to be shown and agreed to."""

    verb: str
    data: Json
    """For --json."""
    lines: Sequence[str]
    """For people; safe."""
    possible: bool
    """False: nothing of it can be done, and the lines say why."""
    asks: Sequence[Caution]
    """Without these nothing is done."""
    item_asks: Sequence[Caution]
    """Without these some items are left."""
    question: str
    spec: Callable[[frozenset[str]], Spec]
    """The job, given the codes that were accepted."""


def go(offer: Offer, include: Sequence[str], how: tuple[bool, bool, bool], *, binary: bool) -> int:
    """Show, ask, run the job, say what became of it. `how`: dry_run, yes, as_json. The exit code. Raises Failed."""
    dry_run, yes, as_json = how
    if not as_json:
        for line in offer.lines:
            click.echo(line)
    if dry_run or not offer.possible:
        if as_json:
            emit(offer.verb, dry_run, offer.data, None)
        return 0 if dry_run else 1
    asks = {c.code: c.message for c in (*offer.item_asks, *offer.asks)}
    accept = choose.agree(offer.question, asks, include, does=offer.verb, how=(yes, as_json))
    if accept is None:
        common.say("Nothing was done.")
        return 1
    if missing := [c for c in offer.asks if c.code not in accept]:
        raise Failed(f"not done without a confirmation of its own: {missing[0].message} (--include {missing[0].code})")
    spec = offer.spec(accept)
    ended = run(spec, binary=binary)
    if as_json:
        emit(offer.verb, dry_run, offer.data, ended)
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
        if spec.resumable:  # of others nothing stays that could be gone on with
            known = unfinished.claim(spec)
    except unfinished.TakenError as e:
        raise Failed(str(e)) from None
    except OSError:
        pass  # then the next start cannot offer it; its copy is still found on the drive
    if not sys.stderr.isatty():
        common.say(f"{spec.title} ...")
    with Bar(binary) as bar, stoppable() as cancel:
        ended = runner.run(spec, bar.tell, cancel, on_log=bar.log)
    with suppress(OSError):
        if spec.resumable:
            unfinished.settle(spec, ended, known)
    return ended


@contextmanager
def stoppable(before: Callable[[], None] | None = None) -> Iterator[threading.Event]:
    """An event that Control-C sets; the second one interrupts at once. `before`: called before that is said."""
    cancel = threading.Event()

    def stop(*_: object) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()
        if before is not None:
            before()
        common.say("Stopping ... (once more: at once)")

    earlier = signal.signal(signal.SIGINT, stop)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, earlier)


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
