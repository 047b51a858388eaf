"""What kind of model a set of files is: formats, quantization, what loads it; from config and headers, run nothing.

Everything read here was written by strangers: each read is capped, every type is checked, nothing raises. Keys
follow transformers' utils/quantization_config.py, mlx_lm's utils.py (`quantization`), peft's config.py, diffusers'
model_index.json, and the headers of safetensors and GGUF.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cachetui.gguf import MAX_HEADER, GgufHeader, gguf_header, type_in_name
from cachetui.model import Traits

__all__ = ["GgufHeader", "gguf_header", "is_weights", "role", "traits"]

Read = Callable[[str, int], bytes | None]

MAX_CONFIG = 1 << 18
_FIRST_HEADER = 1 << 16
_TRAINABLE, _INFERENCE = "inference and training", "inference only"
_MAX_TYPES = 4

_SUFFIXES = {
    "safetensors": "safetensors",
    "gguf": "gguf",
    "bin": "pytorch",
    "pt": "pytorch",
    "pth": "pytorch",
    "ckpt": "pytorch",
    "nemo": "pytorch",
    "onnx": "onnx",
    "onnx_data": "onnx",
    "npz": "mlx",
    "h5": "tensorflow",
    "keras": "tensorflow",
    "tflite": "tensorflow",
    "msgpack": "flax",
    "ot": "rust",
    "mlmodel": "coreml",
    "mlpackage": "coreml",
}
_SUFFIXES |= {suffix.upper(): form for suffix, form in _SUFFIXES.items()}
_NOT_WEIGHTS = frozenset(("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.bin", "scheduler.pt"))
_TOKENIZER = re.compile(
    r"tokenizer|^vocab\.|^merges\.txt$|^(special_tokens_map|added_tokens)\.json$|^chat_template|\.tiktoken$|\.spm$"
    r"|^(spiece|sentencepiece.*)\.model$",
    re.IGNORECASE,
)
_CONFIG = re.compile(r"\.(json|ya?ml|toml|cfg|ini)$", re.IGNORECASE)
_SHARD = re.compile(r"[-_.]0*(\d+)-of-0*\d+(?=\.)")
_DTYPE = re.compile(rb'"dtype"\s*:\s*"([A-Z0-9_]{1,16})"')
_DTYPES = {
    "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32", "float64": "fp64",
    "float8_e4m3fn": "FP8", "float8_e5m2": "FP8", "BF16": "bf16", "F16": "fp16", "F32": "fp32", "F64": "fp64",
    "F8_E4M3": "FP8", "F8_E5M2": "FP8", "I8": "int8", "U8": "uint8", "F4": "FP4",
}  # fmt: skip
_SINGLE_FORMAT = {
    "onnx": ("onnxruntime",), "openvino": ("openvino",), "coreml": ("coreml",), "tensorflow": ("tensorflow",),
    "flax": ("flax",), "mlx": ("mlx_lm",), "rust": ("rust-bert",),
}  # fmt: skip
_DIFFUSION = frozenset(
    ("flux", "sd1", "sd3", "sdxl", "wan", "ltxv", "hidream", "qwen_image", "lumina2", "hyvid", "cosmos", "aura")
)


def _format(name: str) -> str:
    form = _SUFFIXES.get(name[name.rfind(".") + 1 :], "")
    return _bin_format(name) if form == "pytorch" else form


def _bin_format(name: str) -> str:
    """The format of a file whose suffix says pytorch: other programs use .bin and .pt too."""
    base = name[name.rfind("/") + 1 :]
    if base in _NOT_WEIGHTS or base.startswith("rng_state"):
        return ""
    if ".mlpackage/" in name:
        return "coreml"
    if base.startswith("openvino"):
        return "openvino"
    return "ggml" if base.startswith("ggml-") else "pytorch"


def is_weights(name: str) -> bool:
    """True for a file that holds weights, by its name."""
    return bool(_format(name))


def role(name: str) -> str:
    """What a file of a model is for, by its name: weights, tokenizer, config or other."""
    if _format(name):
        return "weights"
    base = name[name.rfind("/") + 1 :]
    if _TOKENIZER.search(base):
        return "tokenizer"
    return "config" if _CONFIG.search(base) else "other"


def _json(read: Read, name: str) -> dict[str, Any]:
    raw = read(name, MAX_CONFIG)
    if raw is None:
        return {}
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _word(value: object) -> str:
    """A short printable ASCII word, else empty: what a config says is shown in a column and matched by filters."""
    return value[:48] if isinstance(value, str) and value.isascii() and value.isprintable() else ""


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _bits(*values: object) -> str:
    for value in values:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 64:
            return f" {value:g}-bit"
    return ""


def _compressed(q: dict[str, Any]) -> str:
    """compressed-tensors: the weights' numbers of the first group."""
    groups = _dict(q.get("config_groups"))
    weights = _dict(_dict(next(iter(groups.values()), None)).get("weights"))
    scheme = _word(q.get("format"))
    if scheme.startswith(("nvfp4", "mxfp4")):
        return scheme[:5].upper()
    if weights.get("type") == "float" and weights.get("num_bits") == 8:
        return "FP8"
    return "compressed-tensors" + _bits(weights.get("num_bits"))


