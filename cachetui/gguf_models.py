"""Which models this program turns into GGUF files by itself, as far as config.json and tokenizer.json tell. No torch.

Follows llama.cpp's convert_hf_to_gguf.py (LlamaModel, Qwen2Model, Qwen3Model) and its table of pre-tokenizers: dense
models that write text, with a byte-level BPE whose way of cutting words llama.cpp knows by name. Anything else is for
llama.cpp's own script.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cachetui import walk

VERSION = 1
"""Of the converter: a new one makes other files."""
ARCHITECTURES: Mapping[str, str] = {
    "LlamaForCausalLM": "llama", "MistralForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}  # fmt: skip
"""Class in config.json: architecture of GGUF."""
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_SPLITS: Mapping[str, str] = {_WORDS % "": "qwen2", _WORDS % "{1,3}": "llama-bpe"}
"""Regular expression of a tokenizer.json: name that llama.cpp has for it."""
_ROPE = (None, "default", "linear", "yarn", "llama3")
_MAX_TOKENIZER = 64 << 20


def architecture(config: Mapping[str, Any]) -> str:
    """GGUF's word for it; empty for those that are not converted here."""
    classes = config.get("architectures")
    return ARCHITECTURES.get(str(classes[0]), "") if isinstance(classes, list) and classes else ""


def unfit(config: Mapping[str, Any], folder: str) -> str:
    """Why it cannot be converted here; empty where it can."""
    classes = config.get("architectures")
    if not architecture(config):
        named = str(classes[0])[:80] if isinstance(classes, list) and classes else "this architecture"
        return f"{named} is not among those that are converted to GGUF here ({', '.join(ARCHITECTURES)})"
    if config.get("sliding_window") and config.get("use_sliding_window", "Mistral" in str(classes)):
        return "it attends to a sliding window, which is not converted to GGUF here"
    kind = rope(config).get("rope_type", rope(config).get("type"))
    if kind not in _ROPE:
        return f"its positions are of the kind {str(kind)[:40]}, which is not converted to GGUF here"
    if config.get("attention_bias") and architecture(config) == "llama":
        return "its attention has biases, which is not converted to GGUF here"
    if not pre_tokenizer(folder):
        return "its tokenizer is none that is converted to GGUF here (byte-level BPE as Llama 3, Qwen and GPT-2 have)"
    return ""


def rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """How positions are told, in the words of transformers 5 or 4."""
    for key in ("rope_parameters", "rope_scaling"):
        found = config.get(key)
        if isinstance(found, dict) and found:
            return found
    return {}


def pre_tokenizer(folder: str) -> str:
    """`tokenizer.ggml.pre` of a folder's tokenizer.json; empty where llama.cpp's name for it is not known here."""
    path = os.path.realpath(f"{folder}/tokenizer.json")
    try:
        st = os.stat(path)
    except OSError:
        return ""
    return _pre_tokenizer(path, st.st_size, st.st_mtime_ns)


@lru_cache(32)
def _pre_tokenizer(path: str, _size: int, _mtime: int) -> str:
    """Parsing a vocabulary takes some tenths of a second."""
    try:
        body = json.loads(walk.read_small(path, _MAX_TOKENIZER))
    except (OSError, ValueError, RecursionError):
        return ""
    model = body.get("model") if isinstance(body, dict) else None
    if not isinstance(model, dict) or model.get("type") != "BPE" or model.get("byte_fallback"):
        return ""
    steps = _steps(body.get("pre_tokenizer"))
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return ""
    if len(steps) == 1:
        return "gpt-2" if steps[0].get("use_regex", True) else ""
    if len(steps) == 2 and steps[0].get("type") == "Split" and not steps[-1].get("use_regex", True):
        pattern = steps[0].get("pattern")
        return _SPLITS.get(str(pattern.get("Regex")), "") if isinstance(pattern, dict) else ""
    digits = steps[0].get("type") == "Digits" and steps[0].get("individual_digits")
    return "smollm" if len(steps) == 2 and digits and steps[-1].get("use_regex", True) else ""


def _steps(body: Any) -> list[Mapping[str, Any]]:
    if not isinstance(body, dict):
        return []
    if body.get("type") == "Sequence":
        inner = body.get("pretokenizers")
        return [s for s in inner if isinstance(s, dict)] if isinstance(inner, list) else []
    return [body]
