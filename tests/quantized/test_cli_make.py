"""cachetui quantize TARGET: the plan, what stands in the way, the real thing in a worker, killed at any time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cachetui.cli import cli
from cachetui.demo.builders import Hub
from cachetui.memory.model import Device
from cachetui.quantized_entries import check, entries, planning
from cachetui.quantized_entries.places import Room

COLOUR = Path(__file__).parents[1] / "data" / "colour_vlm"
NAME = "hf:tests/colours"
needs_torch = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="needs torch and bitsandbytes (extra models)"
)


def run(*args: str, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, ["quantize", *args])
    assert done.exit_code == code, (done.exit_code, done.stdout, done.stderr, done.exception)
    assert "Traceback" not in done.output
    return done


def data(*args: str, code: int = 0) -> Any:
    return json.loads(run(*args, "--json", code=code).stdout)


@pytest.fixture(autouse=True)
def model(home: Path) -> Path:
    """A model that names colours, in the hub cache."""
    hub = Hub(home / ".cache/huggingface/hub")
    hub.repo("tests/colours").revision({p.name: p.read_bytes() for p in COLOUR.iterdir() if p.is_file()})
    return hub.path / "models--tests--colours"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a plan needs to know of libraries, whether they are there or not."""
    monkeypatch.setattr("cachetui.quantized_entries.planning.version", lambda name: "9.9.9")
    monkeypatch.setattr("cachetui.quantized_entries.wishes.version", lambda name: "9.9.9")


def codes(plan: dict[str, Any]) -> list[str]:
    return [r["code"] for r in plan["refused"]]


@pytest.mark.usefixtures("installed")
def test_the_plan_says_what_it_takes(home: Path) -> None:
    plan = data(NAME, "--bits", "8", "--dry-run")["plan"]
    assert (plan["quantization"], plan["there"], plan["refused"]) == ("int8", False, [])
    assert plan["entry"] == f"{home}/.cache/qwen_quantized/{plan['key']}"
    assert plan["unquantized"] == ["lm_head", "model.vision_tower"] and plan["source_size"] == 360896
    assert 200_000 < plan["size"] < 240_000 < plan["memory"]
    four, double = (data(NAME, *how, "--dry-run")["plan"] for how in ((), ("--double_quant",)))
    assert (four["quantization"], double["quantization"]) == ("nf4", "nf4-double")
    keys = {p["key"] for p in (plan, four, double)}
    for how in (("--rank", "8"), ("--dtype", "bfloat16"), ("--skip", "model.language_model.layers.0")):
        other = data(NAME, *how, "--dry-run")["plan"]
        keys.add(other["key"])
        if how[0] == "--skip":
            assert other["size"] > four["size"]
    assert len(keys) == 6
    shown = run(NAME, "--dry-run").stdout
    assert "228" not in shown and "kept in" in shown and "memory" in shown and "RAM" in shown
    assert not (home / ".cache/qwen_quantized").exists()


@pytest.mark.usefixtures("installed")
def test_what_stands_in_the_way_is_said_and_yes_does_not_skip_it(
    home: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(planning, "room", lambda path, needed: Room(5, 1, "too little"))
        assert codes(data(NAME, "-y", code=1)["plan"]) == ["no-room"]
        assert "Refused: too little" in run(NAME, "-y", code=1).stdout
    with monkeypatch.context() as patched:
        patched.setattr(planning.devices, "here", lambda: (Device("RAM", "ram", 10**9, 10**8),))
        assert codes(data(NAME, "-y", code=1)["plan"]) == ["no-memory"]
        patched.setattr(planning.devices, "here", lambda: (Device("RAM", "ram", 2 * 10**9, 1_250_000_000),))
        assert "memory will be tight" in data(NAME, "--dry-run")["plan"]["notes"][0]
    quantized = {"model_type": "llama", "quantization_config": {"quant_method": "gptq", "bits": 4}}
    from cachetui.demo.builders import safetensors_bytes

    hub = Hub(home / ".cache/huggingface/hub")
    packed = safetensors_bytes({"model.layers.0.q_proj.qweight": ("I32", (8, 8))})
    hub.repo("tests/gptq").revision({"config.json": json.dumps(quantized).encode(), "model.safetensors": packed})
    assert codes(data("hf:tests/gptq", "-y", code=1)["plan"]) == ["quantized"]


def test_without_the_extra_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cachetui.quantized_entries.planning.version", lambda name: "")
    said = run(NAME, "-y", code=1).stdout
    assert "needs torch, transformers, bitsandbytes, accelerate" in said and "pip install 'cachetui[models]'" in said


def test_words_that_mean_nothing() -> None:
    assert "name a model" in run("-y", code=2).stderr
    assert "there are auto, float32" in run(NAME, "--dtype", "int3", code=2).stderr
    assert "--double-quant is for --bits 4" in run(NAME, "--bits", "8", "--double-quant", code=2).stderr
    assert "leave TARGET out" in run(NAME, "--self-test", code=2).stderr
    assert "nothing here is called" in run("hf:not/here", "-y", code=1).stderr
    run("ollama:nothing", "-y", code=1)


@needs_torch
@pytest.mark.models
def test_made_kept_found_again_and_used(home: Path) -> None:
    made = data(NAME, "-y")
    assert made["outcome"]["made"] and made["job"]["state"] == "done"
    entry = Path(made["outcome"]["entry"])
    assert check(str(entry), full=True) and made["outcome"]["key"] == made["plan"]["key"] == entry.name
    assert abs((entry / "model.safetensors").stat().st_size / made["plan"]["size"] - 1) < 0.1  # tiny: its header counts
    assert "It is there already" in run(NAME, "-y").stdout
    asked = CliRunner().invoke(cli, ["prompt", NAME, "what colour is this picture?", "--bits", "4", "--json"])
    assert json.loads(asked.stdout)["folder"] == str(entry), asked.stderr
    weights = entry / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    plan = data(NAME, "--dry-run")["plan"]
    assert not plan["there"] and "model.safetensors" in plan["damaged"]
    again = data(NAME, "-y")["outcome"]
    assert again["made"] and "model.safetensors" in again["replaced"] and check(str(entry), full=True)


@needs_torch
@pytest.mark.models
def test_the_self_test_passes_and_leaves_nothing(home: Path) -> None:
    lines = run("--self-test", "-y").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["PASS"] * 9
    assert not entries(str(home / ".cache/qwen_quantized"))
    broken = home / "file"
    broken.write_text("not a folder")
    found = data("--self-test", "-y", "--quant-dir", str(broken), code=1)
    assert found["passed"] is False and found["checks"][-1]["ok"] is False


def _killed(args: Sequence[str], after: float) -> None:
    child = subprocess.Popen([sys.executable, "-m", "cachetui", *args], stderr=subprocess.PIPE, start_new_session=True)
    time.sleep(after)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


@needs_torch
@pytest.mark.models
@pytest.mark.parametrize("moments", [(0.5, 4.0), pytest.param([n / 2 for n in range(20)], marks=pytest.mark.sweep)])
def test_killed_at_any_time_nothing_half_is_listed_as_good(home: Path, moments: Sequence[float]) -> None:
    folder = home / ".cache/qwen_quantized"
    for after in moments:
        _killed(["quantize", NAME, "-y"], after)
        good = [e for e in entries(str(folder)) if e.kind == "entry"]
        assert all(check(e.path, full=True) for e in good)
    assert data(NAME, "-y")["job"] is None or len(entries(str(folder))) == 1
    assert [e.kind for e in entries(str(folder))] == ["entry"]
