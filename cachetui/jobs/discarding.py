"""Giving up an interrupted job: what it copied so far goes, the originals were never touched."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from cachetui import archives
from cachetui.config import Where
from cachetui.fs import DISK, Fs
from cachetui.jobs import requests, unfinished
from cachetui.jobs.model import Spec
from cachetui.scan import find_roots
from cachetui.transfer import leftovers


def discard(spec: Spec, where: Where, *, fs: Fs = DISK) -> tuple[int, str]:
    """Remove what a job copied so far and offer it no more: how many copies went, and why one stays.

    Raises TakenError when another instance goes on with it, OSError.
    """
    unfinished.claim(spec, fs=fs)  # whoever goes on with it at this moment was first
    count, why = _copies(spec, where, fs)
    if not why:
        unfinished.drop(spec.id, fs=fs)
    return count, why


def _copies(spec: Spec, where: Where, fs: Fs) -> tuple[int, str]:
    """Beside where they were to go, and beside the roots that they were to come back to."""
    request = dict(spec.request)
    items = frozenset(requests.targets_of(request)) if "targets" in request else frozenset()
    to = request.get("to") or request.get("directory") or ""
    folders = list(leftovers.incoming(find_roots(where)[0]))
    if to:
        folders += [os.path.join(folder, archives.INCOMING) for folder in (to, os.path.dirname(to))]

    def wanted(header: Mapping[str, Any]) -> bool:
        if header.get("verb") != spec.kind:
            return False
        if spec.kind == "move-root":
            return (header.get("root"), header.get("place")) == (request.get("root"), to)
        return (header.get("root"), header.get("target")) in items or (spec.kind == "adopt" and not items)

    return leftovers.discard(folders, wanted, fs=fs)
