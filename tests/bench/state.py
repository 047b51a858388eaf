"""The first word with a saved state and without, side by side: python tests/bench/state.py [--rounds 3] [--markdown]

The model has the real shape of a Qwen3-VL whose text half is that of Qwen3-0.6B and whose eyes are those of the 2B
(--eyes 6 takes a quarter of their layers): random weights, the real size of vocabulary, a small tokenizer. Each round
asks the same question about the same picture twice, in turn: picture and prompt read, and gone on from a state that is
loaded from its file, which counts. The picture is chosen so that system prompt and picture are about so many tokens.
Then a cold worker process against the same one when it is warm, and bytes a token against the formula.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
from run import Row, table

REACH = {100: 4.0, 300: 8.0}
"""How many times sooner the first word must come, by tokens before the question."""
QUESTION = "red?"
"""14 tokens with what the template puts behind it: as many as a sentence has in a real vocabulary."""
SYSTEM = "you are a helpful assistant analyzing an image."
_TEXT = {
    "vocab_size": 151936, "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}  # fmt: skip
_EYES = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "out_hidden_size": 1024, "patch_size": 16,
    "num_position_embeddings": 2304,
}  # fmt: skip


def build(folder: Path, dtype: str, eyes: int) -> int:
    """Write the repo; returns the number of parameters."""
    import tiny
    import torch
    import transformers

    kind = tiny.KINDS["qwen3_vl"]
    words = tiny.tokenizer(kind)
    words.save_pretrained(folder)
    deep = [n * eyes // 4 for n in (1, 2, 3)]
    config = transformers.CONFIG_MAPPING["qwen3_vl"](
        text_config=_TEXT | {"rope_parameters": tiny._mrope(24, 20, 20)},
        vision_config=_EYES | {"depth": eyes, "deepstack_visual_indexes": deep},
        tie_word_embeddings=True,
        **tiny._qwen_ids(words.get_vocab()),
    )
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        model = transformers.AutoModelForImageTextToText.from_config(config)
    finally:
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    size = {"shortest_edge": 4096, "longest_edge": 16777216}
    pictures = transformers.Qwen2VLImageProcessorPil(patch_size=16, temporal_patch_size=2, merge_size=2, size=size)
    pictures.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps(kind.processor), encoding="utf-8")
    return sum(p.numel() for p in model.parameters())


def picture(path: Path, tokens: int) -> Path:
    """A picture of noise that becomes about so many tokens, 32 x 32 pixels each."""
    from PIL import Image

    rows = int(tokens**0.5)
    size = (32 * (tokens // rows), 32 * rows)
    Image.frombytes("RGB", size, random.Random(tokens).randbytes(size[0] * size[1] * 3)).save(path)
    return path


def times(loaded: Any, spec: Path, path: Path, rounds: int) -> tuple[Row, Row, Any]:
    """(without a state, with it, what the state says): seconds from the question to the first token."""
    from cachetui.engine import state
    from cachetui.engine.images import open_picture
    from cachetui.engine.prompting import Question, ask
    from cachetui.fs import DISK

    seen = [open_picture(str(spec))]
    info = state.save(DISK, state.build(loaded, seen, SYSTEM), str(path))
    plain, quick = Row("picture and prompt read", []), Row("from a saved state", [])
    for n in range(rounds + 1):
        without = ask(loaded, Question(QUESTION, seen, SYSTEM, max_new_tokens=1))
        found = state.load(info.path, loaded)
        within = ask(loaded, Question(QUESTION, max_new_tokens=1), state=found)
        assert within.prompt_tokens == without.prompt_tokens
        if n:
            plain.seconds.append(without.first_token_seconds)
            quick.seconds.append(within.first_token_seconds + found.seconds)
    print(f"\n{info.tokens} tokens, {without.prompt_tokens - info.tokens} of the question; the state loads in "
          f"{found.seconds * 1000:.1f} ms")  # fmt: skip
    return plain, quick, info


def workers(folder: Path, spec: Path, path: Path, markdown: bool) -> None:
    """The whole answer of one token: a worker that has to start and load, and the same one asked again."""
    from cachetui.jobs.session import Session
    from cachetui.runnable import TRANSFORMERS, Runnable
    from cachetui.wanted import Wanted

    runnable = Runnable("bench", TRANSFORMERS, Wanted(str(folder), "bench", device="cpu"))
    session = Session({"op": "load", "runnable": runnable.to_json()})
    plain = {"op": "ask", "text": QUESTION, "images": [str(spec)], "system": SYSTEM, "max_new_tokens": 1}
    asked = {"op": "ask", "text": QUESTION, "max_new_tokens": 1, "state": str(path)}
    rows = [Row("warm, from a state", []), Row("warm, the picture read", []), Row("cold, from a state", [])]
    try:
        for n, (row, request) in enumerate([(2, asked), *[(0, asked), (1, plain)] * 3]):
            begun = time.perf_counter()
            ended = session.ask(request)
            assert ended.result is not None, ended
            assert bool(ended.result["state_used"]) == (row != 1), ended
            rows[row].seconds.append(time.perf_counter() - begun)
            if not n:
                print(f"\na worker with the model holds {session.memory() / 1e9:.2f} GB")
    finally:
        session.close()
    table("First word of a worker (cold: process, torch and weights too)", rows, markdown)


def formula(info: Any, folder: Path) -> tuple[float, float]:
    """(bytes a token of the cache in the file, those of the formula)."""
    from cachetui.memory.cache import cache_of
    from cachetui.states.reading import open_state

    opened = open_state(info.path)
    held = sum(t.end - t.start for t in opened.header.tensors if t.name.startswith("layers."))
    width = 2 if info.identity.dtype in ("bfloat16", "float16") else 4
    told = cache_of(json.loads((folder / "config.json").read_text()))
    assert told is not None
    return held / info.tokens, told.bytes(info.tokens, width) / info.tokens


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, time in turn, print; 1 where a figure is not reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--eyes", type=int, default=24, help="layers of the vision tower")
    parser.add_argument("--dir", default=None, help="where to build (2 GB)")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args(arguments)

    from cachetui.engine import environment

    environment.prepare(True)
    from cachetui.engine.loading import load
    from cachetui.wanted import Wanted

    missed = 0
    with tempfile.TemporaryDirectory(dir=options.dir) as base:
        folder = Path(base, "model")
        folder.mkdir()
        count = build(folder, options.dtype, options.eyes)
        loaded = load(Wanted(str(folder), "bench", device="cpu"))
        print(f"{count / 1e9:.2f} B parameters, {options.dtype}, loaded in {loaded.load_seconds:.1f} s")
        for prefix, reach in REACH.items():
            spec, path = picture(Path(base, f"{prefix}.png"), prefix - 30), Path(base, f"{prefix}.state")
            plain, quick, info = times(loaded, spec, path, options.rounds)
            table(f"First word after {info.tokens} tokens", [quick, plain], options.markdown)
            held, told = formula(info, folder)
            ratio = plain.median / quick.median
            missed += ratio < reach or held != told
            print(f"  {ratio:.1f} times sooner (to reach: {reach:.0f}); {info.bytes:,} bytes, "
                  f"{held:,.0f} a token (formula: {told:,.0f})", flush=True)  # fmt: skip
        del loaded
        workers(folder, spec, path, options.markdown)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
