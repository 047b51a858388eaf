"""Does a model load, and does one step of it give numbers? For any architecture, also those that write no text."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cachetui.engine import loading, mlx_engine, repository
from cachetui.engine.errors import DAMAGED, EngineError
from cachetui.engine.images import open_picture
from cachetui.engine.loading import Loaded
from cachetui.engine.prompting import Question, guarded
from cachetui.wanted import Wanted

if TYPE_CHECKING:
    from torch import Tensor

TEXT = "Describe this image."
_SIDE = 224
"""Pixels of a picture's side where neither config nor processor tells."""
_SECOND = 16000
"""Samples of a second of sound."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A model that loads and computes."""

    folder: str
    """What it was loaded from."""
    model_class: str
    """As transformers or mlx_lm calls it."""
    seconds: float
    """Loading and the step together."""
    memory: int
    """Bytes of the weights in memory."""
    loader: str = "transformers"
    """transformers or mlx_lm."""
    device: str = "cpu"
    dtype: str = ""
    quantization: str = ""
    step_seconds: float = 0.0
    """Of that: the step."""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For a protocol."""
        return {**asdict(self), "notes": list(self.notes)}


def check(
    wanted: Wanted,
    *,
    progress: Callable[[str, int, int, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Checked:
    """Load a folder, whatever it is, and run one small step of it. Raises EngineError, Cancelled.

    AutoModelForCausalLM and its like where it writes text, else the class its config names, else AutoModel; MLX
    conversions through mlx_lm.
    """
    begun = time.perf_counter()
    if is_mlx(wanted):
        return _mlx(wanted, begun, cancelled)
    loaded = loading.load(wanted, progress=progress, cancelled=cancelled)
    before = time.perf_counter()
    with guarded(loaded, Question(TEXT)):
        found = forward(loaded)
    _must_be_numbers(loaded, found)
    now = time.perf_counter()
    return Checked(
        folder=wanted.folder,
        model_class=loaded.model_class,
        seconds=now - begun,
        memory=loaded.memory,
        device=str(loaded.device),
        dtype=str(loaded.dtype).removeprefix("torch."),
        quantization=loaded.quantization,
        step_seconds=now - before,
        notes=loaded.notes,
    )


def is_mlx(wanted: Wanted) -> bool:
    """Whether a folder holds a conversion by mlx_lm: its config has a `quantization` that transformers does not know.

    Raises EngineError where there is nothing that could be loaded.
    """
    repo = repository.look(wanted)
    own = isinstance(repo.config.get("quantization"), dict)
    return repo.method == "mlx" or (own and not repo.method)


def _mlx(wanted: Wanted, begun: float, cancelled: Callable[[], bool] | None) -> Checked:
    loaded = mlx_engine.load(wanted.folder, name=wanted.name, cancelled=cancelled)
    before = time.perf_counter()
    mlx_engine.ask(loaded, Question("a", max_new_tokens=1), cancelled=cancelled)
    now = time.perf_counter()
    return Checked(
        folder=wanted.folder,
        model_class=loaded.model_class,
        seconds=now - begun,
        memory=loaded.memory,
        loader="mlx_lm",
        device=loaded.device,
        quantization=loaded.quantization,
        step_seconds=now - before,
    )


def forward(loaded: Loaded) -> Any:
    """One step with the smallest input that the architecture takes; what the model returns."""
    import torch

    if loaded.images and loaded.processor is not None and loaded.model.can_generate():
        from cachetui.engine import chat

        picture = open_picture("noise", resize=(_SIDE, _SIDE))
        encoded = chat.encode(loaded, system="", pictures=[picture], text=TEXT)
        inputs = {"input_ids": encoded.ids, "attention_mask": encoded.mask, **encoded.extra, **encoded.pixels}
    else:
        inputs = _inputs(loaded)
    with torch.no_grad():
        return loaded.model(**inputs)


def _inputs(loaded: Loaded) -> dict[str, Tensor]:
    """By the names of the model's own arguments."""
    import torch

    model = loaded.model
    takes = set(inspect.signature(model.forward).parameters)
    main = str(getattr(model, "main_input_name", "input_ids"))
    found: dict[str, Tensor] = {}
    if "input_ids" in takes and (main == "input_ids" or loaded.tokenizer is not None):
        found["input_ids"] = torch.tensor([_ids(loaded)])
    if main == "pixel_values" or ("pixel_values" in takes and not model.can_generate()):
        found["pixel_values"] = torch.zeros(1, *_picture(loaded), dtype=loaded.dtype)
    elif main == "input_features":
        found["input_features"] = torch.zeros(1, *_sound(model.config), dtype=loaded.dtype)
    elif main == "input_values":
        found["input_values"] = torch.zeros(1, _SECOND, dtype=loaded.dtype)
    if getattr(model.config, "is_encoder_decoder", False) and "decoder_input_ids" in takes:
        start = getattr(model.config, "decoder_start_token_id", None) or 0
        found["decoder_input_ids"] = torch.tensor([[start]])
    if not found:
        raise EngineError(f"{loaded.model_class} takes {main}, for which there is no test", "")
    return {name: value.to(loaded.device) for name, value in found.items()}


def _ids(loaded: Loaded) -> list[int]:
    ids = list(loaded.tokenizer(TEXT)["input_ids"]) if loaded.tokenizer is not None else []
    return ids or [0]


def _picture(loaded: Loaded) -> tuple[int, int, int]:
    """(channels, height, width) of a picture for the model, by its config."""
    config = loaded.model.config
    inner = getattr(config, "vision_config", config)
    side = getattr(inner, "image_size", None) or _SIDE
    height, width = (side[0], side[1]) if isinstance(side, list | tuple) else (side, side)
    return int(getattr(inner, "num_channels", 3) or 3), int(height), int(width)


def _sound(config: Any) -> tuple[int, int]:
    """(bands, frames) of a spectrogram."""
    frames = getattr(config, "max_source_positions", None)
    return int(getattr(config, "num_mel_bins", 80)), 2 * int(frames) if frames else 100


def _must_be_numbers(loaded: Loaded, output: Any) -> None:
    """Raises EngineError where what came out is no number: damaged weights, or a dtype that is too narrow."""
    import torch

    values = output.values() if hasattr(output, "values") else output if isinstance(output, tuple) else (output,)
    first = next((v for v in values if isinstance(v, torch.Tensor) and v.is_floating_point()), None)
    if first is not None and bool(torch.isnan(first).any()):
        raise EngineError(
            f"{loaded.wanted.name} loads, but computes what is no number ({loaded.model_class}, {loaded.dtype})",
            "`cachetui verify` compares its weights with their hashes; where it was asked to compute in float16, "
            "--dtype bfloat16 or float32",
            DAMAGED,
        )
