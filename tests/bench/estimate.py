"""How long an estimate takes, a model at a time: python tests/bench/estimate.py [--rounds 30]

Beside it, in the same run, the least that anything must do that reads these headers: read their bytes and parse the
JSON. Each file is a header without weights. No torch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "memory"))
from memory_world import item, only_headers, where_of

from cachetui.demo.builders import Hub
from cachetui.memory import catalogue, devices, running
from cachetui.memory.estimating import estimate
from cachetui.memory.model import Ask
from cachetui.memory.shapes import likes_of
from cachetui.memory.sources import facts_of
from cachetui.memory.weights import untied

MODELS = (
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B", "Qwen/Qwen3-VL-8B-Instruct",
    "meta-llama/Llama-3.3-70B-Instruct",
)  # fmt: skip


def ms(work: Callable[[], object], rounds: int) -> float:
    """Median milliseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ.update(
            HOME=folder, HF_HOME=f"{folder}/hf", OLLAMA_MODELS=f"{folder}/ollama", CACHETUI_ONLY_BELOW=folder
        )
        hub = Hub(home / "hf/hub")
        paths = {}
        for name in MODELS:
            config = catalogue.named(name)[0].config
            hub.repo(name).revision(
                {"config.json": json.dumps(config).encode(), "model.safetensors": only_headers(config)}
            )
            paths[name] = next(
                (home / "hf/hub").glob(f"models--{name.replace('/', '--')}/snapshots/*/model.safetensors")
            )
        print(f"{'model':42} {'tensors':>7} {'read+parse':>10} {'estimate':>9} {'together':>9} {'of least':>8}   (ms)")
        for name in MODELS:
            found = item(where_of(home), f"hf:{name}")
            least = ms(lambda path=paths[name]: json.loads(path.read_bytes()[8:]), rounds)  # type: ignore[misc]
            facts = facts_of(found)
            alone = ms(lambda facts=facts: estimate(facts), rounds)  # type: ignore[misc]
            both = ms(lambda found=found: estimate(facts_of(found)), rounds)  # type: ignore[misc]
            print(f"{name:42} {len(facts.tensors):7} {least:10.2f} {alone:9.2f} {both:9.2f} {both / least:8.1f}")
        rows = catalogue.ROWS
        made = ms(lambda: [untied(likes_of(r.config), r.config) for r in rows], rounds) / len(rows)
        alone = ms(lambda: [estimate(catalogue.facts(r.repo), Ask()) for r in rows], rounds) / len(rows)
        everything = [estimate(catalogue.facts(r.repo)) for r in rows]
        card = devices.card("RTX 2080")
        table = ms(lambda: running.what_runs(everything, card, 64 * 10**9), rounds) / len(rows)
        print(f"a row of the catalogue: tensors {made:.2f}, estimate {alone:.2f}, against a card {table:.2f} ms")


if __name__ == "__main__":
    main()
