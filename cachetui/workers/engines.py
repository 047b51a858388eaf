"""The engines as the worker of prompts uses them: load once, ask often. Each is imported when it is used."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from cachetui.runnable import GGUF, MLX, OLLAMA, TRANSFORMERS, Runnable

if TYPE_CHECKING:
    from cachetui.engine.images import Picture
    from cachetui.engine.loading import Loaded
    from cachetui.engine.prompting import Answer, Question
    from cachetui.states import Identity

Progress = Callable[[str, int, int, str], None]
Cancelled = Callable[[], bool]
Token = Callable[[str], None]


class Engine(Protocol):
    """One loaded model."""

    def load(self, runnable: Runnable, progress: Progress, cancelled: Cancelled) -> dict[str, Any]:
        """Load it, and what to tell of it: device, dtype, quantization, model_class, images. Raises EngineError."""

    def ask(self, question: Question, on_token: Token, cancelled: Cancelled, state: str) -> Answer:
        """`state`: path of a saved one, or empty. Raises EngineError, Cancelled."""

    def held(self) -> int:
        """Bytes that it holds outside of this process: on a GPU, in a server."""

    def free(self) -> None:
        """Let go of what would stay when this process ends."""


@dataclass(frozen=True)
class Seen:
    """The pictures of a question, as they are given to the model."""

    pictures: Sequence[Picture]
    max_pixels: int = 0
    resize: tuple[int, int] | None = None


@dataclass
class Transformers:
    """torch and transformers; the only engine that saves states."""

    loaded: Loaded | None = None

    def load(self, runnable: Runnable, progress: Progress, cancelled: Cancelled) -> dict[str, Any]:
        """Load, and where weights were packed for it, run one token: the first one repacks them all."""
        from cachetui.config import Where
        from cachetui.engine import loading
        from cachetui.engine.prompting import Question, ask
        from cachetui.quantized_entries.using import kept

        wanted = kept(Where.current(), runnable.wanted) if runnable.wanted.bits else runnable.wanted
        loaded = self.loaded = loading.load(wanted, progress=progress, cancelled=cancelled)
        warm = 0.0
        if loaded.quantization and str(loaded.device) == "cpu" and loaded.model.can_generate():
            progress("warm up", 0, 0, "")
            warm = ask(loaded, Question("a", max_new_tokens=1), cancelled=cancelled).seconds
        return {
            "device": str(loaded.device),
            "dtype": str(loaded.dtype).removeprefix("torch."),
            "quantization": loaded.quantization,
            "model_class": loaded.model_class,
            "images": loaded.images,
            "folder": loaded.wanted.folder,
            "weights": loaded.memory,
            "notes": list(loaded.notes),
            "load_seconds": loaded.load_seconds,
            "warm_up_seconds": warm,
        }

    def ask(self, question: Question, on_token: Token, cancelled: Cancelled, state: str) -> Answer:
        """With a state the question goes on from it."""
        from cachetui.engine import prompting

        assert self.loaded is not None
        found = None
        if state:
            from cachetui.engine import state as states

            found = states.load(state, self.loaded)
        return prompting.ask(self.loaded, question, on_token=on_token, cancelled=cancelled, state=found)

    def held(self) -> int:
        """Of GPUs."""
        from cachetui.engine.usage import gpu_bytes

        return gpu_bytes()

    def free(self) -> None:
        """Nothing stays."""

    def identity(self, seen: Seen, system: str) -> Identity:
        """What a state of this is known by. Raises EngineError."""
        from cachetui.engine.identity import identity

        assert self.loaded is not None
        return identity(self.loaded, seen.pictures, system, max_pixels=seen.max_pixels, resize=seen.resize)

    def save_state(self, seen: Seen, system: str, output: str, cancelled: Cancelled) -> dict[str, Any]:
        """Read pictures and system prompt once and keep what the model made of them. Raises EngineError, OSError."""
        from cachetui.config import Where
        from cachetui.engine import state as engine
        from cachetui.fs import DISK
        from cachetui.state_folders import note
        from cachetui.workers.states import place

        assert self.loaded is not None
        made = engine.build(
            self.loaded, seen.pictures, system, max_pixels=seen.max_pixels, resize=seen.resize, cancelled=cancelled
        )
        path = place(output, made.info.identity, self.loaded.wanted.name)
        trouble = note(os.path.dirname(path), Where.current())  # first: what a killed save leaves is then found
        return {**engine.save(DISK, made, path).to_json(), "trouble": trouble}


@dataclass
class Other:
    """What has no saved states: `module` has load and ask."""

    module: Any
    arguments: Callable[[Runnable], tuple[tuple[Any, ...], dict[str, Any]]]
    loaded: Any = field(default=None)

    def load(self, runnable: Runnable, progress: Progress, cancelled: Cancelled) -> dict[str, Any]:
        """Load it."""
        progress("load", 0, 0, "")
        plain, named = self.arguments(runnable)
        self.loaded = self.module.load(*plain, **named, cancelled=cancelled)
        told = {
            name: getattr(self.loaded, name, "") for name in ("device", "dtype", "quantization", "images", "context")
        }
        folder = runnable.file or runnable.url or runnable.wanted.folder
        seconds = getattr(self.loaded, "load_seconds", 0.0)
        more = {"model_class": getattr(self.loaded, "model_class", ""), "weights": getattr(self.loaded, "memory", 0)}
        return {**told, **more, "folder": folder, "load_seconds": seconds}

    def ask(self, question: Question, on_token: Token, cancelled: Cancelled, state: str) -> Answer:
        """Without states."""
        from cachetui.engine.errors import EngineError

        if state:
            raise EngineError("only models that transformers runs have saved states", "ask without --state")
        answer: Answer = self.module.ask(self.loaded, question, on_token=on_token, cancelled=cancelled)
        return answer

    def held(self) -> int:
        """What a server has in memory for it."""
        return int(self.loaded.memory) if hasattr(self.loaded, "free") else 0

    def free(self) -> None:
        """Ask a server to free it."""
        if hasattr(self.loaded, "free"):
            self.loaded.free()


def engine_of(runnable: Runnable) -> Engine:
    """The one that runs it, not loaded yet."""
    if runnable.engine == TRANSFORMERS:
        return Transformers()
    if runnable.engine == GGUF:
        from cachetui.engine import gguf_engine

        return Other(gguf_engine, _gguf)
    if runnable.engine == OLLAMA:
        from cachetui.engine import ollama_engine

        return Other(ollama_engine, lambda r: ((r.name,), {"url": r.url}))
    if runnable.engine == MLX:
        from cachetui.engine import mlx_engine

        return Other(mlx_engine, lambda r: ((r.wanted.folder,), {"name": r.name}))
    raise ValueError(runnable.engine)


def _gguf(r: Runnable) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (r.file,), {"name": r.name, "mmproj": r.projector, "device": r.wanted.device}
