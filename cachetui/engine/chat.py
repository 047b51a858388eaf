"""A question as the tokens a model reads: its own chat template, its pictures, and where the user's text begins.

Follows `ProcessorMixin.apply_chat_template` and `PreTrainedTokenizerBase.apply_chat_template` of transformers 5: a
tokenizer's template brings all special tokens itself; a processor adds the first token where the template has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from cachetui.engine.errors import MISSING_PROCESSOR, EngineError

if TYPE_CHECKING:
    from torch import Tensor

    from cachetui.engine.images import Picture
    from cachetui.engine.loading import Loaded

_PROBES = ("What", "a b", " x", "\nx", "\n\n", "7", "(.", "é", "")
"""Texts that begin differently: tokens that come before every one of them do not depend on the text."""
_LONE = re.compile("[\ud800-\udfff]")
_KEPT = 64
_heads: WeakKeyDictionary[Any, dict[tuple[str, int, str], list[int]]] = WeakKeyDictionary()
"""By model: the beginnings of prompts."""
NO_TEMPLATE = "this model has no chat template: it was given the plain text, and goes on from it"


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt, on the model's device."""

    ids: Tensor
    """int64 (1, tokens)."""
    mask: Tensor
    """int64 (1, tokens), all ones."""
    extra: dict[str, Tensor]
    """What the architecture wants beside them in every step: mm_token_type_ids (1, tokens), image_grid_thw ..."""
    pixels: dict[str, Tensor]
    """pixel_values and their masks: for the first step only."""
    prefix: int
    """Tokens before the user's text begins: system prompt and pictures. They are the same for every text."""
    notes: tuple[str, ...] = ()
    """What the person should know about how the question was put."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text that is tokenized; pictures are one mark each."""

    text: str
    special: bool
    """Whether the tokenizer adds its own first and last tokens."""
    notes: tuple[str, ...] = ()


def encode(loaded: Loaded, *, system: str, pictures: Sequence[Picture], text: str) -> Encoded:
    """A question as tensors. Raises EngineError where the model takes no pictures, or the text looks like one."""
    import torch

    _check(loaded, len(pictures), (system, text))
    prompt = render(loaded, system=system, pictures=len(pictures), text=text)
    if pictures:
        found = _with_pictures(loaded, prompt, pictures)
    else:
        found = {"input_ids": torch.tensor([_tokens(loaded, prompt)], dtype=torch.long)}
    ids = found.pop("input_ids")
    if ids.shape[1] == 0:
        raise EngineError("there is nothing to ask: the text is empty", "give a text")
    found.pop("attention_mask", None)  # one row, nothing is padded
    pixels = {k: _placed(loaded, v) for k, v in found.items() if k.startswith("pixel")}
    extra = {k: _placed(loaded, v) for k, v in found.items() if k not in pixels and hasattr(v, "to")}
    tail = follow(loaded, system=system, pictures=len(pictures), text=text)
    prefix = 0
    if tail is not None and ids[0, ids.shape[1] - len(tail) :].tolist() == tail:
        prefix = ids.shape[1] - len(tail)
    ids = ids.to(loaded.device)
    return Encoded(ids, torch.ones_like(ids), extra, pixels, prefix, prompt.notes)


def follow(loaded: Loaded, *, system: str, pictures: int, text: str) -> list[int] | None:
    """The tokens that come after the prefix of `encode`, without looking at the pictures again.

    None where the text's first characters melt into a token with what stands before them.
    """
    head = _head(loaded, system, pictures)
    whole = _tokens(loaded, render(loaded, system=system, pictures=pictures, text=text))
    return whole[len(head) :] if whole[: len(head)] == head else None


def _head(loaded: Loaded, system: str, pictures: int) -> list[int]:
    """What every text's tokens begin with, each picture one mark. Kept: it is the same for question after question."""
    template = getattr(_owner(loaded), "chat_template", None)
    known = _heads.setdefault(loaded.model, {})
    key = (system, pictures, str(template))
    if key not in known:
        if len(known) >= _KEPT:
            known.clear()
        rows = [_tokens(loaded, render(loaded, system=system, pictures=pictures, text=p)) for p in _PROBES]
        known[key] = rows[0][: _common(rows)]
    return known[key]


def _owner(loaded: Loaded) -> Any:
    """Who has the chat template."""
    return loaded.processor if getattr(loaded.processor, "chat_template", None) else loaded.tokenizer


def readable(text: str) -> str:
    """Text that tokenizers take: what is no character (a lone surrogate) becomes U+FFFD."""
    return _LONE.sub("\ufffd", text)


