"""A model from its folder into memory: looked at, placed, quantized if asked, checked.

`from_pretrained` of transformers 5 does the work (modeling_utils.py); before it everything is looked at that can be
known without it, and after it what it leaves to warnings: weights that are not in the files would be random numbers.
"""

from __future__ import annotations

import gc
import importlib.util
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cachetui import families
from cachetui.engine import cpu_layers, devices, environment, processors, repository
from cachetui.engine.architectures import Kind, class_of, read_config, remote_failed, unquantized
from cachetui.engine.errors import DAMAGED, DEVICE, NO_MEMORY, NOT_INSTALLED, UNSUPPORTED, Cancelled, EngineError
from cachetui.engine.progress import Reporter, listening
from cachetui.engine.repository import Repository
from cachetui.wanted import Wanted

__all__ = ["Loaded", "Wanted", "load"]

INSTALL = "pip install 'cachetui[models]'"
_PACKAGES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "bitsandbytes": (("bitsandbytes", "bitsandbytes"), ("accelerate", "accelerate")),
    "gptq": (("optimum", "optimum"), ("gptqmodel", "gptqmodel")),
    "awq": (("gptqmodel", "gptqmodel"), ("accelerate", "accelerate")),
    "compressed-tensors": (("compressed_tensors", "compressed-tensors"),),
    "fp8": (("accelerate", "accelerate"),),
    "mxfp8": (("accelerate", "accelerate"),),
    "mxfp4": (("accelerate", "accelerate"),),
    "bitnet": (("accelerate", "accelerate"),),
    "torchao": (("torchao", "torchao"),),
    "hqq": (("hqq", "hqq"),),
    "quanto": (("optimum", "optimum-quanto"), ("accelerate", "accelerate")),
    "auto-round": (("auto_round", "auto-round"),),
    "aqlm": (("aqlm", "aqlm"),),
    "vptq": (("vptq", "vptq"),),
    "quark": (("quark", "amd-quark"),),
}
"""(module, package on PyPI) that a stored quantization needs: quantizers/quantizer_*.py, validate_environment."""


@dataclass(frozen=True)
class Loaded:
    """A model in memory with what stands before it."""

    wanted: Wanted
    model: Any
    tokenizer: Any
    """None where the model writes no text and has none."""
    processor: Any
    """Callable with text and images; None for models that take no pictures."""
    image_processor: Any
    family: str
    """A name like Qwen3-VL, or the config's model_type."""
    model_class: str
    images: bool
    """Whether it takes pictures."""
    device: Any
    """torch.device."""
    dtype: Any
    """torch.dtype that it computes in."""
    quantization: str
    """nf4, nf4-double, int8, or the method it is stored in (gptq ...); empty: plain numbers."""
    load_seconds: float
    memory: int
    """Bytes of the weights in memory, with what quantization keeps beside them."""
    notes: tuple[str, ...] = ()
    """What the person should know: another dtype than stored, no room on the GPU."""


