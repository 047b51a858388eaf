"""The downloads themselves: several connections over all files, ranges of big ones, each placed when its hash agrees.

Whatever is killed or fails goes on from its durable ranges. A file whose hash is wrong is fetched once more, then
reported; one that a server sends whole only is left to huggingface_hub (`Report.for_hub`).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cachetui.download import errors, hashing, reuse, sinks
from cachetui.download.client import Client
from cachetui.download.errors import PullCancelled, PullError
from cachetui.download.fetching import Changed, Fetch, NoRanges, Pace, Settings, Source, WrongSize
from cachetui.download.layout import Layout
from cachetui.download.partial import Partial, clear

SMALL = 8 << 20
"""Up to this size a file comes in one piece and without a journal."""
_LEAST_PIECE = 4 << 20
_RETRY_LOCK = 0.5
_ENDS_ALL = frozenset(
    (errors.OFFLINE, errors.UNREACHABLE, errors.STALLED, errors.GATED, errors.DENIED, errors.NO_REPO, errors.BUSY)
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One content to get, and the names it has in the repo."""

    etag: str
    size: int
    paths: tuple[str, ...]
    url: str
    origin: reuse.Origin | None = None
    """Where the same bytes lie on this machine."""


@dataclass
class Report:
    """What became of it."""

    placed: list[str] = field(default_factory=list)
    """Paths that came over the network."""
    reused: list[str] = field(default_factory=list)
    """Paths whose bytes were on this machine."""
    here: list[str] = field(default_factory=list)
    """Paths that somebody else put there meanwhile."""
    failed: dict[str, PullError] = field(default_factory=dict)
    for_hub: list[Wanted] = field(default_factory=list)
    """The server sends these whole only."""
    received: int = 0
    """Bytes over the network."""


