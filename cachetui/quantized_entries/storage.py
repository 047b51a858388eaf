"""What kind of drive a folder lies on, and what that means for loading from it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cachetui.filesystem import mount_of
from cachetui.transfer.medium import rotates
from cachetui.units import size

_BLOCKS = Path("/sys/dev/block")
_MEMORY = frozenset(("tmpfs", "ramfs"))
SSD, ROTATING, NETWORK, MEMORY, UNKNOWN = "SSD", "rotating", "network", "memory", "unknown"
_RATES = {SSD: (500, 3000), ROTATING: (100, 220), NETWORK: (50, 110), MEMORY: (2000, 8000)}
"""MB/s of reading in order: what such drives usually reach, not what this one was measured at."""
_MEANS = {
    SSD: "quick to load from",
    ROTATING: "loading waits for the disk: an SSD is several times quicker",
    NETWORK: "loading waits for the network, and stops where the server is away",
    MEMORY: "the quickest, and gone when the machine restarts; it takes the memory that models need",
    UNKNOWN: "a virtual disk, or one whose speed cannot be told",
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
        return f"{size(count)} usually take {found[0]:.1f} to {found[1]:.1f} s to read"


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
    return Storage(SSD if _is_solid(above, mount.source) else UNKNOWN, mount.type)


def _is_solid(path: str, source: str) -> bool:
    """Whether a drive without a head stands behind it, as far as the system tells: a virtual disk may be anything."""
    try:
        device = os.stat(source).st_rdev if source.startswith("/dev/") else os.stat(path).st_dev
        return _solid(f"{os.major(device)}:{os.minor(device)}")
    except (OSError, AttributeError):
        return False


def _solid(device: str) -> bool:
    """Whether a block device, or all that it stands on (crypt, LVM, RAID), is one. Raises OSError."""
    real = (_BLOCKS / device).resolve(strict=True)
    if below := list((real / "slaves").glob("*")):
        return all(_solid((slave / "dev").read_text().strip()) for slave in below)
    folder = real if (real / "queue").is_dir() else real.parent
    if any(part.startswith(("nvme", "mmcblk")) for part in real.parts):
        return True
    return any(p.startswith("sd") for p in real.parts) and (folder / "queue/rotational").read_text().strip() == "0"
