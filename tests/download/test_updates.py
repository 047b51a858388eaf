"""Which repos have a newer main upstream, and that an update keeps the old revision."""

from __future__ import annotations

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
