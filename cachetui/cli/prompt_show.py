"""What came of a prompt: the answer as it streams, how it went, a row for each of many, JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetui import units
from cachetui.cli import common, data
from cachetui.cli.data import Json, plain
from cachetui.cli.table import Column, out, style, table
from cachetui.jobs.model import Ended, JobState, Progress
from cachetui.text import safe, safe_block

if TYPE_CHECKING:
    from cachetui.jobs.warm import Warm
    from cachetui.runnable import Runnable

Tell = Callable[[Progress], None]
_FIRST_WORDS = 60


class Stream:
    """An answer on stdout, piece by piece."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent
        self._open = False

    def write(self, piece: str) -> None:
        """Some more of it."""
        if piece and not self._silent:
            text = safe_block(piece)
            sys.stdout.write(text)
            sys.stdout.flush()
            self._open = not text.endswith("\n")

    def end(self) -> None:
        """The line is full, whatever still comes."""
        if self._open:
            self._open = False
            sys.stdout.write("\n")
            sys.stdout.flush()


@dataclass(frozen=True)
class Row:
    """One model that was asked. Strings may come from outside."""

    target: str
    name: str
    works: bool = False
    engine: str = ""
    folder: str = ""
    load_seconds: float = 0.0
    memory: int = 0
    rate: float = 0.0
    """Tokens a second."""
    first_seconds: float = 0.0
    text: str = ""
    reason: str = ""
    advice: str = ""
    state: str = ""
    """Path of the saved state that it was asked from."""
    state_seconds: float = 0.0
    state_tokens: int = 0

    def to_json(self) -> Json:
        """For --json."""
        return {
            "target": plain(self.target), "name": plain(self.name), "works": self.works, "engine": self.engine,
            **data.path_fields(self.folder, "folder"), "load_seconds": self.load_seconds, "memory": self.memory,
            "tokens_per_second": self.rate, "first_token_seconds": self.first_seconds, "text": plain(self.text),
            "reason": plain(self.reason), "advice": plain(self.advice),
            "state": data.path_fields(self.state) | {"seconds": self.state_seconds, "tokens": self.state_tokens}
            if self.state else None,
        }  # fmt: skip


def row_of(subject: Runnable, ended: Ended, warm: Warm | None, state: str = "", state_tokens: int = 0) -> Row:
    """What came of one question."""
    result = ended.result or {}
    works = ended.state is JobState.DONE
    return Row(
        subject.target,
        subject.name,
        works,
        subject.engine,
        str(result.get("folder") or subject.file or subject.wanted.folder),
        number(result, "load_seconds"),
        warm.memory if warm is not None else 0,
        number(result, "tokens_per_second"),
        number(result, "first_token_seconds"),
        str(result.get("text") or ""),
        "" if works else ended.reason or "it was stopped",
        ended.advice or str(result.get("advice") or ""),
        state,
        number(result, "state_seconds"),
        state_tokens,
    )


def number(values: Json, key: str) -> float:
    """A number of a worker's result; 0.0 where it is none."""
    value = values.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def seconds(value: float) -> str:
    """`12 s`, `1.4 s`, `38 ms`; empty for 0."""
    if value <= 0:
        return ""
    if value < 0.1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"


