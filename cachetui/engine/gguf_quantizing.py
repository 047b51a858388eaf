"""K-quants of GGUF: a model converted to one file in 16 bits, then every tensor quantized, one at a time.

Which tensor gets which type follows llama.cpp (src/llama-quant.cpp), which cachetui.memory.variants counts by too; the
numbers are libgguf's, the reference kernels of ggml. Where libgguf is not installed, llama-quantize on PATH does it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cachetui.engine import programs, repository
from cachetui.engine.environment import cores
from cachetui.engine.errors import DAMAGED, UNSUPPORTED, EngineError
from cachetui.engine.progress import Reporter
from cachetui.engine.repository import Repository
from cachetui.gguf import FILE_TYPES
from cachetui.memory.variants import MIXES, fitting, more_bits
from cachetui.quantized_entries import ways
from cachetui.quantized_entries.ways import Tools, Way
from cachetui.wanted import Wanted

MODELFILE = "Modelfile"
_PLAIN, _PROJECTOR = "plain.gguf", "mmproj-F16.gguf"
_UNTOUCHED = re.compile(
    r"(_norm\.weight|ffn_gate_inp\.weight|position_embd\.weight|token_types\.weight|ssm_conv1d\.weight"
    r"|shortconv\.conv\.weight|time_mix_.*|attn_rel_b\.weight|\.altup.*|\.laurel.*|per_layer_model_proj\.weight)$"
)
"""Tensors of more than one dimension that llama.cpp leaves as they are."""
_LAYER = re.compile(r"^blk\.(\d+)\.")
_PIECE = 1 << 21
"""Numbers that are quantized at once: a third of a second."""
_COUNT = re.compile(rb"\[\s*(\d+)/\s*(\d+)\]")
"""How llama-quantize says how far it is."""


def quantize(wanted: Wanted, way: Way, folder: str, reporter: Reporter) -> None:
    """Write a GGUF file, its projector where it sees, and a Modelfile for Ollama into `folder`.

    Raises EngineError, Cancelled, OSError.
    """
    repo = repository.look(wanted)
    if repo.method:
        reason = f"{wanted.name} is stored quantized already ({repo.method})"
        raise EngineError(reason, f"load it as it is: cachetui prompt {repository.target(wanted)}", UNSUPPORTED)
    for code, why, advice in ways.obstacles(wanted, way, repo.config):
        raise EngineError(why, advice, code)
    used = ways.tools(repo.config, wanted.folder)
    plain = os.path.join(folder, _PLAIN)
    name = f"{_stem(wanted.name)}-{way.type}.gguf"
    if used.converter:
        _convert_by_script(used, repo, plain, folder, reporter)
    else:
        from cachetui.engine.gguf_converting import convert

        try:
            convert(repo, plain, reporter)
        except (KeyError, TypeError, ValueError, IndexError) as e:
            raise EngineError(f"{wanted.name} cannot be converted to GGUF: {type(e).__name__}: {e}", "", DAMAGED) from e
    result = os.path.join(folder, name)
    if used.quantizer:
        size = os.path.getsize(plain)
        programs.run(
            [used.quantizer, plain, result, way.type],
            f"llama-quantize does not take {wanted.name}",
            lambda said: reporter.tell("quantize", int(size * _share(said)), size, wanted.name),
        )
    else:
        _quantize(plain, result, way.type, reporter)
    os.unlink(plain)
    files = [name, *([_PROJECTOR] if os.path.exists(os.path.join(folder, _PROJECTOR)) else [])]
    Path(folder, MODELFILE).write_text("".join(f"FROM ./{f}\n" for f in files), encoding="utf-8")


def _stem(name: str) -> str:
    """Of a file: the last part of the model's name, in letters that Ollama and llama.cpp take."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name.rpartition("/")[2]).strip("-.") or "model"


def _convert_by_script(used: Tools, repo: Repository, plain: str, folder: str, reporter: Reporter) -> None:
    """llama.cpp's own converter; a model that sees has a second file."""
    program = os.path.basename(used.converter)
    failed = f"{program} of llama.cpp does not take {repo.wanted.name}"
    results = [(plain, ["--outtype", "auto"])]
    if isinstance(repo.config.get("vision_config"), dict):
        results.append((os.path.join(folder, _PROJECTOR), ["--mmproj", "--outtype", "f16"]))
    for path, how in results:
        programs.run(
            [used.converter, repo.path, *how, "--outfile", path],
            failed,
            lambda _: reporter.tell("load", 0, 0, program),
        )


