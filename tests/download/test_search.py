"""Finding models: what the picker shows, from any Hub."""

from __future__ import annotations

import pytest
from hub_world import World
from server import Repo

from cachetui.download import errors
from cachetui.download.errors import PullError
from cachetui.download.search import search, variants


def fill(world: World) -> None:
    tensors = {"parameters": {"BF16": 1_000_000}, "total": 1_000_000}
    world.server.add(
        "acme/chat-1B",
        Repo({}, gated=True, info={"tags": ["license:mit"], "safetensors": tensors, "pipeline_tag": "text-generation"}),
    )
    for name, tags in (("chat-1B-GGUF", ["gguf"]), ("chat-1B-AWQ", ["awq"]), ("chat-1B-ft", [])):
        tags = [*tags, "base_model:quantized:acme/chat-1B"]
        world.server.add(f"other/{name}", Repo({}, info={"tags": tags, "usedStorage": 500_000, "downloads": 9}))
    world.server.add("acme/\x1b[31mred", Repo({}, info={"downloads": "many", "tags": [1, None], "cardData": "x"}))


def test_results_say_what_is_known(world: World) -> None:
    fill(world)
    hits = {h.repo: h for h in search(world.client(), "chat", here={"other/chat-1B-GGUF"})}
    one = hits["acme/chat-1B"]
    assert (one.size, one.parameters, one.licence, one.gated, one.task) == (
        2_000_000,
        1_000_000,
        "mit",
        True,
        "text-generation",
    )
    assert hits["other/chat-1B-GGUF"].here and hits["other/chat-1B-GGUF"].size == 500_000 and not one.here
    assert hits["other/chat-1B-AWQ"].variants == ("awq",) and hits["other/chat-1B-AWQ"].base == "acme/chat-1B"


def test_sizes_bound_it(world: World) -> None:
    fill(world)
    assert {h.repo for h in search(world.client(), "chat", smallest=1_000_000)} == {"acme/chat-1B"}
    assert "acme/chat-1B" not in {h.repo for h in search(world.client(), "chat", largest=1_000_000)}


def test_variants_of_a_model(world: World) -> None:
    fill(world)
    assert {h.repo for h in variants(world.client(), "acme/chat-1B")} == {"other/chat-1B-GGUF", "other/chat-1B-AWQ"}


def test_odd_rows_are_no_crash(world: World) -> None:
    fill(world)
    (hit,) = search(world.client(), "red")
    assert (hit.downloads, hit.licence) == (0, "")


def test_offline_is_said_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PullError) as found:
        search(world.client(), "chat")
    assert found.value.code == errors.OFFLINE and not world.server.requests
