"""Which engine runs what lies on disk, and why nothing does, with the command to type."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cachetui.config import Where
from cachetui.demo.builders import Hub, OllamaStore, gguf_bytes, safetensors_bytes, write
from cachetui.model import OFFLINE
from cachetui.runnable import NotRunnable, Options, Runnable, runnable_of
from cachetui.scan import scan
from cachetui.store import Selection
from cachetui.targets import resolve
from cachetui.wanted import BadRequest

WEIGHTS = safetensors_bytes({f"model.layers.{n}.mlp.up_proj.weight": ("BF16", (64, 64)) for n in range(4)})
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "dtype": "bfloat16"}
GGUF = gguf_bytes({"general.architecture": "llama"}, 5000)


def config(**more: Any) -> bytes:
    return json.dumps(LLAMA | more).encode()


def files(**more: Any) -> dict[str, bytes]:
    """Of a repo that loads."""
    return {"config.json": config(**more), "model.safetensors": WEIGHTS}


@pytest.fixture
def hub(home: Path) -> Hub:
    return Hub(home / ".cache/huggingface/hub")


def selection(where: Where, target: str) -> Selection:
    (found,) = resolve(scan(where), target)
    return found


def run(where: Where, target: str, **options: Any) -> Runnable:
    return runnable_of(selection(where, target), Options(**options), where)


def refusal(where: Where, target: str) -> NotRunnable:
    with pytest.raises(NotRunnable) as e:
        run(where, target)
    return e.value


def test_a_snapshot_goes_to_transformers(hub: Hub, where: Where) -> None:
    repo = hub.repo("org/name")
    old = repo.revision(files(old=1), refs=())
    main = repo.revision(files())
    found = run(where, "org/name", device="cpu", bits=4, dtype="bf16")
    assert (found.engine, found.images, found.writes, found.saves_states) == ("transformers", False, True, True)
    wanted = found.wanted
    assert wanted.folder == str(repo.path / "snapshots" / main)
    assert (wanted.name, wanted.repo, wanted.commit) == ("org/name", "org/name", main)
    assert (wanted.device, wanted.bits, wanted.dtype) == ("cpu", 4, "bfloat16")
    assert run(where, f"org/name@{old[:8]}").wanted.folder == str(repo.path / "snapshots" / old)
    assert found.about == "llama, bf16, nf4"
    assert Runnable.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_what_it_needs_follows_how_it_is_loaded(hub: Hub, where: Where) -> None:
    hub.repo("org/name").revision(files())
    plain = run(where, "org/name")
    weights = len(WEIGHTS)
    assert plain.memory >= weights
    sizes = [plain.chosen(bits=4).memory, plain.chosen(bits=8).memory, plain.memory]
    assert sizes == sorted(set(sizes))
    assert run(where, "org/name", dtype="float32").memory > plain.memory
    assert plain.chosen("cpu", 0).key != plain.key == run(where, "org/name").key
    with pytest.raises(BadRequest):
        run(where, "org/name", device="tpu")


def test_pictures_are_read_by_those_with_eyes(hub: Hub, where: Where) -> None:
    hub.repo("org/sees").revision(files(model_type="qwen3_vl", vision_config={}))
    hub.repo("org/encoder").revision(files(model_type="bert", architectures=["BertModel"]))
    assert run(where, "org/sees").images
    assert not run(where, "org/encoder").writes


def test_folders_and_links(hub: Hub, where: Where, home: Path) -> None:
    for name, content in files().items():
        write(home / "models/own" / name, content)
    found = run(where, str(home / "models/own"))
    assert (found.engine, found.wanted.folder, found.wanted.repo) == ("transformers", str(home / "models/own"), "")
    far = home / "far"
    write(far / "config.json", config())
    write(far / "model.safetensors", WEIGHTS)
    linked = home / "models/linked"
    linked.mkdir()
    for name in files():
        (linked / name).symlink_to(far / name)
    assert run(where, str(linked)).wanted.folder == str(linked)


def test_gguf_files(hub: Hub, where: Where, home: Path) -> None:
    hub.repo("org/one").revision({"one-Q4_K_M.gguf": GGUF, "mmproj-one.gguf": GGUF})
    one = run(where, "org/one")
    assert (one.engine, one.images, os.path.basename(one.file)) == ("gguf", True, "one-Q4_K_M.gguf")
    assert os.path.basename(one.projector) == "mmproj-one.gguf" and one.memory > 2 * len(GGUF)
    many = {"b-Q8_0.gguf": GGUF + bytes(99), "a-Q4_0.gguf": GGUF, "c-Q2-00001-of-00002.gguf": GGUF + bytes(200)}
    hub.repo("org/many").revision(many | {"c-Q2-00002-of-00002.gguf": GGUF})
    error = refusal(where, "org/many")
    assert error.code == "choose-file" and error.choices == ("a-Q4_0.gguf", "b-Q8_0.gguf", "c-Q2-00001-of-00002.gguf")
    assert "hf:org/many:b-Q8_0.gguf" in error.advice
    chosen = run(where, "hf:org/many:b-Q8_0.gguf")
    assert (os.path.basename(chosen.file), chosen.name) == ("b-Q8_0.gguf", "org/many:b-Q8_0.gguf")
    parts = run(where, "hf:org/many:c-Q2-00001-of-00002.gguf")
    assert parts.memory > 2 * len(GGUF) + 200
    write(home / "models/single.gguf", GGUF)
    alone = run(where, str(home / "models/single.gguf"))
    assert (alone.engine, alone.file) == ("gguf", str(home / "models/single.gguf"))


def test_ollama_and_mlx(hub: Hub, where: Where, home: Path) -> None:
    store = OllamaStore(home / ".ollama/models")
    store.model("plain:1b", {"model": GGUF})
    store.model("sees:1b", {"model": GGUF, "projector": GGUF + b"x"})
    eyes = gguf_bytes({"general.architecture": "gemma3", "gemma3.vision.block_count": 2}, 5000)
    store.model("eyes:1b", {"model": eyes})
    plain = run(where, "ollama:plain:1b")
    assert (plain.engine, plain.name, plain.url, plain.images) == ("ollama", "plain:1b", "http://127.0.0.1:9", False)
    assert not plain.saves_states and plain.memory == 0
    assert run(where, "ollama:sees:1b").images and run(where, "ollama:eyes:1b").images
    hub.repo("mlx-community/m").revision(files(quantization={"group_size": 64, "bits": 4}))
    assert run(where, "mlx-community/m").engine == "mlx"


def test_what_is_no_model_or_not_whole(hub: Hub, where: Where) -> None:
    hub.repo("org/rows", "dataset").revision({"a.parquet": b"PAR1" * 9})
    assert refusal(where, "hf:datasets/org/rows").reason == "it is a dataset, not a model"
    broken = hub.repo("org/broken")
    commit = broken.revision(files())
    (broken.path / "snapshots" / commit / "model.safetensors").resolve().unlink()
    error = refusal(where, "org/broken")
    assert (error.code, error.reason) == ("incomplete", "it is not complete: model.safetensors is missing")
    assert error.advice == "fetch the rest: cachetui pull hf:org/broken"
    hub.repo("org/noconfig").revision({"model.safetensors": WEIGHTS})
    assert "config.json is missing" in refusal(where, "org/noconfig").reason
    hub.repo("org/started").partial(b"x" * 100)
    assert "no model in it" in refusal(where, "org/started").reason
    hub.repo("org/paint").revision({"model_index.json": b'{"_class_name": "Flux"}', "unet/m.safetensors": WEIGHTS})
    assert refusal(where, "org/paint").code == "other-program"
    hub.repo("org/pickled").revision({"config.json": config(), "pytorch_model.bin": b"x" * 500})
    error = refusal(where, "org/pickled")
    assert error.code == "no-safetensors" and "can run code" in error.reason and "cachetui pull" in error.advice


def test_hostile_configs_are_no_mistakes(hub: Hub, where: Where) -> None:
    for n, body in enumerate(
        (b"[1]", b"{", b"\xff" * 99, b'{"architectures": [1, {}], "model_type": []}', b"[" * 9999)
    ):
        hub.repo(f"org/n{n}").revision({"config.json": body, "model.safetensors": WEIGHTS})
        assert run(where, f"org/n{n}").engine == "transformers"
    hub.repo("org/lora").revision(
        {"adapter_config.json": b'{"base_model_name_or_path": 5}', "adapter_model.safetensors": WEIGHTS}
    )
    assert refusal(where, "org/lora").code == "adapter"
    index = b'{"weight_map": {"a": 5, "b": "../../etc/passwd"}}'
    hub.repo("org/index").revision(files() | {"model.safetensors.index.json": index})
    assert "5" in refusal(where, "org/index").reason


def test_what_needs_code_of_its_own_is_asked_for_by_name(hub: Hub, where: Where) -> None:
    hub.repo("org/phi").revision(files(model_type="phi3_v", auto_map={"AutoModel": "x.Y"}))
    error = refusal(where, "org/phi")
    assert error.code == "remote-code" and "cachetui prompt hf:org/phi --trust-remote-code" in error.advice
    assert run(where, "org/phi", trust_remote_code=True).wanted.trust_remote_code


def test_what_is_away_says_where(hub: Hub, where: Where) -> None:
    hub.repo("org/name").revision(files())
    found = selection(where, "org/name")
    away = found.item.with_states(OFFLINE)
    with pytest.raises(NotRunnable) as e:
        runnable_of(Selection(away), None, where)
    assert e.value.code == "offline" and "cachetui show hf:org/name" in e.value.advice
