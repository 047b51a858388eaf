"""From a state's file to tensors: everything it claims is compared with the loaded model before it is believed."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from cachetui import state_items
from cachetui.engine.devices import is_out_of_memory
from cachetui.engine.errors import STATE_DAMAGED, STATE_TOO_LARGE, EngineError
from cachetui.engine.kept import INDEXED, PLAIN, STATES, new_cache, tensors_of
from cachetui.memory.cache import cache_of
from cachetui.memory.config import text_config
from cachetui.states import MODEL_FIELDS, Identity, form
from cachetui.states.reading import Layer, Opened, StateInfo, damage

if TYPE_CHECKING:
    from torch import Tensor

    from cachetui.engine.loading import Loaded

IDS, MASK, DELTAS, EXTRA = "input_ids", "attention_mask", "rope_deltas", "extra."
_MAX_CHECKED = 4096
_MAX_TYPE = 1 << 24
_MAX_EXTRA = 1024
"""Numbers for each picture."""
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
    found = content(opened, verify=verify)
    wrong = _wrong_values(loaded, opened.info, found)
    if wrong:
        raise _damaged(opened.info, wrong)
    try:
        return {name: t.to(loaded.device) for name, t in found.items()}
    except (MemoryError, RuntimeError) as e:
        if not is_out_of_memory(e):
            raise
    raise _too_large(opened, f"the memory of {loaded.device} is full")


def _damaged(info: StateInfo, why: str) -> EngineError:
    return EngineError(f"{info.path}: it is damaged: {why}", again(info), STATE_DAMAGED)


def again(info: StateInfo) -> str:
    """The command that makes the same state once more."""
    return f"save it again: {state_items.again(info, info.path)}"


def way_on(info: StateInfo, other: Identity, differing: Collection[str]) -> str:
    """What to do where a state is not of `other`: it may be good for what it is of, or have to be made anew."""
    who, model = info.identity, state_items.model_target(info)
    asked = {name: getattr(other, name) for name in differing if name not in MODEL_FIELDS}
    if asked:
        one = state_items.saving(replace(who, **asked), model)
        return f"ask with the text alone: pictures and system prompt are in the state; or save another: {one}"
    if "repo" in differing:
        target = f"hf:{other.repo}" if other.repo else "TARGET"
        return f"ask {model}, which it is of; or save one for this model: {state_items.saving(who, target)}"
    if not {"dtype", "quantization", "attention"}.isdisjoint(differing):
        how = f" --dtype {other.dtype}" if other.dtype != who.dtype else ""
        one = state_items.saving(who, model) + how
        return f"load the model as it was then; or save one for the model as it is loaded: {one}"
    return again(info)


def _must_have_room(opened: Opened) -> None:
    import psutil

    need, room = opened.header.size, psutil.virtual_memory().available
    if need > room:
        raise _too_large(opened, f"{room:,} are free")


def _too_large(opened: Opened, why: str) -> EngineError:
    return EngineError(
        f"{opened.info.path} needs {opened.header.size:,} bytes of memory; {why}",
        "fewer pixels (--max-pixels N), a shorter system prompt or a smaller model make a smaller state; "
        "--device cpu uses this machine's memory",
        STATE_TOO_LARGE,
    )


def content(opened: Opened, *, verify: bool) -> dict[str, Tensor]:
    """Every tensor, backed by one piece of memory. Raises EngineError state-damaged, by the data's sha256."""
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
    mine = new_cache(loaded.model.config).layers
    if [layer.kind for layer in info.layers] != [type(layer).__name__ for layer in mine]:
        return f"its {len(info.layers)} layers are not the {len(mine)} of this model"
    if any(t.start % form.WIDTHS[t.dtype] or t.dtype not in dtypes() for t in table.values()):
        return "a tensor lies where none can"
    row = ("I64", (1, info.tokens))
    for name in (IDS, MASK):
        if name not in table:
            return f"{name} is missing"
        if (table[name].dtype, table[name].shape) != row:
            return f"{name} is not one row of {info.tokens} numbers"
    if DELTAS in table and (table[DELTAS].dtype, table[DELTAS].end - table[DELTAS].start) != ("I64", 8):
        return f"{DELTAS} is not one number"
    allowed = {IDS, MASK, DELTAS} | {name for name, t in table.items() if _is_extra(t, info)}
    for n, layer in enumerate(info.layers):
        wanted = _wanted(table, n, layer.kind, layer.seen)
        missing = [name for name in wanted if name not in table]
        if missing:
            return f"{missing[0]} is missing"
        window = getattr(mine[n], "sliding_window", 0)
        why = next((w for name in wanted if (w := _wrong_length(table[name], layer, window, info.tokens))), "")
        if why:
            return why
        allowed.update(wanted)
    strange = sorted(table.keys() - allowed)
    if strange:
        return f"{strange[0]} belongs to nothing"
    return "" if _as_the_config_says(loaded, table, info) else _unlike(loaded, table)


