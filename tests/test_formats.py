"""Formats, quantization and what loads it: known configs, real headers, and garbage."""

from __future__ import annotations

import json
import struct
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachetui.demo.builders import gguf_bytes, safetensors_bytes
from cachetui.formats import gguf_header, is_weights, role, traits
from cachetui.gguf import FILE_TYPES, type_in_name
from cachetui.model import Traits


def reader(files: Mapping[str, bytes]) -> Callable[[str, int], bytes | None]:
    return lambda name, cap: files[name][:cap] if name in files else None


def of(files: Mapping[str, bytes | object], name: str = "") -> Traits:
    raw = {n: c if isinstance(c, bytes) else json.dumps(c).encode() for n, c in files.items()}
    return traits(list(raw), reader(raw), name)


def config(quantization: object = None, **more: object) -> dict[str, object]:
    whole: dict[str, object] = {"model_type": "qwen3", "dtype": "bfloat16"} | more
    return whole if quantization is None else whole | {"quantization_config": quantization}


WEIGHTS = {"model.safetensors": b""}

QUANTIZED = [
    ({"quant_method": "gptq", "bits": 4}, "GPTQ 4-bit", "GPT-QModel", "inference only"),
    ({"quant_method": "awq", "bits": 4}, "AWQ 4-bit", "GPT-QModel", "inference only"),
    ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "quant_method": "bitsandbytes"}, "bitsandbytes nf4",
     "transformers", "inference and training"),
    ({"load_in_8bit": True}, "bitsandbytes int8", "transformers", "inference and training"),
    ({"quant_method": "fp8"}, "FP8", "transformers", "inference only"),
    ({"quant_method": "fbgemm_fp8"}, "FP8", "transformers", "inference only"),
    ({"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 4, "type": "int"}}}},
     "compressed-tensors 4-bit", "transformers", "inference only"),
    ({"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 8, "type": "float"}}}},
     "FP8", "transformers", "inference only"),
    ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, "NVFP4", "transformers",
     "inference only"),
    ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 3}}}, "HQQ 3-bit", "transformers",
     "inference and training"),
    ({"quant_method": "aqlm"}, "AQLM", "transformers", "inference only"),
    ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "torchao int4_weight_only", "transformers",
     "inference only"),
    ({"quant_method": "torchao", "quant_type": {"default": {}}}, "torchao", "transformers", "inference only"),
    ({"quant_method": "mxfp4"}, "MXFP4", "transformers", "inference only"),
    ({"quant_method": "exl2", "bits": 4.65}, "EXL2 4.65-bit", "exllama", "inference only"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "NVFP4", "TensorRT-LLM", "inference only"),
    ({"quant_method": "new-thing", "bits": 2}, "new-thing 2-bit", "transformers", "inference only"),
]  # fmt: skip


@pytest.mark.parametrize(("quantization", "label", "loader", "purpose"), QUANTIZED)
def test_quantization_methods(quantization: object, label: str, loader: str, purpose: str) -> None:
    found = of({"config.json": config(quantization)} | WEIGHTS)
    assert (found.quantization, found.loads_with[0], found.purpose) == (label, loader, purpose)
    assert (found.formats, found.family) == (("safetensors",), "qwen3")


def test_quantization_of_a_vision_language_model_lies_below_text_config() -> None:
    text = {"model_type": "inner", "quantization_config": {"quant_method": "awq", "bits": 4}}
    assert of({"config.json": {"text_config": text}} | WEIGHTS).quantization == "AWQ 4-bit"
    assert of({"config.json": {"text_config": text}} | WEIGHTS).family == "inner"


def test_files_of_their_own_that_came_before_quantization_config() -> None:
    assert of({"config.json": config(), "quantize_config.json": {"bits": 8}} | WEIGHTS).quantization == "GPTQ 8-bit"
    assert of({"config.json": config(), "quant_config.json": {"w_bit": 4}} | WEIGHTS).quantization == "AWQ 4-bit"


def test_plain_dtypes() -> None:
    assert of({"config.json": config()} | WEIGHTS).quantization == "bf16"
    assert of({"config.json": {"torch_dtype": "float16"}} | WEIGHTS).quantization == "fp16"
    assert of({"config.json": {"text_config": {"dtype": "float32"}}} | WEIGHTS).quantization == "fp32"
    assert of({"config.json": config()} | WEIGHTS).purpose == "inference and training"


def test_mlx() -> None:
    copied = of({"config.json": config({"group_size": 64, "bits": 8})} | WEIGHTS)
    assert copied.quantization == "MLX 8-bit", "mlx_lm copies it to quantization_config, without a quant_method"
    whole = {"model_type": "qwen3", "quantization": {"group_size": 64, "bits": 4}}
    quantized = of({"config.json": whole} | WEIGHTS)
    assert (quantized.quantization, quantized.formats, quantized.loads_with) == ("MLX 4-bit", ("mlx",), ("mlx_lm",))
    assert of({"config.json": config()} | WEIGHTS, "mlx-community/x").loads_with == ("mlx_lm",)
    header = b'{"__metadata__": {"format": "mlx"}, "w": {"dtype": "F16"}}'
    by_header = of({"model.safetensors": struct.pack("<Q", len(header)) + header})
    assert (by_header.formats, by_header.quantization) == (("mlx",), "fp16")


