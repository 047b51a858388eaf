"""A model that is asked and not here is downloaded first, with its plan shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hub_world import World, model


def test_prompt_pulls_with_its_plan(world: World, home: Path) -> None:
    world.server.add("acme/m", model())

    def prompt(*args: str, code: int) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "cachetui", "prompt", "hf:acme/m", "Hi there", *args],
            env=dict(os.environ) | {"HF_ENDPOINT": world.server.endpoint},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    assert "cachetui prompt hf:acme/m --pull" in prompt(code=1).stderr
    assert "there is no terminal to ask on" in prompt("--pull", code=2).stderr
    before = world.server.sent()
    done = prompt("--pull", "-y", code=1)  # what comes is no real model, so loading it fails
    assert "weights        3.1 MB   model.safetensors" in done.stderr and done.stdout == ""
    assert world.server.sent() - before > 3_000_000
    assert list(home.rglob("snapshots/*/model.safetensors"))
    assert "m: " in done.stderr.splitlines()[-2] or "acme/m" in done.stderr


def test_short_names_are_pulled_too(world: World) -> None:
    def pull(target: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cachetui", "pull", target, "-y"],
            env=dict(os.environ) | {"HF_ENDPOINT": world.server.endpoint}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1
        return done.stderr

    assert "write one of\n  cachetui pull hf:Qwen/Qwen3-VL-2B-Instruct\n" in pull("qwen3")
    assert "microsoft/phi-2: it does not exist" in pull("phi2")
    assert "nearest are Qwen/Qwen3-VL-32B-Instruct" in pull("hf:Qwen/Qwen3-VL-70B")
