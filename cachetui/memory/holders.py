"""Who holds memory of NVIDIA cards: what to end when a model does not go in."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import psutil


@dataclass(frozen=True, slots=True)
class Holder:
    """One process."""

    pid: int
    name: str
    """Of the program; empty where it cannot be asked."""
    bytes: int
    """0 where the driver does not tell."""


def holders() -> tuple[Holder, ...]:
    """Processes that compute on a card, the largest first. Empty without nvidia-ml-py or a card. Never raises."""
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return ()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return ()
    found: dict[int, int] = {}
    try:
        for n in range(nvml.nvmlDeviceGetCount()):
            for row in _processes(nvml, n):
                found[int(row.pid)] = found.get(int(row.pid), 0) + int(row.usedGpuMemory or 0)
    except nvml.NVMLError:
        pass
    finally:
        nvml.nvmlShutdown()
    return tuple(Holder(pid, _name(pid), size) for pid, size in sorted(found.items(), key=lambda p: -p[1]))


def _processes(nvml: Any, number: int) -> list[Any]:
    return list(nvml.nvmlDeviceGetComputeRunningProcesses(nvml.nvmlDeviceGetHandleByIndex(number)))


def _name(pid: int) -> str:
    try:
        return str(psutil.Process(pid).name())
    except (psutil.Error, ValueError):
        return ""
