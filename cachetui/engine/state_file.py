"""From a state's file to tensors: everything it claims is compared with the loaded model before it is believed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cachetui.engine.errors import STATE_DAMAGED, STATE_TOO_LARGE, EngineError
from cachetui.engine.kept import INDEXED, PLAIN, STATES, kinds
from cachetui.memory.cache import cache_of
from cachetui.memory.config import text_config
from cachetui.states import form
from cachetui.states.reading import Opened, StateInfo, damage

if TYPE_CHECKING:
    from torch import Tensor

    from cachetui.engine.loading import Loaded

IDS, MASK, DELTAS, EXTRA = "input_ids", "attention_mask", "rope_deltas", "extra."
_MAX_CHECKED = 4096
_MAX_TYPE = 1 << 24
_checked: dict[tuple[int, int, int, int, int], str] = {}
"""Files whose data was found to be what was written, by stamp: their sha256. For as long as this process lives."""


def dtypes() -> dict[str, Any]:
    """torch's dtype for safetensors' name of it."""
    import torch

    return {
        "F64": torch.float64, "I64": torch.int64, "F32": torch.float32, "I32": torch.int32, "F16": torch.float16,
        "BF16": torch.bfloat16, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
        "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    }  # fmt: skip


def tensors(opened: Opened, loaded: Loaded, *, verify: bool) -> dict[str, Tensor]:
    """The content of a state's file, on the model's device.

    Its sha256 is computed the first time this process sees the file, and again with `verify`.
    Raises EngineError: state-damaged, state-too-large.
    """
    wrong = _wrong_table(loaded, opened)
    if wrong:
        raise _damaged(opened.info, wrong)
    _must_have_room(opened)
    found = _read(opened, verify)
    wrong = _wrong_values(loaded, opened.info, found)
    if wrong:
        raise _damaged(opened.info, wrong)
    return {name: t.to(loaded.device) for name, t in found.items()}


def _damaged(info: StateInfo, why: str) -> EngineError:
    return EngineError(f"{info.path}: it is damaged: {why}", again(info), STATE_DAMAGED)


def again(info: StateInfo) -> str:
    """The command that makes the same state once more."""
    pictures = "".join(f" --image {shlex.quote(i.name)}" for i in info.identity.images)
    return f"save it again: cachetui state save {shlex.quote(info.model)}{pictures}"


def _must_have_room(opened: Opened) -> None:
    import psutil

    need, room = opened.header.size, psutil.virtual_memory().available
    if need > room:
        raise EngineError(
            f"{opened.info.path} needs {need:,} bytes of memory, {room:,} are free",
            "fewer pixels (--max-pixels N) or a shorter system prompt make a smaller state; so does a smaller model",
            STATE_TOO_LARGE,
        )


def _read(opened: Opened, verify: bool) -> dict[str, Tensor]:
    """Every tensor, backed by one piece of memory."""
    import hashlib

    import torch

    header, stamp = opened.header, opened.stamp
    data = torch.empty(header.size - header.data_at, dtype=torch.uint8)
    view = memoryview(data.numpy())
    at = 0
    while at < len(view):
        count = os.preadv(opened.fd, [view[at:]], header.data_at + at)
        if not count:
            raise _damaged(opened.info, "it became shorter while it was read")
        at += count
    if verify or _checked.get(stamp) != header.data_sha256:
        why = damage(opened, hashlib.sha256(view).hexdigest())
        if why:
            raise _damaged(opened.info, why)
        if len(_checked) >= _MAX_CHECKED:
            _checked.clear()
        _checked[stamp] = header.data_sha256
    known = dtypes()
    return {t.name: data[t.start : t.end].view(known[t.dtype]).reshape(t.shape) for t in header.tensors}


def _wrong_table(loaded: Loaded, opened: Opened) -> str:
    """What in the table of tensors is not what this model would have made; empty where all is."""
    info = opened.info
    table = {t.name: t for t in opened.header.tensors}
    mine = kinds(loaded.model.config)
    if tuple(layer.kind for layer in info.layers) != mine:
        return f"its {len(info.layers)} layers are not the {len(mine)} of this model"
    if any(t.start % form.WIDTHS[t.dtype] or t.dtype not in dtypes() for t in table.values()):
        return "a tensor lies where none can"
    row = ("I64", (1, info.tokens))
    for name in (IDS, MASK):
        if name not in table:
            return f"{name} is missing"
        if (table[name].dtype, table[name].shape) != row:
            return f"{name} is not one row of {info.tokens} numbers"
    allowed = {IDS, MASK, DELTAS} | {name for name in table if name.startswith(EXTRA)}
    for n, layer in enumerate(info.layers):
        wanted = _wanted(table, n, layer.kind, layer.seen)
        missing = [name for name in wanted if name not in table]
        if missing:
            return f"{missing[0]} is missing"
        why = _wrong_layer(loaded, table, n, info)
        if why:
            return why
        allowed.update(wanted)
    strange = sorted(table.keys() - allowed)
    if strange:
        return f"{strange[0]} belongs to nothing"
    return _wrong_size(loaded, table, info.tokens)


def _wanted(table: Mapping[str, form.Tensor], n: int, kind: str, seen: int) -> list[str]:
    """Names of the tensors of a layer: those it must have, and those it has that it may have."""
    at = f"layers.{n}."
    names = [at + name for name in PLAIN] if seen else []
    may = [at + name for name in INDEXED] if kind == "DynamicIndexedLayer" else []
    if kind.startswith("LinearAttention"):
        may += [name for name in table if name.startswith(tuple(f"{at}{s}." for s in STATES))]
        names += [] if may else [f"{at}{STATES[0]}.0"]
    return names + [name for name in may if name in table]


def _wrong_layer(loaded: Loaded, table: Mapping[str, form.Tensor], n: int, info: StateInfo) -> str:
    """Shapes of keys and values: (1, heads, tokens kept, size of a head)."""
    layer = info.layers[n]
    if f"layers.{n}.{PLAIN[0]}" not in table:
        return ""
    keys, values = (table[f"layers.{n}.{name}"] for name in PLAIN)
    text = text_config(loaded.model.config.to_dict())
    window = getattr(loaded.model.config.get_text_config(decoder=True), "sliding_window", None)
    kept = info.tokens
    if "Sliding" in layer.kind and isinstance(window, int):
        kept = min(kept, window - 1)
    for t in (keys, values):
        if len(t.shape) != 4 or t.shape[0] != 1 or t.shape[2] != kept or layer.seen != info.tokens:
            return f"{t.name} has the shape {t.shape}, which is not that of {info.tokens} tokens"
        latent = bool(text.number("kv_lora_rank"))
        if not latent and text.sure and t.shape[1] * t.shape[3] != text.kv_heads * text.head_dim:
            return f"{t.name} has the shape {t.shape}: this model has {text.kv_heads} heads of {text.head_dim}"
    return ""


def _wrong_size(loaded: Loaded, table: Mapping[str, form.Tensor], tokens: int) -> str:
    """The cache as a whole against the formula, where that is exact."""
    formula = cache_of(loaded.model.config.to_dict())
    if formula is None or not formula.exact:
        return ""
    width = form.WIDTHS[next((t.dtype for t in table.values() if t.name.endswith(".keys")), "F32")]
    held = sum(t.end - t.start for t in table.values() if t.name.startswith("layers."))
    wanted = formula.bytes(tokens, width)
    return "" if held == wanted else f"its cache has {held:,} bytes, {tokens} tokens have {wanted:,}"


def _wrong_values(loaded: Loaded, info: StateInfo, found: Mapping[str, Tensor]) -> str:
    """Numbers that would lead out of a table."""
    vocabulary = loaded.model.get_input_embeddings().weight.shape[0]
    ids = found[IDS]
    if int(ids.min()) < 0 or int(ids.max()) >= vocabulary:
        return f"a token is none of the {vocabulary:,} that the model knows"
    if not bool((found[MASK] == 1).all()):
        return "its attention mask leaves tokens out"
    for name, t in found.items():
        if name.startswith(EXTRA) and (t.is_floating_point() or (t.numel() and not 0 <= int(t.max()) < _MAX_TYPE)):
            return f"{name} holds impossible numbers"
    deltas = found.get(DELTAS)
    if deltas is not None and (deltas.numel() != 1 or abs(int(deltas)) > info.tokens):
        return "its positions are impossible"
    return ""
