"""Which cached repos have a newer commit upstream than the one their ref names here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cachetui.download.client import Client, offline
from cachetui.download.errors import UNREACHABLE, PullError
from cachetui.download.listing import look_up
from cachetui.download.spelling import HubName, parse_hub
from cachetui.model import Item

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Upstream:
    """What the Hub says about one ref of an item."""

    item: Item
    ref: str
    here: str
    """Commit that the ref names on this machine."""
    there: str
    """Commit that it names upstream; empty where that cannot be told."""
    reason: str = ""
    """Why it cannot be told."""

    @property
    def outdated(self) -> bool:
        """Upstream has another commit. Pulling it keeps the old revision until that is deleted."""
        return bool(self.there) and self.there != self.here


def check(
    client: Client, items: Iterable[Item], ref: str = "main", *, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[Upstream]:
    """Ask for each repo of a hub cache that has this ref, in order. Raises PullError where nothing may be asked.

    Once the Hub does not answer, the others are not asked: each would wait as long.
    """
    if client.offline:
        raise offline()
    wanted = [(i, r.commit) for i in items if i.store == "hf" for r in i.revisions if ref in r.refs]

    silent: list[str] = []

    def ask(pair: tuple[Item, str]) -> Upstream:
        item, commit = pair
        if cancelled() or silent:
            return Upstream(item, ref, commit, "", silent[0] if silent else "not asked")
        try:
            name = parse_hub(item.id)
            found, _ = look_up(client, HubName(name.kind, name.repo, ref))
        except PullError as e:
            if e.code == UNREACHABLE:
                silent.append(str(e))
            return Upstream(item, ref, commit, "", str(e))
        return Upstream(item, ref, commit, found)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(ask, wanted)
