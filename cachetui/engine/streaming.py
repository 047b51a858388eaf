"""Tokens as text, as they come; and stopping in the middle of a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cachetui.engine.errors import Cancelled

_UNFINISHED = "\ufffd"
_HELD = 24
"""Tokens held back at most: a character is at most four bytes, so longer is no character that will still come."""


class Stream:
    """A streamer of transformers: text goes out in whole characters, times are kept.

    The first `put` of `generate` is the prompt. Tokens are decoded beside the few before them, because what one token
    means depends on them (spaces, bytes of a character): the sliding window of vLLM's detokenizer.
    """

    def __init__(
        self,
        tokenizer: Any,
        on_token: Callable[[str], None] | None = None,
        *,
        first: Callable[[], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """`first` is called at the first token, `cancelled` after every one."""
        self.tokens: list[int] = []
        self.text = ""
        self.begun = 0.0
        """time.perf_counter() when the first token came; 0.0 before."""
        self.last = 0.0
        self.raised: Exception | None = None
        """What `on_token` raised, which is none of the model's doing."""
        self._tokenizer = tokenizer
        self._on_token = on_token
        self._first = first
        self._cancelled = cancelled
        self._prompt = True
        self._from = self._read = 0

    def put(self, value: Any) -> None:
        """Take ids: the prompt's at first, then one at a time. Raises Cancelled, which ends `generate` at once."""
        if self._prompt:
            self._prompt = False
            return
        self.last = time.perf_counter()
        if not self.tokens:
            self.begun = self.last
            if self._first is not None:
                self._first()
        self.tokens += value.flatten().tolist()
        self._show(flush=len(self.tokens) - self._read > _HELD)
        if self._cancelled is not None and self._cancelled():
            raise Cancelled

    def end(self) -> None:
        """No more will come."""
        self._show(flush=True)

    def _show(self, flush: bool) -> None:
        before = self._decode(self.tokens[self._from : self._read])
        now = self._decode(self.tokens[self._from :])
        if now.endswith(_UNFINISHED) and not flush:
            return
        piece = now[len(before) :]
        read, self._read = self._read, len(self.tokens)
        if piece:  # tokens that are not shown stay in the window: a space may hang on the one before them
            self._from = read
            self.text += piece
            if self._on_token is not None:
                try:
                    self._on_token(piece)
                except Exception as e:
                    self.raised = e
                    raise

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


@contextmanager
def interruptible(model: Any, cancelled: Callable[[], bool] | None) -> Iterator[Callable[[], None]]:
    """Between these lines a forward of the model raises Cancelled soon after the person stopped it.

    What is yielded lets go of the model early: reading the prompt takes long, a token after it does not.
    """
    from torch.nn import ModuleList

    def check(*_: Any) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled

    hooks: list[Any] = []
    if cancelled is not None:
        layers = [layer for m in model.modules() if isinstance(m, ModuleList) for layer in m]
        hooks += [layer.register_forward_pre_hook(check) for layer in layers]

    def let_go() -> None:
        while hooks:
            hooks.pop().remove()

    try:
        yield let_go
    finally:
        let_go()
