"""Asking a loaded model: one question, its answer as it comes, and how long it took."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cachetui.engine import chat, devices
from cachetui.engine.chat import Encoded
from cachetui.engine.errors import DAMAGED, NO_MEMORY, TOO_LONG, Cancelled, EngineError
from cachetui.engine.generation import generate, stop_tokens
from cachetui.engine.kept import unsupported
from cachetui.engine.prefill import Prefilled, prefill, set_rope_deltas
from cachetui.engine.streaming import Stream, interruptible

if TYPE_CHECKING:
    from cachetui.engine.images import Picture
    from cachetui.engine.loading import Loaded
    from cachetui.engine.state import State

STOP, LENGTH, CANCELLED = "stop", "length", "cancelled"
SLOW_SECONDS = 2.0
"""A picture that took longer than this to read is worth a saved state."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked."""

    text: str
    pictures: Sequence[Picture] = ()
    system: str = ""
    max_new_tokens: int = 128
    temperature: float = 0.0
    """0: always the likeliest token; above, tokens are drawn with the model's own top_p and top_k."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Bytes that are no characters, of an argument or a file, become U+FFFD: no tokenizer takes them."""
        object.__setattr__(self, "text", chat.readable(self.text))
        object.__setattr__(self, "system", chat.readable(self.system))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came, and how. Texts may hold whatever the model wrote."""

    text: str
    tokens: int
    """Made by the model, the one that ends its answer included."""
    prompt_tokens: int
    first_token_seconds: float
    """From the call of `ask`: pictures prepared and the prompt read. 0.0 where none came."""
    seconds: float
    tokens_per_second: float
    """After the first one; 0.0 where there was no second."""
    finish: str
    """stop, length or cancelled."""
    state_used: bool = False
    state_seconds: float = 0.0
    """To load the saved state."""
    reason: str = ""
    """Whether a saved state was used, and why not."""
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """For a protocol."""
        return asdict(self)


@dataclass(slots=True)
class _Run:
    """How far one question came."""

    stream: Stream
    prompt_tokens: int = 0
    limit: int = 0
    """Tokens the answer may have."""
    notes: tuple[str, ...] = ()
    cancelled: bool = False
    reason: str = ""


def ask(
    loaded: Loaded,
    question: Question,
    *,
    on_token: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    state: State | None = None,
    two_chunks: bool = False,
) -> Answer:
    """Ask, and answer. Pieces of text go to `on_token` in this thread as they come; they never split a character.

    `state`: pictures and system prompt read before; the question's own are then not looked at. `two_chunks`: read the
    prompt in the two parts that a saved state would make of it, which in 16 bits rounds differently than one.
    Raises EngineError: too-long, unsupported, no-memory, damaged; what `on_token` raises comes out as it is.
    """
    begun = time.perf_counter()
    if not loaded.model.can_generate() or loaded.tokenizer is None:
        raise EngineError(
            f"{loaded.wanted.name} writes no text ({loaded.model_class})",
            "`cachetui verify --load` tells whether it works at all",
        )
    if question.max_new_tokens < 1:
        raise EngineError("the answer may have no token", "--max-new-tokens 128")
    with guarded(loaded, question), _seeded(loaded, question), interruptible(loaded.model, cancelled) as let_go:
        run = _Run(Stream(loaded.tokenizer, on_token, first=let_go, cancelled=cancelled))
        try:
            _run(loaded, question, run, state, two_chunks)
        except Cancelled:
            run.stream.end()
            run.cancelled = True
        except Exception as e:
            if e is run.stream.raised or isinstance(e, EngineError) or devices.is_out_of_memory(e):
                raise
            raise _broken(loaded, e) from e
    return _answer(loaded, question, run, begun, state)


def _run(
    loaded: Loaded,
    question: Question,
    run: _Run,
    state: State | None,
    two_chunks: bool,
) -> None:
    prefilled: Prefilled | None = None
    if state is not None:
        from cachetui.engine.state import resume

        prefilled = resume(loaded, state, question.text)
        encoded, run.reason = prefilled.encoded, "a saved state was used"
    else:
        encoded = chat.encode(loaded, system=question.system, pictures=question.pictures, text=question.text)
        run.reason = "no saved state was given"
    run.prompt_tokens, run.notes = encoded.ids.shape[1], encoded.notes
    run.limit = room(loaded, encoded, question.max_new_tokens)
    if prefilled is None and two_chunks and 0 < encoded.prefix < run.prompt_tokens and not unsupported(loaded):
        prefilled = prefill(loaded, encoded)
    inputs = {"input_ids": encoded.ids, "attention_mask": encoded.mask, **encoded.extra}
    if prefilled is None:
        inputs |= encoded.pixels
    else:
        set_rope_deltas(loaded.model, prefilled.rope_deltas)
        inputs["past_key_values"] = prefilled.cache
    generate(loaded, inputs, run.stream, limit=run.limit, temperature=question.temperature)


def _broken(loaded: Loaded, error: Exception) -> EngineError:
    """What the model's code raised in the middle, in one line."""
    words = " ".join(str(error).split())[:300]
    return EngineError(
        f"{loaded.wanted.name} ({loaded.model_class}) fails while it answers: {type(error).__name__}: {words}",
        "`cachetui verify` tells whether its files are whole; `verify --load` whether it computes at all",
        DAMAGED,
    )


