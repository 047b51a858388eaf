"""From a model on disk, or a row of the catalogue, to a verdict; the planner; the command line."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from memory_world import LLAMA, gguf, item, repo, weights, where_of

from cachetui.demo.builders import Hub, OllamaStore, local_dir
from cachetui.memory import catalogue, devices, planner, running
from cachetui.memory.estimating import estimate
from cachetui.memory.model import BEST_FIRST, HALF, NF4, STORED, TRAINING, Ask, Device, Fit
from cachetui.memory.shapes import likes_of, tensors_of
from cachetui.memory.sources import NotAModel, facts_of, labelled
from cachetui.memory.training import trainable
from cachetui.memory.weights import alike


def count_by_hand() -> int:
    layer = 128 * 128 * 2 + 2 * 64 * 128 + 3 * 320 * 128 + 2 * 128
    return 2 * 1000 * 128 + 2 * layer + 128


@pytest.fixture
def hub(home: Path) -> Hub:
    return Hub(home / ".cache/huggingface/hub")


def test_a_repo_tells_its_three_numbers(hub: Hub, home: Path) -> None:
    repo(hub, "org/llama", LLAMA)
    found = item(where_of(home), "hf:org/llama")
    e = estimate(facts_of(found))
    assert e.parameters == count_by_hand()
    assert e.by_dtype == (("BF16", count_by_hand()),)
    stored = e.mode(STORED)
    assert stored is not None
    assert stored.weights == 2 * count_by_hand()
    assert stored.lines[0].exact
    assert e.download.bytes == found.size > stored.weights
    assert e.disk.bytes == found.allocated
    assert e.quantization == "bf16"
    assert e.context_limit == 2048
    assert {m.name for m in e.modes} >= set(BEST_FIRST)
    assert e.training.reason == ""


def test_exact_and_estimated_are_told_apart(hub: Hub, home: Path) -> None:
    repo(hub, "org/llama", LLAMA)
    mode = estimate(facts_of(item(where_of(home), "hf:org/llama"))).mode(HALF)
    assert mode is not None
    kinds = {line.name: line.exact for line in mode.lines}
    assert kinds == {"weights": True, "KV cache": True, "activations": False, "runtime": False}
    assert mode.exact == mode.weights + mode.kv < mode.total


def test_shards_are_summed_and_copies_are_not(hub: Hub, home: Path) -> None:
    a, b = weights(LLAMA, shards=2)
    config = json.dumps(LLAMA).encode()
    index = json.dumps({"weight_map": {"lm_head.weight": "x", "gone": "y"}}).encode()
    hub.repo("org/two").revision(
        {
            "config.json": config,
            "model-00001-of-00002.safetensors": a,
            "model-00002-of-00002.safetensors": b,
            "consolidated.safetensors": weights(LLAMA)[0],
            "model.safetensors.index.json": index,
        }
    )
    e = estimate(facts_of(item(where_of(home), "hf:org/two")))
    assert e.parameters == count_by_hand()
    assert "1 tensors of the index are not here: the model is incomplete" in e.notes


def test_a_folder_and_an_older_revision(hub: Hub, home: Path) -> None:
    import time

    files = {"config.json": json.dumps(LLAMA).encode(), "model.safetensors": weights(LLAMA)[0]}
    local_dir(home / "models/mine", files, "0" * 40, time.time())
    old = repo(hub, "org/llama", LLAMA | {"num_hidden_layers": 1})
    hub.repo("org/llama").revision(files)
    where = where_of(home)
    both = item(where, "hf:org/llama")
    assert estimate(facts_of(both)).parameters == count_by_hand()
    assert estimate(facts_of(both, old[:12])).parameters < count_by_hand()
    with pytest.raises(NotAModel, match="no revision"):
        facts_of(both, "ffff")


def test_gguf_and_ollama_are_taken_as_they_are(home: Path) -> None:
    values = {
        "general.architecture": "llama", "general.file_type": 15, "llama.block_count": 2,
        "llama.embedding_length": 128, "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2,
        "llama.context_length": 2048,
    }  # fmt: skip
    raw = gguf(values, {"blk.0.w": (12, (64, 64), 2304), "token_embd": (0, (128, 10), 5120)}, words=500)
    store = OllamaStore(home / ".ollama/models")
    store.model("tiny:latest", {"model": raw})
    found = item(where_of(home), "ollama:tiny:latest")
    e = estimate(facts_of(found), Ask(context=4096))
    assert any("made for 2048" in note for note in e.notes)
    assert estimate(facts_of(found)).context == 2048
    stored = e.mode(STORED)
    assert stored is not None
    assert stored.weights == 2304 + 5120
    assert stored.kv == 2 * 4096 * 2 * 2 * 32 * 2
    assert e.quantization == "Q4_K_M"
    assert e.parameters == 64 * 64 + 1280
    assert e.mode(NF4) is None
    assert e.training.reason
    quick = estimate(facts_of(found, thorough=False)).mode(STORED)
    assert quick is not None
    assert quick.weights == len(raw)
    assert not quick.lines[0].exact


def test_what_is_quantized_is_loaded_as_it_is(hub: Hub, home: Path) -> None:
    from cachetui.demo.builders import safetensors_bytes

    quantized = LLAMA | {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    raw = safetensors_bytes(
        {"l.qweight": ("I32", (16, 32)), "l.scales": ("F16", (1, 32)), "norm.weight": ("F16", (9,))}
    )
    hub.repo("org/gptq").revision({"config.json": json.dumps(quantized).encode(), "model.safetensors": raw})
    e = estimate(facts_of(item(where_of(home), "hf:org/gptq")))
    assert e.parameters == 16 * 32 * 8 + 9
    assert e.mode(HALF) is None
    assert "quantized already" in next(m.reason for m in e.modes if m.name == HALF)
    assert "quantized already" in e.training.reason


def test_what_has_no_weights_or_a_broken_header_says_so(hub: Hub, home: Path) -> None:
    hub.repo("org/none").revision({"config.json": b"{}"})
    hub.repo("org/bad").revision({"config.json": b"{}", "model.safetensors": b"\xff" * 100})
    hub.repo("org/bin").revision({"config.json": json.dumps(LLAMA).encode(), "pytorch_model.bin": b"x" * 5000})
    where = where_of(home)
    with pytest.raises(NotAModel, match="no weights"):
        facts_of(item(where, "hf:org/none"))
    with pytest.raises(NotAModel, match="longer than the file"):
        facts_of(item(where, "hf:org/bad"))
    rough = estimate(facts_of(item(where, "hf:org/bin")))
    stored = rough.mode(STORED)
    assert stored is not None
    assert (stored.weights, stored.lines[0].exact) == (5000, False)


def test_training_by_hand() -> None:
    facts = replace(catalogue.facts("TinyLlama/TinyLlama-1.1B-Chat-v1.0"))
    ask = Ask(rank=8, targets=("q_proj", "v_proj"))
    expected = 22 * 8 * ((2048 + 2048) + (2048 + 256))
    assert trainable(facts.tensors, ask) == expected
    lines = {line.name: line for line in estimate(facts, ask).training.lines}
    assert lines["adapters"].bytes == lines["gradients"].bytes == 4 * expected
    assert lines["optimizer"].bytes == 8 * expected
    assert lines["weights"].exact
    assert not lines["activations"].exact
    eight = {line.name: line for line in estimate(facts, replace(ask, optimizer_bits=8)).training.lines}
    small = 8 * 8 * 256  # of v_proj: too small for 8 bits
    assert eight["optimizer"].bytes == 22 * (3 * 2 * (8 * 2048 + 4 * 64) + small)
    attention = trainable(facts.tensors, replace(ask, targets=("attention",)))
    assert expected < attention < trainable(facts.tensors, replace(ask, targets=()))
    assert "no layer is called x" in estimate(facts, replace(ask, targets=("x",))).training.reason


PARAMETERS = {
    "Qwen/Qwen3-VL-2B-Instruct": 2_127_532_032,
    "Qwen/Qwen3-VL-8B-Instruct": 8_767_123_696,
    "Qwen/Qwen2-VL-7B-Instruct": 8_291_375_616,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8_292_166_656,
    "llava-hf/llava-1.5-7b-hf": 7_063_427_072,
    "OpenGVLab/InternVL2-8B": 8_075_365_376,
    "openbmb/MiniCPM-V-2_6": 8_099_175_152,
    "microsoft/Phi-3-vision-128k-instruct": 4_146_621_440,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "microsoft/phi-2": 2_779_683_840,
    "google/gemma-2b": 2_506_172_416,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
}
"""A row with a mistyped number has others. Those that transformers has are counted there too: test_real.py."""


@pytest.mark.parametrize("row", catalogue.ROWS, ids=lambda r: r.repo)
def test_every_row_is_sourced_and_has_the_parameters_of_the_real_model(row: catalogue.Row) -> None:
    assert row.source.startswith("https://")
    assert row.names
    assert row.native or row.successor
    e = estimate(catalogue.facts(row.repo), Ask(images=1))
    if row.repo in PARAMETERS:
        assert e.parameters == PARAMETERS[row.repo]
    assert e.kv_exact or "tokens of pictures" in " ".join(e.notes)
    assert (e.context > 4096) == row.sees
    assert not e.disk.exact
    assert catalogue.READ in e.source
    assert e.training.total > 0


def test_short_names() -> None:
    assert {r.repo for r in catalogue.named("qwen3")} == {r.repo for r in catalogue.ROWS if "Qwen3-VL" in r.repo}
    for name in ["qwen2", "qwen2.5", "llava", "internvl", "phi3", "minicpm", "tinyllama", "phi2", "gemma", "mistral"]:
        assert len(catalogue.named(name)) == 1, name
    assert catalogue.named("hf:google/GEMMA-2b")[0].repo == "google/gemma-2b"
    assert catalogue.named("nothing") == ()


def test_cards_by_any_spelling() -> None:
    for name in ("RTX 2080", "rtx2080", "NVIDIA GeForce RTX 2080", "geforce rtx_2080"):
        assert devices.named_card(name).total == 8 << 30
    assert devices.named_card("A100 80GB").total == 80 << 30
    with pytest.raises(devices.UnknownCard, match="RTX 4090"):
        devices.named_card("rtx 409")


def test_fits_tight_and_not() -> None:
    card = Device("x", "card", 1000, 1000)
    assert [devices.fit_of(n, card) for n in (900, 901, 1000, 1001)] == [Fit.FITS, Fit.TIGHT, Fit.TIGHT, Fit.NO]


def test_the_first_mode_that_fits_loses_least() -> None:
    e = estimate(catalogue.facts("mistralai/Mistral-7B-v0.1"))
    for gb, expected in ((80, STORED), (12, "int8"), (8, NF4), (1, None)):
        best = devices.first_that_fits(e, devices.card_of(gb * 10**9))
        assert (best.name if best else None) == expected
    verdicts = {v.mode: v for v in devices.verdicts(e, devices.card_of(8 * 10**9))}
    assert verdicts[HALF].fit is Fit.NO
    assert verdicts[HALF].context == 0
    assert verdicts[NF4].context == 32768  # its window is full long before
    assert verdicts[TRAINING].context == -1


def test_this_machine_has_memory() -> None:
    found = devices.here()
    assert found
    assert all(0 < d.usable <= d.total for d in found)


def test_the_planner_adds_up() -> None:
    plan = planner.plan([("a", 10**9, True, ""), ("b", 2 * 10**9, False, "")], adapters=2, checkpoints=3, datasets=0)
    assert plan.total_low == 3 * 10**9 + 5 * 50_000_000 + 100_000_000
    assert plan.total_high == 3 * 10**9 + 5 * 200_000_000 + 10**9
    assert plan.more_high == plan.total_high - 10**9
    assert plan.recommended > plan.more_high
    assert planner.plan([], datasets=10**9).total_high == 10**9
    assert planner.plan([]).total_high == 0


class _Nvml(ModuleType):
    """nvidia-ml-py as far as it is asked here, for a machine with two cards."""

    NVMLError = type("NVMLError", (Exception,), {})
    broken = False

    def nvmlInit(self) -> None:
        if self.broken:
            raise self.NVMLError("no driver")

    def nvmlShutdown(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, n: int) -> int:
        return n

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(total=24 << 30, free=(20 + handle) << 30)

    def nvmlDeviceGetName(self, handle: int) -> bytes | str:
        return b"NVIDIA GeForce RTX 3090" if handle else "NVIDIA GeForce RTX 4090"


def test_every_nvidia_card_and_ram(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = _Nvml("pynvml")
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    found = devices.here()
    assert [(d.name, d.kind, d.usable >> 30) for d in found[:2]] == [
        ("NVIDIA GeForce RTX 4090", "gpu", 20),
        ("NVIDIA GeForce RTX 3090", "gpu", 21),
    ]
    assert found[2].kind == "ram"
    nvml.broken = True
    assert [d.kind for d in devices.here()] == ["ram"]


def test_apple_memory_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.sys, "platform", "darwin")
    monkeypatch.setattr(devices.platform, "machine", lambda: "arm64")
    [one] = devices.here()
    assert one.kind == "unified" and one.usable <= one.total * 0.75


def test_a_card_as_a_person_writes_it() -> None:
    assert devices.card("8").total == devices.card("8 GB").total == 8 * 10**9
    assert devices.card("24GiB").total == 24 << 30
    assert devices.card("rtx 2080").name == "RTX 2080"
    assert devices.chosen("") == devices.chosen(" ") or devices.chosen("")[-1].kind in ("ram", "unified")
    for wrong in ("3090x", "", "8 XB"):
        with pytest.raises(devices.UnknownCard):
            devices.card(wrong)


def run_of(name: str, card: str, ram: int = 32 * 10**9) -> running.Run:
    found = [estimate(catalogue.facts(r.repo)) for r in catalogue.ROWS]
    return next(r for r in running.what_runs(found, devices.card(card), ram) if r.estimate.name == name)


def test_four_bits_are_proposed_where_the_stored_precision_does_not_go_in() -> None:
    take = {c: run_of("mistralai/Mistral-7B-v0.1", c).take for c in ("24GB", "12GB", "8GB", "5.5GB")}
    assert {c: t.name if t else None for c, t in take.items()} == {
        "24GB": STORED, "12GB": NF4, "8GB": NF4, "5.5GB": "nf4 double-quant",
    }  # fmt: skip
    short = run_of("Qwen/Qwen3-VL-8B-Instruct", "RTX 2080")
    assert short.is_short and 512 <= short.context < 4096 and short.fit is Fit.TIGHT
    assert short.instead[0].name == "GGUF Q4_K_M"


def test_what_still_works() -> None:
    moe = run_of("Qwen/Qwen3-VL-30B-A3B-Instruct", "RTX 3090")
    assert moe.take is None and moe.runs and [w.name for w in moe.instead][:2] == ["GGUF Q4_K_M", "GPTQ 4-bit"]
    assert moe.uses and running.INFERENCE in moe.uses
    big = run_of("Qwen/Qwen3-32B", "RTX 2080")
    assert not big.runs and [w.name for w in big.instead] == [
        "GGUF Q4_K_M on the CPU, slowly",
        "a hosted API, such as Alibaba Cloud Model Studio",
    ]
    only = run_of("meta-llama/Llama-3.3-70B-Instruct", "RTX 2080").instead
    assert [w.name for w in only] == ["a hosted API, such as Hugging Face Inference Providers"]
    assert only[0].need == only[0].download == 0


def test_what_a_model_is_good_for() -> None:
    assert run_of("microsoft/phi-2", "RTX 2080").uses == (running.LEARNING, running.PRODUCTION)
    assert run_of("mistralai/Mistral-7B-v0.1", "RTX 2080").uses == (running.QUALITY,)
    assert run_of("Qwen/Qwen2.5-VL-7B-Instruct", "RTX 2080").uses == (running.QUALITY, running.INFERENCE)
    assert run_of("mistralai/Mistral-7B-v0.1", "H100").uses == (running.PRODUCTION,)


def test_a_gguf_weighs_what_is_published() -> None:
    """2.50 GB: the card of bartowski/Qwen_Qwen3-4B-GGUF (llama.cpp b5200); a vocabulary is some MB of it."""
    [size] = [v.weights for v in estimate(catalogue.facts("Qwen/Qwen3-4B")).variants if v.name == "GGUF Q4_K_M"]
    assert 2.48e9 < size < 2.50e9


def test_sizes_by_class() -> None:
    sizes = {c.name: dict(c.modes) for c in running.by_class()}
    assert list(sizes) == ["0.6B", "8B", "14B", "32B", "70B", "235B MoE"]
    assert all(m["nf4 double-quant"] < m["nf4"] for m in sizes.values())
    assert sizes["235B MoE"]["GPTQ 4-bit"] < sizes["235B MoE"]["GGUF Q4_K_M"] < sizes["235B MoE"]["nf4"] / 3


def test_labels_of_sizes() -> None:
    said = ["1.5B", "270M", "8b", "", "8x7B", "huge", "1e99B"]
    assert [labelled(t) for t in said] == [1_500_000_000, 270_000_000, 8_000_000_000, 0, 0, 0, 0]


def test_looking_at_headers_is_no_use_of_a_model(hub: Hub, home: Path) -> None:
    repo(hub, "org/llama", LLAMA)
    found = item(where_of(home), "hf:org/llama")
    blobs = [p for p in home.rglob("blobs/*") if p.is_file()]
    for p in blobs:
        os.utime(p, (1_500_000_000, 1_600_000_000))
    facts_of(found)
    assert {p.stat().st_atime for p in blobs} == {1_500_000_000.0}


def test_the_likes_of_all_layers_are_counted_together() -> None:
    config = catalogue.named("tinyllama")[0].config
    each, likes = tensors_of(config), likes_of(config)
    assert len(each) == 201 and len(likes) < 20
    assert sorted((t.shape, t.size, t.number) for t in alike(each)) == sorted(
        (t.shape, t.size, t.number) for t in likes
    )
    assert len({t.name for t in each}) == len(each)
