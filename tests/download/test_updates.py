"""Which repos have a newer main upstream, and that an update keeps the old revision."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from hub_world import World, model

from cachetui.download import errors
from cachetui.download.errors import PullError
from cachetui.download.updates import check
from cachetui.scan import scan


def test_newer_gone_and_unchanged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("acme/m", "acme/same", "acme/gone"):
        world.server.add(name, model())
        world.pull(f"hf:{name}")
    world.pull(f"hf:acme/same@{world.server.repos['acme/same'].commit}")
    world.server.repos["acme/m"].update({"config.json": b"newer"})
    del world.server.repos["acme/gone"]

    def look() -> dict[str, tuple[bool, str]]:
        items = scan(replace(world.where, cache_dirs=(str(world.cache),))).items
        return {u.item.id: (u.outdated, u.reason) for u in check(world.client(), items)}

    found = look()
    assert found["hf:acme/m"] == (True, "") and found["hf:acme/same"] == (False, "")
    assert found["hf:acme/gone"] == (False, "it does not exist, or it is private")
    world.pull()
    assert look()["hf:acme/m"] == (False, "")
    assert len(list((world.cache / "models--acme--m/snapshots").iterdir())) == 2

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PullError) as refused:
        look()
    assert refused.value.code == errors.OFFLINE


def _ls(world: World, *args: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cachetui", "ls", "--outdated", "--cache-dir", str(world.cache), *args]
    variables = dict(os.environ) | {"HF_ENDPOINT": world.server.endpoint} | env
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def test_ls_lists_what_is_outdated(world: World) -> None:
    for name in ("acme/m", "acme/same", "acme/gone"):
        world.server.add(name, model(1000))
        world.pull(f"hf:{name}")
    old = world.server.repos["acme/m"].commit
    world.server.repos["acme/m"].update({"config.json": b"newer"})
    new = world.server.repos["acme/m"].commit
    del world.server.repos["acme/gone"]

    people = _ls(world)
    assert f"outdated: here {old[:7]}, upstream {new[:7]}" in people.stdout and "acme/same" not in people.stdout
    assert "hf:acme/gone: cannot be told: it does not exist, or it is private" in people.stderr
    found = json.loads(_ls(world, "--json").stdout)
    (row,) = found["items"]
    assert row["upstream"] == {"ref": "main", "here": old, "there": new} and row["states"] == ["outdated"]
    assert [u["id"] for u in found["upstream_unknown"]] == ["hf:acme/gone"]
    assert _ls(world, "-q").stdout.split() == ["hf:acme/m"]
    assert _ls(world, "-q", "-f", "state!=outdated").stdout.split() == []
    command = [sys.executable, "-m", "cachetui", "ls", "--cache-dir", str(world.cache), "-q", "-f"]
    variables = dict(os.environ) | {"HF_ENDPOINT": world.server.endpoint}
    for expression, names in (
        ("state=outdated", {"hf:acme/m"}),
        ("acme state!=outdated", {"hf:acme/same", "hf:acme/gone"}),
    ):
        done = subprocess.run([*command, expression], env=variables, capture_output=True, text=True, timeout=60)
        assert set(done.stdout.split()) == names, (expression, done.stderr)

    asked = len(world.server.requests)
    assert "HF_HUB_OFFLINE is set" in _ls(world, code=1, HF_HUB_OFFLINE="1").stderr
    assert len(world.server.requests) == asked
    silent = _ls(world, HF_ENDPOINT="http://127.0.0.1:9")
    assert "cannot be reached" in silent.stderr and "hf:acme" not in silent.stdout
