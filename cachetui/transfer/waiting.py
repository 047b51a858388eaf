"""Waiting for another cachetui that works on the same trash for a moment, when hours of copying hang on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cachetui.plans import lock
from cachetui.transfer.copying import CancelledError, CopyProgress, never


@contextmanager
def long(progress: CopyProgress | None, total: int, cancelled: Callable[[], bool] = never) -> Iterator[None]:
    """Within this a lock is waited for lock.LONG seconds, which is told as phase `wait` of `total` bytes.

    Raises CancelledError (while it waits).
    """

    def tell(why: str) -> None:
        if cancelled():
            raise CancelledError
        if progress is not None:
            progress.advance("wait", total, total, why)

    with lock.patience(lock.LONG, tell):
        yield