def load(
    wanted: Wanted,
    *,
    progress: Callable[[str, int, int, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Loaded:
    """Load it. Raises EngineError, Cancelled.

    `progress(phase, done, total, name)`: prepare, then load with one count a parameter. `cancelled` is asked at least
    that often.
    """
    reporter = Reporter(progress, cancelled)
    started = time.monotonic()
    failed: EngineError | Cancelled
    try:
        return _load(wanted, reporter, started)
    except Cancelled:
        failed = Cancelled()
    except EngineError as e:
        failed = EngineError(e.reason, e.advice, e.code)
    except MemoryError:
        failed = devices.no_memory(wanted, "cpu")
    # What was raised held half a model in its frames: that goes first.
    if isinstance(failed, Cancelled) or failed.code == NO_MEMORY:
        gc.collect()
    raise failed


def _load(wanted: Wanted, reporter: Reporter, started: float) -> Loaded:
    reporter.tell("prepare", 0, 4, "files")
    repo = repository.look(wanted)
    _must_be_loadable(repo)
    reporter.tell("prepare", 1, 4, "libraries")
    _import()
    environment.settle()
    with repository.readable(repo) as repo:
        config = read_config(repo)
        kind = class_of(repo, config)
        reporter.tell("prepare", 2, 4, "memory")
        device, dtype, notes = devices.choose(wanted, repo)
        reporter.tell("prepare", 3, 4, "tokenizer and processor")
        parts = processors.load(repo, config, sees=kind.sees, writes=kind.writes)
        try:
            model, more = _weights(repo, config, kind, device, dtype, reporter)
        except Exception as e:
            raise _explained(repo, device, e) from e
    import torch

    family = families.of(repo.config)
    return Loaded(
        wanted=wanted,
        model=model,
        tokenizer=parts.tokenizer,
        processor=parts.processor,
        image_processor=parts.image_processor,
        family=family.name if family else str(repo.config.get("model_type", "")),
        model_class=type(model).__name__,
        images=parts.processor is not None,
        device=torch.device(device),
        dtype=getattr(torch, dtype),
        quantization=wanted.quantization if not repo.method else _stored_as(repo),
        load_seconds=time.monotonic() - started,
        memory=held(model),
        notes=(*notes, *more),
    )


def _must_be_loadable(repo: Repository) -> None:
    """What config.json alone forbids. Raises EngineError."""
    wanted, method = repo.wanted, repo.method
    if method == "mlx" or (not method and isinstance(repo.config.get("quantization"), dict)):
        advice = "it runs through mlx-lm: pip install 'cachetui[mlx]'"
        raise EngineError(f"{wanted.name} is in the format of MLX", advice, UNSUPPORTED)
    if method == "eetq":
        reason = f"{wanted.name} is stored as eetq, whose package fetches native code while it runs"
        raise EngineError(reason, "take another quantization of this model", UNSUPPORTED)
    if wanted.bits and method and not _already(repo):
        reason = f"{wanted.name} is stored quantized ({method}): it is loaded as it is"
        raise EngineError(reason, f"leave --bits {wanted.bits} out", UNSUPPORTED)
    needed = _PACKAGES.get(method or ("bitsandbytes" if wanted.bits else ""), ())
    absent = [package for module, package in needed if importlib.util.find_spec(module) is None]
    if absent:
        reason = f"{wanted.name} needs {' and '.join(absent)} ({method or 'quantizing'})"
        raise EngineError(reason, f"pip install {' '.join(absent)}", NOT_INSTALLED)


def _already(repo: Repository) -> bool:
    """Whether it is stored with as many bits as were asked for."""
    four = bool(repo.quantized.get("load_in_4bit"))
    return repo.method == "bitsandbytes" and repo.wanted.bits == (4 if four else 8)


def _stored_as(repo: Repository) -> str:
    if repo.method != "bitsandbytes":
        return repo.method
    if repo.quantized.get("load_in_8bit"):
        return "int8"
    kind = str(repo.quantized.get("bnb_4bit_quant_type", "fp4"))
    return f"{kind}-double" if repo.quantized.get("bnb_4bit_use_double_quant") else kind


def _import() -> None:
    try:
        import torch
        import transformers
    except ImportError as e:
        raise EngineError(f"loading models needs {e.name or e}", INSTALL, NOT_INSTALLED) from None
    if int(transformers.__version__.split(".")[0]) < 5:
        reason = f"transformers {transformers.__version__} is too old (torch {torch.__version__})"
        raise EngineError(reason, "pip install -U transformers", NOT_INSTALLED)


def _weights(
    repo: Repository, config: Any, kind: Kind, device: str, dtype: str, reporter: Reporter
) -> tuple[Any, tuple[str, ...]]:
    """(model, notes). Raises whatever transformers raises."""
    import torch

    wanted = repo.wanted
    options: dict[str, Any] = {"dtype": getattr(torch, dtype)}
    if wanted.attention:
        options["attn_implementation"] = wanted.attention
    if device != "cpu" or wanted.bits or repo.method:
        options["device_map"] = {"": device}
    quantizing = wanted.bits and not repo.method
    kept: tuple[str, ...] = ()
    if quantizing:
        plain = unquantized(repo, kind.made, config)
        kept = (*plain.vision, *plain.head)
        options["quantization_config"] = _how(wanted, kept, options["dtype"])
    with listening(reporter):
        model, info = kind.loader.from_pretrained(
            repo.path,
            config=config,
            use_safetensors=True,
            trust_remote_code=wanted.trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    model.eval()
    if quantizing:
        must_be_plain(wanted, model, kept)
    if device == "cpu" and (quantizing or repo.method == "bitsandbytes"):
        cpu_layers.mend(model)
    return model, _complete(repo, kind, info)


def _how(wanted: Wanted, skip: tuple[str, ...], dtype: Any) -> Any:
    """BitsAndBytesConfig; a skip list of one's own replaces that of transformers, so it must be complete."""
    from transformers import BitsAndBytesConfig

    names = sorted({*skip, *wanted.skip})
    if wanted.bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=names)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_use_double_quant=wanted.double_quant,
        llm_int8_skip_modules=names,
    )


def must_be_plain(wanted: Wanted, model: Any, prefixes: tuple[str, ...]) -> None:
    """Raises EngineError where a part that was to stay unquantized is not."""
    bad = [name for name in quantized_modules(model) if name.startswith(tuple(f"{p}." for p in prefixes))]
    bad += [name for name in quantized_modules(model) if name in prefixes]
    if bad:
        reason = f"{len(bad)} layers of {wanted.name} were quantized that must not be, such as {bad[0]}"
        raise EngineError(reason, f"name them: --skip {bad[0]}", UNSUPPORTED)


def quantized_modules(model: Any) -> list[str]:
    """Names of the layers that bitsandbytes holds."""
    import bitsandbytes

    kinds = (bitsandbytes.nn.Linear4bit, bitsandbytes.nn.Linear8bitLt)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def _complete(repo: Repository, kind: Kind, info: Mapping[str, Any]) -> tuple[str, ...]:
    """Raises EngineError where weights are random because the files do not have them."""
    lost = sorted(info["missing_keys"])
    if not lost:
        return ()
    some = f"{', '.join(lost[:3])}{' ...' if len(lost) > 3 else ''}"
    if kind.writes:
        reason = f"{repo.wanted.name}: {len(lost)} weights are in none of its files: {some}"
        raise EngineError(reason, repository.fetch_again(repo.wanted), DAMAGED)
    return (f"{len(lost)} weights are in none of its files and were made up: {some}",)


def held(model: Any) -> int:
    """Bytes of the parameters with what bitsandbytes keeps beside them, and the buffers; shared ones count once."""
    total = 0
    seen: set[int] = set()
    for tensor in (*model.parameters(), *model.buffers()):
        parts = [tensor]
        state = getattr(tensor, "quant_state", None)
        if state is not None:
            parts += [state.absmax, state.code]
            if state.nested:
                parts += [state.offset, state.state2.absmax, state.state2.code]
        if getattr(tensor, "SCB", None) is not None:
            parts.append(tensor.SCB)
        for part in parts:
            if part is not None and id(part) not in seen:
                seen.add(id(part))
                total += part.numel() * part.element_size()
    return total


def _explained(repo: Repository, device: str, error: Exception) -> Exception:
    """An EngineError for whatever loading raised."""
    if isinstance(error, EngineError | Cancelled):
        return error
    wanted = repo.wanted
    if devices.is_out_of_memory(error):
        return devices.no_memory(wanted, device)
    text = " ".join(str(error).split())[:400]
    if wanted.attention and ("ttention" in text or isinstance(error, ImportError)):
        reason = f"{wanted.name} cannot use {wanted.attention} here: {text}"
        return EngineError(reason, "leave the attention to transformers", NOT_INSTALLED)
    if repo.method and device == "cpu" and re.search(r"\b(GPU|XPU|CUDA)\b", text):
        reason = f"{wanted.name} is stored as {repo.method}, which needs a GPU: {text}"
        return EngineError(reason, "take another quantization of this model", DEVICE)
    if isinstance(error, ImportError):
        return EngineError(f"{wanted.name} needs a package that is not there: {text}", INSTALL, NOT_INSTALLED)
    if type(error).__name__ == "SafetensorError" or isinstance(error, OSError):
        reason = f"{wanted.name}: its files cannot be read: {text}"
        return EngineError(reason, repository.fetch_again(wanted), DAMAGED)
    if wanted.trust_remote_code and families.brings_code(repo.config):
        return remote_failed(repo, f"{type(error).__name__}: {text}")
    reason = f"{wanted.name} cannot be loaded: {type(error).__name__}: {text}"
    return EngineError(reason, f"cachetui verify {repository.target(wanted)} tells whether it is whole", DAMAGED)
