"""Which folder a download goes to, and how other programs find it there."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cachetui import hub_layout
from cachetui.config import Where


@dataclass(frozen=True, slots=True)
class Place:
    """A hub cache to download into."""

    path: str
    """Absolute."""
    exists: bool
    found_by: tuple[str, ...]
    """What makes other programs look there: settings of variables, an argument. Empty where they look anyway."""


def hub_place(where: Where, given: str = "") -> Place:
    """The hub cache: the one of the environment, or what `--cache-dir` means.

    A folder that holds `models--*` is used as it is; one that holds `hub/`, is empty or does not exist gets `hub/`
    inside, as HF_HOME would.
    """
    usual, _ = hub_layout.hub_cache(where.env, where.home)
    usual = where.resolve(usual)
    if not given:
        return Place(usual, os.path.isdir(usual), ())
    full = where.resolve(given)
    if full == usual or os.path.realpath(full) == os.path.realpath(usual):
        return Place(full, os.path.isdir(full), ())
    if hub_layout.is_hub_layout(full):
        return Place(full, True, (f"HF_HUB_CACHE={full}", f'cache_dir="{full}"'))
    inside = os.path.join(full, "hub")
    if os.path.realpath(inside) == os.path.realpath(usual):
        return Place(inside, os.path.isdir(inside), ())
    return Place(inside, os.path.isdir(inside), (f"HF_HOME={full}", f'cache_dir="{inside}"'))


def nearest(path: str) -> str:
    """The folder itself, or the first one above it that exists."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path