def _is_extra(t: form.Tensor, info: StateInfo) -> bool:
    """Beside the ids an architecture wants one number for every token, or a few for every picture."""
    count = (t.end - t.start) // form.WIDTHS[t.dtype]
    few = count <= _MAX_EXTRA * len(info.identity.images)
    return t.name.startswith(EXTRA) and (t.shape == (1, info.tokens) or few)


def _wanted(table: Mapping[str, form.Tensor], n: int, kind: str, seen: int) -> list[str]:
    """Names of the tensors of a layer: those it must have, and those it has that it may have."""
    at = f"layers.{n}."
    names = [at + name for name in PLAIN] if seen else []
    may = [at + name for name in INDEXED] if kind == "DynamicIndexedLayer" else []
    if kind.startswith("LinearAttention"):
        may += [name for name in table if name.startswith(tuple(f"{at}{s}." for s in STATES))]
        names += [] if may else [f"{at}{STATES[0]}.0"]
    return names + [name for name in may if name in table]


def _part(name: str) -> str:
    """keys, values ... of "layers.N.keys"; empty for what is no part of a layer."""
    layers, _, rest = name.partition(".")
    return rest.split(".")[1] if layers == "layers" and rest.count(".") else ""


def _wrong_length(t: form.Tensor, layer: Layer, window: int, tokens: int) -> str:
    """Keys and values: (1, heads, tokens kept, size of a head). `window`: of a layer that has one, else 0."""
    if _part(t.name) not in PLAIN:
        return ""
    kept = min(tokens, window - 1) if window else tokens
    if len(t.shape) != 4 or t.shape[0] != 1 or t.shape[2] != kept or layer.seen != tokens:
        return f"{t.name} has the shape {t.shape}, which is not that of {tokens} tokens"
    return ""


def _as_the_config_says(loaded: Loaded, table: Mapping[str, form.Tensor], info: StateInfo) -> bool:
    """Whether every head and the cache as a whole have the size that the config tells, where it does tell it."""
    config = loaded.model.config.to_dict()
    formula, text = cache_of(config), text_config(config)
    plain = [t for t in table.values() if _part(t.name) in PLAIN]
    if formula is None or not formula.exact or text.number("kv_lora_rank") or not plain:
        return False
    if any((t.shape[1], t.shape[3]) != (text.kv_heads, text.head_dim) for t in plain):
        return False
    held = sum(t.end - t.start for t in table.values() if t.name.startswith("layers."))
    return held == formula.bytes(info.tokens, form.WIDTHS[plain[0].dtype]) and len({t.dtype for t in plain}) == 1


_likes: WeakKeyDictionary[Any, dict[str, tuple[str, tuple[int, ...]]]] = WeakKeyDictionary()
"""What the cache of a model that read one token is like: (dtype, shape) by name."""


def _unlike(loaded: Loaded, table: Mapping[str, form.Tensor]) -> str:
    """How the cache differs from that of one token, read now; empty where it does not but in its length."""
    import torch

    like = _likes.get(loaded.model)
    if like is None:
        cache = new_cache(loaded.model.config)
        with torch.no_grad():
            loaded.model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=loaded.device), past_key_values=cache)
        known = {dtype: name for name, dtype in dtypes().items()}
        like = {name: (known[t.dtype], tuple(t.shape)) for name, t in tensors_of(cache)[0].items()}
        _likes[loaded.model] = like
    found = {name: t for name, t in table.items() if name.startswith("layers.")}
    if like.keys() != found.keys():
        return f"{min(like.keys() ^ found.keys())} is missing, or belongs to nothing"
    for name, (dtype, shape) in like.items():
        t = found[name]
        free = 2 if _part(name) in PLAIN else 1 if _part(name) in INDEXED else None
        mine, theirs = ([n for k, n in enumerate(s) if k != free] for s in (shape, t.shape))
        if mine != theirs or t.dtype != dtype:
            return f"{name} has the shape {t.shape} in {t.dtype}, which this model does not make"
    return ""


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
    if deltas is not None and abs(int(deltas)) > info.tokens:
        return "its positions are impossible"
    return ""
