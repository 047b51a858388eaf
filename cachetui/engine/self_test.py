"""The whole way of a quantized entry with a model of a few hundred kB: a test of this machine and of a folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cachetui.engine.entries import Had, ensure, load_entry
from cachetui.engine.errors import Cancelled
from cachetui.plans.executor import execute
from cachetui.plans.removal import prepare
from cachetui.plans.trash import empty, entries
from cachetui.quantized_entries.checking import check
from cachetui.quantized_entries.managing import look
from cachetui.store import Selection
from cachetui.wanted import Wanted

NAMES = (
    "a tiny model is built",
    "it is quantized and kept",
    "the entry is as its manifest says",
    "it loads again",
    "what it computes is the same to the last bit",
    "asked again it is there already",
    "one flipped byte is found",
    "it is made anew",
    "nothing of it stays",
)
_TOKENS = 64


class TestFailed(Exception):
    """Something is not as it has to be; the text says what."""


def checks(folder: str, cancelled: Callable[[], bool] = lambda: False) -> Iterator[tuple[str, str]]:
    """Each of NAMES as it passes, with a figure. Raises TestFailed, EngineError, Cancelled, OSError.

    Entries of others in the folder are not touched; its own are gone in the end, whatever happens.
    """
    names = iter(NAMES)
    with tempfile.TemporaryDirectory(prefix="cachetui-self-test-") as source:
        try:
            for note in _steps(folder, source, cancelled):
                if cancelled():
                    raise Cancelled
                yield next(names), note
        finally:
            left = _clear(folder, source)
    if left:
        raise TestFailed(left)
    yield next(names), ""


def _steps(folder: str, source: str, cancelled: Callable[[], bool]) -> Iterator[str]:
    _build(source)
    wanted = Wanted(source, "cachetui-self-test", device="cpu", bits=4)
    yield f"{sum(os.stat(e).st_size for e in os.scandir(source)) / 1e3:.0f} kB"
    had = ensure(wanted, folder, cancelled=cancelled)
    if had.quantized is None:
        raise TestFailed("it was there before it was made")
    yield f"{had.quantized.seconds:.1f} s"
    _must_be_whole(had)
    yield f"{len(had.entry.manifest.files) if had.entry.manifest else 0} files"
    again = load_entry(had.entry, device="cpu", cancelled=cancelled)
    yield f"{again.load_seconds:.1f} s"
    _must_equal(_compute(had.quantized.loaded.model), _compute(again.model))
    yield ""
    if ensure(wanted, folder, cancelled=cancelled).made:
        raise TestFailed("it was made a second time")
    yield ""
    _damage(had.entry.path)
    found = check(had.entry.path)
    if found:
        raise TestFailed("a flipped byte was not seen")
    yield found.reason
    anew = ensure(wanted, folder, cancelled=cancelled)
    if not anew.made or not anew.replaced:
        raise TestFailed("the damaged entry was taken for a good one")
    _must_be_whole(anew)
    yield "the damaged one went to the trash"


def _build(folder: str) -> None:
    """A Llama of two layers with random weights and a tokenizer of 64 words."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {"<s>": 0, "</s>": 1, "<unk>": 2, **{f"w{n}": n for n in range(3, _TOKENS)}}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=_TOKENS, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, bos_token_id=0, eos_token_id=1, tie_word_embeddings=False,
        dtype="bfloat16",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)


def _compute(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(torch.arange(3, 19).unsqueeze(0)).logits


def _must_equal(first: Any, second: Any) -> None:
    import torch

    if not torch.equal(first, second):
        raise TestFailed(f"the logits differ by up to {(first - second).abs().max().item():.3g}")


def _must_be_whole(had: Had) -> None:
    found = check(had.entry.path, full=True)
    if not found:
        raise TestFailed(found.reason)


def _damage(path: str) -> None:
    """Flip one byte in the middle of the weights: this is the entry that this test made."""
    name = f"{path}/model.safetensors"
    with Path(name).open("r+b") as file:
        file.seek(os.path.getsize(name) // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes((byte ^ 1,)))


def _clear(folder: str, source: str) -> str:
    """Take away for good what this test kept, in the folder and in the trash; why not, or nothing."""
    scan = look(folder)
    mine = [i for i in scan.items if i.name.startswith("cachetui-self-test ")]
    plan = prepare(scan, [Selection(i) for i in mine], permanent=True)
    outcome = execute(plan, accept=frozenset(c.code for i in plan.accepted for c in i.cautions))
    thrown = [
        replace(e, items=kept)
        for e in entries([r.root for r in scan.roots])
        if (kept := tuple(i for i in e.items if i.name.startswith("cachetui-self-test ")))
    ]
    emptied = empty(thrown) if thrown else None
    results = (*outcome.results, *(emptied.results if emptied is not None else ()))
    return next((f"{r.target} is still there: {r.message}" for r in results if not r.done), "")
