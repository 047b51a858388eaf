"""What kind of drive a folder lies on, and what that means for loading from it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cachetui.filesystem import mount_of
from cachetui.transfer.medium import rotates
from cachetui.units import size

_MEMORY = frozenset(("tmpfs", "ramfs"))
SSD, ROTATING, NETWORK, MEMORY, UNKNOWN = "SSD", "rotating", "network", "memory", "unknown"
_RATES = {SSD: (500, 3000), ROTATING: (100, 220), NETWORK: (50, 110), MEMORY: (2000, 8000)}
"""MB/s of reading in order: what such drives usually reach, not what this one was measured at."""
_MEANS = {
    SSD: "quick to load from",
    ROTATING: "loading waits for the disk: an SSD is several times quicker",
    NETWORK: "loading waits for the network, and stops where the server is away",
    MEMORY: "the quickest, and gone when the machine restarts; it takes the memory that models need",
    UNKNOWN: "how quick it is cannot be told",
}


@dataclass(frozen=True, slots=True)
class Storage:
    """A kind of drive."""

    kind: str
    """SSD, rotating, network, memory or unknown."""
    file_system: str

    @property
    def words(self) -> str:
        """For people: kind and what it means."""
        named = f" ({self.file_system})" if self.file_system else ""
        return f"{self.kind}{named}: {_MEANS[self.kind]}"

    def seconds(self, count: int) -> tuple[float, float] | None:
        """Between which times reading so many bytes usually takes; None where that cannot be said."""
        rates = _RATES.get(self.kind)
        return None if rates is None else (count / rates[1] / 1e6, count / rates[0] / 1e6)

    def load_words(self, count: int) -> str:
        """The same in words: `2.1 GB take 0.7 to 4.2 s to read`."""
        found = self.seconds(count)
        if found is None or count <= 0:
            return ""
        return f"{size(count)} usually take {found[0]:.1f} to {found[1]:.1f} s to read from it"


def storage(folder: str) -> Storage:
    """Of a folder, or of the nearest one above it that is there. Never raises."""
    above = os.path.realpath(folder)
    while not os.path.isdir(above) and above != os.path.dirname(above):
        above = os.path.dirname(above)
    mount = mount_of(above)
    if mount is None:
        return Storage(UNKNOWN, "")
    if mount.type in _MEMORY:
        return Storage(MEMORY, mount.type)
    if mount.network:
        return Storage(NETWORK, mount.type)
    if rotates(above):
        return Storage(ROTATING, mount.type)
    return Storage(SSD if _is_disk(above, mount.source) else UNKNOWN, mount.type)


def _is_disk(path: str, source: str) -> bool:
    """Whether a block device stands behind it, as far as can be told: then it is one without a head."""
    if source.startswith("/dev/"):
        return True
    try:
        return os.major(os.stat(path).st_dev) != 0
    except (OSError, AttributeError):
        return False
