"""What there is to run a model on, and whether it goes in.

RAM by psutil; NVIDIA cards through nvidia-ml-py where it is installed (extra `gpu`); on Apple silicon one memory
serves both; or a card that is only named.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from importlib import import_module

from cachetui import units
from cachetui.memory.model import BEST_FIRST, KV, Device, Estimate, Fit, Mode, Verdict

GIB = 1 << 30
_MOST_GB = 512
"""A number without a unit is so many GB at most."""
_TIGHT = 0.9
"""From this share of what is usable on it is tight: fragmentation, other programs, a longer prompt."""
_APPLE_SHARE = 0.75
"""Of its memory macOS lets the GPU take about this much by default."""

CARDS: Mapping[str, float] = {
    "gtx 1060": 6, "gtx 1070": 8, "gtx 1080": 8, "gtx 1080 ti": 11, "gtx 1650": 4, "gtx 1660": 6, "gtx 1660 ti": 6,
    "rtx 2060": 6, "rtx 2070": 8, "rtx 2080": 8, "rtx 2080 super": 8, "rtx 2080 ti": 11, "titan rtx": 24,
    "rtx 3050": 8, "rtx 3060": 12, "rtx 3060 ti": 8, "rtx 3070": 8, "rtx 3070 ti": 8, "rtx 3080": 10,
    "rtx 3080 ti": 12, "rtx 3090": 24, "rtx 3090 ti": 24, "rtx 4060": 8, "rtx 4060 ti": 8, "rtx 4070": 12,
    "rtx 4070 ti": 12, "rtx 4070 ti super": 16, "rtx 4080": 16, "rtx 4080 super": 16, "rtx 4090": 24,
    "rtx 5060": 8, "rtx 5060 ti": 16, "rtx 5070": 12, "rtx 5070 ti": 16, "rtx 5080": 16, "rtx 5090": 32,
    "rtx a2000": 6, "rtx a4000": 16, "rtx a5000": 24, "rtx a6000": 48, "rtx 6000 ada": 48,
    "t4": 16, "p100": 16, "v100": 16, "v100 32gb": 32, "a10": 24, "a16": 16, "a30": 24, "a40": 48, "a100": 40,
    "a100 80gb": 80, "l4": 24, "l40": 48, "l40s": 48, "h100": 80, "h200": 141, "b200": 180,
    "rx 6800": 16, "rx 6900 xt": 16, "rx 7600": 8, "rx 7800 xt": 16, "rx 7900 xt": 20, "rx 7900 xtx": 24,
    "mi210": 64, "mi250": 128, "mi300x": 192, "arc a770": 16, "arc b580": 12,
}  # fmt: skip
"""Memory in GiB as their makers print it on the box."""


class UnknownCard(ValueError):
    """No such card in the table; the text names the near ones."""


def named_card(name: str) -> Device:
    """A card by its name, in any spelling (`RTX2080`, `nvidia geforce rtx 2080`). Raises UnknownCard."""
    key = _plain(name)
    table = {_plain(card): (card, gib) for card, gib in CARDS.items()}
    if key not in table:
        near = [card for plain, (card, _) in table.items() if key and (key in plain or plain in key)]
        hint = f"; there are {', '.join(n.upper() for n in near[:6])}" if near else ""
        raise UnknownCard(f"{name} is not in the table{hint}; or give its memory, such as 8GB")
    card, gib = table[key]
    total = int(gib * GIB)
    return Device(card.upper().replace(" TI", " Ti").replace(" SUPER", " Super"), "card", total, total, "named")


def _plain(name: str) -> str:
    text = re.sub(r"nvidia|geforce|amd|radeon|intel|tesla|quadro", "", name.lower())
    text = re.sub(r"(\d)\s*gb\b", r"\1gb", text)
    return re.sub(r"[^a-z0-9]", "", text)


def card_of(size: int) -> Device:
    """A card of which only the memory is known, in bytes."""
    return Device(f"a card with {size / 1e9:.1f} GB", "card", size, size, "given")


def card(text: str) -> Device:
    """A card as a person writes it: a name, or how much memory it has (`8GB`, `8`). Raises UnknownCard."""
    wanted = text.strip()
    bare = re.fullmatch(r"[0-9]+(\.[0-9]+)?", wanted) is not None
    if bare and float(wanted) > _MOST_GB:
        return named_card(wanted)
    try:
        return card_of(units.parse_size(wanted + "GB" if bare else wanted))
    except ValueError:
        return named_card(wanted)


def chosen(text: str) -> tuple[Device, ...]:
    """What the user compares with: this card, or with no text this machine. Raises UnknownCard."""
    return (card(text),) if text.strip() else here()


def ram() -> int:
    """Bytes of memory that this machine has."""
    import psutil

    return int(psutil.virtual_memory().total)


def here() -> tuple[Device, ...]:
    """What this machine has, GPUs first. Never raises."""
    import psutil

    memory = psutil.virtual_memory()
    if sys.platform == "darwin" and platform.machine() == "arm64":
        usable = min(int(memory.total * _APPLE_SHARE), memory.available)
        return (Device("Apple unified memory", "unified", memory.total, usable, "three quarters of it at most"),)
    return (*_nvidia(), Device("RAM", "ram", memory.total, memory.available, "free now"))


def _nvidia() -> list[Device]:
    try:
        pynvml = import_module("pynvml")
    except ImportError:
        return []
    found = []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        for n in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(n)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            name = pynvml.nvmlDeviceGetName(handle)
            name = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
            found.append(Device(name, "gpu", int(memory.total), int(memory.free), "free now"))
    except pynvml.NVMLError:
        pass
    finally:
        pynvml.nvmlShutdown()
    return found


def fit_of(need: int, device: Device) -> Fit:
    """Whether so many bytes go in."""
    if need > device.usable:
        return Fit.NO
    return Fit.TIGHT if need > device.usable * _TIGHT else Fit.FITS


def verdicts(estimate: Estimate, device: Device) -> tuple[Verdict, ...]:
    """Every mode that the model has, on one device, training last."""
    found = []
    for mode in (*estimate.modes, estimate.training):
        if mode.reason:
            continue
        context = -1
        if estimate.cache is not None and any(line.name == KV for line in mode.lines):
            context = estimate.cache.largest(device.usable - mode.total + mode.kv, mode.width)
        found.append(Verdict(mode.name, mode.total, fit_of(mode.total, device), context))
    return tuple(found)


def first_that_fits(estimate: Estimate, device: Device) -> Mode | None:
    """The mode with the least loss that goes in; one that is tight only where no other does."""
    tight = None
    for name in BEST_FIRST:
        mode = estimate.mode(name)
        if mode is None:
            continue
        fit = fit_of(mode.total, device)
        if fit is Fit.FITS:
            return mode
        if fit is Fit.TIGHT and tight is None:
            tight = mode
    return tight
