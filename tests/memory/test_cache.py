"""The KV cache by the config: what each kind of layer keeps, and the largest context that goes in."""

from __future__ import annotations

from typing import Any

import pytest
from memory_world import LLAMA

from cachetui.memory.cache import cache_of
from cachetui.memory.config import from_gguf, text_config
from cachetui.memory.vision import image_tokens

T = 100
PLAIN = 2 * 2 * 32 * 2  # keys and values, two heads of 32, two bytes


def size(config: dict[str, Any], tokens: int = T, width: int = 2) -> int:
    cache = cache_of(config)
    assert cache is not None
    assert cache.exact
    return cache.bytes(tokens, width)


def test_full_layers_grow_with_every_token() -> None:
    assert size(LLAMA) == 2 * T * PLAIN
    assert size(LLAMA, width=4) == 2 * size(LLAMA)
    assert size(LLAMA | {"num_key_value_heads": 4}) == 2 * size(LLAMA)
    assert size(LLAMA | {"head_dim": 64}) == 2 * size(LLAMA)


def test_without_kv_heads_all_heads_are_kept() -> None:
    config = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}
    assert size(config) == 2 * T * 2 * PLAIN


def test_sliding_layers_keep_the_window_less_one() -> None:
    mistral = LLAMA | {"model_type": "mistral", "sliding_window": 11}
    assert size(mistral) == 2 * 10 * PLAIN
    assert size(mistral, 5) == 2 * 5 * PLAIN
    assert size(mistral | {"sliding_window": None}) == size(LLAMA)


def test_a_window_that_is_not_used_is_none() -> None:
    qwen = LLAMA | {"model_type": "qwen2", "sliding_window": 11, "max_window_layers": 1}
    assert size(qwen | {"use_sliding_window": False}) == size(LLAMA)
    assert size(qwen | {"use_sliding_window": True}) == (T + 10) * PLAIN


@pytest.mark.parametrize(("family", "full"), [("gemma2", 3), ("gemma3_text", 1), ("cohere2", 1), ("gpt_oss", 3)])
def test_families_that_alternate(family: str, full: int) -> None:
    config = LLAMA | {"model_type": family, "num_hidden_layers": 6, "sliding_window": 11, "head_dim": 32}
    expected = (full * T + (6 - full) * 10) * PLAIN
    assert size(config) == expected
    kinds = ["full_attention"] * full + ["sliding_attention"] * (6 - full)
    assert size(config | {"layer_types": kinds}) == expected


