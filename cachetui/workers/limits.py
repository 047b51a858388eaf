"""What a worker that opens files of others may use of the machine."""

from __future__ import annotations

import sys


def limit(memory: int, seconds: int) -> None:
    """Bytes of address space and seconds of processor time, where the system has such limits."""
    if sys.platform == "win32":
        return
    import resource

    for what, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds)):
        hard = resource.getrlimit(what)[1]
        try:
            resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
        except (ValueError, OSError):
            pass  # macOS refuses some: the parent's cancel and the kill of the group remain
