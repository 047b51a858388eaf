"""The loop of `generate` in transformers, told exactly what to do whatever the repo's generation_config.json says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cachetui.engine.loading import Loaded
    from cachetui.engine.streaming import Stream

_GREEDY = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50, "min_p": None, "typical_p": 1.0}
_PLAIN = {
    "num_beams": 1, "num_beam_groups": 1, "num_return_sequences": 1, "return_dict_in_generate": False,
    "output_scores": False, "output_logits": False, "output_attentions": False, "output_hidden_states": False,
    "use_cache": True, "token_healing": False,
}  # fmt: skip
"""One answer, token by token: beams cannot be streamed."""
_NOT = (
    "max_length", "max_time", "cache_implementation", "penalty_alpha", "dola_layers", "constraints", "force_words_ids",
    "prompt_lookup_num_tokens", "guidance_scale", "compile_config", "prefill_chunk_size",
)  # fmt: skip
"""Other ways to generate: some need a second model, some a program from the Hub, some a cache that is not ours."""


def generate(loaded: Loaded, inputs: dict[str, Any], stream: Stream, *, limit: int, temperature: float = 0.0) -> None:
    """Write at most `limit` tokens into `stream`. What else the model's author chose (top_p, penalties) stays."""
    config = deepcopy(loaded.model.generation_config)
    ends = stop_tokens(loaded)
    wanted: dict[str, Any] = {
        **_PLAIN,
        **dict.fromkeys(_NOT),
        **({"do_sample": True, "temperature": temperature} if temperature > 0 else _GREEDY),
        "max_new_tokens": limit,
        "eos_token_id": ends or None,
        "pad_token_id": _padding(loaded, ends),
    }
    for name, value in wanted.items():
        if hasattr(config, name):
            setattr(config, name, value)
    more = {"tokenizer": loaded.tokenizer} if getattr(config, "stop_strings", None) else {}
    with _its_own(loaded.model, config):
        loaded.model.generate(**inputs, generation_config=config, streamer=stream, **more)


@contextmanager
def _its_own(model: Any, config: Any) -> Iterator[None]:
    """While this lasts the model's config is this one: what is None in the one that is given comes from there."""
    before = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = before


def stop_tokens(loaded: Loaded) -> list[int]:
    """Ids that end an answer: those of the model's generation config, and the tokenizer's own end."""
    given = loaded.model.generation_config.eos_token_id
    found = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
    own = loaded.tokenizer.eos_token_id
    return found if own is None or own in found else [*found, own]


def _padding(loaded: Loaded, ends: Sequence[int]) -> int:
    """One row needs none, but transformers warns where it is not told."""
    told: list[object] = [loaded.model.generation_config.pad_token_id, loaded.tokenizer.pad_token_id, *ends]
    for known in told:
        if isinstance(known, int):
            return known
    return 0
