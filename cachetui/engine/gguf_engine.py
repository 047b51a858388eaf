"""GGUF files on disk, through llama.cpp in this process (`xllamacpp`, extra `gguf`).

Speaks to llama.cpp's own server code without a network: its listener is a socket in a folder that is gone before the
first question. Requests and answers are those of tools/server/README.md (OpenAI's, and `timings`).
"""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cachetui.engine.environment import cores
from cachetui.engine.errors import DAMAGED, DEVICE, NO_MEMORY, NOT_INSTALLED, TOO_LONG, Cancelled, EngineError
from cachetui.engine.images import Picture
from cachetui.engine.prompting import CANCELLED, LENGTH, STOP, Answer, Question
from cachetui.gguf import gguf_header

CONTEXT = 4096
"""Tokens there is room for at first, as Ollama does; a longer question makes it grow, up to what the model holds."""
STEP = 256
"""llama.cpp rounds the room up to a multiple of this."""
BATCH = 512
"""Tokens of a prompt between two looks at whether the person stopped it."""
_HEADER = 64 << 20
_NO_TEMPLATE = "this file has no chat template: it was given the plain text, and goes on from it"


@dataclass(slots=True)
class GgufLoaded:
    """A GGUF model in memory."""

    path: str
    name: str
    mmproj: str
    """Path of the projector that reads pictures; empty: it reads none."""
    device: str
    context: int
    """Tokens of question and answer together that there is room for."""
    trained: int
    """As many as the model was made for; 0: the file does not say."""
    template: bool
    """Whether the file brings a chat template."""
    architecture: str
    quantization: str
    load_seconds: float
    memory: int
    """Bytes of weights."""
    server: Any = field(repr=False)
    """xllamacpp.Server."""

    @property
    def images(self) -> bool:
        """Whether it takes pictures."""
        return bool(self.mmproj)


def load(
    path: str,
    *,
    name: str = "",
    mmproj: str = "",
    device: str = "auto",
    context: int = 0,
    cancelled: Callable[[], bool] | None = None,
) -> GgufLoaded:
    """Load a file (of several parts: the first). `device`: auto, cpu, cuda, mps. Raises EngineError, Cancelled."""
    begun = time.perf_counter()
    name = name or os.path.basename(path)
    if "\0" in path or not os.path.isfile(path):
        raise EngineError(f"{path} is no file", "cachetui ls shows what there is", DAMAGED)
    with Path(path).open("rb") as file:
        header = gguf_header(file.read(_HEADER))
    if header is None:
        raise EngineError(
            f"{name} is no GGUF file, or damaged from its first bytes", f"cachetui verify {path}", DAMAGED
        )
    trained = header.values.get(f"{header.architecture}.context_length", 0)
    trained = trained if isinstance(trained, int) else 0
    context = _rounded(context or min(CONTEXT, trained or CONTEXT))
    if cancelled is not None and cancelled():
        raise Cancelled
    server = _serve(path, name, mmproj, device, context)
    return GgufLoaded(
        path=path,
        name=name,
        mmproj=mmproj,
        device=device,
        context=context,
        trained=trained,
        template="tokenizer.chat_template" in header.values,
        architecture=header.architecture,
        quantization=header.quantization,
        load_seconds=time.perf_counter() - begun,
        memory=os.path.getsize(path) + (os.path.getsize(mmproj) if mmproj else 0),
        server=server,
    )


