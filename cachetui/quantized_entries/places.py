"""Where quantized models are kept, and whether there is room."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cachetui.config import Where

VARIABLE = "QWEN_CACHE"
DEFAULT = ".cache/qwen_quantized"
"""Below the home folder: where scripts of the older convention look too."""
LEAST_MARGIN, _MOST_MARGIN = 200_000_000, 5_000_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """One folder of quantized models."""

    path: str
    """Absolute."""
    origin: str
    """Why it is this one: --quant-dir, quant_dir of config.toml, QWEN_CACHE or default."""
    given: str = ""
    """As it was written, where that is not its path."""


@dataclass(frozen=True, slots=True)
class Room:
    """Whether something fits."""

    free: int
    """Bytes; -1 where that cannot be told."""
    margin: int
    """Bytes that are to stay free."""
    refused: str = ""
    """Why it does not fit; empty where it does."""
    warning: str = ""
    """That little is left then."""


def place(where: Where, given: str = "") -> Place:
    """The folder that is used: the one given, else `quant_dir`, else QWEN_CACHE, else ~/.cache/qwen_quantized."""
    return _candidates(where, given)[0]


def folders(where: Where) -> tuple[Place, ...]:
    """Every folder that is looked at, the one that is used first, each once; some may not be there."""
    found: dict[str, Place] = {}
    for candidate in _candidates(where, ""):
        found.setdefault(os.path.realpath(candidate.path), candidate)
    return tuple(found.values())


def _candidates(where: Where, given: str) -> list[Place]:
    named = (
        (given, "--quant-dir"),
        (where.config.quant_dir, "quant_dir of config.toml"),
        (where.env.get(VARIABLE, ""), VARIABLE),
    )
    found = [Place(where.resolve(text), origin, text) for text, origin in named if text]
    return [*found, Place(os.path.join(where.home, DEFAULT), "default")]


def room(folder: str, needed: int) -> Room:
    """Whether `needed` bytes fit into a folder that may not be there yet, with a margin that stays free."""
    above = folder
    while not os.path.isdir(above) and above != os.path.dirname(above):
        above = os.path.dirname(above)
    margin = min(max(needed // 20, LEAST_MARGIN), _MOST_MARGIN)
    try:
        st = os.statvfs(above)
    except OSError:
        return Room(-1, margin)
    free = st.f_bavail * st.f_frsize
    if needed + margin > free:
        return Room(
            free, margin, f"{_words(needed)} are needed and {_words(margin)} are to stay free, of {_words(free)}"
        )
    if needed + 4 * margin > free:
        return Room(free, margin, "", f"only {_words(free - needed)} will be left in {above}")
    return Room(free, margin)


def _words(count: int) -> str:
    from cachetui.units import size

    return size(count)
