"""Models in MLX format, through mlx_lm in this process (extra `mlx`): text only. On Linux they run on the CPU."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cachetui.engine import chat
from cachetui.engine.environment import prepare
from cachetui.engine.errors import DAMAGED, NOT_INSTALLED, REMOTE_CODE, TOO_LONG, Cancelled, EngineError
from cachetui.engine.prompting import CANCELLED, LENGTH, STOP, Answer, Question

INSTALL = "pip install 'cachetui[mlx]'"
_CHUNK = 512
"""Tokens of a prompt between two looks at whether the person stopped it."""


@dataclass(slots=True)
class MlxLoaded:
    """An MLX model in memory."""

    folder: str
    name: str
    device: str
    quantization: str
    model_class: str
    context: int
    """Tokens that the model was made for; 0: its config does not say."""
    load_seconds: float
    memory: int
    """Bytes of weights."""
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    images: bool = False


def load(folder: str, *, name: str = "", cancelled: Callable[[], bool] | None = None) -> MlxLoaded:
    """Load a folder. Raises EngineError, Cancelled."""
    begun = time.perf_counter()
    name = name or os.path.basename(folder.rstrip("/"))
    config = _config(folder, name)
    prepare(offline=True)
    try:
        import mlx.core as mx
        from mlx.utils import tree_flatten
        from mlx_lm.utils import load_model, load_tokenizer
    except ImportError as e:
        raise EngineError(
            f"models in MLX format need mlx_lm, which is not installed ({e})", INSTALL, NOT_INSTALLED
        ) from None
    if config.get("model_file"):
        raise EngineError(
            f"{name} brings Python code of its own ({config['model_file']}), which is not run",
            "take a conversion of it for an architecture that mlx_lm knows",
            REMOTE_CODE,
        )
    if cancelled is not None and cancelled():
        raise Cancelled
    try:
        model, _ = load_model(Path(folder), lazy=False)
        tokenizer = load_tokenizer(Path(folder))
    except Exception as e:  # whatever a damaged file makes a loader raise
        raise EngineError(f"mlx_lm cannot load {name}: {e}", f"cachetui verify {folder}", DAMAGED) from e
    weights = sum(int(array.nbytes) for _, array in tree_flatten(model.parameters()))
    bits = (config.get("quantization") or {}).get("bits")
    limit = (config.get("text_config") or config).get("max_position_embeddings")
    return MlxLoaded(
        folder=folder,
        name=name,
        device="gpu" if "gpu" in str(mx.default_device()) else "cpu",
        quantization=f"MLX {bits}-bit" if bits else "",
        model_class=type(model).__module__.rpartition(".")[2],
        context=limit if isinstance(limit, int) else 0,
        load_seconds=time.perf_counter() - begun,
        memory=weights,
        model=model,
        tokenizer=tokenizer,
    )


def _config(folder: str, name: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(folder, "config.json").read_bytes())
    except (OSError, ValueError, RecursionError) as e:
        raise EngineError(f"the config of {name} cannot be read: {e}", f"cachetui verify {folder}", DAMAGED) from None
    return found if isinstance(found, dict) else {}


def ask(
    loaded: MlxLoaded,
    question: Question,
    *,
    on_token: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Answer:
    """Ask, and answer; pieces of text go to `on_token` in this thread as they come.

    Raises EngineError: unsupported (pictures), too-long.
    """
    begun = time.perf_counter()
    if question.pictures:
        raise EngineError(
            f"{loaded.name} takes no pictures: mlx_lm runs text models only",
            "ask without a picture, or take the model in safetensors format",
        )
    ids, notes = _prompt(loaded, question)
    limit = question.max_new_tokens
    if loaded.context:
        limit = min(limit, loaded.context - len(ids))
    if limit < 1:
        raise EngineError(
            f"the question is {len(ids):,} tokens long; {loaded.name} holds {loaded.context:,}",
            "shorten the text and the system prompt",
            TOO_LONG,
        )
    return _generate(loaded, question, ids, limit, notes, on_token, cancelled, begun)


def _prompt(loaded: MlxLoaded, question: Question) -> tuple[list[int], list[str]]:
    tokenizer = loaded.tokenizer
    if not getattr(tokenizer, "has_chat_template", False):
        text = f"{question.system}\n\n{question.text}" if question.system else question.text
        return list(tokenizer.encode(text)), [chat.NO_TEMPLATE]
    messages = [{"role": "system", "content": question.system}] if question.system else []
    messages.append({"role": "user", "content": question.text})
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)), []


def _generate(
    loaded: MlxLoaded,
    question: Question,
    ids: list[int],
    limit: int,
    notes: list[str],
    on_token: Callable[[str], None] | None,
    cancelled: Callable[[], bool] | None,
    begun: float,
) -> Answer:
    import mlx.core as mx
    from mlx_lm import stream_generate
    from mlx_lm.sample_utils import make_sampler

    def check(*_: Any) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled

    mx.random.seed(question.seed)
    pieces: list[str] = []
    first = last = 0.0
    tokens, finish = 0, CANCELLED
    try:
        for step in stream_generate(
            loaded.model,
            loaded.tokenizer,
            ids,
            max_tokens=limit,
            sampler=make_sampler(temp=question.temperature),
            prompt_progress_callback=check,
            prefill_step_size=_CHUNK,
        ):
            last = time.perf_counter()
            first = first or last
            tokens = step.generation_tokens
            if step.text:
                pieces.append(step.text)
                if on_token is not None:
                    on_token(step.text)
            if step.finish_reason:
                finish = STOP if step.finish_reason == "stop" else LENGTH
                break
            check()
    except Cancelled:
        pass
    if finish == LENGTH and limit < question.max_new_tokens:
        notes.append(f"the answer stopped where the model's context of {loaded.context:,} tokens ends")
    after = last - first
    return Answer(
        text="".join(pieces),
        tokens=tokens,
        prompt_tokens=len(ids),
        first_token_seconds=first - begun if first else 0.0,
        seconds=time.perf_counter() - begun,
        tokens_per_second=(tokens - 1) / after if tokens > 1 and after > 0 else 0.0,
        finish=finish,
        reason="saved states are for models that run through transformers",
        advice="; ".join(notes),
    )
