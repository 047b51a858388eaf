"""The demo: a small world of real formats, in which every key can be pressed without risk.

Sizes are those of the real models divided by a thousand (16 GB becomes 16 MB) and every blob really is what its
name says. The pictures in the README are of the same world at full size, with reserved blocks in place of content.
"""

from __future__ import annotations

import json
import os
import random
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cachetui.demo import drives
from cachetui.demo.builders import (
    Content,
    Filler,
    Hub,
    HubRepo,
    OllamaStore,
    gguf_bytes,
    local_dir,
    safetensors_bytes,
    set_age,
    write,
)
from cachetui.memory import catalogue

DEMO_GB = 10**6
"""Bytes that stand for one GB in the demo."""
_REAL_CONTENT_UP_TO = 10**7


@dataclass
class _Maker:
    gb: int
    """Bytes per GB of the real model."""

    def raw(self, gigabytes: float, seed: str, head: bytes = b"") -> Content:
        """Content of that size that starts with `head`."""
        size = max(int(gigabytes * self.gb), len(head))
        if self.gb > _REAL_CONTENT_UP_TO:
            return Filler(size, seed, head)
        return head + random.Random(seed).randbytes(size - len(head))

    def weights(self, gigabytes: float, seed: str, dtype: str = "BF16") -> Content:
        """A safetensors file of that size with one tensor."""
        width = {"BF16": 2, "F32": 4, "I32": 4, "U8": 1}[dtype]
        count = max(int(gigabytes * self.gb) - 256, width) // width
        row = {"dtype": dtype, "shape": [count], "data_offsets": [0, count * width]}
        name = "model.qweight" if dtype == "I32" else "model.weight"
        text = json.dumps({"__metadata__": {"format": "pt"}, name: row}).encode()
        text += b" " * (248 - len(text))
        return self.raw((256 + count * width) / self.gb, seed, struct.pack("<Q", len(text)) + text)

    def model(self, config: Mapping[str, object], seed: str, parts: Sequence[float]) -> list[Content]:
        """Its files of weights. At full size their headers are the real ones, whatever `parts` (GB of each) says."""
        if self.gb < DEMO_GB * 1000:
            return [self.weights(size, f"{seed}-{n}") for n, size in enumerate(parts)]
        from cachetui.memory.shapes import tensors_of

        found: list[Content] = []
        tensors = tensors_of(config)
        each = -(-len(tensors) // len(parts))
        for n in range(len(parts)):
            mine = tensors[n * each : (n + 1) * each]
            head = safetensors_bytes({t.name: (t.dtype, t.shape) for t in mine}, data=False)
            found.append(Filler(len(head) + sum(t.size for t in mine), f"{seed}-{n}", head))
        return found

    def config(self, config: Mapping[str, object]) -> dict[str, Content]:
        """A real config.json, beside real headers; the others stay as small as they are."""
        return {"config.json": json.dumps(config).encode()} if self.gb >= DEMO_GB * 1000 else {}

    def gguf(self, gigabytes: float, seed: str, arch: str, file_type: int, label: str) -> Content:
        """A GGUF file of that size; `file_type` as in llama.cpp's llama_ftype."""
        values: dict[str, str | int] = {
            "general.architecture": arch,
            "general.name": seed,
            "general.size_label": label,
            "general.file_type": file_type,
            f"{arch}.context_length": 32768,
        }
        return self.raw(gigabytes, seed, gguf_bytes(values))


_LLAMA: dict[str, object] = {
    "model_type": "llama", "dtype": "bfloat16", "vocab_size": 128256, "hidden_size": 3072, "num_hidden_layers": 28,
    "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 8192,
    "max_position_embeddings": 131072, "tie_word_embeddings": True,
}  # fmt: skip


def _config(model_type: str, **more: object) -> bytes:
    return json.dumps({"model_type": model_type, "dtype": "bfloat16", "transformers_version": "5.23.0"} | more).encode()


def _tokenizer(seed: str, size: int = 40_000) -> bytes:
    vocab = {f"{seed}-{n}": n for n in range(size // 20)}
    return json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": vocab, "merges": []}}).encode()


def _small(family: str, seed: str, **more: object) -> dict[str, Content]:
    return {
        "config.json": _config(family, **more),
        "tokenizer.json": _tokenizer(seed),
        "tokenizer_config.json": json.dumps({"model_max_length": 32768, "name": seed}).encode(),
        "README.md": f"# {seed}\n".encode(),
    }


def _hub_models(hub: Hub, m: _Maker, now: float) -> None:
    qwen = hub.repo("Qwen/Qwen3-VL-8B-Instruct")
    config = catalogue.named("Qwen/Qwen3-VL-8B-Instruct")[0].config
    names = [f"model-{n + 1:05}-of-00004.safetensors" for n in range(4)]
    small = _small("qwen3_vl", "Qwen3-VL-8B") | m.config(config)
    parts = (4.9, 4.98, 4.92, 2.7)
    shards = m.model(config, "qwen", parts)
    older = [*shards[:3], m.model(config, "qwen-old", parts)[3]]
    qwen.revision(small | dict(zip(names, older, strict=True)), refs=())
    qwen.revision(small | dict(zip(names, shards, strict=True)), refs=("main",))
    set_age(qwen.path, 3, now)

    llama = hub.repo("meta-llama/Llama-3.2-3B-Instruct")
    shards = m.model(_LLAMA, "llama", (4.97, 1.46))
    both = {f"model-0000{n}-of-00002.safetensors": shard for n, shard in enumerate(shards, 1)}
    llama.revision(_small("llama", "Llama-3.2-3B") | m.config(_LLAMA) | both)
    set_age(llama.path, 0.2, now)

    phi = hub.repo("microsoft/phi-2")
    twice = {"model.safetensors": m.weights(2.78, "phi", "F32"), "pytorch_model.bin": m.raw(2.78, "phi-bin", b"PK\3\4")}
    phi.revision(_small("phi", "phi-2", dtype="float32") | twice)
    set_age(phi.path, 220, now)

    gguf = hub.repo("bartowski/Qwen2.5-1.5B-Instruct-GGUF")
    kinds = {"Q4_K_M": (0.99, 15), "Q5_K_M": (1.13, 17), "Q8_0": (1.65, 7)}
    gguf.revision(
        {
            f"Qwen2.5-1.5B-Instruct-{kind}.gguf": m.gguf(size, f"qwen25-{kind}", "qwen2", file_type, "1.5B")
            for kind, (size, file_type) in kinds.items()
        }
    )
    set_age(gguf.path, 64, now)

    gptq = hub.repo("TheBloke/Mistral-7B-Instruct-v0.2-GPTQ")
    quantization = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True}
    weights = {"model.safetensors": m.weights(4.16, "mistral-gptq", "I32")}
    mistral = {**catalogue.named("mistral")[0].config, "quantization_config": quantization}
    gptq.revision(_small("mistral", "Mistral-7B", quantization_config=quantization) | m.config(mistral) | weights)
    set_age(gptq.path, 410, now)

    mlx = hub.repo("mlx-community/Qwen3-0.6B-4bit")
    mlx_files = _small("qwen3", "Qwen3-0.6B", quantization={"group_size": 64, "bits": 4})
    mlx.revision(mlx_files | {"model.safetensors": m.weights(0.34, "qwen3-mlx", "U8")})
    set_age(mlx.path, 31, now)

    whisper = hub.repo("openai/whisper-large-v3-turbo")
    whisper_files = _small("whisper", "whisper-turbo") | {"model.safetensors": m.weights(1.62, "whisper")}
    whisper.revision(whisper_files, no_exist=("adapter_config.json",))
    set_age(whisper.path, 12, now)

    mini = hub.repo("sentence-transformers/all-MiniLM-L6-v2")
    mini.revision(minilm(m))
    mini.orphan(m.raw(0.12, "minilm-orphan"))
    set_age(mini.path, 95, now)


def minilm(m: _Maker) -> dict[str, Content]:
    """The small embedding model that half the world has three times."""
    return _small("bert", "MiniLM", dtype="float32") | {"model.safetensors": m.weights(0.091, "minilm", "F32")}


def _hub_rest(hub: Hub, m: _Maker, now: float) -> None:
    config = catalogue.named("tinyllama")[0].config
    [base] = m.model(config, "tinyllama", (2.2,))
    tiny = hub.repo("TinyLlama/TinyLlama-1.1B-Chat-v1.0")
    files = _small("llama", "TinyLlama") | m.config(config) | {"model.safetensors": base}
    tiny.revision(files, shared=("model.safetensors",))
    set_age(tiny.path, 40, now)
    mirror = hub.repo("acme/support-bot-base")
    mirror.revision(files, shared=("model.safetensors",))
    set_age(mirror.path, 160, now)
    set_age(hub.path / "blobs", 40, now)

    gemma = hub.repo("google/gemma-3-4b-it")
    first, second = m.weights(4.96, "gemma-1"), m.weights(3.64, "gemma-2")
    shards = {"model-00001-of-00002.safetensors": first, "model-00002-of-00002.safetensors": second}
    gemma.revision(_small("gemma3", "gemma-3-4b") | shards, missing=tuple(shards))
    gemma.partial(m.raw(3.1, "gemma-1-cut"), of=Filler(1, "gemma-1").digest)
    gemma.lock(Filler(1, "gemma-1").digest)
    set_age(gemma.path, 18, now)

    broken = hub.repo("acme/half-copied")
    broken.revision(_small("llama", "half-copied") | {"model.safetensors": m.weights(0.4, "half")})
    lost = broken.revision(
        _small("llama", "half-copied-2") | {"model.safetensors": m.weights(0.3, "lost")}, refs=("v2",)
    )
    (broken.path / "snapshots" / lost / "model.safetensors").resolve().unlink()
    set_age(broken.path, 77, now)

    data = hub.repo("HuggingFaceFW/fineweb-edu-sample", "dataset")
    rows = {f"data/train-{n:05}-of-00003.parquet": m.raw(0.41, f"fineweb-{n}", b"PAR1") for n in range(3)}
    data.revision({"README.md": b"# sample\n"} | rows)
    set_age(data.path, 130, now)


def _home(home: Path, m: _Maker, now: float) -> None:
    arrow = home / "datasets" / "HuggingFaceFW___fineweb-edu-sample" / "default" / "0.0.0"
    write(arrow / "fineweb-edu-sample-train.arrow", m.raw(1.48, "arrow"))
    write(arrow / "dataset_info.json", b"{}")
    set_age(home / "datasets", 130, now)
    write(home / "xet" / "https___cas_serv-tGqkUaZf_CBPHQ6h" / "chunk-cache" / "00" / "chunk", m.raw(0.6, "xet"))
    write(home / "assets" / "datasets-server" / "viewer.json", b"{}")
    write(home / "token", b"hf_demo_not_a_real_token")
    (home / "token").chmod(0o600)


def _ollama(path: Path, m: _Maker, now: float) -> None:
    store = OllamaStore(path)
    base = m.gguf(2.02, "llama3.2-3b", "llama", 15, "3B")
    text = {"template": b"{{ .System }}{{ .Prompt }}", "license": b"LLAMA 3.2 COMMUNITY LICENSE\n" * 200}
    llama = {"model_type": "3.2B", "file_type": "Q4_K_M"}
    store.model("llama3.2:3b", {"model": base} | text, config=llama)
    store.model("llama3.2:latest", {"model": base} | text, config=llama)
    persona = {"model": base, "system": b"You are a pirate.", "params": b'{"temperature":0.9}'} | text
    store.model("acme/pirate:v1", persona, config=llama)
    vision = {
        "model": m.gguf(1.93, "qwen2.5vl-3b", "qwen25vl", 15, "3B"),
        "projector": m.gguf(1.34, "qwen-mm", "clip", 1, ""),
    }
    details = {"model_family": "qwen25vl", "model_families": ["qwen25vl"], "model_type": "3.8B", "file_type": "Q4_K_M"}
    store.model("qwen2.5vl:3b", vision | text, config=details)
    store.orphan(m.gguf(0.92, "gemma3-old", "gemma3", 15, "1B"))
    store.partial(m.gguf(1.1, "phi4-mini", "phi3", 15, "3.8B"), int(0.3 * m.gb))
    set_age(path, 21, now)


def _projects(home: Path, m: _Maker, now: float) -> None:
    lens = home / "projects" / "latent-lens"
    Hub(lens / "model_cache").repo("sentence-transformers/all-MiniLM-L6-v2").revision(minilm(m))
    config = catalogue.named("tinyllama")[0].config
    [weights] = m.model(config, "tinyllama", (2.2,))
    tiny = _small("llama", "TinyLlama") | m.config(config) | {"model.safetensors": weights}
    Hub(lens / "model_cache").repo("TinyLlama/TinyLlama-1.1B-Chat-v1.0").revision(tiny)
    steer = home / "projects" / "steerability"
    Hub(steer / "model_cache").repo("sentence-transformers/all-MiniLM-L6-v2").revision(minilm(m))
    write(steer / ".env", b"# where models go\nHF_CACHE_DIR=./model_cache\n")
    for project in (lens, steer):
        write(project / "README.md", b"# a project\n")
        set_age(project, 200, now)


def _folders(home: Path, m: _Maker, hub: Hub, now: float) -> None:
    repo = HubRepo(hub, "sentence-transformers/all-MiniLM-L6-v2")
    commit = (repo.path / "refs" / "main").read_text()
    local_dir(home / "models" / "minilm-local", minilm(m), commit, now)
    write(home / "models" / "mistral-7b-instruct.Q4_0.gguf", m.gguf(4.11, "mistral-q4", "llama", 2, "7B"))
    set_age(home / "models", 300, now)


def _drives(home: Path, hub: Hub, m: _Maker, drive: Path, now: float) -> None:
    """One model lies in an archive, one on a drive that is not there."""
    files = _small("t5", "flan-t5-large", dtype="float32") | {"model.safetensors": m.weights(3.13, "flan-t5", "F32")}
    there = drives.archive(hub, "google/flan-t5-large", files, drive, now)
    away = home / "drives" / drives.BIG
    mixtral = "mistralai/Mixtral-8x7B-Instruct-v0.1"
    known = [there, drives.offline(hub, mixtral, int(93.4 * m.gb), away, now)]
    drives.remember(home / ".local" / "state" / "cachetui" / "archives.json", known)


def build(folder: Path, *, gb: int = DEMO_GB, now: float | None = None, drive: Path | None = None) -> dict[str, str]:
    """Build the world below `folder` (created; must be empty) and return the environment to use it with.

    `gb`: bytes that stand for one GB. `now`: POSIX seconds that ages count from. `drive`: a folder for the archive,
    best on another file system; one inside the world without. Raises FileExistsError when there is something in the
    folder already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; give a new folder")
    now = time.time() if now is None else now
    m = _Maker(gb)
    home = folder.absolute() / "home"
    hf_home = home / ".cache" / "huggingface"
    hub = Hub(hf_home / "hub")
    _hub_models(hub, m, now)
    _hub_rest(hub, m, now)
    _home(hf_home, m, now)
    _ollama(home / ".ollama" / "models", m, now)
    _projects(home, m, now)
    _folders(home, m, hub, now)
    attic = home / "drives" / drives.ATTIC if drive is None else drive.absolute()
    _drives(home, hub, m, attic, now)
    config = f"search_roots = [{json.dumps(str(home / 'projects'))}]\n"
    write(home / ".config" / "cachetui" / "config.toml", config.encode())
    pins = [{"root": os.path.realpath(hub.path), "id": "hf:meta-llama/Llama-3.2-3B-Instruct"}]
    write(home / ".local" / "share" / "cachetui" / "pins.json", json.dumps(pins).encode())
    return {
        "CACHETUI_ONLY_BELOW": str(folder.absolute()),
        "CACHETUI_AND_BELOW": str(attic),
        "HOME": str(home),
        "HF_HOME": str(hf_home),
        "OLLAMA_MODELS": str(home / ".ollama" / "models"),
        "OLLAMA_HOST": "127.0.0.1:9",
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local" / "share"),
        "XDG_STATE_HOME": str(home / ".local" / "state"),
    }
