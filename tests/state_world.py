"""Valid state files without torch: any model, any pictures, a few bytes of cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cachetui import states
from cachetui.states.form import Raw
from cachetui.states.identity import Identity, Image
from cachetui.states.reading import Layer, StateInfo

COMMIT = "a1" * 20
REPO = "org/name"
SYSTEM = "You are a helpful AI assistant analyzing an image."


def save(
    path: Path,
    *,
    repo: str = REPO,
    commit: str = COMMIT,
    model: str = "",
    images: tuple[str, ...] = ("cat.png",),
    system: str = SYSTEM,
    tokens: int = 64,
    created: float = 1.7e9,
    size: int = 4096,
    sha256: str = "",
) -> StateInfo:
    """Write a state of `tokens` tokens with a cache of about `size` bytes to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = tuple(Image(n, sha256 or hashlib.sha256(n.encode()).hexdigest(), 64, 48) for n in images)
    who = Identity(
        repo=repo, commit=commit, architecture="qwen3_vl", dtype="bfloat16", attention="sdpa", system=system,
        images=pictures,
    )  # fmt: skip
    layers = (Layer("DynamicLayer", tokens),)
    info = StateInfo(str(path), who, tokens, 0, created, model, "cpu", "cachetui 0", layers)
    body = hashlib.shake_256(str((repo, commit, images, tokens)).encode()).digest(size)
    ids = b"".join(n.to_bytes(8, "little") for n in range(tokens))
    return states.write(info, [Raw("layers.0.keys", "U8", (size,), body), Raw("input_ids", "I64", (1, tokens), ids)])
