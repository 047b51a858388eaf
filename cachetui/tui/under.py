"""Saved states stand under the model they belong to, where that is on disk. No Textual in here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cachetui.model import Item
from cachetui.state_items import PICTURES, STORE, TOKENS
from cachetui.state_models import model_of
from cachetui.tui.shelf import Held, Shelf

Key = tuple[str, str]
_PREFIX = f"{STORE}:"


@dataclass(frozen=True)
class Under:
    """Which states stand under which models. Keys are (root, id)."""

    states: dict[Key, list[tuple[str, Held]]] = field(default_factory=dict)
    """By model: (root, state) of each of its states."""
    nested: frozenset[Key] = frozenset()
    """Keys of all these states."""

    def rest(self, path: str, held: Iterable[Held]) -> list[Held]:
        """What of a root stands under no model."""
        return [h for h in held if (path, h.id) not in self.nested] if self.nested else list(held)


def arrange(shelf: Shelf, chosen: dict[str, list[Held]]) -> Under:
    """Put every state that is shown under its model, where that is shown too. `chosen`: what is shown, by root."""
    states = [(path, h) for path, some in chosen.items() for h in some if isinstance(h, Item) and is_state(h)]
    if not states:
        return Under()
    shown = {(path, h.id) for path, some in chosen.items() for h in some if isinstance(h, Item)}
    found: dict[Key, list[tuple[str, Held]]] = {}
    nested: set[Key] = set()
    roots = sorted(chosen, key=lambda path: shelf.roots[path].only_archive)
    for path, state in states:
        target = model_of(state)
        home = next((r for r in roots if (r, target) in shown), None) if target else None
        if home is not None:
            found.setdefault((home, target), []).append((path, state))
            nested.add((path, state.id))
    return Under(found, frozenset(nested))


def is_state(held: Held) -> bool:
    """Whether it is a saved state, or the name of one."""
    return held.id.startswith(_PREFIX)


def note(item: Item, states: int) -> str:
    """What stands behind a name: how many states a model has, what a state is of. May hold outside strings."""
    if states:
        return "1 state" if states == 1 else f"{states:,} states"
    if not is_state(item):
        return ""
    rows = dict(item.extra)
    tokens = f"{rows[TOKENS]} tokens" if TOKENS in rows else ""
    return ", ".join(text for text in (tokens, rows.get(PICTURES, "")) if text)
