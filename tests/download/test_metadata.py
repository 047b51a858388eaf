"""What a model would need, asked of a Hub: config and headers by ranges, never weights."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hub_world import World, noise
from server import Fault, Repo

from cachetui.cli import cli
from cachetui.demo.builders import safetensors_bytes
from cachetui.download import errors, metadata
from cachetui.download.errors import PullError
from cachetui.download.planning import Request, prepare
from cachetui.memory.estimating import estimate
from cachetui.memory.model import HALF, NF4, STORED
from cachetui.memory.sources import NotAModel

sys.path.append(str(Path(__file__).parents[1] / "memory"))
from memory_world import LLAMA, gguf, only_headers

from cachetui.memory.shapes import tensors_of

NAME = "acme/llama"


def files(shards: int = 1) -> dict[str, bytes]:
    """A small llama, whole: real headers and zeros."""
    tensors = tensors_of(LLAMA)
    parts = [{t.name: (t.dtype, t.shape) for t in tensors[n::shards]} for n in range(shards)]
    names = ["model.safetensors"] if shards == 1 else [f"model-{n}-of-{shards}.safetensors" for n in range(shards)]
    weights = {name: safetensors_bytes(part) for name, part in zip(names, parts, strict=True)}
    return {"config.json": json.dumps(LLAMA).encode(), "tokenizer.json": b"{}" * 500, **weights}


def repo(shards: int = 1) -> Repo:
    made = files(shards)
    return Repo(made, frozenset(n for n in made if n.endswith("safetensors")))


def run(*args: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli, ["estimate", *args], prog_name="cachetui")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("shards", [1, 3])
def test_headers_tell_the_same_as_files_do(world: World, shards: int) -> None:
    world.server.add(NAME, repo(shards))
    facts = metadata.ask(world.client(), NAME)
    e = estimate(facts)
    stored = e.mode(STORED)
    assert stored is not None and stored.lines[0].exact
    assert stored.weights == sum(t.size for t in tensors_of(LLAMA))
    assert e.parameters == sum(t.elements for t in tensors_of(LLAMA))
    assert e.mode(NF4) is not None and e.quantization == "bf16" and e.kv_exact and not e.disk.exact
    assert e.download.bytes == sum(len(c) for c in files(shards).values())
    assert world.server.endpoint in e.source and NAME in e.source
    assert all(r.range for r in world.server.requests if "/content/" in r.path), "only ranges are asked for"


def test_a_long_header_takes_a_second_range(world: World) -> None:
    big = LLAMA | {"num_hidden_layers": 200}
    weights = only_headers(big)
    assert len(weights) > 1 << 16
    made = {"config.json": json.dumps(big).encode(), "model.safetensors": weights}
    world.server.add(NAME, Repo(made, frozenset(["model.safetensors"])))
    e = estimate(metadata.ask(world.client(), NAME))
    assert e.parameters == sum(t.elements for t in tensors_of(big))


def test_a_server_without_ranges_is_not_read_to_the_end(world: World) -> None:
    world.server.add(NAME, repo())
    world.server.faults.append(Fault("no-range", times=-1))
    e = estimate(metadata.ask(world.client(), NAME))
    assert e.parameters == sum(t.elements for t in tensors_of(LLAMA))


def test_a_quantization_of_a_gguf_repo(world: World) -> None:
    values = {
        "general.architecture": "llama", "general.file_type": 15, "general.size_label": "1.1B", "llama.block_count": 2,
        "llama.embedding_length": 128, "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2,
        "llama.context_length": 2048,
    }  # fmt: skip
    raw = gguf(values, {"w": (12, (64, 64), 2304)}, words=4000)
    made = {"m-Q4_K_M.gguf": raw, "m-Q8_0.gguf": raw + bytes(5000)}
    world.server.add(NAME, Repo(made, frozenset(made)))
    e = estimate(metadata.ask(world.client(), NAME))
    stored = e.mode(STORED)
    assert stored is not None and stored.weights == len(raw) and not stored.lines[0].exact
    assert (e.quantization, e.parameters, e.download.bytes) == ("Q4_K_M", 1_100_000_000, len(raw))
    assert stored.kv == 2 * 2048 * 2 * 2 * 32 * 2


def test_what_cannot_be_told_has_its_reason(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.server.add("acme/none", Repo({"config.json": b"{}"}))
    world.server.add("acme/bad", Repo({"model.safetensors": noise(9000)}, frozenset(["model.safetensors"])))
    world.server.add("acme/bin", Repo({"pytorch_model.bin": noise(5000)}, frozenset(["pytorch_model.bin"])))
    gated = replace(repo(), gated=True)
    world.server.add("acme/gated", gated)
    with pytest.raises(NotAModel, match="no weights"):
        metadata.ask(world.client(), "acme/none")
    with pytest.raises(NotAModel, match="longer than the file"):
        metadata.ask(world.client(), "acme/bad")
    rough = estimate(metadata.ask(world.client(), "acme/bin"))
    assert rough.mode(HALF) is None and rough.modes[0].weights == 5000
    with pytest.raises(PullError) as refused:
        metadata.ask(world.client(), "acme/gated")
    assert refused.value.code == errors.GATED


def test_unknown_names_on_the_command_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    world.server.add(NAME, repo())
    [one] = json.loads(run(NAME, "--vram", "8GB", "--json"))["estimates"]
    assert one["parameters"] == sum(t.elements for t in tensors_of(LLAMA)) and one["disk"] is None
    assert "numbers from" in run(f"hf:{NAME}", "--gpu", "T4")
    assert "does not exist" in run("acme/nothing", code=1)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said = run(NAME, code=1)
    assert "neither on this machine nor in the catalogue" in said and "HF_HUB_OFFLINE is set" in said


def test_the_preflight_estimates_the_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.server.add(NAME, repo())
    world.cache.mkdir()
    where = world.where
    for card, word in (("RTX 2080", "it fits"), ("100MB", "that does not fit")):
        plan = prepare(
            replace(where, config=replace(where.config, card=card)),
            Request(f"hf:{NAME}", cache_dir=str(world.cache)),
            world.client(),
        )
        [note] = [n for n in plan.notes if "of memory" in n]
        assert "loading it in bf16 takes about" in note and "with 2,048 tokens" in note and word in note
    assert "a hosted API, such as" in note
