"""How much of a GPU this process holds."""

from __future__ import annotations


def gpu_bytes() -> int:
    """Bytes of GPU memory that torch took in this process; 0 where there is none, or torch was not imported."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None:
        return 0
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return sum(int(torch.cuda.memory_reserved(n)) for n in range(torch.cuda.device_count()))
    if torch.backends.mps.is_available():
        return int(torch.mps.driver_allocated_memory())
    return 0
