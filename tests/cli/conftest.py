"""A small world in the test's home, and the program run on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import Answer, Run, World
from click.testing import CliRunner

from cachetui.cli import cli
from cachetui.demo.builders import Hub, OllamaStore, gguf_bytes, safetensors_bytes


@pytest.fixture
def world(home: Path) -> World:
    """Five repos (one shares, one is damaged), two tags that share, an orphan layer; everything ten days old."""
    hub = Hub(home / ".cache/huggingface/hub")
    config = b'{"model_type": "llama", "dtype": "bfloat16"}'
    weights = safetensors_bytes({"w": ("BF16", (40, 50))})
    hub.repo("org/plain").revision({"config.json": config, "model.safetensors": weights})
    two = hub.repo("org/two")
    old = two.revision({"config.json": config, "q8.gguf": gguf_bytes({"general.architecture": "qwen2"}, 9000)}, refs=())
    main = two.revision({"config.json": config, "q4.gguf": gguf_bytes({"general.architecture": "qwen2"}, 5000)})
    payload = b"x" * 20_000
    for name in ("org/shared-a", "org/shared-b"):
        hub.repo(name).revision({"config.json": config, "model.bin": payload}, shared=("model.bin",))
    broken = hub.repo("org/broken")
    commit = broken.revision({"config.json": config, "model.bin": b"y" * 3000})
    (broken.path / "snapshots" / commit / "model.bin").resolve().unlink()
    hub.repo("org/rows", "dataset").revision({"data/a.parquet": b"PAR1" * 400})
    ollama = OllamaStore(home / ".ollama/models")
    base = gguf_bytes({"general.architecture": "llama"}, 30_000)
    ollama.model("llama3.2:latest", {"model": base})
    ollama.model("llama3.2:3b", {"model": base, "system": b"You are a pirate."})
    ollama.orphan(b"z" * 7000)
    built = World(hub, ollama, main, old)
    built.age()
    return built


@pytest.fixture
def run(home: Path) -> Run:
    """The program in this process: run("ls", "--json", code=0)."""

    def do(*args: str, code: int = 0, stdin: str | None = None) -> Answer:
        result = CliRunner().invoke(cli, args, input=stdin, prog_name="cachetui")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        answer = Answer(result.exit_code, result.stdout, result.stderr)
        assert "\x1b" not in answer.out + answer.err
        assert "Traceback" not in answer.err, answer.err
        assert answer.code == code, answer
        return answer

    return do


@pytest.fixture
def spawn(home: Path) -> Run:
    """The program as a process of its own, in the test's environment."""

    def do(*args: str, code: int = 0, **env: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "cachetui", *args],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        answer = Answer(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert answer.code == code, answer
        return answer

    return do
