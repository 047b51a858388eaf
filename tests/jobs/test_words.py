"""Progress in words."""

from __future__ import annotations

from functools import partial

from cachetui import units
from cachetui.jobs import words
from cachetui.jobs.model import Progress

SIZE = partial(units.size, binary=False)


def test_bytes_have_a_rate_and_an_end() -> None:
    told = Progress("copy", 10**9, 3 * 10**9, rate=1e8, eta=20.0, name="w.safetensors")
    assert words.line(told, SIZE) == "copying  33 %  1.0 GB of 3.0 GB  100.0 MB/s  0:20 left  w.safetensors"


def test_steps_are_not_alike_and_promise_nothing() -> None:
    told = Progress("prepare", 1, 4, "steps", rate=0.7, eta=2.0, name="libraries")
    assert words.line(told, SIZE) == "preparing  25 %  1 of 4 steps  libraries"
