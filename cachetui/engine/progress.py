"""transformers' own progress bars as calls: how far loading is, and the place where it can be stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cachetui.engine.errors import Cancelled

Progress = Callable[[str, int, int, str], None]
"""(phase, done, total, name); phases: prepare, load, write."""
Stop = Callable[[], bool]

_PHASES = {"Loading weights": "load", "Writing model shards": "write"}


class Reporter:
    """Who is told, and who may stop it; both may be None."""

    def __init__(self, progress: Progress | None, cancelled: Stop | None) -> None:
        self._progress = progress
        self._cancelled = cancelled

    def tell(self, phase: str, done: int, total: int, name: str = "") -> None:
        """Pass on, and raise Cancelled where it is to stop."""
        self.check()
        if self._progress is not None:
            self._progress(phase, done, total, name)

    def check(self) -> None:
        """Raises Cancelled."""
        if self._cancelled is not None and self._cancelled():
            raise Cancelled


class _Bar:
    """What transformers takes for a tqdm bar (utils/logging.py: EmptyTqdm)."""

    def __init__(self, reporter: Reporter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._reporter = reporter
        items: Any = args[0] if args else kwargs.get("iterable", ())
        self._items = items
        said = str(kwargs.get("desc") or "")
        self._phase = _PHASES.get(said, said or "load")
        total = kwargs.get("total")
        if total is None and hasattr(items, "__len__"):
            total = len(items)
        self._total = int(total or 0)
        self._done = 0

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            # Parameters come as (name, what becomes of it).
            name = item[0] if isinstance(item, tuple) and item and isinstance(item[0], str) else ""
            self._reporter.tell(self._phase, self._done, self._total, name)
            yield item
            self._done += 1
        self._reporter.tell(self._phase, self._done, self._total, "")

    def update(self, n: int | float | None = 1) -> None:
        """Some more are done."""
        self._done += int(n or 0)
        self._reporter.tell(self._phase, self._done, self._total, "")

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


@contextmanager
def listening(reporter: Reporter) -> Iterator[None]:
    """While this lasts, bars of transformers go to `reporter`."""
    from transformers.utils import logging

    before = logging.set_tqdm_hook(lambda _factory, args, kwargs: _Bar(reporter, args, kwargs))
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)