def room(loaded: Loaded, encoded: Encoded, wanted: int) -> int:
    """How many tokens the answer may have: what was asked for, within what the model was made for.

    Raises EngineError too-long where the prompt alone fills it.
    """
    limit = context_limit(loaded)
    count: int = encoded.ids.shape[1]
    if limit is None or count + wanted <= limit:
        return wanted
    if count < limit:
        return limit - count
    pictures = f", {encoded.prefix} of them system prompt and pictures" if encoded.pixels else ""
    raise EngineError(
        f"the question is {count:,} tokens long{pictures}; {loaded.wanted.name} holds {limit:,}",
        "lower the picture's resolution (--max-pixels N), or shorten the text and the system prompt",
        TOO_LONG,
    )


def context_limit(loaded: Loaded) -> int | None:
    """Tokens of question and answer together that the model was made for; None where its config names no limit."""
    config = loaded.model.config.get_text_config(decoder=True)
    found = getattr(config, "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def _answer(loaded: Loaded, question: Question, run: _Run, begun: float, state: State | None) -> Answer:
    now = time.perf_counter()
    stream, count = run.stream, len(run.stream.tokens)
    first = stream.begun - begun if count else 0.0
    after = stream.last - stream.begun
    finish = CANCELLED if run.cancelled else LENGTH
    if count and stream.tokens[-1] in stop_tokens(loaded):
        finish = STOP
    advice = list(run.notes)
    if finish == LENGTH and run.limit < question.max_new_tokens:
        advice.append(
            f"the answer stopped where the model's context ends ({run.prompt_tokens:,} tokens of question + "
            f"{count:,} of answer = {context_limit(loaded):,}): fewer pixels (--max-pixels N) or a shorter text"
        )
    if question.pictures and state is None and first > SLOW_SECONDS:
        advice.append(
            f"reading the picture took {first:.1f} s before the first word: `cachetui state save` reads it once for "
            "any number of questions; --max-pixels N makes it smaller"
        )
    return Answer(
        text=stream.text,
        tokens=count,
        prompt_tokens=run.prompt_tokens,
        first_token_seconds=first,
        seconds=now - begun,
        tokens_per_second=(count - 1) / after if count > 1 and after > 0 else 0.0,
        finish=finish,
        state_used=state is not None,
        state_seconds=0.0 if state is None else state.seconds,
        reason=run.reason,
        advice="; ".join(advice),
    )


@contextmanager
def _seeded(loaded: Loaded, question: Question) -> Iterator[None]:
    """The same seed draws the same tokens; the process' own random numbers go on as if nothing had been."""
    import torch

    if question.temperature <= 0:
        yield
        return
    kind = torch_type(loaded)
    with torch.random.fork_rng(device_type=kind) if kind != "cpu" else torch.random.fork_rng(devices=()):
        torch.manual_seed(question.seed)
        yield


@contextmanager
def guarded(loaded: Loaded, question: Question) -> Iterator[None]:
    """Out of memory becomes advice, and what the attempt held is let go. Raises EngineError no-memory."""
    try:
        yield
        return
    except Exception as e:
        if not devices.is_out_of_memory(e):
            raise
    # Outside of the handler: the exception, and with it every tensor of its frames, is gone.
    gc.collect()
    if torch_type(loaded) == "cuda":
        import torch

        torch.cuda.empty_cache()
    raise no_memory(loaded, question)


def no_memory(loaded: Loaded, question: Question) -> EngineError:
    """What can be done about it, for this model on this device."""
    on_cpu = torch_type(loaded) == "cpu"
    ways = ["lower the picture's resolution: --max-pixels 200000"] if question.pictures else []
    if not loaded.quantization:
        ways.append("hold the weights in 4 bits: --bits 4")
    ways.append("close other programs, or take a smaller model" if on_cpu else "run it on the CPU: --device cpu")
    where = "this machine's memory" if on_cpu else f"the memory of {loaded.device}"
    held = devices.held_by(str(loaded.device))
    return EngineError(
        f"{where} is full{held}: {loaded.wanted.name} was loaded, but there is no room for the question",
        "; ".join(ways),
        NO_MEMORY,
    )


def torch_type(loaded: Loaded) -> str:
    """cpu, cuda or mps."""
    return str(loaded.device).partition(":")[0]
