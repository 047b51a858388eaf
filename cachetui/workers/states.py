"""Saved states for who asks about pictures: the one that fits a question, and where a new one goes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from cachetui import state_folders, state_items, states
from cachetui.config import Where
from cachetui.states import Identity, StateInfo

_MOST = 10_000
"""Files of a folder that are looked at."""
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


def fitting(who: Identity, folders: Iterable[str] = ()) -> str:
    """Path of the newest state of exactly this, in these folders; default: all that states are kept in. Or empty."""
    wanted = [i.sha256 for i in who.images]
    best: StateInfo | None = None
    for path in _files(folders or [f.path for f in state_folders.folders(Where.current())]):
        try:
            info = states.read(path)
        except states.StateError:
            continue
        if [i.sha256 for i in info.identity.images] == wanted and info.identity.key == who.key:
            best = info if best is None or info.created > best.created else best
    return best.path if best is not None else ""


def _files(folders: Iterable[str]) -> Iterator[str]:
    """What begins as a state does."""
    for folder in folders:
        try:
            names = sorted(os.listdir(folder))[:_MOST]
        except OSError:
            continue
        for name in names:
            if state_items.is_state(path := os.path.join(folder, name)):
                yield path


def file_name(who: Identity, model: str) -> str:
    """For a state whose folder alone was named: picture, model, and what tells it from its likes."""
    pictures = [_plain(os.path.splitext(os.path.basename(i.name))[0]) for i in who.images[:2]]
    words = [*pictures, _plain(model.rpartition("/")[2]), who.key[:8]]
    return "-".join(w for w in words if w) + ".safetensors"


def _plain(text: str) -> str:
    return _ODD.sub("_", text)[:60].strip("._-")


def place(output: str, who: Identity, model: str) -> str:
    """The path that `--output FILE|DIR` means; empty: in the default folder, which is made. OSError."""
    if not output:
        folder = state_folders.default(Where.current())
        os.makedirs(folder.path, mode=0o700, exist_ok=True)
        output = folder.path
    if os.path.isdir(output) or output.endswith(os.sep):
        return os.path.join(os.path.abspath(output), file_name(who, model))
    return os.path.abspath(output)
