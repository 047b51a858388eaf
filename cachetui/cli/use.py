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
    """Why some could not be looked at."""

    def data(self, item: Item) -> list[dict[str, Any]]:
        """For JSON."""
        from cachetui.cli.data import plain

        return [{"pid": u.pid, "name": plain(u.name), "how": u.how} for u in self.by_key.get(item.key, ())]

    def text(self, item: Item) -> str:
        """For people: `python (4211)`; an outside string."""
        return ", ".join(f"{u.name} ({u.pid})" for u in self.by_key.get(item.key, ()))


def users_of(items: Sequence[Item]) -> Users:
    """Who has these open now; what is in use is noted in the usage log."""
    from cachetui import inuse

    try:
        found = inuse.users(items)
    except inuse.Unchecked as e:
        return Users({}, (Problem("unchecked", f"which processes have it open could not be checked: {e}"),))
    used = [i for i in items if found.get(i.key)]
    if used:
        from cachetui.marks import record_use

        try:
            record_use(used, time.time())
        except OSError:
            pass  # a note for later; the listing is what was asked for
    return Users(found)
