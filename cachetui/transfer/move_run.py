"""Carrying out the move of a root: copy, publish, look again, one exchange, free."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetui.archives import INCOMING
from cachetui.fs import DISK, Fs, open_dir
from cachetui.plans import executor, swap
from cachetui.plans.lock import HeldError
from cachetui.plans.model import NO_UNDO, PERMANENT, Outcome, Result
from cachetui.plans.moves import remove_empty
from cachetui.plans.survey import reason
from cachetui.text import encode_target, safe
from cachetui.transfer import faults, staging, waiting
from cachetui.transfer.copying import CancelledError, Copied, CopyError, CopyProgress, changed, copy, never
from cachetui.transfer.parts import DifferentError, compare
from cachetui.transfer.pieces import Piece, survey

if TYPE_CHECKING:
    from cachetui.transfer.moving import MovePlan

_AGAIN = "the copy at {} is kept: the same command again goes on, or delete it"


@dataclass
class _Freeing:
    """Progress of the exchange, in the bytes of the plan."""

    progress: CopyProgress | None
    bytes: int

    def advance(self, done: int, total: int, name: str) -> None:
        """`done` of `total` names went (plans.model.Progress)."""
        if self.progress is not None:
            self.progress.advance("free", self.bytes * done // max(1, total), self.bytes, name)


def key(root: str, place: str) -> str:
    """The staging folder's name for this move."""
    return "move-" + hashlib.sha256(os.fsencode(f"{root}\0{place}")).hexdigest()[:16]


def execute(
    plan: MovePlan,
    *,
    accept: frozenset[str] = frozenset(),
    fs: Fs = DISK,
    progress: CopyProgress | None = None,
    cancelled: Callable[[], bool] = never,
) -> Outcome:
    """Do what the plan says; the one result tells how it ended. Never raises for what is on disk.

    Until the exchange nothing of the root is touched. A stopped copy goes on when the same is planned and executed
    again; a killed exchange is put right by the recovery of the next start.
    """
    target = f"root:{encode_target(plan.root.path)}"
    missing = [c.message for c in plan.asks if c.code not in accept]
    why = plan.refused
    if not why and missing:
        why = "needs a confirmation of its own: " + "; ".join(missing)
    messages: list[str] = []
    if not why:
        try:
            outcome = _move(plan, accept, fs, progress, cancelled, messages)
            return Outcome(plan.verb, outcome.results, outcome.operation, (*messages, *outcome.messages))
        except CancelledError:
            why = "cancelled: what was copied is kept, and the same command goes on with it"
        except (CopyError, HeldError, LookupError) as e:
            why = str(e) if not isinstance(e, LookupError) else str(e.args[0])
        except FileExistsError:
            why = f"there is something at {safe(plan.place)} now"
        except OSError as e:
            why = f"{safe(e.filename)}: {reason(e)}" if isinstance(e.filename, str) else reason(e)
    return Outcome(plan.verb, (Result(target, plan.root.path, False, why),), "", tuple(messages))


def _move(
    plan: MovePlan,
    accept: frozenset[str],
    fs: Fs,
    progress: CopyProgress | None,
    cancelled: Callable[[], bool],
    messages: list[str],
) -> Outcome:
    """Raises CancelledError, CopyError, HeldError, LookupError (the root changed), OSError: then nothing was moved."""
    pieces = survey(plan.root.path, cancelled=cancelled)
    if cancelled():
        raise CancelledError
    if plan.there:
        _compared(plan, pieces, fs, progress, cancelled)
    else:
        copied = _copied(plan, pieces, fs, progress, cancelled)
        messages += [copied.note] if copied.note else []
    # The plan is made before the last look: what changes from here on, the exchange itself sees.
    exchange = swap.whole_root(plan.root, plan.place, permanent=not plan.keep_original)
    _must_be_unchanged(plan, pieces)
    if not os.path.isdir(plan.place):
        raise faults.gone(plan.place)
    allowed = accept | {PERMANENT, NO_UNDO}
    with waiting.long(progress, plan.bytes, cancelled):
        outcome = executor.execute(exchange, accept=allowed, fs=fs, progress=_Freeing(progress, plan.bytes))
    result = outcome.results[0]
    if not result.done:
        raise LookupError(f"{result.message}; {_AGAIN.format(safe(plan.place))}")
    return outcome


def _copied(
    plan: MovePlan,
    pieces: Sequence[Piece],
    fs: Fs,
    progress: CopyProgress | None,
    cancelled: Callable[[], bool],
) -> Copied:
    """A proven copy at its place, made now or by an interrupted run; nothing of the staging folder is left."""
    above, name = os.path.split(plan.place)
    with _staging(plan, fs) as stage:
        copied = copy(pieces, stage, fs=fs, progress=progress, cancelled=cancelled)
        stage.publish(above, name)
        _must_be_unchanged(plan, pieces)
        stage.discard()
    _tidy(fs, above)
    return copied


def _staging(plan: MovePlan, fs: Fs) -> AbstractContextManager[staging.Staging]:
    header = {"verb": "move-root", "root": plan.root.path, "place": plan.place}
    incoming = os.path.join(os.path.dirname(plan.place), INCOMING)
    return staging.open_staging(fs, incoming, key(plan.root.path, plan.place), header)


def _compared(
    plan: MovePlan,
    pieces: Sequence[Piece],
    fs: Fs,
    progress: CopyProgress | None,
    cancelled: Callable[[], bool],
) -> None:
    """What stands at the place is made durable and read: it must be equal."""
    for _, _, files, fd in os.fwalk(plan.place):
        for file in files:
            if not stat.S_ISREG(os.stat(file, dir_fd=fd, follow_symlinks=False).st_mode):
                continue
            opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
            try:
                fs.fsync(opened)
            finally:
                os.close(opened)
        if cancelled():
            raise CancelledError
        fs.fsync(fd)
    try:
        compare(pieces, plan.place, links=True, progress=progress, cancelled=cancelled)
    except DifferentError as e:
        raise LookupError(f"something else is at {safe(str(e))}: delete that, or take another folder") from None
    above = os.path.dirname(plan.place)
    if os.path.lexists(os.path.join(above, INCOMING, key(plan.root.path, plan.place))):
        with _staging(plan, fs) as stage:  # killed while that was removed
            stage.discard()
    _tidy(fs, above)


def _must_be_unchanged(plan: MovePlan, pieces: Sequence[Piece]) -> None:
    if different := changed(pieces):
        why = f"it changed while it was copied ({safe(different[0])}), so nothing was exchanged"
        raise LookupError(f"{why}; {_AGAIN.format(safe(plan.place))}")


def _tidy(fs: Fs, above: str) -> None:
    """Remove the folder for copies if nothing else is in it."""
    with suppress(OSError):
        fd = open_dir(above)
        try:
            remove_empty(fs, fd, INCOMING)
        finally:
            os.close(fd)
