"""Giving up an interrupted job: what it copied so far goes, the originals were never touched."""

from __future__ import annotations

import os

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
    if "targets" not in spec.request:
        return 0, ""
    folders: tuple[str, ...]
    if to := spec.request.get("to"):
        folders = (os.path.join(to, archives.INCOMING),)
    else:
        folders = leftovers.incoming(find_roots(where)[0])
    return leftovers.discard(folders, frozenset(requests.targets_of(dict(spec.request))), fs=fs)