def test_safetensors_header_tells_the_dtype_where_no_config_does() -> None:
    raw = safetensors_bytes({"a": ("F16", (2, 2)), "b": ("F16", (2,)), "c": ("F32", (1,))})
    assert of({"model.safetensors": raw}).quantization == "fp16"
    assert of({"model.safetensors": raw, "config.json": {"model_type": "bert"}}).quantization == "fp16"
    assert of({"model.safetensors": b"\xff" * 40}).quantization == ""


def test_adapter_and_diffusers() -> None:
    lora = of({"adapter_config.json": {"peft_type": "LORA"}, "adapter_model.safetensors": b""})
    assert (lora.family, lora.loads_with[0], lora.purpose) == ("LoRA adapter", "peft", "inference and training")
    pipe = of({"model_index.json": {"_class_name": "FluxPipeline"}, "transformer/model.safetensors": b""})
    assert (pipe.family, pipe.loads_with) == ("FluxPipeline", ("diffusers",))


def test_gguf_by_header_and_by_name() -> None:
    header = gguf_bytes({"general.architecture": "llama", "general.size_label": "8B", "general.file_type": 15})
    found = of({"x.gguf": header})
    assert found == Traits(("gguf",), "Q4_K_M", "llama", "8B", ("llama.cpp", "ollama"), "inference only")
    bare = gguf_bytes({"general.architecture": "llama"})
    many = of({"m-Q8_0.gguf": bare, "m-UD-IQ2_XXS-00001-of-00002.gguf": bare, "m-UD-IQ2_XXS-00002-of-00002.gguf": bare,
               "mmproj-F16.gguf": bare})  # fmt: skip
    assert many.quantization == "Q8_0, UD-IQ2_XXS"
    assert of({"a.gguf": b"not one"}).loads_with == ("llama.cpp", "ollama")


def test_file_type_behind_a_vocabulary_is_found_within_the_larger_cap() -> None:
    tokens = [b"token-%d" % n for n in range(12_000)]
    array = struct.pack("<IQ", 8, len(tokens)) + b"".join(struct.pack("<Q", len(t)) + t for t in tokens)
    key = b"tokenizer.ggml.tokens"
    base = gguf_bytes({"general.architecture": "llama", "general.file_type": 17})
    first = base[:24] + base[24 : base.index(b"general.file_type") - 8]
    raw = first + struct.pack("<Q", len(key)) + key + struct.pack("<I", 9) + array + base[len(first) :]
    raw = raw[:16] + struct.pack("<Q", 3) + raw[24:]
    assert len(raw) > 1 << 16
    assert of({"x.gguf": raw}).quantization == "Q5_K_M"


def test_a_real_gguf_that_a_real_server_imported() -> None:
    with tarfile.open(Path(__file__).parent / "data" / "ollama_store_0.33.0-rc2.tar.gz") as tar:
        blobs = [f.read() for m in tar.getmembers() if m.size > 400_000 and (f := tar.extractfile(m)) is not None]
    assert len(blobs) == 4
    for raw in blobs:
        header = gguf_header(raw)
        assert header is not None and header.complete and header.version == 3 and header.tensors > 10
        assert header.architecture == "llama"
        assert traits(["x.gguf"], lambda name, cap, raw=raw: raw[:cap]).family == "llama"


def test_old_and_big_endian_headers() -> None:
    def field(order: str, wide: str, key: bytes, value: bytes) -> bytes:
        size = struct.Struct(order + wide)
        return size.pack(len(key)) + key + struct.pack(order + "I", 8) + size.pack(len(value)) + value

    old = b"GGUF" + struct.pack("<III", 1, 0, 1) + field("<", "I", b"general.architecture", b"llama")
    big = b"GGUF" + struct.pack(">IQQ", 3, 0, 1) + field(">", "Q", b"general.architecture", b"llama")
    for raw in (old, big):
        header = gguf_header(raw)
        assert header is not None and header.architecture == "llama" and header.complete


@pytest.mark.parametrize(
    ("name", "kind"),
    [("Q4_K_M.gguf", "Q4_K_M"), ("a.i1-IQ3_XXS.gguf", "IQ3_XXS"), ("a-UD-Q2_K_XL.gguf", "UD-Q2_K_XL"),
     ("a-f16.gguf", "F16"), ("gpt-oss-20b-mxfp4.gguf", "MXFP4"), ("a-TQ1_0.gguf", "TQ1_0"), ("model.gguf", ""),
     ("SmolLM2-Q4_0_4_4.gguf", "Q4_0_4_4"), ("qwen2-7b.gguf", "")],
)  # fmt: skip
def test_type_in_name(name: str, kind: str) -> None:
    assert type_in_name(name) == kind