def _rounded(tokens: int) -> int:
    return -(-tokens // STEP) * STEP


def _serve(path: str, name: str, mmproj: str, device: str, context: int) -> Any:
    try:
        import xllamacpp
    except ImportError:
        raise EngineError(
            "GGUF files run through llama.cpp, which is not installed",
            "pip install 'cachetui[gguf]', or give the file to Ollama: ollama create NAME",
            NOT_INSTALLED,
        ) from None
    params = xllamacpp.CommonParams()
    params.model.path = path
    if mmproj:
        params.mmproj.path = mmproj
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_parallel = context, BATCH, BATCH, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = cores()
    params.warmup, params.ui, params.endpoint_slots, params.verbosity = False, False, False, 1
    if device == "cpu":
        params.n_gpu_layers, params.mmproj_use_gpu = 0, False
    elif device not in ("auto", "") and not _has_card(xllamacpp):
        raise EngineError(
            f"this build of llama.cpp knows no {device}",
            "--device cpu, or a build for your card: https://github.com/xorbitsai/xllamacpp#installation",
            DEVICE,
        )
    with tempfile.TemporaryDirectory(prefix="cachetui-") as folder:
        params.hostnames = [os.path.join(folder, "s.sock")]  # an address on the network would be open to everybody
        said: list[str] = []
        try:
            with _native_words(said):
                server = xllamacpp.Server(params)
                # It computes; and one that is let go before its loop began would wait for that loop for ever.
                server.handle_completions({"prompt": "a", "max_tokens": 1}, lambda _: False)
                return server
        except RuntimeError as e:
            raise _why(name, path, said, e) from None


def _has_card(xllamacpp: Any) -> bool:
    cpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    return any(d.get("type") != cpu for d in xllamacpp.get_device_info())


def _why(name: str, path: str, said: list[str], error: Exception) -> EngineError:
    """What llama.cpp wrote to its log before it gave up."""
    words = [line.partition(" E ")[2] or line for line in said]
    told = [w for w in words if "error loading model" in w or "unable to allocate" in w or "clip" in w] or words[:1]
    reason = next((w.rpartition("error loading model: ")[2].strip() for w in told), "") or str(error)
    lower = " ".join(words).lower()
    if "unable to allocate" in lower or "out of memory" in lower or "cannot allocate" in lower:
        return EngineError(
            f"there is no memory for {name} ({reason})",
            "a smaller quantization of it, --device cpu, or a smaller model: `cachetui estimate` tells what fits",
            NO_MEMORY,
        )
    if "unknown model architecture" in lower:
        return EngineError(f"llama.cpp does not know this architecture ({reason})", "pip install -U xllamacpp")
    return EngineError(f"llama.cpp cannot load {name}: {reason}", f"cachetui verify {path}", DAMAGED)


@contextmanager
def _native_words(said: list[str]) -> Iterator[None]:
    """What native code writes to standard error between these lines: kept, and then written there all the same."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(kept, 2)
                file.seek(0)
                text = file.read(1 << 20)
                said += text.decode("utf-8", "replace").splitlines()
                os.write(2, text)
    finally:
        os.close(kept)


def ask(
    loaded: GgufLoaded,
    question: Question,
    *,
    on_token: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Answer:
    """Ask, and answer; pieces of text go to `on_token` as they come, from a thread of llama.cpp's or this one.

    Raises EngineError: unsupported (pictures without a projector), too-long.
    """
    begun = time.perf_counter()
    if question.pictures and not loaded.images:
        raise EngineError(
            f"{loaded.name} takes no pictures: there is no projector (mmproj-*.gguf) beside it",
            "ask without a picture, or pull the repo's mmproj file too",
        )
    talk = _Talk(on_token, cancelled)
    talk.run(loaded, question)
    if talk.longer and loaded.trained and talk.longer + question.max_new_tokens <= loaded.trained:
        _grow(loaded, talk.longer + question.max_new_tokens)
        talk = _Talk(on_token, cancelled)
        talk.run(loaded, question)
    if talk.longer:
        raise EngineError(
            f"the question is {talk.longer:,} tokens long; {loaded.name} holds {loaded.trained or loaded.context:,}",
            "lower the picture's resolution (--max-pixels N), or shorten the text and the system prompt",
            TOO_LONG,
        )
    if talk.error:
        raise EngineError(f"llama.cpp: {talk.error}", "")
    return talk.answer(loaded, question, begun)


def _grow(loaded: GgufLoaded, tokens: int) -> None:
    """Load it again with more room."""
    loaded.server = None  # before there are two in memory
    context = _rounded(tokens)
    loaded.server = _serve(loaded.path, loaded.name, loaded.mmproj, loaded.device, context)
    loaded.context = context


def request(loaded: GgufLoaded, question: Question) -> dict[str, Any]:
    """What llama.cpp is asked: a chat, or plain text where the file has no template for one."""
    common = {
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
        "max_tokens": question.max_new_tokens,
        "temperature": question.temperature,
        "seed": question.seed,
    }
    if not loaded.template and not question.pictures:
        text = f"{question.system}\n\n{question.text}" if question.system else question.text
        return {**common, "prompt": text}
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": _url(p)}} for p in question.pictures]
    content: Any = [*parts, {"type": "text", "text": question.text}] if parts else question.text
    messages = [{"role": "system", "content": question.system}] if question.system else []
    return {**common, "messages": [*messages, {"role": "user", "content": content}], "reasoning_format": "none"}


def _url(picture: Picture) -> str:
    file = io.BytesIO()
    picture.image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


class _Talk:
    """One question on its way."""

    def __init__(self, on_token: Callable[[str], None] | None, cancelled: Callable[[], bool] | None) -> None:
        self.longer = 0
        """Tokens of the question, where they were more than there was room for."""
        self.error = ""
        self._on_token = on_token
        self._cancelled = cancelled
        self._pieces: list[str] = []
        self._first = self._last = 0.0
        self._finish = ""
        self._usage: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}
        self._problem: BaseException | None = None

    def run(self, loaded: GgufLoaded, question: Question) -> None:
        body = request(loaded, question)
        call = loaded.server.handle_chat_completions if "messages" in body else loaded.server.handle_completions
        try:
            call(body, self._take)
        except RuntimeError as e:
            self.error = str(e)
        if self._problem is not None:
            raise self._problem

    def _take(self, event: Any) -> bool:
        """One event; True ends it. What is raised here would be lost in native code."""
        try:
            return self._read(event if isinstance(event, dict) else {})
        except BaseException as e:
            self._problem = e
            return True

    def _read(self, event: dict[str, Any]) -> bool:
        if self._cancelled is not None and self._cancelled():
            self._finish = CANCELLED
            return True
        if error := event.get("error"):
            self.longer = int(error.get("n_prompt_tokens") or 0)
            self.error = "" if self.longer else str(error.get("message", error))
            return True
        if progress := event.get("prompt_progress"):
            self._usage = {"prompt_tokens": progress.get("total")}
        self._usage = event.get("usage") or self._usage
        self._timings = event.get("timings") or self._timings
        for choice in event.get("choices") or ():
            text = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
            if text:
                self._last = time.perf_counter()
                self._first = self._first or self._last
                self._pieces.append(text)
                if self._on_token is not None:
                    self._on_token(text)
            if choice.get("finish_reason"):
                self._finish = STOP if choice["finish_reason"] == "stop" else LENGTH
        return False

    def answer(self, loaded: GgufLoaded, question: Question, begun: float) -> Answer:
        tokens = int(self._usage.get("completion_tokens") or len(self._pieces))
        prompt = int(self._usage.get("prompt_tokens") or 0)
        after = self._last - self._first
        speed = (tokens - 1) / after if tokens > 1 and after > 0 else 0.0
        speed = self._timings.get("predicted_per_second") or speed  # a small model is done before it is heard
        finish = self._finish or LENGTH
        advice = [] if loaded.template or question.pictures else [_NO_TEMPLATE]
        if finish == LENGTH and tokens < question.max_new_tokens:
            advice.append(
                f"the answer stopped where the context ends ({prompt:,} tokens of question + {tokens:,} of answer = "
                f"{loaded.context:,}): a shorter question leaves more"
            )
        return Answer(
            text="".join(self._pieces),
            tokens=tokens,
            prompt_tokens=prompt,
            first_token_seconds=self._first - begun if self._first else 0.0,
            seconds=time.perf_counter() - begun,
            tokens_per_second=speed if tokens > 1 else 0.0,
            finish=finish,
            reason="saved states are for models that run through transformers",
            advice="; ".join(advice),
        )
