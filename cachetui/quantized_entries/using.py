"""A model that is to be quantized while it is loaded: where an entry of exactly that is kept, the entry instead."""

from __future__ import annotations

from dataclasses import replace

from cachetui.config import Where
from cachetui.quantized_entries.checking import check
from cachetui.quantized_entries.listing import find
from cachetui.quantized_entries.places import folders
from cachetui.quantized_entries.wishes import NotHere, identify
from cachetui.wanted import Wanted


def kept(where: Where, wanted: Wanted) -> Wanted:
    """`wanted` with the folder of its entry, made for no LoRA and found good by a quick look; else unchanged.

    Only of a repo's revision: to know a folder again, all of it would have to be read.
    """
    if not wanted.bits or not wanted.commit:
        return wanted
    try:
        identity = identify(wanted)
    except NotHere:
        return wanted
    for place in folders(where):
        entry = find(place.path, identity)
        if entry is not None and check(entry.path):
            return replace(wanted, folder=entry.path, dtype=identity.dtype)
    return wanted
