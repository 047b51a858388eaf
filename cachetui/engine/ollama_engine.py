"""Models of a running Ollama server, through its API with the official client: POST /api/show, /api/generate.

Follows Ollama 0.33: an answer is a stream of JSON lines, with 200 even where a line says `error`; durations are in
nanoseconds; hanging up stops the server. The server loads the model and frees it by itself.
"""

from __future__ import annotations

import io
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cachetui.download.ollama import no_server
from cachetui.engine.errors import NO_MEMORY, NO_MODEL, NO_SERVER, UNSUPPORTED, Cancelled, EngineError
from cachetui.engine.prompting import CANCELLED, LENGTH, STOP, Answer, Question
from cachetui.ollama_server import server_url

if TYPE_CHECKING:
    from ollama import Client, GenerateResponse

    from cachetui.engine.images import Picture

_CONNECT = 5.0
"""Seconds for a connection; once it stands, a server may load a model for minutes in silence."""
_LOOK = 0.1
"""Seconds between two looks at whether the person stopped it."""
_WORDS = 500
_NANO = 1e9
_SLOW_LOAD = 1.0


@dataclass(slots=True)
class OllamaLoaded:
    """A model that the server has in memory."""

    name: str
    url: str
    images: bool
    family: str
    quantization: str
    context: int
    """Tokens of question and answer together that the server made room for; 0: it does not say."""
    device: str
    """cpu, gpu, or both with the share: `41 % gpu`."""
    load_seconds: float
    memory: int
    """Bytes, as the server reports them."""

    def free(self) -> None:
        """Ask the server to let go of it; nothing is said where it is gone."""
        with suppress(Exception), _client(self.url) as client:
            client.generate(model=self.name, keep_alive=0)


def load(name: str, *, url: str = "", cancelled: Callable[[], bool] | None = None) -> OllamaLoaded:
    """Have the server load a model. `url`: of the server, empty for the usual one. Raises EngineError, Cancelled."""
    url = url or server_url("")
    begun = time.perf_counter()

    def talk(client: Client) -> Iterator[Any]:
        yield client.show(name)
        yield client.generate(model=name)  # no prompt: the model is loaded, nothing more
        yield client.ps()

    shown, _, running = list(_aside(url, name, talk, cancelled))
    details = shown.details
    here = next((m for m in running.models if m.model in (name, f"{name}:latest")), None)
    return OllamaLoaded(
        name=name,
        url=url,
        images=shown.capabilities is None or "vision" in shown.capabilities,  # servers before 0.6.4 do not say
        family=(details.family if details else "") or "",
        quantization=(details.quantization_level if details else "") or "",
        context=(here.context_length if here else 0) or 0,
        device=_device(here.size or 0, here.size_vram or 0) if here else "",
        load_seconds=time.perf_counter() - begun,
        memory=int(here.size or 0) if here else 0,
    )


def _device(size: int, on_card: int) -> str:
    if not on_card:
        return "cpu"
    return "gpu" if on_card >= size else f"{100 * on_card // size} % gpu"


