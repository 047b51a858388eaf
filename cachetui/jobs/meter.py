"""How fast a job is: a moving average of its last seconds."""

from __future__ import annotations

from collections import deque

from cachetui.jobs.model import Json, Progress

_WINDOW = 15.0
_LEAST = 0.5


class Meter:
    """Turns counts into rate and time left. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._phase = ""
        self._samples: deque[tuple[float, int]] = deque()

    def update(self, message: Json, now: float) -> Progress | None:
        """The progress that a `progress` message means; None where it makes no sense."""
        phase, done, total = message.get("phase"), message.get("done"), message.get("total")
        unit, name = message.get("unit", "bytes"), message.get("name", "")
        if not (isinstance(phase, str) and isinstance(unit, str) and isinstance(name, str)):
            return None
        if type(done) is not int or type(total) is not int or done < 0 or total < 0:
            return None
        samples = self._samples
        if phase != self._phase or (samples and done < samples[-1][1]):
            self._phase = phase
            samples.clear()
        samples.append((now, done))
        while len(samples) > 2 and now - samples[0][0] > _WINDOW:
            samples.popleft()
        since, before = samples[0]
        rate = (done - before) / (now - since) if now - since >= _LEAST else 0.0
        eta = max(total - done, 0) / rate if rate > 0 and total else None
        return Progress(phase, done, total, unit, rate, eta, name)

    def restart(self) -> None:
        """Forget what was: the time until now was a pause."""
        self._samples.clear()
