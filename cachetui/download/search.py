"""Finding models on a Hub: by words, task and size, and the variants of one model. Headless: the picker shows it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cachetui.download.client import Client, offline
from cachetui.download.errors import PullError
from cachetui.ledger import Scan

_WORD = 200
_FIELDS = (
    "downloads", "likes", "gated", "private", "tags", "pipeline_tag", "safetensors", "gguf", "lastModified", "cardData",
    "usedStorage",
)  # fmt: skip
VARIANTS = ("gguf", "gptq", "awq", "mlx")
"""Kinds of variants that are told apart, by tag."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One model a Hub lists. All strings are outside strings."""

    repo: str
    downloads: int = 0
    likes: int = 0
    task: str = ""
    licence: str = ""
    gated: bool = False
    private: bool = False
    size: int = 0
    """Bytes that the Hub stores, or that the parameters take; 0 where it says neither."""
    parameters: int = 0
    modified: str = ""
    """ISO 8601, as the Hub writes it."""
    variants: tuple[str, ...] = ()
    """Of gguf, gptq, awq, mlx: what it is."""
    base: str = ""
    """The model it was made from."""
    here: bool = False
    """It lies on this machine."""

    @property
    def target(self) -> str:
        """What `pull` takes."""
        return f"hf:{self.repo}"


def search(
    client: Client,
    words: str = "",
    *,
    task: str = "",
    smallest: int = 0,
    largest: int = 0,
    limit: int = 30,
    here: Collection[str] = (),
) -> tuple[Hit, ...]:
    """Models that match, most downloaded first. Sizes in bytes (0: any); `here`: ids of `on_this_machine`.

    What says no size passes a lower bound only. Raises PullError, at once where HF_HUB_OFFLINE is set.
    """
    params: dict[str, Any] = {"search": words, "sort": "downloads", "direction": "-1", "limit": min(limit * 3, 100)}
    if task:
        params["pipeline_tag"] = task
    found = (h for h in _hits(client, params, here) if not (largest and (h.size > largest)) and h.size >= smallest)
    return tuple(islice(found, limit))


def variants(client: Client, repo: str, *, limit: int = 30, here: Collection[str] = ()) -> tuple[Hit, ...]:
    """GGUF, GPTQ, AWQ and MLX versions of a model, where the Hub lists them. Raises PullError."""
    params = {"filter": f"base_model:quantized:{repo}", "sort": "downloads", "direction": "-1", "limit": 100}
    return tuple(islice((h for h in _hits(client, params, here) if h.variants), limit))


def on_this_machine(scan: Scan) -> frozenset[str]:
    """Names of the models of all hub caches."""
    return frozenset(i.name for i in scan.items if i.store == "hf" and i.kind == "model")


def _hits(client: Client, params: dict[str, Any], here: Collection[str]) -> Iterator[Hit]:
    if client.offline:
        raise offline()
    raw = client.json("/api/models", {**params, "expand": list(_FIELDS)})
    if not isinstance(raw, list):
        raise PullError("server", "the Hub answers no list of models", "is HF_ENDPOINT a Hub?")
    for row in raw:
        if isinstance(row, dict) and isinstance(row.get("id"), str):
            yield _hit(row, here)


def _hit(row: dict[str, Any], here: Collection[str]) -> Hit:
    tags = [t for t in row.get("tags") or () if isinstance(t, str)]
    card = row.get("cardData")
    licence = card.get("license") if isinstance(card, dict) else None
    tagged = next((t.partition(":")[2] for t in tags if t.startswith("license:")), "")
    tensors, gguf = row.get("safetensors"), row.get("gguf")
    parameters = _int(tensors, "total") or _int(gguf, "total")
    repo = row["id"][:_WORD]
    return Hit(
        repo,
        _int(row, "downloads"),
        _int(row, "likes"),
        _text(row.get("pipeline_tag")),
        _text(licence) or tagged[:_WORD],
        bool(row.get("gated")),
        bool(row.get("private")),
        _int(row, "usedStorage") or _bytes(tensors),
        parameters,
        _text(row.get("lastModified")),
        tuple(v for v in VARIANTS if v in (t.lower() for t in tags) or v in repo.rpartition("/")[2].lower().split("-")),
        next((t.rpartition(":")[2] for t in tags if t.startswith("base_model:")), "")[:_WORD],
        repo in here,
    )


_WIDTHS = {
    "F64": 8,
    "I64": 8,
    "F32": 4,
    "I32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I8": 1,
    "U8": 1,
}


def _bytes(tensors: Any) -> int:
    """What the tensors take, from counts by type."""
    counts = tensors.get("parameters") if isinstance(tensors, dict) else None
    if not isinstance(counts, dict):
        return 0
    return sum(n * _WIDTHS.get(kind, 2) for kind, n in counts.items() if type(n) is int and n > 0)


def _int(body: Any, key: str) -> int:
    value = body.get(key) if isinstance(body, dict) else None
    return value if type(value) is int and value > 0 else 0


def _text(value: Any) -> str:
    return value[:_WORD] if isinstance(value, str) else ""
