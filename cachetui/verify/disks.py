"""How many readers a disk likes, and stepping aside for everybody else."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from cachetui import filesystem

_BLOCKS = Path("/sys/dev/block")
MOST_READERS = 4
_NICE = 10


def readers() -> int:
    """Threads for each disk: hashing lets them run side by side."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_READERS, available))


def is_rotational(path: str, dev: int) -> bool:
    """Whether a path lies on a disk with heads that move, as far as the kernel knows; False where it does not."""
    numbers = [dev]
    if os.major(dev) == 0:  # btrfs, overlay: ask for what is mounted
        mount = filesystem.mount_of(path)
        try:
            if mount is not None and mount.source.startswith("/dev/"):
                numbers = [os.stat(mount.source).st_rdev]
        except OSError:
            return False
    for number in numbers:
        try:
            block = (_BLOCKS / f"{os.major(number)}:{os.minor(number)}").resolve(strict=True)
        except OSError:
            continue
        for place in (block, block.parent):  # a partition's queue is that of its disk
            try:
                return (place / "queue" / "rotational").read_text(encoding="ascii").strip() == "1"
            except OSError:
                continue
    return False


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