def test_mla_keeps_its_latent() -> None:
    deepseek = LLAMA | {"model_type": "deepseek_v3", "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    assert size(deepseek) == 2 * T * (512 + 64) * 2


def test_linear_layers_keep_the_same_whatever_the_context() -> None:
    qwen = LLAMA | {
        "model_type": "qwen3_next", "num_hidden_layers": 4, "head_dim": 32, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_conv_kernel_dim": 4,
    }  # fmt: skip
    state = (2 * 16 + 32) * 4 * 2 + 4 * 8 * 8 * 4
    assert size(qwen) == T * PLAIN + 3 * state
    assert size(qwen, 2 * T) - size(qwen) == T * PLAIN


def test_a_pure_state_space_does_not_grow() -> None:
    mamba = {"model_type": "mamba", "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "state_size": 8}
    assert size(mamba) == size(mamba, 10 * T) == 2 * (64 * 4 * 2 + 64 * 8 * 4)


def test_shared_layers_keep_nothing() -> None:
    assert size(LLAMA | {"num_kv_shared_layers": 1}) == T * PLAIN


def test_what_a_config_leaves_out_is_the_default_of_its_class() -> None:
    llava = {"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}}
    text = text_config(llava)
    assert (text.layers, text.hidden, text.kv_heads, text.head_dim) == (32, 4096, 32, 128)
    assert size(llava) == T * 32 * 2 * 4096 * 2


def test_encoders_have_none_and_the_unknown_is_said() -> None:
    assert cache_of({"model_type": "bert", "num_hidden_layers": 12, "hidden_size": 768}) is None
    assert cache_of({}) is None
    odd = LLAMA | {"model_type": "new", "layer_types": ["linear_attention", "full_attention"]}
    cache = cache_of(odd)
    assert cache is not None
    assert not cache.exact
    assert "new" in cache.note
    t5 = cache_of(LLAMA | {"is_encoder_decoder": True})
    assert t5 is not None
    assert not t5.exact


@pytest.mark.parametrize("config", [LLAMA, LLAMA | {"model_type": "mistral", "sliding_window": 300}])
def test_the_largest_context_is_the_last_that_goes_in(config: dict[str, Any]) -> None:
    cache = cache_of(config)
    assert cache is not None
    for room in (0, PLAIN, 100_000, 10**9):
        top = cache.largest(room)
        assert cache.bytes(top) <= room or top == 0
        assert top == cache.limit or cache.bytes(top + 1) > room
    assert cache.largest(10**12) == 2048
    assert cache.largest(-5) == 0


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": "12"},
        {"num_hidden_layers": -1, "hidden_size": 4},
        {"num_hidden_layers": True},
        {"text_config": [1], "num_hidden_layers": None},
        {"model_type": 7, "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "layer_types": [1, {}]},
        {"num_hidden_layers": 10**30},
    ],
)
def test_no_config_breaks_it(config: dict[str, Any]) -> None:
    cache_of(config)
    image_tokens(config, (10, 10))


def test_gguf_keys_are_the_same_numbers() -> None:
    values = {
        "general.architecture": "llama", "llama.block_count": 2, "llama.embedding_length": 128,
        "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2, "llama.context_length": 2048,
    }  # fmt: skip
    assert size(from_gguf(values), 256) == size(LLAMA, 256)
    assert size(from_gguf(values), 1) == size(LLAMA, 256)  # llama.cpp takes room for 256 at once
    long = values | {"llama.attention.key_length": 64, "llama.attention.value_length": 32}
    assert size(from_gguf(long), 256) == size(LLAMA, 256) * 3 // 2


def test_gguf_of_gemma_270m_takes_what_llama_cpp_reports() -> None:
    """xllamacpp 2026.10 of gemma-3-270m-q4_k_m.gguf at 4096 tokens: 12 MiB in full layers, 15 MiB in sliding ones."""
    values = {
        "general.architecture": "gemma3", "gemma3.block_count": 18, "gemma3.embedding_length": 640,
        "gemma3.attention.head_count": 4, "gemma3.attention.head_count_kv": 1, "gemma3.attention.key_length": 256,
        "gemma3.attention.value_length": 256, "gemma3.attention.sliding_window": 512, "gemma3.context_length": 32768,
    }  # fmt: skip
    assert size(from_gguf(values), 4096) == (12 + 15) << 20
    del values["gemma3.attention.head_count_kv"]
    unsure = cache_of(from_gguf(values))
    assert unsure is not None
    assert not unsure.exact


@pytest.mark.parametrize(
    ("config", "tokens", "exact"),
    [
        ({"model_type": "qwen3_vl", "vision_config": {"patch_size": 16, "spatial_merge_size": 2}}, 32 * 32, True),
        ({"model_type": "qwen2_vl", "vision_config": {"patch_size": 14, "spatial_merge_size": 2}}, 37 * 37, True),
        ({"model_type": "llava", "vision_config": {"image_size": 336, "patch_size": 14}}, 576, True),
        ({"model_type": "gemma3", "vision_config": {}}, 256, True),
        ({"model_type": "internvl_chat", "vision_config": {}}, 256 * 10, False),
        (LLAMA, 0, True),
    ],
)
def test_tokens_of_a_picture(config: dict[str, Any], tokens: int, exact: bool) -> None:
    assert image_tokens(config, (1024, 1024)) == (tokens, exact)
