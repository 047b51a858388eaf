"""What a Hub has newer than this machine: asked only with --outdated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cachetui.cli import common
from cachetui.cli.common import Failed
from cachetui.cli.data import plain
from cachetui.model import ARCHIVED, FOREIGN, OFFLINE, Item
from cachetui.text import safe

if TYPE_CHECKING:
    from cachetui.download.updates import Upstream

_REF = "main"
_SHOWN = 5


class Newer:
    """The answers, by item."""

    def __init__(self, answers: Iterable[Upstream]) -> None:
        every = list(answers)
        self.asked = len(every)
        self.unknown = [a for a in every if not a.there]
        self._found = {a.item.key: a for a in every if a.outdated}

    def __contains__(self, item: Item) -> bool:
        return item.key in self._found

    def text(self, item: Item) -> str:
        """For the listing: both commits."""
        found = self._found[item.key]
        return f"outdated: here {found.here[:7]}, upstream {found.there[:7]}"

    def data(self, item: Item) -> dict[str, Any]:
        """As JSON."""
        found = self._found[item.key]
        return {"ref": found.ref, "here": found.here, "there": found.there}

    def unknown_data(self) -> list[dict[str, Any]]:
        """What could not be told, as JSON."""
        return [{"id": a.item.id, "root": plain(a.item.root), "reason": plain(a.reason)} for a in self.unknown]

    def say(self) -> None:
        """What a person must know beside the list; to stderr."""
        for a in self.unknown[:_SHOWN]:
            common.say(safe(f"{a.item.id}: cannot be told: {a.reason}"))
        if self.asked and not self._found and not self.unknown:
            common.say("Every main that is here is the one upstream.")
        if len(self.unknown) > _SHOWN:
            common.say(f"and {len(self.unknown) - _SHOWN} more cannot be told")


def newer(items: Iterable[Item]) -> Newer:
    """Ask the Hub about each repo of a hub cache that has main. Raises Failed where nothing may be asked."""
    from cachetui.download.client import Client
    from cachetui.download.errors import PullError
    from cachetui.download.updates import check

    away = {ARCHIVED, FOREIGN, OFFLINE}
    try:
        return Newer(check(Client(tries=2), [i for i in items if not away & set(i.states)], _REF))
    except PullError as e:
        raise Failed(safe(str(e)) + (f"\n{safe(e.advice)}" if e.advice else "")) from None