class _Big:
    """A file that comes in pieces."""

    def __init__(self, wanted: Wanted, lock: int, partial: Partial) -> None:
        self.wanted, self.lock, self.partial = wanted, lock, partial
        self.source = Source(wanted.url, wanted.size, wanted.paths[0], tag=partial.tag)
        self.pieces: deque[tuple[int, int]] = deque()
        self.active = 0
        self.abandoned: Exception | None = None
        self.repeats = 0
        self.thread: threading.Thread | None = None

    def cut(self, settings: Settings) -> None:
        """Pieces of what is missing: many enough for all connections."""
        share = -(-self.wanted.size // (2 * settings.connections))
        length = max(min(share, settings.piece), min(_LEAST_PIECE, settings.piece))
        for start, end in self.partial.written.gaps(self.wanted.size):
            self.pieces += [(at, min(at + length, end)) for at in range(start, end, length)]


class Engine:
    """One download. `progress(done, total, name)` counts bytes; it and `log(line)` are called from many threads."""

    def __init__(
        self,
        client: Client,
        layout: Layout,
        wanted: Sequence[Wanted],
        settings: Settings,
        *,
        progress: Callable[[int, int, str], None],
        cancelled: Callable[[], bool],
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client, self._layout, self._settings = client, layout, settings
        self._pace = Pace(settings.patience, cancelled)
        # Small ones first: what is gated, gone or mistyped shows before the first big file.
        self._todo = deque(sorted(wanted, key=lambda w: (w.size > SMALL, w.paths[0])))
        self._waiting: deque[Wanted] = deque()
        self._bigs: list[_Big] = []
        self._held: dict[str, float] = {}
        """Since when somebody else holds the lock of a content, by etag; monotonic seconds."""
        self._told: set[str] = set()
        self._log = log
        self._turn = threading.Condition()
        self._busy = 0
        self._fatal: BaseException | None = None
        self._tell, self._total, self._done = progress, sum(w.size for w in wanted), 0
        self.report = Report()

    def run(self) -> Report:
        """Until everything is there, or failed. Raises PullError, PullCancelled, OSError; what came stays."""
        count = max(1, min(self._settings.connections, 64))
        threads = [threading.Thread(target=self._work, name=f"connection {n}", daemon=True) for n in range(count)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self._pace.stop.set()
        for big in list(self._bigs):
            self._leave(big)
        if self._fatal is not None:
            raise self._fatal
        self._pace.stop.clear()
        self._pace.check()
        return self.report

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except BaseException as e:  # whatever it is: others wait for this thread
                self._end(errors.no_room(e) if isinstance(e, OSError) else e)
            finally:
                with self._turn:
                    self._busy -= 1
                    self._turn.notify_all()

    def _end(self, error: BaseException) -> None:
        with self._turn:
            self._fatal = self._fatal or error
            self._pace.stop.set()
            for big in self._bigs:
                big.partial.fail(PullCancelled())
            self._turn.notify_all()

    def _next(self) -> Callable[[], None] | None:
        """What a connection does next; None when nothing is left, or all is over."""
        with self._turn:
            while self._fatal is None:
                for big in self._bigs:
                    if big.pieces and big.abandoned is None:
                        piece = big.pieces.popleft()
                        big.active += 1
                        self._busy += 1
                        return lambda big=big, piece=piece: self._piece(big, piece)  # type: ignore[misc]
                if not self._todo and self._waiting and self._busy == 0 and not self._bigs:
                    self._turn.wait(_RETRY_LOCK)
                    self._todo, self._waiting = self._waiting, deque()
                if self._todo:
                    wanted = self._todo.popleft()
                    self._busy += 1
                    return lambda wanted=wanted: self._open(wanted)  # type: ignore[misc]
                if not self._waiting and self._busy == 0 and not self._bigs:
                    return None
                self._turn.wait(0.5)
                if self._pace.cancelled():
                    self._fatal = self._fatal or PullCancelled()
            return None

    def _open(self, wanted: Wanted) -> None:
        self._pace.check()
        lock = self._layout.lock(wanted.paths, wanted.etag)
        if lock is None:
            self._wait_for(wanted)
            return
        keep = False
        try:
            if self._layout.is_there(wanted.paths, wanted.etag, wanted.size):
                self._layout.name(wanted.paths, wanted.etag)
                clear(self._layout.fs, *self._layout.partial(wanted.paths, wanted.etag))
                self._count(wanted.size, wanted.paths[0])
                self._note(self.report.here, wanted)
            elif wanted.origin is not None and self._reuse(wanted, wanted.origin):
                self._note(self.report.reused, wanted)
            elif wanted.size <= min(SMALL, self._settings.chunk):
                self._small(wanted)
            else:
                self._begin(wanted, lock)
                keep = True
        finally:
            if not keep:
                os.close(lock)

    def _wait_for(self, wanted: Wanted) -> None:
        """Somebody else downloads it: that is said, and after a while what to do about it, once."""
        who, path, now = self._layout.holder(wanted.paths, wanted.etag), wanted.paths[0], time.monotonic()
        with self._turn:
            since = self._held.setdefault(wanted.etag, now)
            late = now - since >= self._settings.lock_patience and wanted.etag not in self._told
            if late:
                self._told.add(wanted.etag)
            advice = ": end it, or cancel this" if wanted.etag in self._told else ""
            self._waiting.append(wanted)
        self._tell(self._done, self._total, f"waits for {who}, which downloads {path}{advice}")
        if late:
            self._log(
                f"{path} is still locked by {who} after {(now - since) / 60:.0f} min. "
                "If that hangs, end it and this goes on; or cancel this one: what came stays."
            )

    def _reuse(self, wanted: Wanted, origin: reuse.Origin) -> bool:
        def arrived(count: int) -> None:
            self._count(count, wanted.paths[0])

        if not reuse.fill(self._layout, wanted.paths, wanted.etag, wanted.size, origin, arrived, self._pace.check):
            return False
        if origin.how == reuse.SHARED:
            arrived(wanted.size)
        return True

    def _note(self, where: list[str], wanted: Wanted) -> None:
        with self._turn:
            where += wanted.paths

    def _count(self, bytes_: int, name: str, *, received: bool = False) -> None:
        with self._turn:
            self._done += bytes_
            self.report.received += bytes_ if received else 0
            done = self._done
        self._tell(done, self._total, name)

    def _fetch(self, wanted: Callable[[], bool]) -> Fetch:
        return Fetch(self._client, self._pace, self._settings, wanted)

    # Files in one piece.

    def _small(self, wanted: Wanted) -> None:
        folder, name = self._layout.partial(wanted.paths, wanted.etag)
        source = Source(wanted.url, wanted.size, wanted.paths[0])
        with sinks.Whole(self._layout.fs, folder, name, wanted, self._arrived(wanted)) as sink:
            problem: Exception = WrongSize("it did not come")
            for _ in range(2):
                try:
                    self._fetch(lambda: True).run(source, 0, wanted.size, sink)
                    if sink.digest() == wanted.etag:
                        sink.settle()
                        self._layout.place(sink.name, wanted.paths, wanted.etag, durable=False)
                        self._note(self.report.placed, wanted)
                        return
                    problem = _damaged(wanted)
                except (WrongSize, Changed) as e:
                    problem = e
                except PullError as e:
                    sink.discard()
                    self._fail(wanted, e)
                    return
                source.resolved = source.tag = ""
                sink.again()
            sink.discard()
        self._fail(wanted, problem)

    def _arrived(self, wanted: Wanted) -> Callable[[int], None]:
        return lambda count: self._count(count, wanted.paths[0], received=count > 0)

    def _fail(self, wanted: Wanted, problem: Exception) -> None:
        """A file that will not come. Raises what ends everything."""
        if isinstance(problem, PullError) and problem.code in _ENDS_ALL:
            raise problem
        if not isinstance(problem, PullError):
            words = str(problem) or f"{wanted.paths[0]} changed on the server while it came"
            problem = PullError(errors.CONTENT, words, "try again later, or another mirror (HF_ENDPOINT)")
        with self._turn:
            for path in wanted.paths:
                self.report.failed[path] = problem

    # Files in many pieces.

    def _begin(self, wanted: Wanted, lock: int) -> None:
        folder, name = self._layout.partial(wanted.paths, wanted.etag)
        partial = Partial(self._layout.fs, folder, name, wanted.size, wanted.etag)
        big = _Big(wanted, lock, partial)
        big.cut(self._settings)
        self._count(partial.written.total, wanted.paths[0])
        with self._turn:
            self._bigs.append(big)
            self._turn.notify_all()
        self._watch(big)

    def _watch(self, big: _Big) -> None:
        big.thread = threading.Thread(target=self._hash, args=(big,), name="hash", daemon=True)
        big.thread.start()

    def _piece(self, big: _Big, piece: tuple[int, int]) -> None:
        sink = sinks.Ranged(big.partial, self._settings.segment, self._arrived(big.wanted), piece[0])
        try:
            self._fetch(lambda: big.abandoned is None).run(big.source, *piece, sink)
        except (Changed, NoRanges, WrongSize) as e:
            big.abandoned = big.abandoned or e
        except PullError as e:
            big.abandoned = big.abandoned or e
        finally:
            try:
                sink.end()
            finally:
                with self._turn:
                    big.active -= 1
                    last = big.active == 0 and big.abandoned is not None
        if last:
            self._give_up(big)

    def _give_up(self, big: _Big) -> None:
        """Nobody writes any more: begin again, hand it to the library, or report it."""
        problem = big.abandoned
        assert problem is not None
        big.partial.fail(problem)
        if big.thread is not None:
            big.thread.join()
        if isinstance(problem, Changed | WrongSize) and self._again(big):
            self._watch(big)
            return
        self._count(-big.partial.written.total, big.wanted.paths[0])
        if not isinstance(problem, PullError):
            big.partial.discard()
        self._leave(big)
        if isinstance(problem, NoRanges):
            with self._turn:
                self.report.for_hub.append(big.wanted)
        else:
            self._fail(big.wanted, problem)

    def _again(self, big: _Big) -> bool:
        """Start a file over, once."""
        if big.repeats:
            return False
        big.repeats += 1
        self._count(-big.partial.written.total, big.wanted.paths[0])
        big.partial.restart()
        big.source.resolved = big.source.tag = ""
        with self._turn:
            big.pieces.clear()
            big.cut(self._settings)
            big.abandoned = None
            self._turn.notify_all()
        return True

    def _hash(self, big: _Big) -> None:
        """The thread behind a file's front: its hash, and then its place."""
        wanted = big.wanted

        def over() -> bool:
            return self._pace.stop.is_set() or self._pace.cancelled() or big.abandoned is not None

        try:
            while (digest := hashing.follow(big.partial, wanted.etag, over)) is not None:
                if digest == wanted.etag:
                    big.partial.flush()
                    self._layout.place(big.partial.name, wanted.paths, wanted.etag, durable=True)
                    big.partial.drop_journal()
                    self._note(self.report.placed, wanted)
                elif self._again(big):
                    continue
                else:
                    big.partial.discard()
                    self._fail(wanted, _damaged(wanted))
                self._leave(big)
                return
        except BaseException as e:  # whatever it is: others wait for this thread
            self._end(errors.no_room(e) if isinstance(e, OSError) else e)

    def _leave(self, big: _Big) -> None:
        """Let go of a file, with what came of it made durable."""
        if big.thread is not None and big.thread is not threading.current_thread():
            big.partial.fail(PullCancelled())
            big.thread.join()
        big.partial.close()
        with self._turn:
            if big in self._bigs:
                self._bigs.remove(big)
                os.close(big.lock)
            self._turn.notify_all()


def _damaged(wanted: Wanted) -> PullError:
    return PullError(
        errors.CONTENT,
        f"{wanted.paths[0]} came twice with content that is not what its hash says; nothing of it was kept",
        "a proxy or mirror changes it on the way: try another network or HF_ENDPOINT",
    )