def ask(
    loaded: OllamaLoaded,
    question: Question,
    *,
    on_token: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Answer:
    """Ask, and answer; pieces of text go to `on_token` in this thread as they come.

    Raises EngineError: unsupported (pictures), no-model, no-server, no-memory.
    """
    begun = time.perf_counter()
    if question.pictures and not loaded.images:
        raise _no_pictures(loaded.name)
    images = [_png(p) for p in question.pictures]
    options = {
        "num_predict": question.max_new_tokens,
        "temperature": question.temperature,
        "seed": question.seed,
    }

    def talk(client: Client) -> Iterator[GenerateResponse]:
        yield from client.generate(
            model=loaded.name,
            prompt=question.text,
            system=question.system,  # empty: the model's own
            images=images or None,
            options=options,
            stream=True,
        )

    heard = _Heard(on_token)
    try:
        for line in _aside(loaded.url, loaded.name, talk, cancelled):
            heard.take(line)
    except Cancelled:
        heard.finish = CANCELLED
    if not heard.finish:
        raise EngineError(
            f"the server at {loaded.url} stopped in the middle of its answer",
            "see the server's log: journalctl -u ollama, or ~/.ollama/logs",
            NO_SERVER,
        )
    return heard.answer(loaded, begun)


class _Heard:
    """What came of one answer."""

    def __init__(self, on_token: Callable[[str], None] | None) -> None:
        self.finish = ""
        self._on_token = on_token
        self._pieces: list[str] = []
        self._first = self._last = 0.0
        self._thinks = False
        self._end: GenerateResponse | None = None

    def take(self, line: GenerateResponse) -> None:
        if line.thinking:  # as models write it that have no field of its own for it
            self._say(line.thinking if self._thinks else f"<think>{line.thinking}")
            self._thinks = True
        if line.response:
            self._say(f"</think>\n{line.response}" if self._thinks else line.response)
            self._thinks = False
        if line.done:
            self._end = line
            self.finish = LENGTH if line.done_reason == "length" else STOP

    def _say(self, text: str) -> None:
        self._last = time.perf_counter()
        self._first = self._first or self._last
        self._pieces.append(text)
        if self._on_token is not None:
            self._on_token(text)

    def answer(self, loaded: OllamaLoaded, begun: float) -> Answer:
        end = self._end
        tokens = (end.eval_count if end else 0) or len(self._pieces)
        prompt = (end.prompt_eval_count if end else 0) or 0
        took = ((end.eval_duration if end else 0) or 0) / _NANO
        took = took or self._last - self._first
        loading = ((end.load_duration if end else 0) or 0) / _NANO
        advice = []
        if loading > _SLOW_LOAD:
            advice.append(f"the server loaded the model first: {loading:.1f} s; keep_alive holds it longer")
        if loaded.context and prompt + tokens >= loaded.context:
            advice.append(
                f"the server made room for {loaded.context:,} tokens and all are used: what went beyond was cut; "
                "OLLAMA_CONTEXT_LENGTH=8192 in the server's environment makes more room"
            )
        return Answer(
            text="".join(self._pieces),
            tokens=tokens,
            prompt_tokens=prompt,
            first_token_seconds=self._first - begun if self._first else 0.0,
            seconds=time.perf_counter() - begun,
            tokens_per_second=tokens / took if tokens > 1 and took > 0 else 0.0,
            finish=self.finish,
            reason="saved states are for models that run through transformers",
            advice="; ".join(advice),
        )


def _png(picture: Picture) -> bytes:
    file = io.BytesIO()
    picture.image.save(file, "PNG")
    return file.getvalue()


def _client(url: str) -> Client:
    """Straight to the server: no proxy of the environment."""
    try:
        import httpx
        from ollama import Client
    except ImportError:
        raise EngineError("Ollama's client is not installed", "pip install ollama") from None
    return Client(url, timeout=httpx.Timeout(None, connect=_CONNECT), trust_env=False)


def _aside(
    url: str, name: str, talk: Callable[[Client], Iterator[Any]], cancelled: Callable[[], bool] | None
) -> Iterator[Any]:
    """What a conversation with the server yields, held in a thread, so that stopping never waits for the server.

    Raises EngineError, Cancelled. The thread hangs up as soon as the server says one more word.
    """
    lines: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
    over = threading.Event()

    def run() -> None:
        try:
            with _client(url) as client:
                for line in talk(client):
                    if over.is_set():
                        return
                    lines.put((False, line))
            lines.put((True, None))
        except Exception as e:
            lines.put((True, e))

    threading.Thread(target=run, name="ollama", daemon=True).start()
    try:
        while True:
            if cancelled is not None and cancelled():
                raise Cancelled
            try:
                last, found = lines.get(timeout=_LOOK)
            except queue.Empty:
                continue
            if not last:
                yield found
                continue
            if found is not None:
                raise _meaning(url, name, found) from None
            return
    finally:
        over.set()


def _meaning(url: str, name: str, error: Exception) -> EngineError:
    """What the client raised, for people."""
    import httpx
    from ollama import ResponseError

    if isinstance(error, EngineError):
        return error
    if isinstance(error, ResponseError):
        return _refused(name, error.status_code, _words(error.error))
    if isinstance(error, ConnectionError | httpx.ConnectError | httpx.ConnectTimeout):
        found = no_server(url, error)
        return EngineError(str(found), found.advice, NO_SERVER)
    if isinstance(error, httpx.HTTPError):
        return EngineError(f"the server at {url} went away ({error})", "start it again: ollama serve", NO_SERVER)
    return EngineError(f"what answers at {url} is no Ollama ({error})", "check OLLAMA_HOST", NO_SERVER)


def _refused(name: str, status: int, said: str) -> EngineError:
    low = said.lower()
    if status == 404 or "not found" in low:
        return EngineError(f"the server has no model {name} ({said})", f"cachetui pull ollama:{name}", NO_MODEL)
    if "multimodal" in low or "image" in low or "vision" in low:
        return _no_pictures(name)
    if "more system memory" in low or "out of memory" in low or "cudamalloc failed" in low:
        advice = "a smaller tag of it, or free what it holds: ollama ps, ollama stop NAME"
        return EngineError(f"the server has no memory for {name}: {said}", advice, NO_MEMORY)
    if "does not support" in low:
        return EngineError(f"{name}: {said}", "take a model that writes text", UNSUPPORTED)
    advice = "see the server's log: journalctl -u ollama, or ~/.ollama/logs"
    return EngineError(f"the server says: {said or f'HTTP {status}'}", advice, NO_SERVER)


def _words(told: object) -> str:
    """The message inside: a runner's own error comes as JSON in JSON, of which the client has read some."""
    for _ in range(6):
        if isinstance(told, str):
            try:
                told = json.loads(told)
            except (ValueError, RecursionError):
                break
        elif isinstance(told, dict) and (inner := told.get("error") or told.get("message")):
            told = inner
        else:
            break
    return str(told)[:_WORDS]


def _no_pictures(name: str) -> EngineError:
    return EngineError(
        f"{name} takes no pictures", "ask without a picture, or take a vision model: cachetui pull ollama:qwen3-vl:8b"
    )
