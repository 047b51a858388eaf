"""Deleting through a server that serves the store: second names into the entry first, then its own API."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cachetui.fs import Fs
from cachetui.plans.model import PlannedItem, Result, TrashPlace


def delete(
    fs: Fs,
    place: TrashPlace,
    operation: str,
    when: float,
    items: Sequence[PlannedItem],
    advance: Callable[[str], None],
) -> dict[str, Result]:
    """Results by target."""
    return {i.target: Result(i.target, place.root, False, "the server cannot be asked") for i in items}
