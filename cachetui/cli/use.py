"""Who has a model open, and remembering it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cachetui.model import Item, Problem

if TYPE_CHECKING:
    from cachetui.inuse import User


@dataclass(frozen=True)
class Users:
    """Processes by (root, id) of the item they have open."""

    by_key: dict[tuple[str, str], tuple[User, ...]]
    problems: tuple[Problem, ...] = ()
    """Where it could not be told."""

    def data(self, item: Item) -> list[dict[str, Any]]:
        """For JSON; `pid` is null where only that somebody has it open is known."""
        from cachetui.cli.data import plain

        return [{"pid": u.pid or None, "name": plain(u.name), "how": u.how} for u in self.by_key.get(item.key, ())]

    def text(self, item: Item) -> str:
        """For people: `python (4211)`; an outside string."""
        return ", ".join(f"{u.name} ({u.pid})" if u.pid else u.name for u in self.by_key.get(item.key, ()))


def users_of(items: Sequence[Item]) -> Users:
    """Who has these open now; what is in use is noted in the usage log."""
    from cachetui import inuse

    found = inuse.users(items)
    unchecked = sum(inuse.Unchecked in who for who in found.values())
    seen = {key: real for key, who in found.items() if (real := tuple(u for u in who if u != inuse.Unchecked))}
    used = [i for i in items if i.key in seen]
    if used:
        from cachetui.marks import record_use

        try:
            record_use(used, time.time())
        except OSError:
            pass  # a note for later; the listing is what was asked for
    if not unchecked:
        return Users(seen)
    message = (
        f"whether other users' processes have {'it' if len(items) == 1 else f'{unchecked} of these'} open is unknown"
    )
    return Users(
        seen, (Problem("unchecked", message, hint="run it as the user whose processes these are, or as root"),)
    )