def _quantized(q: dict[str, Any]) -> tuple[str, tuple[str, ...], str]:
    """(label, loads_with, purpose) of a `quantization_config`; three empty values where it says nothing."""
    method = _word(q.get("quant_method")).lower().replace("_", "-")
    if not method and (q.get("load_in_4bit") is True or q.get("load_in_8bit") is True):
        method = "bitsandbytes"
    loads: tuple[str, ...] = ("transformers",)
    purpose = _INFERENCE
    if method.startswith("bitsandbytes"):
        four = q.get("load_in_4bit") is True or method.endswith("4bit")
        label = f"bitsandbytes {_word(q.get('bnb_4bit_quant_type')) or 'fp4'}" if four else "bitsandbytes int8"
        purpose = _TRAINABLE
    elif method in ("gptq", "awq", "gptqmodel"):
        label = ("AWQ" if method == "awq" else "GPTQ") + _bits(q.get("bits"), q.get("w_bit"))
        loads = ("GPT-QModel", "transformers")
    elif method in ("fp8", "fbgemm-fp8", "finegrained-fp8"):
        label = "FP8"
    elif method == "compressed-tensors":
        label = _compressed(q)
        loads = ("transformers", "vLLM")
    elif method == "modelopt" or "quant_algo" in q:
        label, loads = _word(q.get("quant_algo")) or "ModelOpt", ("TensorRT-LLM", "vLLM")
    elif method == "hqq":
        params = _dict(_dict(q.get("quant_config")).get("weight_quant_params"))
        label, purpose = "HQQ" + _bits(q.get("bits"), q.get("nbits"), params.get("nbits")), _TRAINABLE
    elif method in ("torchao", "quanto"):
        kind = _word(q.get("quant_type")) or _word(q.get("weights"))
        label = f"{method} {kind}".strip()
    elif method in ("exl2", "exl3"):
        label, loads = method.upper() + _bits(q.get("bits")), ("exllama",)
    elif method:
        short = {
            "mxfp4": "MXFP4",
            "aqlm": "AQLM",
            "eetq": "EETQ int8",
            "vptq": "VPTQ",
            "spqr": "SpQR",
            "higgs": "HIGGS",
        }
        label = short.get(method, method) + _bits(q.get("bits"))
    else:
        return "", (), ""
    return label, loads, purpose


def _mlx(config: dict[str, Any]) -> str:
    """The label of an MLX conversion: `quantization` (or its copy) with bits and no quant_method; else empty."""
    for key in ("quantization", "quantization_config"):
        q = _dict(config.get(key))
        if "quant_method" not in q and "group_size" in q and (bits := _bits(q.get("bits"))):
            return "MLX" + bits
    return ""