def render(loaded: Loaded, *, system: str, pictures: int, text: str) -> Prompt:
    """The prompt as text, by the chat template of the processor or tokenizer; plain where there is none."""
    system, text = readable(system), readable(text)
    owner = _owner(loaded)
    mark = picture_mark(loaded)
    if not getattr(owner, "chat_template", None):
        plain = "".join(f"{mark}\n" for _ in range(pictures)) + text
        return Prompt(f"{system}\n\n{plain}" if system else plain, True, (NO_TEMPLATE,))

    def apply(messages: list[dict[str, Any]]) -> str:
        return str(owner.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    found, notes = _templated(apply, loaded, system, pictures, text, mark)
    begins = getattr(loaded.tokenizer, "bos_token", None)
    special = owner is loaded.processor and not (begins and found.startswith(begins))
    return Prompt(found, special, notes)


def _templated(
    apply: Callable[[list[dict[str, Any]]], str], loaded: Loaded, system: str, pictures: int, text: str, mark: str
) -> tuple[str, tuple[str, ...]]:
    """The first form of the messages that the template understands: with parts or plain, system of its own or not."""
    problem: Exception | None = None
    forms = (True, False) if loaded.images else (False, True)
    for own_system in (True, False) if system else (True,):
        for parts in forms:
            words = text if own_system else f"{system}\n\n{text}"
            messages = [_message("user", words, pictures, parts, mark)]
            if system and own_system:
                messages.insert(0, _message("system", system, 0, parts, mark))
            try:
                found = apply(messages)
            except Exception as e:  # a template is a program of the model's author: it raises what it likes
                problem = problem or e
                continue
            if text.strip() not in found or (system and system.strip() not in found):
                continue
            if mark and found.count(mark) < pictures:
                continue
            note = "the model's chat template knows no system prompt: it was put before the text"
            return found, () if own_system else (note,)
    words = f" ({problem})" if problem else ""
    raise EngineError(
        f"the chat template of {loaded.wanted.name} takes no such question{words}",
        "try it without a system prompt; `cachetui verify` tells whether its files are whole",
    )


def _message(role: str, text: str, pictures: int, parts: bool, mark: str) -> dict[str, Any]:
    if parts:
        return {"role": role, "content": [{"type": "image"}] * pictures + [{"type": "text", "text": text}]}
    return {"role": role, "content": "".join(f"{mark}\n" for _ in range(pictures)) + text}


def picture_mark(loaded: Loaded) -> str:
    """What stands for a picture in a prompt, before the processor makes as many tokens of it as it has patches."""
    for name in ("boi_token", "image_token"):  # Gemma 3 writes the first, and puts the second inside
        mark = getattr(loaded.processor, name, None)
        if isinstance(mark, str) and mark:
            return mark
    return ""


def _check(loaded: Loaded, pictures: int, texts: Sequence[str]) -> None:
    name = loaded.wanted.name
    if pictures and not loaded.images:
        raise EngineError(
            f"{name} takes no pictures ({loaded.model_class})",
            "ask without a picture, or take a vision-language model such as Qwen/Qwen3-VL-2B-Instruct",
        )
    if pictures and loaded.processor is None:
        raise EngineError(
            f"{name} has no files that say how a picture is prepared",
            f"fetch them: cachetui pull hf:{loaded.wanted.repo or 'ORG/NAME'}",
            MISSING_PROCESSOR,
        )
    marks = {m for n in ("image_token", "boi_token", "video_token") if (m := getattr(loaded.processor, n, None))}
    for mark in sorted(m for m in marks if isinstance(m, str)):
        if any(mark in t for t in texts):
            raise EngineError(
                f"the text holds {mark}, which for {name} means a picture", "write it another way in the text"
            )


def _tokens(loaded: Loaded, prompt: Prompt) -> list[int]:
    return list(loaded.tokenizer(prompt.text, add_special_tokens=prompt.special)["input_ids"])


def _with_pictures(loaded: Loaded, prompt: Prompt, pictures: Sequence[Picture]) -> dict[str, Any]:
    assert loaded.processor is not None
    images = [[p.image for p in pictures]]
    try:
        return dict(
            loaded.processor(text=[prompt.text], images=images, return_tensors="pt", add_special_tokens=prompt.special)
        )
    except (ValueError, TypeError, IndexError, KeyError, ZeroDivisionError) as e:
        sizes = ", ".join(f"{p.size[0]}x{p.size[1]}" for p in pictures)
        raise EngineError(
            f"the picture processor of {loaded.wanted.name} refuses ({sizes}): {e}",
            "try another size: --resize 448x448",
        ) from e


def _placed(loaded: Loaded, value: Any) -> Tensor:
    """On the model's device; fractions in its dtype."""
    kind = loaded.dtype if value.is_floating_point() else value.dtype
    placed: Tensor = value.to(loaded.device, kind)
    return placed


def _common(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with."""
    count = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    return count
