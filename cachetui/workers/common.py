"""What the workers that change caches share: look again, compare with what was shown, do it, say what became of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cachetui.jobs import requests
from cachetui.jobs.model import Json
from cachetui.jobs.worker import Channel, WorkCancelled, WorkFailed

if TYPE_CHECKING:
    from cachetui.ledger import Scan
    from cachetui.model import Item, Root, RootScan, Stub
    from cachetui.plans.model import Outcome
    from cachetui.store import Selection

CHANGED = "it changed since it was shown"
LOOK_AGAIN = "look again, then start it again"


class Digested(Protocol):
    """A plan of transfer/."""

    @property
    def digest(self) -> str:
        """Of everything that will be done."""

    @property
    def refused(self) -> str:
        """Why nothing of it will be done."""


@dataclass(frozen=True)
class Listener:
    """Hands progress on to the parent (transfer.copying.CopyProgress)."""

    channel: Channel

    def advance(self, phase: str, done: int, total: int, name: str) -> None:
        """`done` of `total` bytes of this phase are made."""
        self.channel.progress(phase, done, total, name)


def look(request: Json, channel: Channel) -> Scan:
    """Finish or take back what an earlier run left, then read everything, with the user's pins."""
    from cachetui.marks import Marks
    from cachetui.plans.recovery import recover
    from cachetui.scan import find_roots, scan_roots

    roots, problems = find_roots(requests.where_of(request["where"]))
    for found in recover(roots):
        channel.log(f"{found.action}: {found.message}")
    scan = scan_roots(roots, roots, _Reading(channel), problems)
    if channel.cancelled():
        raise WorkCancelled
    return Marks.cautious().apply_scan(scan)


class _Reading:
    """Progress of the scan (model.Reporter)."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._names = self._sized = 0

    def named(self, root: Root, stubs: Sequence[Stub]) -> None:
        """Names of a root are known."""
        self._names += len(stubs)

    def sized(self, root: Root, item: Item) -> None:
        """One item is complete."""
        self._sized += 1
        self._channel.progress("look", self._sized, max(self._names, self._sized), item.name, "items")

    def done(self, root: RootScan) -> None:
        """A root is complete."""

    def cancelled(self) -> bool:
        """Whether to stop."""
        return self._channel.cancelled()


def selections(scan: Scan, request: Json) -> list[Selection]:
    """The items that the request names. Raises WorkFailed for one that is not there."""
    from cachetui.targets import TargetError, resolve

    found: list[Selection] = []
    for root, target in requests.targets_of(request):
        try:
            hits = resolve(scan, target, root)
        except TargetError as e:
            raise WorkFailed(f"{target} in {root} is not there any more: {e}", LOOK_AGAIN) from None
        found += hits
    return found


def must_be_as_shown(plan: Digested, request: Json) -> None:
    """Compare the plan with the one the person agreed to, where the request names it. Raises WorkFailed."""
    if request.get("digest") and plan.digest != request["digest"]:
        raise WorkFailed(CHANGED, LOOK_AGAIN)
    if plan.refused:
        raise WorkFailed(plan.refused)


def root_at(scan: Scan, path: str) -> Root:
    """The root at a path. Raises WorkFailed."""
    for r in scan.roots:
        if r.root.path == os.path.realpath(path):
            return r.root
    raise WorkFailed(f"{path} is not among the places with models any more", LOOK_AGAIN)


def carry_out(channel: Channel, run: Callable[[Listener, Callable[[], bool]], Outcome]) -> Json:
    """Do it, and say what became of it. Raises WorkFailed (with the outcome) where not all was done, WorkCancelled."""
    from cachetui.jobs.outcomes import outcome_data
    from cachetui.transfer.faults import CancelledError, CopyError

    try:
        outcome = run(Listener(channel), channel.cancelled)
    except CancelledError:
        raise WorkCancelled from None
    except CopyError as e:
        raise WorkFailed(f"{e.path}: {e.why}", e.advice) from None
    result = outcome_data(outcome)
    if outcome.ok:
        return result
    if channel.cancelled():
        raise WorkCancelled(result)
    missing = [r for r in outcome.results if not r.done]
    rest = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    raise WorkFailed(f"{missing[0].target}: {missing[0].message}{rest}", "", result)
