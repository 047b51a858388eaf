"""A folder of transformers as an MLX model, by mlx_lm's own convert (extra `mlx`): text only, on Linux on the CPU.

It runs as a program of its own: it tells nothing on the way, and only so can it be stopped.
"""

from __future__ import annotations

import os
import sys

from cachetui import walk
from cachetui.engine import programs, repository
from cachetui.engine.errors import UNSUPPORTED, EngineError
from cachetui.engine.progress import Reporter
from cachetui.memory.weights import alike, untied
from cachetui.quantized_entries import ways
from cachetui.quantized_entries.ways import GROUP, Way
from cachetui.wanted import Wanted


def quantize(wanted: Wanted, way: Way, folder: str, reporter: Reporter) -> None:
    """Write the model into `folder`, which exists and is empty. `wanted.dtype` is what stays unquantized.

    Raises EngineError, Cancelled, OSError.
    """
    repo = repository.look(wanted)
    if repo.method:
        reason = f"{wanted.name} is stored quantized already ({repo.method})"
        raise EngineError(reason, f"load it as it is: cachetui prompt {repository.target(wanted)}", UNSUPPORTED)
    for code, why, advice in ways.obstacles(wanted, way, repo.config):
        raise EngineError(why, advice, code)
    size = ways.size(way, untied(alike(repo.tensors), repo.config), repo.config, wanted.dtype)

    def look(_: bytes) -> None:
        written = sum(b.size for b in walk.tree(folder).files)
        reporter.tell("convert", min(written, size), size if written else 0, wanted.name)

    os.rmdir(folder)  # mlx_lm insists on making it
    command = [sys.executable, "-m", "mlx_lm", "convert", "--hf-path", repo.path, "--mlx-path", folder, "-q"]
    command += ["--q-bits", str(way.bits), "--q-group-size", str(GROUP), "--dtype", wanted.dtype]
    programs.run(command, f"mlx_lm cannot convert {wanted.name}", look)
    if not os.path.isfile(os.path.join(folder, "config.json")):
        raise EngineError(f"mlx_lm wrote no model of {wanted.name}", "pip install -U mlx-lm", UNSUPPORTED)
