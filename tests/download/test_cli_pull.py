"""cachetui pull as a user runs it: plan, question, job, what is said, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_world import MB, World, model, noise, tree
from server import Repo

TOKEN = "hf_letmein"


def run(world: World, *args: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "cachetui", "pull", *args],
        env=dict(os.environ) | {"HF_ENDPOINT": world.server.endpoint} | env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert TOKEN not in done.stdout + done.stderr and "Traceback" not in done.stderr
    return done


def test_a_download_and_again(world: World) -> None:
    world.server.add("acme/m", model())
    first = run(world, "hf:acme/m", "-y", "--model_cache_dir", str(world.tmp / "new"), HF_TOKEN=TOKEN)
    assert "weights        3.1 MB   model.safetensors" in first.stdout
    assert "is there and verified: 3.3 MB came over the network" in first.stdout
    assert f"HF_HOME={world.tmp}/new" in first.stdout
    assert tree(world.tmp / "new/hub") == tree(world.theirs())
    assert "Everything is here already" in run(world, "hf:acme/m", "-y", "--cache-dir", str(world.tmp / "new")).stdout


def test_dry_run_changes_nothing(world: World, home: Path) -> None:
    world.server.add("acme/m", model())
    before = tree(home)
    found = json.loads(run(world, "hf:acme/m", "--dry-run", "--json").stdout)
    assert (found["schema"], found["verb"], found["dry_run"], found["outcome"]) == (1, "pull", True, None)
    assert found["plan"]["fetch"] == 3 * MB + 200_027 and found["plan"]["refused"] == []
    assert tree(home) == before
    assert world.server.sent() < 100_000, "headers of the weights, to tell what memory they need"


def test_variants_are_listed_and_offered_before(world: World) -> None:
    world.server.add("acme/m", model())
    for n, kind in enumerate(("gguf", "awq", "mlx", "gptq")):
        info = {"tags": [kind, "base_model:quantized:acme/m"], "usedStorage": 500_000 * (n + 1), "downloads": 9}
        world.server.add(f"other/m-{kind.upper()}", Repo({}, info=info))
    listed = run(world, "hf:acme/m", "--variants").stdout
    assert "hf:other/m-GGUF  GGUF" in listed and "500.0 kB" in listed and listed.count("\n") == 4
    found = json.loads(run(world, "hf:acme/m", "--variants", "--json").stdout)
    assert {(v["target"], v["variants"][0]) for v in found["variants"]} >= {("hf:other/m-AWQ", "awq")}
    offered = run(world, "hf:acme/m", "--dry-run").stdout
    assert "There are also other/m-GGUF (GGUF, 500.0 kB)" in offered and "pull hf:acme/m --variants" in offered
    assert "There are also" not in run(world, "hf:acme/m", "-y").stdout
    assert "lists no GGUF" in run(world, "hf:other/m-GGUF", "--variants").stdout
    assert "cannot be reached" in run(world, "hf:acme/m", "--variants", code=1, HF_ENDPOINT="http://127.0.0.1:9").stderr


def test_json_of_a_download(world: World) -> None:
    world.server.add("acme/m", model())
    found = json.loads(run(world, "hf:acme/m@main", "-y", "--json", "--include", "*.json").stdout)
    assert found["job"]["state"] == "done" and found["outcome"]["fetched"] == ["config.json", "tokenizer.json"]


def test_refusals(world: World) -> None:
    world.server.add("acme/m", model())
    world.server.add("acme/g", Repo({"a-Q4_K_M.gguf": b"1", "a-Q8_0.gguf": b"22"}))
    gated = world.server.add("acme/gated", model())
    gated.gated = True
    assert "there is no terminal to ask on" in run(world, "hf:acme/m", code=2).stderr
    assert "accept its licence" in run(world, "hf:acme/gated", "-y", code=1).stdout
    assert "choose one with --quant" in run(world, "hf:acme/g", "-y", code=1).stdout
    assert "it does not exist, or it is private" in run(world, "hf:acme/none", "-y", code=1).stderr
    assert "there is no such revision" in run(world, "hf:acme/m", "--revision", "v9", "-y", code=1).stderr
    assert "names no repo" in run(world, "hf:a/b/c", "-y", code=2).stderr
    assert "HF_HUB_OFFLINE" in run(world, "hf:acme/m", "-y", code=1, HF_HUB_OFFLINE="1").stderr
    assert "ollama serve" in run(world, "ollama:tiny", "-y", code=1).stderr
    assert "not both" in run(world, "hf:acme/m", "--cache-dir", "a", "--local-dir", "b", "-y", code=2).stderr


def test_a_damaged_file_is_a_failure_with_advice(world: World) -> None:
    world.server.add("acme/m", model())
    world.server.fail("flip", "config.json", after=1, times=-1)
    done = run(world, "hf:acme/m", "-y", code=1)
    assert "config.json" in done.stderr and "came twice" in done.stderr and "try another network" in done.stderr


def test_interrupted_and_again(world: World, home: Path) -> None:
    world.server.add("acme/m", Repo({"model.safetensors": noise(24 * MB)}, frozenset(["model.safetensors"])))
    world.server.rate = 2.5e6
    process = subprocess.Popen(
        [sys.executable, "-m", "cachetui", "pull", "hf:acme/m", "-y"],
        env=dict(os.environ) | {"HF_ENDPOINT": world.server.endpoint, "HF_TOKEN": TOKEN},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while world.server.sent() < 8 * MB:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    for line in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        assert TOKEN not in Path(f"/proc/{line}/cmdline").read_text()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "goes on where it stopped" in said
    for file in home.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes()
    world.server.rate = 0
    before = world.server.sent()
    assert "came earlier" in run(world, "hf:acme/m", "-y").stdout
    assert world.server.sent() - before < 24 * MB - 4 * MB


@pytest.mark.parametrize("target", ["hf:acme/\x1b]0;x\x07m", "hf:acme/m@\x1b[2J"])
def test_hostile_names(world: World, target: str) -> None:
    done = run(world, target, "-y", code=2)
    assert "\x1b" not in done.stdout + done.stderr
