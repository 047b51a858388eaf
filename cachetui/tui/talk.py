"""A conversation with one model: what was asked, what came, and the lines that show it. No Textual widgets in here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from textual.content import Content

from cachetui import units
from cachetui.jobs.model import Ended, JobState
from cachetui.tui.text import Part, block, hang, line, words

DIM, STRONG, GOOD, WARN, BAD = "$foreground-muted", "bold", "$text-success", "$text-warning", "$text-error"
NOISE = "noise"
"""Stands for a random test picture wherever a path to one may stand."""
_INDENT = 7
_LEAST_GAIN = 1.5
_TOKEN_BYTES = 4.0
"""Bytes of text in a token, by a rule of thumb."""
_AROUND = 8
"""Tokens that templates put around a question."""
_UNITS = {"k": 10**3, "m": 10**6}


Prefix = tuple[str, str, int, tuple[int, int] | None, int]
"""What a saved state is made of: picture, system prompt, most pixels, size, seed."""


class TurnState(StrEnum):
    """Where a question stands."""

    ASKED = "asked"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Options:
    """What the fields of the pane say, checked."""

    system: str = ""
    max_new_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    max_pixels: int = 0
    """0: the picture as it is."""
    resize: tuple[int, int] | None = None
    device: str = "auto"
    bits: int = 0
    """4, 8, or 0 for as stored."""


@dataclass
class Turn:
    """One question and its answer."""

    text: str
    picture: str = ""
    """Path or `noise`; empty: asked without one. An outside string."""
    options: Options = field(default_factory=Options)
    state: TurnState = TurnState.ASKED
    answer: str = ""
    """What came so far. Model output."""
    doing: str = ""
    """What happens until the first token comes. An outside string."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """The worker's last words: figures of the answer."""
    reason: str = ""
    advice: str = ""

    @property
    def prefix(self) -> Prefix:
        """What is read before the question itself."""
        o = self.options
        return self.picture, o.system, o.max_pixels, o.resize, o.seed

    @property
    def figures(self) -> list[str]:
        """How fast it went, and whether a saved state was used; empty until it has ended."""
        r = self.result
        out: list[str] = []
        if tokens := _number(r, "tokens"):
            out.append(f"{tokens:,.0f} token{'' if tokens == 1 else 's'}")
        if rate := _number(r, "tokens_per_second"):
            out.append(f"{rate:,.1f} tokens/s")
        if first := _number(r, "first_token_seconds"):
            out.append(f"first after {seconds(first)}")
        if load := _number(r, "load_seconds"):
            out.append(f"loaded in {seconds(load)}")
        if r.get("state_used"):
            out.append(f"from a saved state (read in {seconds(_number(r, 'state_seconds'))})")
        elif self.picture and r:
            out.append("no saved state used")
        if r.get("finish") == "length":
            out.append(f"stopped at {self.options.max_new_tokens} tokens")
        return out


@dataclass
class Talk:
    """All turns with one model in this run of the program, oldest first."""

    turns: list[Turn] = field(default_factory=list)
    saved: set[Prefix] = field(default_factory=set)
    """What was saved here: not offered again."""

    @property
    def last(self) -> Turn | None:
        """The newest."""
        return self.turns[-1] if self.turns else None

    def questions(self) -> list[str]:
        """What was asked, newest first, each once."""
        return list(dict.fromkeys(t.text for t in reversed(self.turns)))


def _number(values: Mapping[str, Any], key: str) -> float:
    value = values.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def seconds(count: float) -> str:
    """A short time for people: 84 ms, 2.1 s, 3 min 20 s."""
    if count < 1:
        return f"{count * 1000:.0f} ms"
    if count < 90:
        return f"{count:.1f} s"
    return f"{int(count) // 60} min {int(count) % 60} s"


def turn_lines(turn: Turn, width: int, picture_name: str) -> list[Content]:
    """Question, answer, figures; wrapped for a width."""
    out = _said("you", "bold $text-primary", block(turn.text, STRONG), width)
    if picture_name:
        out += hang(Content(""), line(("picture ", DIM), (picture_name, "$foreground 80%")), _INDENT, width)
    out.append(Content(""))
    if turn.answer or turn.state is TurnState.DONE:
        shown = block(turn.answer.strip("\n")) if turn.answer.strip() else words("(it said nothing)", DIM)
        out += _said("model", "bold $text-accent", shown, width)
    if turn.state is TurnState.ASKED:
        out += hang(Content(""), line(("▌ " if turn.answer else "", "$accent"), (turn.doing, DIM)), _INDENT, width)
    elif turn.state is TurnState.CANCELLED:
        out += hang(Content(""), words(f"stopped: {turn.reason}" if turn.reason else "stopped", WARN), _INDENT, width)
    elif turn.state is TurnState.FAILED:
        out += hang(words("✗", BAD), block(turn.reason or "it failed", BAD), _INDENT, width)
    if turn.figures:
        out += hang(Content(""), words(" · ".join(turn.figures), DIM), _INDENT, width)
    if turn.advice:
        style = GOOD if turn.state is TurnState.FAILED else DIM
        out += hang(words("  →", style), block(turn.advice), _INDENT, width)
    return [*out, Content("")]


