"""cachetui estimate."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from memory_world import LLAMA, repo

from cachetui.cli import cli
from cachetui.demo.builders import Hub


@pytest.fixture
def hub(home: Path) -> Hub:
    made = Hub(home / ".cache/huggingface/hub")
    repo(made, "org/llama", LLAMA)
    return made


def run(*args: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli, ["estimate", *args], prog_name="cachetui")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def test_a_model_on_disk_in_words(hub: Hub) -> None:
    out = run("org/llama", "--gpu", "RTX 2080")
    assert "on RTX 2080: 8.6 GB" in out
    assert "on a card with 8.0 GB\n" in run("org/llama", "--vram", "8GB")
    assert "fits" in out
    assert "exact" in out
    assert "estimated" in out
    assert "First mode that fits: as stored" in out


def test_json_has_one_object(hub: Hub) -> None:
    data = json.loads(run("org/llama", "--vram", "8GB", "--context", "1000", "--json"))
    assert data["schema"] == 1
    [one] = data["estimates"]
    assert one["context"] == 1000
    assert one["kv_exact"] is True
    assert one["fits"][0]["first_that_fits"] == "as stored"
    assert {m["mode"] for m in one["modes"]} == {"as stored", "fp32", "16-bit", "int8", "nf4", "nf4 double-quant"}
    assert data["devices"][0]["total"] == 8 * 10**9


def test_short_names_mean_the_catalogue(hub: Hub) -> None:
    assert "numbers from" in run("--model", "phi2", "--gpu", "T4")
    names = [e["name"] for e in json.loads(run("qwen3", "--json"))["estimates"]]
    assert "Qwen/Qwen3-VL-2B-Instruct" in names
    assert len(names) > 1


def test_a_model_nobody_published_says_what_is_nearest(hub: Hub) -> None:
    assert "no such model was published; nearest are Qwen/Qwen3-VL-32B-Instruct" in run("Qwen3-VL-70B", code=1)
    assert "no such model was published" in run("Qwen/Qwen3-VL-70B-Instruct", code=1)


def test_what_lies_on_disk_is_read_there(hub: Hub) -> None:
    repo(hub, "google/gemma-2b", LLAMA)
    [one] = json.loads(run("gemma", "--json"))["estimates"]
    assert one["disk"] is not None
    assert one["parameters"] < 10**6


def test_what_can_i_run(hub: Hub) -> None:
    out = run("--all", "--gpu", "RTX 2080")
    lines = out.splitlines()
    assert lines[0] == "What runs on RTX 2080: 8.6 GB"
    assert lines[2].startswith("hf:org/llama")  # smallest first
    assert any("Mistral-7B" in line and "does not fit" not in line.split("catalogue")[0] for line in lines)
    assert "named, never called: Alibaba Cloud Model Studio" in out and "GGUF on the CPU" in out
    assert "inference only: runs, but QLoRA training does not go in" in out
    assert next(line for line in lines if line.startswith("235B MoE")).split()[-2:] == ["124.5", "GB"]
    found = json.loads(run("--all", "--vram", "8GB", "--json"))
    totals = [next((m["total"] for m in e["modes"] if m["mode"] == "16-bit"), 0) for e in found["models"]]
    assert totals == sorted(totals)
    one = next(e for e in found["models"] if e["name"] == "mistralai/Mistral-7B-v0.1")
    assert one["runs"][0]["take"] == "nf4" and one["runs"][0]["uses"] == ["high quality"]
    assert {v["mode"] for v in one["variants"]} == {"GGUF Q4_K_M", "GPTQ 4-bit"}
    assert [c["class"] for c in found["classes"]] == ["0.6B", "8B", "14B", "32B", "70B", "235B MoE"]


def test_what_can_i_run_by_use_on_all_devices(hub: Hub) -> None:
    found = json.loads(run("--all", "--json"))
    assert found["devices"][-1]["kind"] in ("ram", "unified")
    assert all(len(e["runs"]) == len(found["devices"]) for e in found["models"])
    few = json.loads(run("--all", "--vram", "8GB", "--use", "inference-only", "--json"))["models"]
    assert few and all("inference only" in e["runs"][0]["uses"] for e in few)
    assert "there are learning, production" in run("--all", "--use", "fun", code=2)


def test_the_planner(hub: Hub) -> None:
    out = run("org/llama", "tinyllama", "--adapters", "2", "--checkpoints", "3", "--datasets", "1GB", "--vram", "8GB")
    assert "2 adapters" in out
    assert "Recommended free space" in out
    data = json.loads(run("org/llama", "--adapters", "1", "--datasets", "some", "--json"))
    assert data["high"] - data["more_high"] == next(x["high"] for x in data["lines"] if x["on_disk"])
    assert data["free"] > 0


def test_a_plan_counts_no_model_that_is_not_meant(hub: Hub) -> None:
    err = run("qwen3", "phi2", code=1)
    assert "qwen3 stands for several models; write one of\n  Qwen/Qwen3-VL-2B-Instruct\n" in err
    repo(hub, "Qwen/Qwen3-VL-2B-Instruct", LLAMA)
    data = json.loads(run("qwen3", "phi2", "--json"))
    assert [x["name"] for x in data["lines"]] == ["Qwen/Qwen3-VL-2B-Instruct", "microsoft/phi-2"]


def test_what_is_wrong_is_said(hub: Hub) -> None:
    assert "name a TARGET" in run(code=2)
    assert "not both" in run("phi2", "--gpu", "T4", "--vram", "8GB", code=2)
    assert "not in the table" in run("phi2", "--gpu", "RTX 1", code=2)
    assert "not a size" in run("phi2", "--vram", "many", code=2)
    assert "not a size" in run("phi2", "--datasets", "many", code=2)
    run("org/missing", code=1)
    hub.repo("org/none").revision({"config.json": b"{}"})
    assert "no weights" in run("org/none", code=1)


def test_it_imports_no_torch() -> None:
    code = "import sys, cachetui.memory, cachetui.cli.estimate, cachetui.cli.estimate_show; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "transformers", "bitsandbytes", "textual", "rich", "psutil"}
