"""Who holds memory of a card: asked of the driver's own library, where there is one."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

from cachetui.memory.holders import Holder, holders


class NVMLError(Exception):
    """As pynvml's."""


def library(**functions: object) -> ModuleType:
    """nvidia-ml-py's module as it answers on a machine with a card; this one may have none."""
    module = ModuleType("pynvml")
    rows = [
        SimpleNamespace(pid=os.getpid(), usedGpuMemory=2_000_000),
        SimpleNamespace(pid=1 << 29, usedGpuMemory=None),
    ]
    module.__dict__.update({
        "NVMLError": NVMLError, "nvmlInit": lambda: None, "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2, "nvmlDeviceGetHandleByIndex": lambda n: n,
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: rows, **functions,
    })  # fmt: skip
    return module


def refuse() -> None:
    raise NVMLError


def test_processes_on_all_cards_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library())
    first, second = holders()
    assert (first.pid, first.bytes) == (os.getpid(), 4_000_000) and first.name
    assert second == Holder(1 << 29, "", 0)


def test_without_a_card_nobody_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlInit=refuse))
    assert holders() == ()
    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlDeviceGetCount=refuse))
    assert holders() == ()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert holders() == ()
