"""What must be set before torch and transformers are imported: offline, quiet, as many threads as there are cores."""

from __future__ import annotations

import os
import warnings
from functools import cache
from logging import CRITICAL, getLogger
from pathlib import Path

from cachetui import paths

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "USE_HUB_KERNELS": "NO"}
"""The last one: a package `kernels` that happens to be installed would fetch native code while models are built."""
_QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "BITSANDBYTES_NOWELCOME": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def cores() -> int:
    """Physical cores that this process may use; more threads than that make torch ten times slower."""
    import psutil

    physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    quota = _quota()
    return max(min(physical, allowed, quota or physical), 1)


def _quota() -> int:
    """Processors that the control group of a container grants, rounded up; 0: no limit."""
    try:
        most, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return 0 if most == "max" else max(-(-int(most) // int(period)), 1)
    except (OSError, ValueError):
        return 0


def prepare(offline: bool) -> None:
    """Set the process up for loading models. Before torch is imported; a second call changes nothing.

    `offline`: nothing may be fetched (workers). A program that uses `cachetui.VLM` decides that for itself.
    """
    if offline:
        os.environ.update(_OFFLINE)
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        warnings.simplefilter("ignore")  # of libraries to their programmers
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(paths.torch_dir()))
    for name in _THREADS:
        os.environ.setdefault(name, str(cores()))


@cache
def settle() -> None:
    """The rest, once torch and transformers are imported: threads, no bars and no chatter of theirs on the terminal."""
    import torch
    from transformers.utils import logging

    getLogger("bitsandbytes").setLevel(CRITICAL)
    if torch.get_num_threads() > cores():
        torch.set_num_threads(cores())
    logging.set_verbosity_error()
    logging.disable_progress_bar()
