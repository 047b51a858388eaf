"""One connection at work: a range of a file, with retries that go on from the last byte that came."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cachetui.download import errors
from cachetui.download.client import Answer, Client, Unavailable, where
from cachetui.download.errors import PullCancelled, PullError

BUFFER = 1 << 20
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_LONGEST = 30.0
_RESTARTS = 5


class Changed(Exception):
    """The file on the server is not the one that was begun."""


class NoRanges(Exception):
    """The server sends whole files only."""


class WrongSize(Exception):
    """The server's file has another size than its list says."""


@dataclass(slots=True)
class Settings:
    """How hard to try. Sizes in bytes, times in seconds."""

    connections: int = 8
    chunk: int = 16 << 20
    """What one connection may have under way that is not durable yet: what a kill costs at most, for each."""
    piece: int = 64 << 20
    """At most so much is asked for at once."""

    @property
    def buffer(self) -> int:
        """Bytes that a connection gathers before it writes them."""
        return max(min(BUFFER, self.chunk // 4), 1)

    @property
    def segment(self) -> int:
        """Bytes that are made durable at once: two of them, each at most a buffer longer, are a chunk."""
        return max(self.chunk // 2 - self.buffer, 1)

    patience: float = 600.0
    """Without a byte for so long it is given up."""
    lock_patience: float = 60.0
    """What another program downloads is waited for as long as it takes; after this it is said what can be done."""
    first_wait: float = 1.0
    """Before the first new try; doubled up to 30 s."""


@dataclass
class Pace:
    """What all connections share: when a byte came last, and until when a server asked to be left alone."""

    patience: float
    cancelled: Callable[[], bool]
    moved: float = field(default_factory=time.monotonic)
    quiet_until: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise PullCancelled when it is over."""
        if self.stop.is_set() or self.cancelled():
            raise PullCancelled

    def wait(self, seconds: float, reason: str) -> None:
        """Wait before a new try, and as long as any server asked for. Raises PullError when patience is at its end."""
        until = max(time.monotonic() + seconds, self.quiet_until)
        if until - self.moved > self.patience:
            silent = (time.monotonic() - self.moved) / 60
            raise PullError(
                errors.STALLED,
                f"no byte came for {silent:.0f} minutes; the last reason: {reason}"
                if time.monotonic() - self.moved > self.patience
                else f"{reason}: it asks to wait longer than {self.patience / 60:.0f} minutes",
                "check the network and start it again: it goes on where it stopped",
            )
        while (left := until - time.monotonic()) > 0:
            self.check()
            self.stop.wait(min(left, 0.2))
        self.check()


@dataclass(slots=True)
class Source:
    """Where a file comes from: its address on the Hub, and where that led last."""

    url: str
    size: int
    name: str
    resolved: str = ""
    """The signed address the Hub redirected to; empty before, and after it stopped working."""
    tag: str = ""
    """Strong ETag of what lies there, for If-Range."""
    ranged: bool = False
    """It answered a range as one."""


class Sink(Protocol):
    """Where bytes go, in order."""

    def write(self, data: memoryview, offset: int) -> None:
        """Take bytes."""

    def tag(self, tag: str) -> None:
        """The server's ETag is known."""

    def again(self) -> None:
        """Everything comes once more from the beginning. Raises NoRanges where that is not possible."""


class Fetch:
    """Fetches [start, end) of a source into a sink. `wanted()` is asked often; False ends it early."""

    def __init__(self, client: Client, pace: Pace, settings: Settings, wanted: Callable[[], bool]) -> None:
        self._client, self._pace, self._settings, self._wanted = client, pace, settings, wanted
        self._buffer = bytearray(settings.buffer)

    def run(self, source: Source, start: int, end: int, sink: Sink) -> None:
        """Until all came. Raises PullError, PullCancelled, Changed, NoRanges, WrongSize, OSError of the sink."""
        at, wait, refused, restarts = start, self._settings.first_wait, False, 0
        while at < end and self._wanted():
            self._pace.check()
            before = at
            try:
                at = self._once(source, at, end, sink, whole=start == 0 and end == source.size)
                reason = f"{where(source.resolved or source.url)} ended early"
                asked: float | None = None
            except _Restarted:
                at, restarts = start, restarts + 1
                if restarts > _RESTARTS:
                    raise PullError(
                        errors.SERVER, f"{where(source.url)} sends {source.name} from the beginning only, and never all"
                    ) from None
                continue
            except PullError as e:
                # A signed address lives for a while only: asked anew once.
                if not source.resolved or refused or e.code not in (errors.DENIED, errors.NO_REPO, errors.SERVER):
                    raise
                refused, source.resolved = True, ""
                continue
            except _Broken as e:
                at, reason = e.at, f"{where(source.resolved or source.url)}: {e.cause}"
                asked = e.cause.after if isinstance(e.cause, Unavailable) else None
            if at >= end or not self._wanted():
                return
            if at > before:
                wait, refused = self._settings.first_wait, False
            if asked is not None:
                self._pace.quiet_until = max(self._pace.quiet_until, time.monotonic() + asked)
            self._pace.wait(asked if asked is not None else wait * random.uniform(0.75, 1.25), reason)
            wait = min(wait * 2, _LONGEST)

    def _once(self, source: Source, at: int, end: int, sink: Sink, *, whole: bool) -> int:
        """One request; how far it got. Raises _Broken with that where it broke."""
        headers = {} if whole and at == 0 else {"Range": f"bytes={at}-{end - 1}"}
        if headers and source.tag:
            headers["If-Range"] = source.tag
        got = _Position(at)
        try:
            with self._client.open("GET", source.resolved or source.url, headers) as answer:
                if answer.url != source.url:
                    source.resolved = answer.url
                if answer.status == 416:
                    raise WrongSize(f"{where(answer.url)} has no byte {at} of {source.name}")
                self._client.must_be_ok(answer)
                self._accept(source, answer, at, sink, asked=bool(headers))
                self._read(answer, got, end, sink)
        except self._client.transient as e:
            raise _Broken(got.at, e) from e
        return got.at

    def _accept(self, source: Source, answer: Answer, at: int, sink: Sink, *, asked: bool) -> None:
        """Whether this response is what was asked for."""
        encoded = answer.header("Content-Encoding").lower() not in ("", "identity")
        total: int | None = None
        if answer.status == 206:
            match = _RANGE.fullmatch(answer.header("Content-Range"))
            if match is None or int(match[1]) != at or encoded:
                raise Unavailable("it sends another range than was asked for")
            total = None if match[3] == "*" else int(match[3])
        elif not encoded and answer.header("Content-Length").isdigit():
            total = int(answer.header("Content-Length"))
        if answer.linked_size not in (None, source.size) or total not in (None, source.size):
            size = total if total not in (None, source.size) else answer.linked_size
            raise WrongSize(
                f"{where(answer.url)} sends {size} bytes for {source.name}, which is listed with {source.size}"
            )
        tag = answer.header("ETag")
        strong = tag if tag.startswith('"') else ""
        if answer.status == 206:
            if source.tag and strong and strong != source.tag:
                raise Changed
            source.ranged = True
        elif asked:
            if source.tag and strong and strong != source.tag:
                raise Changed
            sink.again()
        if strong != source.tag:
            source.tag = strong
            sink.tag(strong)
        if answer.status != 206 and asked and at > 0:
            raise _Restarted

    def _read(self, answer: Answer, got: _Position, end: int, sink: Sink) -> None:
        """Bytes to the sink, a buffer at a time; what came before a break is kept."""
        view, filled = memoryview(self._buffer), 0
        encoded = answer.header("Content-Encoding").lower() not in ("", "identity")
        chunks = answer.response.iter_bytes() if encoded else answer.response.iter_raw()
        try:
            for chunk in chunks:
                chunk = chunk[: end - got.at - filled]
                while chunk:
                    part = chunk[: len(view) - filled]
                    view[filled : filled + len(part)] = part
                    filled += len(part)
                    chunk = chunk[len(part) :]
                    if filled == len(view):
                        filled = self._pass_on(view, filled, got, sink)
                self._pace.check()
                if not self._wanted():
                    break
                if got.at + filled >= end:
                    break
        finally:
            if filled:
                self._pass_on(view, filled, got, sink)

    def _pass_on(self, view: memoryview, filled: int, got: _Position, sink: Sink) -> int:
        sink.write(view[:filled], got.at)
        got.at += filled
        self._pace.moved = time.monotonic()
        return 0


@dataclass(slots=True)
class _Position:
    at: int


class _Broken(Exception):
    """A connection broke at a byte."""

    def __init__(self, at: int, cause: Exception) -> None:
        super().__init__(str(cause))
        self.at = at
        self.cause = cause


class _Restarted(Exception):
    """The sink starts from the beginning."""