def _said(who: str, style: str, what: Content, width: int) -> list[Content]:
    return hang(words(who, style), what, _INDENT, width)


def lowering(text: str) -> tuple[int, tuple[int, int] | None]:
    """What `lower to` says: most pixels (`500k`, `1M`, 250000), or a size (`640x480`). Raises ValueError."""
    text = text.strip().lower().replace(",", "").replace("×", "x")
    if not text:
        return 0, None
    wide, x, high = text.partition("x")
    try:
        if x:
            size = (int(wide), int(high))
            if min(size) < 1:
                raise ValueError
            return 0, size
        factor = _UNITS.get(text[-1], 1)
        count = int(float(text[:-1] if factor > 1 else text) * factor)
        if count < 1:
            raise ValueError
    except (ValueError, OverflowError):
        raise ValueError("lower to: pixels such as 250000, 500k or 1M, or a size such as 640x480") from None
    return count, None


def whole(text: str, name: str, least: int) -> int:
    """A whole number in a field. Raises ValueError with a sentence."""
    try:
        count = int(text.strip().replace(",", ""))
    except ValueError:
        raise ValueError(f"{name} is no whole number") from None
    if count < least:
        raise ValueError(f"{name}: at least {least}")
    return count


def warmth(text: str) -> float:
    """The temperature in a field. Raises ValueError with a sentence."""
    try:
        value = float(text.strip() or 0)
    except ValueError:
        raise ValueError("temperature is no number") from None
    if not 0 <= value <= 10:
        raise ValueError("temperature: 0 (always the likeliest word) to 10")
    return value


def short_name(picture: str) -> str:
    """The last part of a path; words for noise. An outside string."""
    return "random noise" if picture == NOISE else picture.rpartition("/")[2]


def ask_request(turn: Turn) -> dict[str, Any]:
    """For workers/prompt.py; a saved state that fits is used."""
    o = turn.options
    told = {"text": turn.text, "max_new_tokens": o.max_new_tokens, "temperature": o.temperature}
    return {"op": "ask", **told, **_seen(turn), "state": "", "auto_state": True}


def save_request(turn: Turn) -> dict[str, Any]:
    """For workers/prompt.py; into the default folder."""
    return {"op": "save-state", **_seen(turn), "output": ""}


def _seen(turn: Turn) -> dict[str, Any]:
    o = turn.options
    return {
        "images": [turn.picture] if turn.picture else [],
        "system": o.system,
        "seed": o.seed,
        "max_pixels": o.max_pixels,
        "resize": list(o.resize) if o.resize else None,
    }


def finish(turn: Turn, ended: Ended, *, stopped: bool) -> None:
    """Take in how it ended; `stopped`: somebody asked for it."""
    turn.result = ended.result or {}
    said = turn.result.get("text")
    if isinstance(said, str) and said:
        turn.answer = said
    turn.reason = ended.reason
    turn.advice = in_this_pane(ended.advice or str(turn.result.get("advice") or ""))
    if ended.state is JobState.CANCELLED or (stopped and ended.state is not JobState.DONE):
        turn.state = TurnState.CANCELLED
    else:
        turn.state = TurnState.DONE if ended.state is JobState.DONE else TurnState.FAILED


_FIELDS = (
    (re.compile(r"--(?:max-pixels|resize) (\w+)"), r"“lower to” \1"),
    (re.compile(r"--bits (\w+)"), r"“weights” \1 bits"),
    (re.compile(r"--device (\w+)"), r"“on” \1"),
    (re.compile(r"--max-new-tokens (\w+)"), r"“tokens” \1"),
    (re.compile(r"`cachetui state save`"), "Ctrl+S"),
)


def in_this_pane(advice: str) -> str:
    """Advice that names options of the command line, with the names of the fields and keys here."""
    for option, name in _FIELDS:
        advice = option.sub(name, advice)
    return advice


def gain(turn: Turn) -> float:
    """How many times sooner the same question would start from a saved state, roughly; 0 where it is not worth it.

    The time to the first token is about that of reading the prompt: with a state only the question itself is read.
    """
    prompt = _number(turn.result, "prompt_tokens")
    times = prompt / (len(turn.text.encode("utf-8", "surrogateescape")) / _TOKEN_BYTES + _AROUND)
    return times if times >= _LEAST_GAIN else 0.0


def offer(size: int, times: float, *, binary: bool) -> list[Part]:
    """The line that offers to save a state; `size` in bytes, 0 where it is not known."""
    parts: list[Part] = [("Ctrl+S", "bold $accent"), (" keeps what the model made of this picture", "$foreground")]
    told = []
    if size:
        told.append(f"about {units.size(size, binary=binary)}")
    if times:
        told.append(f"the next question starts about {times:.0f} times sooner")
    if told:
        parts.append((": " + "; ".join(told), DIM))
    return parts
