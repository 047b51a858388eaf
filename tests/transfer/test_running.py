"""A model in an archive runs through its link; where the drive is away it says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import second
from transfer_world import World

from cachetui.config import Where
from cachetui.demo.builders import safetensors_bytes
from cachetui.runnable import NotRunnable, runnable_of
from cachetui.scan import scan
from cachetui.targets import resolve


def test_an_archived_model_runs_through_its_link(drive_world: World, where: Where) -> None:
    config = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}).encode()
    weights = safetensors_bytes({"w": ("BF16", (40, 50))})
    repo = drive_world.hub.repo("acme/runs")
    repo.revision({"config.json": config, "model.safetensors": weights})
    assert drive_world.do_archive("hf:acme/runs").ok
    (found,) = resolve(scan(where), "hf:acme/runs")
    ready = runnable_of(found, None, where)
    assert repo.path.is_symlink() and ready.wanted.folder.startswith(str(repo.path))
    assert (Path(ready.wanted.folder) / "model.safetensors").read_bytes() == weights
    if os.geteuid() != 0:
        pytest.skip(second.NOT_ROOT)
    second.unmount(drive_world.drive)
    (gone,) = resolve(scan(where), "hf:acme/runs")
    with pytest.raises(NotRunnable) as e:
        runnable_of(gone, None, where)
    assert e.value.code == "offline" and "which is not there now" in e.value.reason
