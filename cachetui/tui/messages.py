"""Messages that threads and widgets send to the screens."""

from __future__ import annotations

from collections.abc import Callable

from textual.message import Message


class Named(Message):
    """The scanning thread has put the first names into the feed."""


class Finished(Message):
    """Work in a thread is over; `then` is to be called in the UI's own thread."""

    def __init__(self, then: Callable[[], None]) -> None:
        super().__init__()
        self.then = then


class JobsMoved(Message):
    """Something about the jobs changed. A newer one replaces an older one: the state is asked for anyway."""

    def can_replace(self, message: Message) -> bool:
        """Only that it changed matters."""
        return isinstance(message, JobsMoved)


class Moved(Message):
    """A running operation made progress. A newer one replaces an older one that was not handled yet."""

    def __init__(self, done: int, total: int, name: str) -> None:
        super().__init__()
        self.done = done
        self.total = total
        self.name = name
        """An outside string."""

    def can_replace(self, message: Message) -> bool:
        """Only the newest count matters."""
        return isinstance(message, Moved)
