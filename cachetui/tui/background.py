"""Work beside the UI: one daemon thread a piece, the result handed back as a message."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from textual.message_pump import MessagePump

from cachetui.tui.messages import Finished, Moved

T = TypeVar("T")


def start(
    pump: MessagePump,
    work: Callable[[], T],
    then: Callable[[T], None],
    failed: Callable[[Exception], None],
    name: str = "work",
) -> None:
    """Run `work` in a thread of its own; `then` (or `failed`) gets the result in the UI's thread.

    The thread is a daemon: what it does to the disk is journalled, so quitting never has to wait for it.
    """

    def body() -> None:
        try:
            result = work()
        except Exception as e:  # whatever went wrong is told to the person, not to a dead thread
            error = e
            pump.post_message(Finished(lambda: failed(error)))
        else:
            pump.post_message(Finished(lambda: then(result)))

    threading.Thread(target=body, name=f"cachetui-{name}", daemon=True).start()


class Steps:
    """A `plans.model.Progress` that sends its counts to a screen."""

    def __init__(self, pump: MessagePump) -> None:
        self._pump = pump

    def advance(self, done: int, total: int, name: str) -> None:
        """Called from the working thread."""
        self._pump.post_message(Moved(done, total, name))