def say_how(chosen: Runnable, ended: Ended, state: str = "") -> None:
    """On stderr: the figures of an answer, or why there is none and what to do."""
    result = ended.result or {}
    if ended.state is JobState.FAILED:
        named = ended.reason.startswith(chosen.name)
        common.say(safe_block(ended.reason if named else f"{chosen.name}: {ended.reason}"))
        if ended.advice:
            common.say(safe_block(ended.advice))
        return
    if "tokens" not in result:
        common.say("Stopped." + (f" {ended.reason}" if ended.reason else ""))
        return
    rate = number(result, "tokens_per_second")
    words = [f"{result['tokens']} tokens" + (f", {rate:.1f} a second" if rate else "")]
    if first := seconds(number(result, "first_token_seconds")):
        words.append(f"the first after {first}")
    if result.get("state_used"):
        name = os.path.basename(str(result.get("state") or state))
        words.append(f"from the saved state {name}, loaded in {seconds(number(result, 'state_seconds')) or '0 ms'}")
    else:
        words.append("no saved state")
    if result.get("loaded_now"):
        how = ", ".join(w for w in (str(result.get(k) or "") for k in ("device", "dtype", "quantization")) if w)
        words.append(f"model loaded in {seconds(number(result, 'load_seconds'))}" + (f" ({how})" if how else ""))
    else:
        words.append("model was in memory")
    common.prose(safe("; ".join(words)))
    for note in (result.get("notes") or ()) if result.get("loaded_now") else ():
        common.say(safe_block(str(note)))
    if result.get("finish") == "length" and not result.get("advice"):
        common.say("It stopped at the limit: --max-new-tokens N lets it go on.")
    if result.get("advice"):
        common.say(safe_block(str(result["advice"])))
    if ended.state is JobState.CANCELLED:
        common.say("Stopped.")


def emit_one(chosen: Runnable, ended: Ended, warm: Warm | None) -> None:
    """The one JSON object of one answer."""
    result = ended.result or {}
    row = row_of(chosen, ended, warm).to_json()
    keys = ("tokens", "prompt_tokens", "seconds", "finish", "state_used", "state_seconds", "device", "dtype")
    more = {key: result.get(key) for key in keys}
    code = result.get("code")
    data.emit({"verb": "prompt", **row, **more, "state_reason": plain(str(result.get("reason") or "")), "code": code})


def rows(found: Sequence[Row], missing: Sequence[str], *, stopped: bool, binary: bool, as_json: bool) -> None:
    """One line a model, failures in full below, and what of the catalogue is not here."""
    failed = sum(not r.works for r in found)
    if as_json:
        data.emit({
            "verb": "prompt", "rows": [r.to_json() for r in found], "failed": failed, "stopped": stopped,
            "not_here": list(missing),
        })  # fmt: skip
        return
    if any(r.state for r in found):
        _states(found)
    elif found:
        _models(found, binary)
    for r in found:
        if not r.works:
            out(style(f"{safe(os.path.basename(r.state) or r.name)}: ", bold=True) + safe_block(r.reason))
            if r.advice:
                out("  " + safe_block(r.advice).replace("\n", "\n  "))
    if found:
        out(f"{len(found)} asked, {len(found) - failed} answered" + (f", {failed} failed" if failed else ""))
    if missing:
        common.say("Not on disk (cachetui pull):" + "".join(f"\n  {safe(m)}" for m in missing))
    if stopped:
        common.say("Interrupted: the rest was not asked.")


def _models(found: Sequence[Row], binary: bool) -> None:
    heads = (
        Column("model", flex=True), Column("loads"), Column("in", right=True), Column("memory", right=True),
        Column("tokens/s", right=True), Column("first", right=True, spare=True), Column("says", flex=True),
    )  # fmt: skip
    table(heads, [
        (
            r.name, "yes" if r.works else "no", seconds(r.load_seconds),
            units.size(r.memory, binary=binary) if r.memory else "", f"{r.rate:.1f}" if r.rate else "",
            seconds(r.first_seconds), words_of(r),
        )
        for r in found
    ])  # fmt: skip


def _states(found: Sequence[Row]) -> None:
    heads = (
        Column("state", flex=True), Column("tokens", right=True), Column("loaded in", right=True),
        Column("first", right=True), Column("says", flex=True),
    )  # fmt: skip
    table(heads, [
        (
            os.path.basename(r.state), f"{r.state_tokens:,}" if r.state_tokens else "", seconds(r.state_seconds),
            seconds(r.first_seconds), words_of(r, most=1000),
        )
        for r in found
    ])  # fmt: skip


def words_of(row: Row, most: int = _FIRST_WORDS) -> str:
    """The first words of an answer, on one line; of a failure the reason."""
    text = " ".join((row.text if row.works else row.reason).split())
    return text if len(text) <= most else text[: most - 1] + "…"