def _plain(config: dict[str, Any]) -> str:
    for part in (config, _dict(config.get("text_config")), _dict(config.get("llm_config"))):
        for key in ("dtype", "torch_dtype"):
            if label := _DTYPES.get(_word(part.get(key)).removeprefix("torch.")):
                return label
    return ""


def _safetensors(read: Read, names: Sequence[str]) -> tuple[str, bool]:
    """(dtype, whether MLX wrote it) of the first bytes of a safetensors header; most tensors decide."""
    name = min(names, key=lambda n: (not n.startswith(("transformer/", "unet/")), n.count("/"), len(n)))
    raw = read(name, _FIRST_HEADER)
    if raw is None or len(raw) < 9 or raw[8:9] != b"{":
        return "", False
    header = raw[8 : 8 + int.from_bytes(raw[:8], "little")]
    count = Counter(_DTYPE.findall(header))
    dtype = count.most_common(1)[0][0].decode("ascii") if count else ""
    return _DTYPES.get(dtype, ""), b'"format":"mlx"' in header.replace(b" ", b"")


def _gguf(names: Iterable[str], read: Read) -> Traits:
    models = [n for n in names if (m := _SHARD.search(n)) is None or m[1] == "1"]
    main = [n for n in models if "mmproj" not in n] or models
    types = list(dict.fromkeys(t for n in main if (t := type_in_name(n[n.rfind("/") + 1 :]))))
    header = gguf_header(read(main[0], _FIRST_HEADER) or b"") if main else None
    if header is not None and not header.complete and not types and not header.quantization:
        header = gguf_header(read(main[0], MAX_HEADER) or b"") or header
    family = parameters = ""
    if header is not None:
        family, parameters = _word(header.architecture), _word(header.parameters)
        if header.quantization and len(main) == 1:
            types = [header.quantization]
        types = types or [t for t in (header.quantization,) if t]
    more = len(types) - _MAX_TYPES
    label = ", ".join(types[:_MAX_TYPES]) + (f" and {more} more" if more > 0 else "")
    loads = ("ComfyUI", "diffusers") if family in _DIFFUSION else ("llama.cpp", "ollama")
    return Traits(("gguf",), label, family, parameters, loads, _INFERENCE)


def _stem(name: str) -> tuple[str, str]:
    """(folder, name of the model in it): the same for every format of one model."""
    folder, _, base = name.rpartition("/")
    base = _SHARD.sub("", base)
    base = base[: base.rfind(".")]
    for prefix in ("pytorch_", "tf_", "flax_", "rust_", "openvino_"):
        base = base.removeprefix(prefix)
    return folder, base


def _redundant(weights: dict[str, list[str]]) -> tuple[str, ...]:
    """Files that repeat weights which are there as safetensors (or else as pytorch)."""
    main = "safetensors" if "safetensors" in weights else "pytorch"
    if main not in weights or (len(weights) == 1 and not any("consolidated" in n for n in weights[main])):
        return ()
    stems = {_stem(n) for n in weights[main]}
    out: list[str] = []
    for form, names in weights.items():
        for name in names:
            folder, base = _stem(name)
            if form == main:
                again = base.startswith("consolidated") and (folder, "model") in stems
            elif form == "onnx" and folder.rpartition("/")[2] == "onnx":
                above = folder.rpartition("/")[0]
                again = base.startswith("model") and (above, "model") in stems
            elif form == "pytorch" and base.startswith("consolidated"):
                again = bool({(folder, "model"), (folder.removesuffix("original").rstrip("/"), "model")} & stems)
            else:
                again = (
                    form in ("pytorch", "tensorflow", "flax", "rust", "onnx", "openvino") and (folder, base) in stems
                )
            if again:
                out.append(name)
    return tuple(out)


