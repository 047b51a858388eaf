"""Quantized models that are kept: an entry is a complete folder, named by what it depends on. No torch in here.

identity is what an entry depends on, manifest what it says of itself, checking whether that is so, listing what lies
in a folder, places where that is. Apart from these, for who changes something: making, how an entry comes to be, whole
or not at all; quarantining, where a damaged one goes; storage, what kind of drive it is.
"""

from __future__ import annotations

from cachetui.quantized_entries.checking import Checked, check
from cachetui.quantized_entries.identity import Identity, minor, source_digest
from cachetui.quantized_entries.listing import Entry, entries, find
from cachetui.quantized_entries.manifest import MANIFEST, File, Manifest, ManifestError, Source, read
from cachetui.quantized_entries.places import Place, folders, place

__all__ = [
    "MANIFEST",
    "Checked",
    "Entry",
    "File",
    "Identity",
    "Manifest",
    "ManifestError",
    "Place",
    "Source",
    "check",
    "entries",
    "find",
    "folders",
    "minor",
    "place",
    "read",
    "source_digest",
]
