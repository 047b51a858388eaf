"""A real check of loading: transformers opens a tiny model through the links of an archived repo, offline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from second import move, unmount
from transfer_world import World

pytestmark = pytest.mark.models

_MAKE = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
torch.manual_seed(0)
config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                     num_key_value_heads=2)
LlamaForCausalLM(config).save_pretrained(sys.argv[1])
"""
_LOAD = """
import sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("acme/tiny")
print(float(model(torch.tensor([[1, 2, 3]])).logits.double().sum()))
"""


def python(code: str, *arguments: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env={**os.environ, **env}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def load(home: Path) -> str:
    return python(_LOAD, HF_HOME=str(home), HF_HUB_OFFLINE="1")


def test_a_model_loads_archived_elsewhere_adopted_and_restored(drive_world: World, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    world = drive_world
    made = tmp_path / "made"
    python(_MAKE, str(made))
    files = {p.name: p.read_bytes() for p in made.iterdir()}
    world.hub.repo("acme/tiny").revision(files, shared=("model.safetensors",))
    home = world.home / ".cache/huggingface"
    logits = load(home)
    assert world.do_archive("hf:acme/tiny").ok
    assert (home / "hub/models--acme--tiny").is_symlink() and load(home) == logits
    assert load(world.archive) == logits  # as HF_HOME of another machine
    if os.geteuid() == 0:
        elsewhere = tmp_path / "elsewhere"
        move(world.drive, elsewhere)
        try:
            assert world.item("hf:acme/tiny").states == ("offline",)
            assert world.do_adopt(elsewhere / "models").ok and load(home) == logits
            assert world.do_restore("hf:acme/tiny").ok and load(home) == logits
        finally:
            unmount(elsewhere)