def test_file_types_are_llama_cpp_s() -> None:
    assert {n: FILE_TYPES[n] for n in (0, 1, 2, 7, 15, 18, 30, 32, 36, 38)} == {
        0: "F32", 1: "F16", 2: "Q4_0", 7: "Q8_0", 15: "Q4_K_M", 18: "Q6_K", 30: "IQ4_XS", 32: "BF16", 36: "TQ1_0",
        38: "MXFP4",
    }  # fmt: skip


def test_redundant_copies() -> None:
    names = ["config.json", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack",
             "onnx/model_q4.onnx", "original/consolidated.00.pth", "other/pytorch_model.bin"]  # fmt: skip
    found = traits(names, lambda name, cap: None)
    assert set(found.redundant) == set(names[2:7])
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    bins = [f"pytorch_model-0000{n}-of-00003.bin" for n in (1, 2, 3)]
    assert set(traits(shards + bins, lambda name, cap: None).redundant) == set(bins)
    assert traits(["pytorch_model.bin", "tf_model.h5"], lambda name, cap: None).redundant == ("tf_model.h5",)
    assert traits(["a.safetensors", "b.bin"], lambda name, cap: None).redundant == ()


def test_what_loads_other_formats() -> None:
    assert of({"model.onnx": b""}).loads_with == ("onnxruntime",)
    assert of({"model.onnx": b""}).purpose == "inference only"
    assert of({"openvino_model.bin": b""}).formats == ("openvino",)
    assert of({"README.md": b""}) == Traits()


@pytest.mark.parametrize(
    ("name", "what"),
    [("model.safetensors", "weights"), ("a/b.gguf", "weights"), ("MODEL.GGUF", "weights"),
     ("tokenizer.json", "tokenizer"),
     ("tokenizer.model", "tokenizer"), ("vocab.txt", "tokenizer"), ("merges.txt", "tokenizer"),
     ("config.json", "config"), ("model.safetensors.index.json", "config"), ("README.md", "other"),
     ("training_args.bin", "other"), ("special_tokens_map.json", "tokenizer"), ("", "other")],
)  # fmt: skip
def test_role(name: str, what: str) -> None:
    assert role(name) == what
    assert is_weights(name) == (what == "weights")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["gptq", "awq", "bitsandbytes", "compressed-tensors", "hqq", "modelopt", "float16"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["quantization_config", "quant_method", "bits", "text_config", "dtype", "model_type", "weights",
                         "load_in_4bit", "config_groups", "quantization", "group_size", "architectures"]),
        inner, max_size=6),
    max_leaves=20,
)  # fmt: skip
names = st.lists(
    st.sampled_from(["config.json", "adapter_config.json", "model_index.json", "model.safetensors", "a.gguf", "b.bin",
                     "quantize_config.json", "onnx/model.onnx", "modules.json", "w.npz", "x-00001-of-00002.gguf"])
    | st.text(max_size=12), max_size=8)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(names, st.one_of(st.binary(max_size=200), json_values.map(lambda v: json.dumps(v).encode())))
def test_garbage_never_raises_and_says_only_plain_words(files: list[str], content: bytes) -> None:
    found = traits(files, lambda name, cap: content[:cap])
    for word in (found.quantization, found.family, found.parameters, *found.loads_with):
        assert word.isascii() and (word.isprintable() or not word)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_gguf_garbage(tail: bytes, tensors: int, keys: int) -> None:
    header = gguf_header(b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + tail)
    assert header is not None
    gguf_header(b"GGUF" + tail)
    gguf_header(tail)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_gguf_cut_anywhere_gives_a_prefix_of_the_whole(data: st.DataObject) -> None:
    raw = gguf_bytes({"general.architecture": "llama", "general.name": "x", "general.file_type": 15})
    whole = gguf_header(raw)
    cut = gguf_header(raw[: data.draw(st.integers(0, len(raw)))])
    assert whole is not None
    assert cut is None or dict(cut.values).items() <= dict(whole.values).items()


@pytest.mark.parametrize(
    "raw",
    [b"[" * 200_000, b'{"model_type": ' + b"9" * 5000 + b"}", b'{"a":' * 100_000, b"\xff\xfe", b"{", b"null", b"[1]",
     b'{"quantization_config": {"quant_method": ["gptq"], "bits": {}}}', b'{"architectures": [{}]}',
     b'{"quantization_config": {"quant_method": "gptq", "bits": 1e999}}', b'{"model_type": "\\ud800\\u202e\\u001b["}'],
)  # fmt: skip
def test_hostile_configs(raw: bytes) -> None:
    found = of({"config.json": raw} | WEIGHTS)
    assert found.formats == ("safetensors",) and found.family == ""


def test_an_array_longer_than_the_file_costs_nothing() -> None:
    key = struct.pack("<Q", 1) + b"k"
    for kind in (8, 0, 9, 77):
        raw = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key + struct.pack("<IIQ", 9, kind, 2**62)
        header = gguf_header(raw)
        assert header is not None and not header.complete
