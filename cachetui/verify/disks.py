"""How many readers a disk likes, and stepping aside for everybody else."""

from __future__ import annotations

import os
import threading

MOST_READERS = 4
_NICE = 10


def readers() -> int:
    """Threads for each disk: hashing lets them run side by side."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_READERS, available))


def step_aside() -> None:
    """Lower this thread's priority (and that of threads it starts) for processor and disk. Never raises."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), _NICE))
    except (OSError, AttributeError):
        pass
    import psutil  # late: only a worker calls this

    try:
        psutil.Process(threading.get_native_id()).ionice(psutil.IOPRIO_CLASS_BE, 7)
    except (psutil.Error, OSError, AttributeError, ValueError):
        pass