def _share(said: bytes) -> float:
    """How much of its tensors llama-quantize has done."""
    found = _COUNT.findall(said)
    return int(found[-1][0]) / max(int(found[-1][1]), 1) if found else 0.0


def _quantize(plain: str, result: str, kind: str, reporter: Reporter) -> None:
    """Every tensor by libgguf; keys stay, but for the file's type."""
    import gguf
    import libgguf
    import numpy as np

    reader = gguf.GGUFReader(plain)
    architecture = str(reader.fields["general.architecture"].contents())
    writer = gguf.GGUFWriter(result, architecture)
    try:
        _copy_keys(reader, writer, kind)
        names = [t.name for t in reader.tensors]
        types = {t.name: type_of(t.name, tuple(map(int, t.shape)), names, kind) for t in reader.tensors}
        for tensor in reader.tensors:
            shape, now = tuple(map(int, tensor.shape))[::-1], types[tensor.name]
            data, kept = tensor.data, tensor.tensor_type
            rows, size = data.shape, data.nbytes
            if now is not None:
                rows, kept = (*shape[:-1], libgguf.row_size(now, shape[-1])), gguf.GGMLQuantizationType(now)
                size = math.prod(rows)
            writer.add_tensor_info(tensor.name, rows, data.dtype if now is None else np.dtype(np.uint8), size, kept)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        total = sum(t.data.nbytes for t in reader.tensors)
        done = 0
        with ThreadPoolExecutor(cores()) as threads:
            for tensor in reader.tensors:

                def told(count: int, name: str = tensor.name) -> None:
                    nonlocal done
                    done += count
                    reporter.tell("quantize", done, total, name)

                now = types[tensor.name]
                writer.write_tensor_data(tensor.data if now is None else _quantized(tensor, now, threads, told))
    finally:
        writer.close()


def _quantized(tensor: Any, kind: int, threads: ThreadPoolExecutor, told: Callable[[int], None]) -> Any:
    """The bytes of a tensor in another type, rows first; some rows at a time, on every core."""
    import gguf
    import libgguf
    import numpy as np

    data = tensor.data.reshape(-1, tensor.data.shape[-1])
    wide = int(tensor.shape[0])
    out = np.empty((data.shape[0], libgguf.row_size(kind, wide)), np.uint8)
    step = max(1, _PIECE // wide)

    def some(first: int) -> int:
        rows = data[first : first + step]
        plain = gguf.quants.dequantize(rows, tensor.tensor_type)
        out[first : first + step] = libgguf.quantize_rows(plain, kind).view(np.uint8)
        return int(rows.nbytes)

    pieces = [threads.submit(some, first) for first in range(0, data.shape[0], step)]
    try:
        for piece in pieces:
            told(piece.result())
    except BaseException:
        for piece in pieces:
            piece.cancel()
        raise
    return out.reshape((*tensor.data.shape[:-1], out.shape[-1]))


def _copy_keys(reader: Any, writer: Any, kind: str) -> None:
    import gguf

    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        own = field.types[0]
        inner = field.types[-1] if own == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), own, sub_type=inner)
    writer.add_file_type(next(n for n, name in FILE_TYPES.items() if name == kind))


def type_of(name: str, shape: tuple[int, ...], names: list[str], kind: str) -> int | None:
    """ggml's type for a tensor (`shape` as GGUF has it, rows first) in a file of `kind`; None: it stays."""
    if len(shape) < 2 or not name.endswith("weight") or _UNTOUCHED.search(name):
        return None
    usual, finer, fused, output = MIXES[kind]
    layers = 1 + max((int(m[1]) for n in names if (m := _LAYER.match(n))), default=-1)
    at = int(m[1]) if (m := _LAYER.match(name)) else 0
    wanted = usual
    if name == "output.weight" or (name == "token_embd.weight" and "output.weight" not in names):
        wanted = output
    elif name.endswith(".attn_qkv.weight"):
        wanted = fused
    elif name.endswith((".attn_v.weight", ".ffn_down.weight", ".ffn_down_exps.weight")) and more_bits(at, layers):
        wanted = finer
    return fitting(wanted, shape[0])
