"""A Hub for the pictures of downloads: models of their real sizes, whose weights are holes of a file, not memory."""

from __future__ import annotations

import json
import mmap
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "download"))
from server import HubServer, Repo, sha256

from cachetui.demo.builders import safetensors_bytes
from cachetui.memory import catalogue
from cachetui.memory.shapes import tensors_of

_MB = 10**6
_TOKENIZER = 11_400_000


def _holes(size: int, head: bytes = b"") -> Any:
    """So many bytes, zeros behind the head, as a buffer."""
    with tempfile.TemporaryFile() as f:
        f.truncate(size)
        made = mmap.mmap(f.fileno(), size, access=mmap.ACCESS_COPY)
        made[: len(head)] = head
        return made


def _model(megabytes: float, licence: str, downloads: int, likes: int, like: str = "", **info: Any) -> Repo:
    """`like`: the row of the catalogue whose config and header it has; what lies behind is zeros."""
    size = int(megabytes * _MB)
    config, head = b'{"model_type": "qwen3"}\n' * 40, b""
    if like:
        numbers = catalogue.named(like)[0].config
        config = json.dumps(numbers).encode()
        head = safetensors_bytes({t.name: (t.dtype, t.shape) for t in tensors_of(numbers)}, data=False)
    files = {
        "README.md": b"# model\n" * 900,
        "config.json": config,
        "tokenizer.json": bytes(_TOKENIZER),
        "tokenizer_config.json": b"{}\n" * 3000,
        "model.safetensors": _holes(size, head),
        "pytorch_model.bin": _holes(size + 4096),
    }
    told = {
        "usedStorage": 2 * size + _TOKENIZER,
        "downloads": downloads,
        "likes": likes,
        "pipeline_tag": "text-generation",
        "cardData": {"license": licence},
        "tags": [f"license:{licence}"],
    }
    return Repo(files, frozenset(("model.safetensors", "pytorch_model.bin", "tokenizer.json")), info=told | info)


def _quants(base: str, megabytes: dict[str, int], downloads: int, likes: int) -> Repo:
    name = base.rpartition("/")[2]
    files: dict[str, Any] = {f"{name}-{q}.gguf": _holes(size * _MB) for q, size in megabytes.items()}
    tags = ["gguf", f"base_model:quantized:{base}", "license:apache-2.0"]
    info = {"usedStorage": sum(megabytes.values()) * _MB, "downloads": downloads, "likes": likes, "tags": tags}
    return Repo({**files, "README.md": b"# quantizations\n"}, frozenset(files), info=info)


def fill(hub: HubServer) -> None:
    """The models of the pictures, most downloaded first."""
    qwen = "Qwen/Qwen3-0.6B"
    hub.add(qwen, _model(1503.3, "apache-2.0", 9_214_077, 812, qwen, safetensors={"total": 751_632_384}))
    sizes = {"Q2_K": 347, "Q3_K_M": 414, "Q4_K_M": 484, "Q5_K_M": 551, "Q6_K": 623, "Q8_0": 805}
    hub.add("bartowski/Qwen3-0.6B-GGUF", _quants(qwen, sizes, 812_406, 61))
    for name, tag, size, downloads in (
        ("mlx-community/Qwen3-0.6B-4bit", "mlx", 335, 41_380),
        ("Qwen/Qwen3-0.6B-GPTQ-Int8", "gptq", 760, 18_220),
    ):
        tags = [tag, f"base_model:quantized:{qwen}", "license:apache-2.0"]
        hub.add(name, _model(size, "apache-2.0", downloads, 14, tags=tags))
    vl = {"usedStorage": 17_534_339_072, "downloads": 3_318_044, "likes": 640, "pipeline_tag": "image-text-to-text"}
    hub.add("Qwen/Qwen3-VL-8B-Instruct", Repo({"config.json": b"{}"}, info=vl | {"tags": ["license:apache-2.0"]}))
    hub.add("google/gemma-3-270m", _model(536.2, "gemma", 2_508_331, 903))
    hub.add("HuggingFaceTB/SmolLM2-360M", _model(723.7, "apache-2.0", 1_120_540, 57))
    gated = _model(900.0, "other", 73_402, 30)
    gated.gated = True
    hub.add("acme/qwen-tuned-secret", gated)
    for repo in hub.repos.values():  # hashed before anybody waits for it
        for path in repo.lfs:
            sha256(repo.files[path])
