"""Saved state: what a model keeps of pictures and system prompt, made once, written, loaded, gone on from.

made = build(loaded, pictures, system)      # reads the pictures
save(DISK, made, path)
state = load(path, loaded)                  # milliseconds, in any process
prefilled = resume(loaded, state, text)     # any number of times: a question changes nothing in the state
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cachetui import __version__, states
from cachetui.engine import chat
from cachetui.engine.chat import Encoded
from cachetui.engine.errors import STATE_DAMAGED, STATE_MISMATCH, TOO_LONG, UNSUPPORTED, EngineError
from cachetui.engine.identity import identity
from cachetui.engine.kept import filled, tensors_of, unsupported
from cachetui.engine.prefill import Prefilled, prefill
from cachetui.engine.prompting import Question, context_limit, guarded
from cachetui.engine.state_file import DELTAS, EXTRA, IDS, MASK, dtypes, tensors, way_on
from cachetui.engine.streaming import interruptible
from cachetui.fs import Fs
from cachetui.states import form
from cachetui.states.errors import DAMAGED
from cachetui.states.reading import StateInfo, open_state

if TYPE_CHECKING:
    from torch import Tensor

    from cachetui.engine.images import Picture
    from cachetui.engine.loading import Loaded

_PROBE = "What"


@dataclass(frozen=True, slots=True)
class State:
    """What a model keeps of a prompt's beginning, on the model's device. Asking does not change it."""

    info: StateInfo
    """`path` is empty and `bytes` is 0 where it was not saved."""
    tensors: dict[str, Tensor]
    """input_ids and attention_mask, int64 (1, tokens); rope_deltas where the architecture has them; `extra.NAME` what
    it wants beside the ids; `layers.N.NAME` its cache."""
    seconds: float = 0.0
    """To load it; 0.0 where it was built."""


def build(
    loaded: Loaded,
    pictures: Sequence[Picture],
    system: str,
    *,
    max_pixels: int = 0,
    resize: tuple[int, int] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> State:
    """Read pictures and system prompt once. `max_pixels`, `resize`: how the pictures were lowered.

    Raises EngineError (unsupported: an architecture without such a cache; too-long; no-memory), Cancelled.
    """
    reason = unsupported(loaded)
    if reason:
        raise EngineError(reason, "ask it without a state", UNSUPPORTED)
    encoded, done = _read_once(loaded, pictures, system, cancelled)
    tokens = encoded.prefix
    kept, layers = tensors_of(done.cache)
    total = encoded.ids.shape[1]
    kept |= {IDS: encoded.ids[:, :tokens], MASK: encoded.mask[:, :tokens]}
    for name, value in encoded.extra.items():
        kept[EXTRA + name] = value[..., :tokens] if _each_token(value, total) else value
    if done.rope_deltas is not None:
        kept[DELTAS] = done.rope_deltas
    info = StateInfo(
        "", identity(loaded, pictures, system, max_pixels=max_pixels, resize=resize), tokens, 0, time.time(),
        f"hf:{loaded.wanted.repo}" if loaded.wanted.repo else loaded.wanted.folder, str(loaded.device), _program(),
        layers,
    )  # fmt: skip
    return State(info, {name: t.contiguous() for name, t in kept.items()})


def _read_once(
    loaded: Loaded, pictures: Sequence[Picture], system: str, cancelled: Callable[[], bool] | None
) -> tuple[Encoded, Prefilled]:
    """(the prompt with a question that does not matter, the model's cache after what comes before the question)."""
    with guarded(loaded, Question("", pictures, system)):
        encoded = chat.encode(loaded, system=system, pictures=pictures, text=_PROBE)
        if not encoded.prefix:
            raise EngineError(
                "there is nothing to keep: before the question this model reads nothing",
                "give a picture or a system prompt",
            )
        _must_fit(loaded, encoded.prefix)
        try:
            with interruptible(loaded.model, cancelled):
                return encoded, prefill(loaded, encoded)
        except ValueError as e:  # so transformers refuses a cache that is not the architecture's own
            why = f"{loaded.wanted.name} keeps no cache that can be saved: {e}"
            raise EngineError(why, "ask it without a state") from e


def save(fs: Fs, state: State, path: str) -> StateInfo:
    """Write a state to exactly that path, whole or not at all. Raises OSError."""
    raw = []
    for name, tensor in state.tensors.items():
        plain = tensor.detach().to("cpu").contiguous()
        data = plain.reshape(-1).view(_torch().uint8).numpy() if plain.numel() else b""
        raw.append(form.Raw(name, _name_of(plain.dtype), tuple(plain.shape), memoryview(data)))
    return states.write(replace(state.info, path=path), raw, fs=fs)


def load(path: str, loaded: Loaded, *, verify: bool = False) -> State:
    """A state that was made with this model, loaded this way.

    Its data is compared with its sha256 the first time this process sees the file, and again with `verify`.
    Raises EngineError: state-mismatch (names the field), state-damaged, state-too-large, unsupported.
    """
    begun = time.perf_counter()
    try:
        opened = open_state(path)
    except states.StateError as e:
        code = STATE_DAMAGED if e.code == DAMAGED else UNSUPPORTED
        raise EngineError(f"{path}: {e.reason}", e.advice, code) from None
    try:
        must_match(opened.info, identity(loaded), states.MODEL_FIELDS)
        _must_fit(loaded, opened.info.tokens)
        found = tensors(opened, loaded, verify=verify)
    finally:
        os.close(opened.fd)
    return State(opened.info, found, time.perf_counter() - begun)


def must_match(info: StateInfo, other: states.Identity, only: Sequence[str] = ()) -> None:
    """Raises EngineError state-mismatch, naming the fields, where a state is not of `other`."""
    differences = states.mismatch(info.identity, other, only)
    if differences:
        raise EngineError(
            f"{info.path or 'the state'} was made for something else; {'; '.join(map(str, differences))}",
            way_on(info, other, [d.field for d in differences]),
            STATE_MISMATCH,
        )


def resume(loaded: Loaded, state: State, text: str) -> Prefilled:
    """A question that goes on from the state, of which it leaves everything as it is. Raises EngineError."""
    torch = _torch()
    who, kept, tokens = state.info.identity, state.tensors, state.info.tokens
    tail = chat.follow(loaded, system=who.system, pictures=len(who.images), text=text)
    if tail is None:
        raise EngineError(
            "the beginning of this text melts into the tokens before it: the state does not fit it",
            "begin the text with a letter",
            STATE_MISMATCH,
        )
    if not tail:
        raise EngineError("there is nothing to ask: the text is empty", "give a text")
    pictured = set(_picture_ids(loaded)) & set(tail)
    if pictured:
        raise EngineError("the text holds what means a picture to this model", "write it another way in the text")
    ids = torch.cat([kept[IDS], torch.tensor([tail], device=kept[IDS].device)], dim=1)
    extra = {}
    for name, value in kept.items():
        if name.startswith(EXTRA):
            wide = torch.nn.functional.pad(value, (0, len(tail))) if _each_token(value, tokens) else value
            extra[name.removeprefix(EXTRA)] = wide
    encoded = Encoded(ids, torch.ones_like(ids), extra, {}, tokens)
    deltas = kept.get(DELTAS)
    cache = filled(loaded.model.config, kept, state.info.layers)
    return Prefilled(encoded, cache, None if deltas is None else deltas.clone())


def _torch() -> Any:
    import torch

    return torch


def _each_token(value: Tensor, tokens: int) -> bool:
    """Whether it has one value for every token."""
    return bool(value.ndim == 2 and value.shape[0] == 1 and value.shape[1] == tokens)


def _must_fit(loaded: Loaded, tokens: int) -> None:
    limit = context_limit(loaded)
    if limit is not None and tokens >= limit:
        raise EngineError(
            f"pictures and system prompt are {tokens:,} tokens; {loaded.wanted.name} holds {limit:,}",
            "lower the resolution (--max-pixels N), shorten the system prompt, or take a model with a longer context",
            TOO_LONG,
        )


def _program() -> str:
    from transformers import __version__ as transformers

    return f"cachetui {__version__}, torch {_torch().__version__}, transformers {transformers}, {platform.system()}"


def _picture_ids(loaded: Loaded) -> list[int]:
    config = loaded.model.config
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    return [found for name in names if isinstance(found := getattr(config, name, None), int)]


def _name_of(dtype: Any) -> str:
    return next(name for name, found in dtypes().items() if found == dtype)
