"""Where a model goes and in which numbers: device, dtype, and whether there is room, decided before it is loaded."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from typing import Any

from cachetui.engine.errors import DEVICE, NO_MEMORY, EngineError
from cachetui.engine.repository import Repository
from cachetui.memory import weights as weighing
from cachetui.memory.cache import cache_of
from cachetui.memory.holders import holders
from cachetui.memory.model import FP32, HALF, INT8, NF4, NF4_DOUBLE
from cachetui.quantized_entries.wishes import dtype_of
from cachetui.units import size as shown
from cachetui.wanted import Wanted

_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float32"}
_TOKENS = 256
"""The shortest conversation that is worth loading a model for."""
_UNPACKED_ON_CPU = ("fp8", "mxfp8", "fbgemm_fp8", "mxfp4", "nvfp4")
"""Stored in formats that only GPUs compute with: transformers turns them into 16 bit elsewhere."""


def stored_dtype(repo: Repository) -> str:
    """The numbers most of the model is stored in; of a quantized one, what its config says."""
    said = _said(repo.config)
    if repo.method and said:
        return said
    for name, _ in weighing.by_dtype(repo.tensors):
        if name in _DTYPES:
            return _DTYPES[name]
    return said or "float32"


def _said(config: Mapping[str, Any]) -> str:
    for part in (config, config.get("text_config"), config.get("llm_config")):
        if isinstance(part, Mapping):
            found = part.get("dtype", part.get("torch_dtype"))
            if isinstance(found, str) and found.removeprefix("torch.") in ("float32", "bfloat16", "float16"):
                return found.removeprefix("torch.")
    return ""


def choose(wanted: Wanted, repo: Repository) -> tuple[str, str, tuple[str, ...]]:
    """(device, dtype, notes for the person). Raises EngineError where the device is not there or has no room.

    auto takes the GPU with most room, where the model goes in; else Apple's; else the CPU.
    """
    kind = wanted.device.partition(":")[0]
    if kind in ("cuda", "mps"):
        device = _named(wanted)
        dtype = choose_dtype(wanted, repo, kind)[0]
        must_fit(wanted, device, need(wanted, repo, device, dtype))
        return device, dtype, ()
    notes: list[str] = []
    for device in _accelerators() if kind == "auto" else ():
        dtype = choose_dtype(wanted, repo, device)[0]
        if need(wanted, repo, device, dtype) <= free(device):
            return device, dtype, ()
        notes.append(
            f"{shown(need(wanted, repo, device, dtype))} do not go into the {shown(free(device))} free on {device}"
            f"{held_by(device)}: it runs on the CPU"
        )
    dtype, why = choose_dtype(wanted, repo, "cpu")
    must_fit(wanted, "cpu", need(wanted, repo, "cpu", dtype))
    return "cpu", dtype, (*notes, *([why] if why else []))


def _named(wanted: Wanted) -> str:
    import torch

    kind, _, number = wanted.device.partition(":")
    if kind == "mps":
        if not torch.backends.mps.is_available():
            raise EngineError("there is no Apple GPU that torch can use", "--device cpu", DEVICE)
        return "mps"
    if not torch.cuda.is_available():
        build = getattr(torch.version, "cuda", None)
        why = "torch sees no NVIDIA GPU" if build else "this torch is built without CUDA"
        way = "nvidia-smi tells whether the driver works" if build else "install torch from https://pytorch.org"
        raise EngineError(why, f"--device cpu, or: {way}", DEVICE)
    count = torch.cuda.device_count()
    if number and int(number) >= count:
        raise EngineError(f"there is no {wanted.device}: {count} GPU(s)", f"--device cuda:{count - 1}", DEVICE)
    return wanted.device if number else (_accelerators() or ["cuda:0"])[0]


def _accelerators() -> list[str]:
    """GPUs that torch can use, the one with most free memory first."""
    import torch

    if torch.cuda.is_available():
        names = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
        return sorted(names, key=free, reverse=True)
    return ["mps"] if torch.backends.mps.is_available() else []


def choose_dtype(wanted: Wanted, repo: Repository, device: str) -> tuple[str, str]:
    """(dtype, why it is not the stored one).

    A CPU without instructions for a 16-bit format computes with it 3 to 12 times slower than with float32 (torch
    2.13, one core: 128 x 2048 by 2048 x 4096 takes 26 ms in float32, 92 ms in float16, 11 ms in bfloat16 with
    AVX512-BF16 and 91 ms without). So there it becomes float32, without loss, where that leaves half of the RAM:
    judged by what the machine has, not by what is free now, so that the answer is the same every time.
    """
    if wanted.dtype != "auto" or (wanted.bits and not repo.method):
        return dtype_of(wanted, repo.config), ""
    stored = stored_dtype(repo)
    if device == "cpu" and repo.method in _UNPACKED_ON_CPU:
        return stored, f"stored as {repo.method}, which only GPUs compute with: held in {stored}"
    if device.partition(":")[0] != "cpu" or stored == "float32" or repo.method or computes(stored):
        return stored, ""
    if need(wanted, repo, "cpu", "float32") * 2 > _all_ram():
        return stored, f"this CPU is slow with {stored}, and float32 would take too much memory"
    return "float32", f"stored as {stored}, which this CPU is slow with: computed in float32"


def computes(dtype: str) -> bool:
    """Whether the CPU has instructions for a 16-bit format."""
    import torch

    asked = (
        ("_is_avx512_bf16_supported", "_is_amx_tile_supported") if dtype == "bfloat16" else ("_is_amx_fp16_supported",)
    )
    if any(getattr(torch.cpu, name, bool)() for name in asked):
        return True
    if platform.machine() not in ("aarch64", "arm64"):
        return False
    ops = torch.ops.mkldnn
    try:
        return bool(ops._is_mkldnn_bf16_supported() if dtype == "bfloat16" else ops._is_mkldnn_fp16_supported())
    except (AttributeError, RuntimeError):
        return False


def need(wanted: Wanted, repo: Repository, device: str, dtype: str) -> int:
    """Bytes of the weights and the KV cache of a short conversation: what must fit, or nothing works."""
    tensors = weighing.untied(weighing.alike(repo.tensors), repo.config)
    if repo.method:
        total = weighing.stored(tensors)
        if device == "cpu" and repo.method in _UNPACKED_ON_CPU:
            total *= 4 if repo.method in ("mxfp4", "nvfp4") else 2
    elif wanted.bits:
        mode = INT8 if wanted.bits == 8 else NF4_DOUBLE if wanted.double_quant else NF4
        total = weighing.weights(tensors, mode, rest=4 if dtype == "float32" else 2)
    else:
        total = weighing.weights(tensors, FP32 if dtype == "float32" else HALF)
    cache = cache_of(repo.config)
    return total + (cache.bytes(_TOKENS, 4 if dtype == "float32" else 2) if cache else 0)


def free(device: str) -> int:
    """Bytes a model may take there now."""
    if device.startswith("cuda"):
        import torch

        try:
            return int(torch.cuda.mem_get_info(device)[0])
        except RuntimeError:  # a GPU that is lost, or another program's alone
            return 0
    import psutil

    room = int(psutil.virtual_memory().available)
    return min(room, limit - _used()) if (limit := _limit()) else room


def _all_ram() -> int:
    import psutil

    total = int(psutil.virtual_memory().total)
    return min(total, _limit() or total)


def _limit() -> int:
    """Bytes the control group of a container grants; 0: no limit."""
    return _number("/sys/fs/cgroup/memory.max")


def _used() -> int:
    return _number("/sys/fs/cgroup/memory.current")


def _number(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return 0
    try:
        text = os.read(fd, 32).strip()
    except OSError:
        return 0
    finally:
        os.close(fd)
    return int(text) if text.isdigit() else 0


def must_fit(wanted: Wanted, device: str, needed: int) -> None:
    """Raises EngineError where there is no room."""
    room = free(device)
    if needed > room:
        raise no_memory(wanted, device, f"it takes {shown(needed)}, {shown(max(room, 0))} are free")


def no_memory(wanted: Wanted, device: str, why: str = "") -> EngineError:
    """What to say when memory ran out on `device`, or would."""
    on_gpu = not device.startswith("cpu")
    where = device if on_gpu else "this machine's memory"
    ways = []
    if not wanted.bits:
        ways.append("--bits 4")
    if wanted.dtype == "float32":
        ways.append("--dtype bfloat16")
    if on_gpu:
        ways.append("--device cpu")
    ways.append("a smaller model (cachetui estimate --all tells which fit)")
    more = f": {why}" if why else ""
    return EngineError(f"{wanted.name} does not fit into {where}{more}{held_by(device)}", ", or ".join(ways), NO_MEMORY)


def held_by(device: str) -> str:
    """Who else holds memory of NVIDIA GPUs, as the end of a sentence; empty where that cannot be told."""
    if not device.startswith("cuda"):
        return ""
    others = [h for h in holders() if h.pid != os.getpid()][:3]
    told = [
        f"{h.name or 'a program'} (process {h.pid}) holds {shown(h.bytes) if h.bytes else 'some of it'}" for h in others
    ]
    return f" ({', '.join(told)})" if told else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on the CPU or a GPU."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        words in text for words in ("out of memory", "can't allocate memory", "not enough memory", "MPS backend out of")
    )