def _loaders(names: frozenset[str], config: dict[str, Any], forms: Sequence[str], mlx: bool) -> tuple[str, ...]:
    if mlx:
        return ("mlx_vlm",) if "vision_config" in config else ("mlx_lm",)
    if "model_index.json" in names:
        return ("diffusers",)
    if "modules.json" in names:
        return ("sentence-transformers", "transformers")
    if not {"safetensors", "pytorch"} & set(forms):
        return next((_SINGLE_FORMAT[f] for f in forms if f in _SINGLE_FORMAT), ())
    if "pretrained_cfg" in config or ("architecture" in config and "num_features" in config):
        return ("timm",)
    return ("transformers",) if config.get("model_type") or config.get("architectures") else ()


def _adapter(read: Read, weights: dict[str, list[str]]) -> Traits:
    kind = _word(_json(read, "adapter_config.json").get("peft_type")) or "PEFT"
    tensors = weights.get("safetensors")
    dtype = _safetensors(read, tensors)[0] if tensors else ""
    family = f"{'LoRA' if kind == 'LORA' else kind} adapter"
    return Traits(tuple(weights), dtype, family, "", ("peft", "transformers"), _TRAINABLE, _redundant(weights))


def traits(names: Sequence[str], read: Read, name: str = "") -> Traits:
    """Of the files of one revision or folder. Never raises.

    `read` gives the first bytes of one of them (at most the second argument), or None where it cannot.
    `name` is the repo's: what lies in `mlx-community/` is MLX.
    """
    weights: dict[str, list[str]] = {}
    known = _SUFFIXES.get  # inlined from _format: a cache can hold a million names
    for entry in names:
        form = known(entry[entry.rfind(".") + 1 :])
        if form == "pytorch":
            form = _bin_format(entry)
        if form:
            weights.setdefault(form, []).append(entry)
    there = frozenset(names)
    if "gguf" in weights and not {"safetensors", "pytorch", "mlx"} & weights.keys():
        return _gguf(weights["gguf"], read)
    if "adapter_config.json" in there and "config.json" not in there:
        return _adapter(read, weights)
    config = _json(read, "config.json") if "config.json" in there else {}
    if not weights and not config:
        return Traits()
    label = mlx = _mlx(config)
    loads: tuple[str, ...] = ()
    purpose = _TRAINABLE
    if not mlx:
        label, loads, purpose = _quantized(_quantization_config(config, there, read))
    tensors = weights.get("safetensors", ())
    is_mlx = bool(mlx) or name.startswith("mlx-community/") or ("mlx" in weights and not tensors)
    if not label:
        label, purpose = _plain(config), _TRAINABLE
        if not label and tensors:
            label, wrote = _safetensors(read, tensors)
            is_mlx = is_mlx or wrote
    forms = tuple("mlx" if is_mlx and f == "safetensors" else f for f in weights)
    loads = loads or _loaders(there, config, forms, is_mlx)
    if not {"safetensors", "pytorch", "mlx"} & set(forms):
        purpose = _INFERENCE if forms else ""
    return Traits(forms, label, _family(config, there, read), "", loads, purpose, _redundant(weights))


def _quantization_config(config: dict[str, Any], there: frozenset[str], read: Read) -> dict[str, Any]:
    for part in (config, _dict(config.get("text_config"))):
        for key in ("quantization_config", "compression_config"):
            if q := _dict(part.get(key)):
                return q
    # Before transformers knew them, GPTQ and AWQ kept a file of their own.
    if "quantize_config.json" in there:
        return {"quant_method": "gptq"} | _json(read, "quantize_config.json")
    if "quant_config.json" in there:
        return {"quant_method": "awq"} | _json(read, "quant_config.json")
    return {}


def _family(config: dict[str, Any], there: frozenset[str], read: Read) -> str:
    if "model_index.json" in there:
        return _word(_json(read, "model_index.json").get("_class_name"))
    for part in (config, _dict(config.get("text_config"))):
        for key in ("model_type", "architecture"):
            if word := _word(part.get(key)):
                return word
    architectures = config.get("architectures")
    return _word(architectures[0]) if isinstance(architectures, list) and architectures else ""
