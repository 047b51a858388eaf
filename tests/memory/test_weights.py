"""Headers are read as they are; weights in every mode follow bitsandbytes' rules; nothing broken is believed."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_world import LLAMA, gguf

from cachetui.demo.builders import safetensors_bytes
from cachetui.memory import headers
from cachetui.memory.model import FP32, HALF, INT8, NF4, NF4_DOUBLE, Ask, Tensor
from cachetui.memory.shapes import tensors_of
from cachetui.memory.training import trainable
from cachetui.memory.weights import alike, is_linear, is_quantized, linear_bytes, parameters, stored, untied, weights


def tensor(name: str, *shape: int, dtype: str = "BF16") -> Tensor:
    made = Tensor(name, dtype, shape, 0)
    return made._replace(size=made.elements * headers.BITS[dtype] // 8)


def test_a_safetensors_header_is_read_exactly(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes({"a.weight": ("BF16", (3, 5)), "b": ("F32", (7,)), "s": ("I64", ())}))
    assert headers.safetensors(str(path)) == (
        Tensor("a.weight", "BF16", (3, 5), 30),
        Tensor("b", "F32", (7,), 28),
        Tensor("s", "I64", (), 8),
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00" * 7,
        struct.pack("<Q", 1 << 40) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 3) + b"{,}",
        struct.pack("<Q", 12) + b'{"a": "text"}'[:12],
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}     ',
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}   ',
    ],
)
def test_a_broken_header_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(raw)
    with pytest.raises(headers.BadHeader):
        headers.safetensors(str(path))


def test_a_giant_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with path.open("wb") as f:
        f.write(struct.pack("<Q", headers.MAX_SAFETENSORS + 1))
        f.truncate(headers.MAX_SAFETENSORS + 100)
    with pytest.raises(headers.BadHeader, match="not read"):
        headers.safetensors(str(path))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_it(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("x") / "m"
    path.write_bytes(struct.pack("<Q", len(raw)) + raw)
    for read in (headers.safetensors, headers.gguf_values, headers.gguf_tensors):
        try:
            assert isinstance(read(str(path)), tuple)
        except headers.BadHeader:
            pass


def test_gguf_tensors_stand_behind_the_vocabulary(tmp_path: Path) -> None:
    values = {"general.architecture": "llama", "llama.block_count": 2}
    q4 = 4096 // 256 * 144
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(values, {"blk.0.w": (12, (64, 64), q4), "norm": (0, (64,), 256)}, words=60_000))
    found, size = headers.gguf_values(str(path))
    assert found["llama.block_count"] == 2
    assert size == path.stat().st_size
    assert [(t.name, t.shape, t.size) for t in headers.gguf_tensors(str(path))] == [
        ("blk.0.w", (64, 64), q4),
        ("norm", (64,), 256),
    ]


LINEAR = ["model.layers.0.self_attn.q_proj", "h.0.attn.c_attn", "model.layers.1.mlp.shared_expert_gate", "mlp1.1"]
NOT_LINEAR = [
    "model.embed_tokens", "lm_head", "wte", "wpe", "output", "language_model.output", "embed_out",
    "model.layers.0.mlp.gate", "model.layers.3.mlp.experts.7.up_proj", "model.layers.0.input_layernorm",
    "model.visual.blocks.0.attn.qkv", "model.vision_tower.vision_model.encoder.layers.0.mlp.fc1",
    "vpm.encoder.layers.0.mlp.fc1", "router", "transformer.position_embeddings",
]  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
def test_what_is_quantized(name: str) -> None:
    assert is_linear(tensor(f"{name}.weight", 8, 8))


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_what_stays_as_it_is(name: str) -> None:
    assert not is_linear(tensor(f"{name}.weight", 8, 8))


def test_vectors_and_convolutions_are_not_quantized_and_vision_only_when_asked() -> None:
    assert not is_linear(tensor("model.layers.0.self_attn.q_proj.bias", 8))
    assert not is_linear(tensor("model.layers.0.mamba.conv1d.weight", 8, 1, 4))
    assert is_linear(tensor("model.visual.blocks.0.attn.qkv.weight", 8, 8), skip_vision=False)


def test_the_bytes_of_a_linear_layer_by_hand() -> None:
    t = tensor("model.layers.0.mlp.up_proj.weight", 100, 333)
    k = 33_300
    blocks = 521  # of 64
    assert linear_bytes(t, INT8) == k + 4 * 100
    assert linear_bytes(t, NF4) == k // 2 + 4 * blocks + 64
    assert linear_bytes(t, NF4_DOUBLE) == k // 2 + blocks + 4 * 3 + 64 + 1024 + 4
    assert linear_bytes(tensor("h.0.mlp.c_fc.weight", 100, 333), INT8) == k + 4 * 333  # transposed in GPT-2


def test_a_whole_model_in_every_mode() -> None:
    tensors = tensors_of(LLAMA)
    count = sum(t.elements for t in tensors)
    assert weights(tensors, FP32) == 4 * count
    assert weights(tensors, HALF) == 2 * count
    rest = 2 * (2 * 1000 * 128 + 5 * 128)  # embedding, output layer, five norms
    linear = [t for t in tensors if is_linear(t)]
    assert len(linear) == 14
    for mode in (INT8, NF4, NF4_DOUBLE):
        assert weights(tensors, mode) == rest + sum(linear_bytes(t, mode) for t in linear)
    assert weights(tensors, NF4) < weights(tensors, INT8) < weights(tensors, HALF)


def test_likes_of_all_layers_are_counted_together_with_the_same_sums() -> None:
    tensors = tensors_of(LLAMA)
    groups = alike(tensors)
    assert len(groups) == 12 < len(tensors)
    assert sum(t.number for t in groups) == len(tensors)
    assert parameters(groups, {}) == parameters(tensors, {})
    assert stored(groups) == stored(tensors)
    for mode in (FP32, HALF, INT8, NF4, NF4_DOUBLE):
        assert weights(groups, mode) == weights(tensors, mode)
    assert trainable(groups, Ask()) == trainable(tensors, Ask())
    packed = [tensor(f"l.{n}.{part}", 4, 4, dtype="I32") for n in range(3) for part in ("qweight", "scales")]
    assert alike(packed) == tuple(packed)


def test_a_tied_output_layer_counts_once_even_where_the_file_has_it() -> None:
    tensors = tensors_of(LLAMA)
    assert untied(tensors, LLAMA) == tensors
    tied = untied(tensors, LLAMA | {"tie_word_embeddings": True})
    assert {t.name for t in tensors} - {t.name for t in tied} == {"lm_head.weight"}
    inner = {"text_config": {"tie_word_embeddings": False}, "tie_word_embeddings": True}
    assert untied(tensors, inner) == tensors


def test_packed_weights_count_as_what_they_stand_for() -> None:
    nf4 = [
        tensor("l.weight", 5000, 1, dtype="U8"),
        tensor("l.weight.absmax", 157, dtype="F32"),
        tensor("l.weight.quant_map", 16, dtype="F32"),
        tensor("l.weight.quant_state.bitsandbytes__nf4", 80, dtype="U8"),
        tensor("norm.weight", 7),
    ]
    assert is_quantized(nf4)
    assert parameters(nf4, {}) == 10_007
    gptq = [tensor("l.qweight", 16, 32, dtype="I32"), tensor("l.scales", 1, 32, dtype="F16")]
    assert parameters(gptq, {"quantization_config": {"bits": 4}}) == 16 * 32 * 8
    assert parameters(gptq, {"quantization_config": {"bits": 8}}) == 16 * 32 * 4
    assert not is_quantized(tensors_of(LLAMA))


def test_the_header_of_a_built_model_is_its_shapes(tmp_path: Path) -> None:
    tensors = tensors_of(LLAMA)
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors_bytes({t.name: (t.dtype, t.shape) for t in tensors}))
    assert headers.safetensors(str(path)) == tensors
