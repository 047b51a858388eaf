"""A picture that was read before: the fields are set as they were then, so that the saved state is gone on from."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from typing import TYPE_CHECKING

from cachetui import walk
from cachetui.model import Item
from cachetui.tui import background
from cachetui.tui.talk import NOISE, Options
from cachetui.tui.widgets.prompt_pane import PromptPane

if TYPE_CHECKING:
    from cachetui.states import Identity
    from cachetui.tui.screens.prompt import PromptScreen

_MOST = 64 << 20
"""Bytes of a picture that are read to know it again."""


def look(screen: PromptScreen, spec: str, options: Options) -> None:
    """Once for each picture, while neither system prompt nor resolution are set: find a state that was made with some.

    One that was made without either is found by the worker itself.
    """
    scan = screen.cachetui.main.shelf.scan
    if scan is None or not screen.runnable.saves_states or spec in ("", NOISE) or spec in screen.known:
        return
    if options.system or options.max_pixels or options.resize:
        return
    screen.known.add(spec)
    states = [i for i in scan.items if i.store == "state"]
    wanted = screen.runnable.wanted

    def came(who: Identity | None) -> None:
        if who is None or not screen.is_attached:
            return
        pane = screen.query_one(PromptPane)
        now = screen.options()
        if now is None or now.system or pane.picture != spec:
            return
        pane.set_like(who, spec)
        screen.cachetui.main.tell(
            "There is a saved state of this picture. Its system prompt is set, so that answers start from it."
        )

    if states:
        work = partial(_find, states, spec, wanted.repo, wanted.commit)
        background.start(screen, work, came, lambda e: None, "known")


def _find(states: list[Item], spec: str, repo: str, commit: str) -> Identity | None:
    """The newest state of this model and picture alone that has a system prompt or another resolution."""
    from cachetui.state_items import info_of
    from cachetui.states import StateError

    digest = ""
    for item in sorted(states, key=lambda i: -(i.last_modified or 0.0)):
        try:
            who = info_of(f"{item.root}/{item.path}").identity
        except StateError:
            continue
        if (who.repo, who.commit) != (repo, commit) or len(who.images) != 1 or not commit:
            continue
        digest = digest or hashlib.sha256(walk.read_small(os.path.realpath(spec), _MOST)).hexdigest()
        if who.images[0].sha256 == digest and (who.system or who.max_pixels or who.resize):
            return who
    return None
