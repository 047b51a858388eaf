"""Quantizing against loading what was kept, side by side: python tests/bench/quantize.py [--small] [--markdown]

The model has the real shape of Qwen3-0.6B: random weights in bfloat16, the real size of vocabulary. Every step is a
fresh process; what is timed is the call alone, without imports. After each, the logits of the first forward: those of
the model that was quantized just now and of the one that was loaded must be equal to the last bit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from state import _TEXT as QWEN3_0_6B

REACH = 10.0
"""How many times sooner an nf4 entry must be there than quantizing it."""
CLOSE = 0.001
"""How far the size may be from the estimate."""
MODES: dict[str, dict[str, Any]] = {
    "nf4": {"bits": 4},
    "nf4 double-quant": {"bits": 4, "double_quant": True},
    "int8": {"bits": 8},
}
_STEP = """
import json, sys, time
from cachetui.engine import environment
environment.prepare(True)
import accelerate, bitsandbytes, torch, transformers
transformers.AutoTokenizer, transformers.Qwen3ForCausalLM  # imported when asked for, which takes as long as loading
from cachetui.engine import entries
from cachetui.engine.quantizing import peak_memory
from cachetui.quantized_entries.wishes import identify
from cachetui.wanted import Wanted
request = json.loads(sys.argv[1])
wanted, begun = Wanted.from_json(request["wanted"]), time.perf_counter()
had = entries.ensure(wanted, request["folder"])
assert had.made == (request["step"] == "quantize"), had
loaded = had.quantized.loaded if had.made else entries.load_entry(had.entry, device="cpu")
seconds, peak = time.perf_counter() - begun, peak_memory()
begun = time.perf_counter()
with torch.no_grad():
    logits = loaded.model(input_ids=torch.arange(100, 132)[None]).logits
open(request["logits"], "wb").write(logits.float().numpy().tobytes())
print(json.dumps({"seconds": seconds, "peak": peak, "first": time.perf_counter() - begun,
                  "size": had.entry.manifest.size, "path": had.entry.path}))
"""


def build(folder: Path, small: bool) -> int:
    """Write the repo; returns the number of parameters."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
    import tiny
    import torch
    import transformers

    words = tiny.tokenizer(tiny.KINDS["qwen3"])
    words.save_pretrained(folder)
    shape = QWEN3_0_6B | ({"num_hidden_layers": 2, "vocab_size": 4096} if small else {})
    config = transformers.CONFIG_MAPPING["qwen3"](**shape)
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = transformers.AutoModelForCausalLM.from_config(config)
    finally:
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def estimated(folder: Path, how: dict[str, Any]) -> int:
    """Bytes of the weights as the plan says them."""
    from cachetui.memory import headers
    from cachetui.memory.weights import alike, untied
    from cachetui.quantized_entries.planning import counted
    from cachetui.wanted import Wanted

    config = json.loads((folder / "config.json").read_text())
    tensors = [t for f in sorted(folder.glob("*.safetensors")) for t in headers.safetensors(str(f))]
    return counted(untied(alike(tensors), config), Wanted(str(folder), "bench", dtype="bfloat16", **how))


def run(step: str, folder: Path, kept: Path, how: dict[str, Any]) -> dict[str, Any]:
    """One step in a process of its own."""
    wanted = {"folder": str(folder), "name": "bench", "repo": "bench/model", "commit": "0" * 40, "device": "cpu", **how}
    logits = kept.parent / f"{step}.logits"
    request = {"wanted": wanted, "folder": str(kept), "step": step, "logits": str(logits)}
    done = subprocess.run(
        [sys.executable, "-c", _STEP, json.dumps(request)], capture_output=True, text=True, env=os.environ
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"logits": logits.read_bytes()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, quantize, load, print; 1 where a figure is not reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="two layers: to try the bench itself")
    parser.add_argument("--dir", default=None, help="where to build (3 GB)")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args(arguments)
    missed = 0
    mark = "| " if options.markdown else ""
    with tempfile.TemporaryDirectory(dir=options.dir) as base:
        folder = Path(base, "model")
        folder.mkdir()
        count = build(folder, options.small)
        stored = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
        print(f"{count / 1e9:.2f} B parameters, {stored / 1e9:.3f} GB in bfloat16")
        heads = ("mode", "quantize s", "load s", "times sooner", "size MB", "of bf16", "estimate off",
                 "peak MB, quantize", "load", "first forward s")  # fmt: skip
        print(mark + " | ".join(heads))
        if options.markdown:
            print("|" + "---|" * len(heads))
        for name, how in MODES.items():
            kept = Path(base, "kept")
            made, again = run("quantize", folder, kept, how), run("load", folder, kept, how)
            weights = sum(f.stat().st_size for f in Path(made["path"]).glob("*.safetensors"))
            off = estimated(folder, how) / weights - 1
            ratio = made["seconds"] / again["seconds"]
            same = made["logits"] == again["logits"]
            missed += (name == "nf4" and ratio < REACH) or (not options.small and abs(off) > CLOSE) or not same
            row = (name, f"{made['seconds']:.1f}", f"{again['seconds']:.2f}", f"{ratio:.0f}",
                   f"{weights / 1e6:.1f}", f"{weights / stored:.0%}", f"{off:+.3%}", f"{made['peak'] / 1e6:.0f}",
                   f"{again['peak'] / 1e6:.0f}", f"{again['first']:.1f}")  # fmt: skip
            print(mark + " | ".join(row) + ("" if same else "   THE LOGITS DIFFER"), flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
