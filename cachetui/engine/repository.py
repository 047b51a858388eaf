"""What lies in a model's folder, looked at before anything is imported: whether it can be loaded, and if not, why.

Which files count follows transformers 5: `_get_resolved_checkpoint_files` of modeling_utils.py (model.safetensors, then
its index) and `from_pretrained` of tokenization_utils_base.py.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from cachetui import afar
from cachetui.engine.errors import DAMAGED, MISSING_PROCESSOR, NO_SAFETENSORS, UNSUPPORTED, EngineError
from cachetui.memory import headers
from cachetui.memory.model import Tensor
from cachetui.wanted import Wanted

MAX_JSON = 64 << 20
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_TOKENIZERS = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model",
    "tekken.json", "source.spm", "vocab.model", "tokenizer.tiktoken", "qwen.tiktoken",
)  # fmt: skip
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True, slots=True)
class Repository:
    """A folder that can be loaded, as far as its files tell."""

    wanted: Wanted
    config: Mapping[str, Any]
    weights: tuple[str, ...]
    """File names."""
    tensors: tuple[Tensor, ...]
    names: frozenset[str]
    """All files at the top."""
    path: str
    """The folder as libraries can be told it (`readable`)."""

    @property
    def quantized(self) -> Mapping[str, Any]:
        """`quantization_config`; empty where the weights are plain numbers."""
        found = self.config.get("quantization_config")
        return found if isinstance(found, dict) else {}

    @property
    def method(self) -> str:
        """How it is stored quantized: gptq, awq, bitsandbytes ...; empty: not."""
        said = self.quantized
        if not said:
            return ""
        named = said.get("quant_method")
        if isinstance(named, str) and named:
            return named
        return "bitsandbytes" if said.get("load_in_4bit") or said.get("load_in_8bit") else "mlx"

    @property
    def has_tokenizer(self) -> bool:
        """Whether there is a vocabulary."""
        return any(n in self.names for n in _TOKENIZERS) or any(n.endswith(".tiktoken") for n in self.names)


@contextmanager
def readable(repo: Repository) -> Iterator[Repository]:
    """With a path that libraries can open: tokenizers takes text only, and a name on disk may be any bytes."""
    try:
        repo.path.encode("utf-8")
    except UnicodeEncodeError:
        fd = os.open(repo.path, os.O_RDONLY)
        try:
            yield replace(repo, path=f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
    else:
        yield repo


def target(wanted: Wanted) -> str:
    """The TARGET to type for it."""
    return f"hf:{wanted.repo}" if wanted.repo else wanted.folder


def fetch_again(wanted: Wanted) -> str:
    """The advice for a file that is missing or broken."""
    if wanted.repo:
        return f"cachetui pull hf:{wanted.repo} fetches what is missing; cachetui verify hf:{wanted.repo} tells what is"
    return f"copy it there again; cachetui verify {wanted.folder} tells what is missing"


def missing(wanted: Wanted, what: str) -> EngineError:
    """A processor or tokenizer file that is not there."""
    return EngineError(f"{wanted.name} has no {what}", fetch_again(wanted), MISSING_PROCESSOR)


def look(wanted: Wanted) -> Repository:
    """Read config, index and headers; no weights. Raises EngineError."""
    names = _names(wanted)
    config = _config(wanted, names)
    weights = _weights(wanted, names)
    tensors: list[Tensor] = []
    for name in weights:
        tensors += _header(wanted, name)
    return Repository(wanted, config, weights, tuple(tensors), frozenset(names), wanted.folder)


def _names(wanted: Wanted) -> list[str]:
    broken = _broken_link(wanted.folder)
    if broken is not None:
        raise _away(wanted, broken)
    try:
        return sorted(os.listdir(wanted.folder))
    except NotADirectoryError:
        pass
    except OSError as e:
        why = "is not there" if e.errno == errno.ENOENT else f"cannot be read: {e.strerror}"
        raise EngineError(f"{wanted.folder} {why}", "look again: cachetui ls", DAMAGED) from None
    advice = "one file is a GGUF model or nothing that can be loaded; name the folder with config.json"
    raise EngineError(f"{wanted.folder} is no folder", advice, UNSUPPORTED)


def _broken_link(path: str) -> afar.Lead | None:
    """The link at `path` or above it that leads to nothing now; None where something is there, or no link is to blame.

    An archived model's folder in the hub cache is a link to its drive, some levels above the snapshot.
    """
    lead = afar.reach(path)
    if lead.stat is not None:
        return None
    if lead.silent:
        return lead
    while path != os.path.dirname(path):
        if os.path.islink(path):
            return afar.follow(path)
        path = os.path.dirname(path)
    return None


def _away(wanted: Wanted, lead: afar.Lead) -> EngineError:
    return EngineError(
        f"{wanted.name} lies in {lead.path}, which {lead.state}",
        f"{afar.HINT}, then again; cachetui restore {target(wanted)} brings it back for good",
        DAMAGED,
    )


def _read(wanted: Wanted, name: str) -> bytes:
    """A file of the folder. Raises EngineError for one that is broken or away."""
    path = os.path.join(wanted.folder, name)
    _must_be_there(wanted, name)
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as f:  # noqa: PTH123 - a descriptor
            return f.read(MAX_JSON + 1)
    except OSError as e:
        raise EngineError(f"{wanted.name}: {name} cannot be read: {e.strerror}", fetch_again(wanted), DAMAGED) from None


def _must_be_there(wanted: Wanted, name: str) -> None:
    """Raises EngineError where a file is a link to nothing, or its drive is away."""
    broken = _broken_link(os.path.join(wanted.folder, name))
    if broken is None:
        return
    if broken.silent or not os.path.isdir(os.path.dirname(broken.path)):
        raise _away(wanted, broken)
    raise EngineError(f"{wanted.name}: {name} is a link to nothing", fetch_again(wanted), DAMAGED)


def read_json(wanted: Wanted, name: str) -> dict[str, Any]:
    try:
        value = json.loads(_read(wanted, name))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise EngineError(f"{wanted.name}: {name} is damaged: not JSON", fetch_again(wanted), DAMAGED)
    return value


def _config(wanted: Wanted, names: list[str]) -> dict[str, Any]:
    if "config.json" in names:
        return read_json(wanted, "config.json")
    if "adapter_config.json" in names:
        base = read_json(wanted, "adapter_config.json").get("base_model_name_or_path")
        on = f" for {base}" if isinstance(base, str) else ""
        reason = f"{wanted.name} is an adapter{on}, not a model"
        raise EngineError(reason, "prompt the model it belongs to", UNSUPPORTED)
    if any(n.endswith(".gguf") for n in names):
        advice = "name the file, it runs through llama.cpp: pip install 'cachetui[gguf]'"
        raise EngineError(f"{wanted.name} holds GGUF files", advice, UNSUPPORTED)
    if "model_index.json" in names:
        raise EngineError(f"{wanted.name} makes pictures (diffusers): it writes no text", "", UNSUPPORTED)
    raise EngineError(f"{wanted.name} has no config.json", fetch_again(wanted), DAMAGED)


def _weights(wanted: Wanted, names: list[str]) -> tuple[str, ...]:
    if _SINGLE in names:
        return (_SINGLE,)
    if _INDEX in names:
        return _shards(wanted, names)
    if any(n.endswith(_PICKLES) for n in names):
        raise EngineError(
            f"{wanted.name} has its weights as pickles (.bin) only, and reading those may run any program",
            "take a repo with .safetensors files; many have a copy: "
            f"cachetui pull {target(wanted)} --revision refs/pr/1 --include '*.safetensors'",
            NO_SAFETENSORS,
        )
    if any(n.endswith(".gguf") for n in names):
        advice = "name the file, it runs through llama.cpp: pip install 'cachetui[gguf]'"
        raise EngineError(f"{wanted.name} holds GGUF files", advice, UNSUPPORTED)
    other = [n for n in names if n.endswith(".safetensors")]
    if other:
        reason = f"{wanted.name} has {other[0]}, but not {_SINGLE}, which transformers reads"
        raise EngineError(reason, fetch_again(wanted), NO_SAFETENSORS)
    raise EngineError(f"{wanted.name} has no weights", fetch_again(wanted), NO_SAFETENSORS)


def _shards(wanted: Wanted, names: list[str]) -> tuple[str, ...]:
    table = read_json(wanted, _INDEX).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(n, str) for n in table.values()):
        raise EngineError(f"{wanted.name}: {_INDEX} is damaged: no weight_map", fetch_again(wanted), DAMAGED)
    shards = sorted(set(table.values()))
    lost = [n for n in shards if n not in names]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        reason = f"{wanted.name}: {lost[0]}{more} of {len(shards)} files with weights are missing"
        raise EngineError(reason, fetch_again(wanted), DAMAGED)
    return tuple(shards)


def _header(wanted: Wanted, name: str) -> tuple[Tensor, ...]:
    path = os.path.join(wanted.folder, name)
    _must_be_there(wanted, name)
    try:
        tensors = headers.safetensors(path)
        fd = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(fd).st_size
            needed = 8 + int.from_bytes(os.read(fd, 8), "little") + sum(t.size for t in tensors)
        finally:
            os.close(fd)
    except headers.BadHeader as e:
        raise EngineError(f"{wanted.name}: {name} is damaged: {e}", fetch_again(wanted), DAMAGED) from None
    except OSError as e:
        raise EngineError(f"{wanted.name}: {name} cannot be read: {e.strerror}", fetch_again(wanted), DAMAGED) from None
    if size < needed:
        cut = f"cut off: {size:,} of {needed:,} bytes"
        raise EngineError(f"{wanted.name}: {name} is {cut}", fetch_again(wanted), DAMAGED)
    return tensors
