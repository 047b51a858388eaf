"""What an interrupted copy left in staging folders, when it is not to be continued."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cachetui.fs import DISK, Fs
from cachetui.model import Root
from cachetui.plans import places, vault
from cachetui.plans.lock import HeldError
from cachetui.transfer import staging


def incoming(roots: Iterable[Root]) -> tuple[str, ...]:
    """The staging folders of what was on its way back into these roots."""
    return tuple(os.path.join(trash, vault.INCOMING) for trash in places.existing(list(roots)))


def discard(folders: Iterable[str], wanted: Callable[[Mapping[str, Any]], bool], *, fs: Fs = DISK) -> tuple[int, str]:
    """Remove the copies, begun in these staging folders and not completed, whose header is wanted.

    How many, and why one stays (a live process works on it); empty when none does. Raises OSError.
    """
    count, why = 0, ""
    for folder in folders:
        for key, header in staging.leftovers(folder):
            if not wanted(header):
                continue
            try:
                with staging.open_staging(fs, folder, key, header) as left:
                    left.discard()
                count += 1
            except HeldError as e:
                why = str(e)
    return count, why
