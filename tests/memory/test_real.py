"""Estimates against the real tensors of models that transformers and bitsandbytes load. Tiny, random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from needs import needs

from cachetui.memory import catalogue, headers
from cachetui.memory.cache import cache_of
from cachetui.memory.config import text_config
from cachetui.memory.model import FP32, HALF, INT8, NF4, NF4_DOUBLE, Ask
from cachetui.memory.training import trainable, training
from cachetui.memory.weights import untied, weights

torch = needs("torch", reason="needs torch (extra models)")
transformers = needs("transformers", reason="needs transformers (extra models)")
pytestmark = pytest.mark.models

BASE = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 512, "pad_token_id": 0,
}  # fmt: skip
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
MLA = MOE | {
    "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
}  # fmt: skip
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
LINEAR = {
    "head_dim": 16, "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "num_experts": 4, "shared_expert_intermediate_size": 16,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 8},
    "qwen2": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
    "qwen3": {"head_dim": 16},
    "gemma2": {"head_dim": 16, "sliding_window": 8},
    "gemma3_text": {"head_dim": 16, "sliding_window": 8, "num_hidden_layers": 7},
    "cohere2": {"head_dim": 8, "sliding_window": 8},
    "gpt_oss": {"head_dim": 16, "sliding_window": 8, "num_local_experts": 2, "num_experts_per_tok": 1},
    "phi3": {"sliding_window": 9},
    "deepseek_v3": MLA,
    "qwen3_next": MOE | LINEAR,
    "falcon_h1": MAMBA | {"head_dim": 8, "mamba_d_ssm": 64},
    "bamba": MAMBA | {"attn_layer_indices": [1, 3]},
    "mamba": {"state_size": 8},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
}


def made(family: str, more: dict[str, Any]) -> Any:
    """A configuration of transformers."""
    return transformers.CONFIG_MAPPING[family](**(BASE | more))


def cached(layers: Any) -> int:
    """Bytes of all tensors that a cache holds."""
    total = 0
    for layer in layers:
        for name in ("keys", "values", "conv_states", "recurrent_states"):
            found = getattr(layer, name, None)
            several = found.values() if isinstance(found, dict) else found if isinstance(found, list) else [found]
            total += sum(t.numel() * t.element_size() for t in several if torch.is_tensor(t))
    return total


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("bfloat16", 2)])
def test_the_kv_cache_is_exact(family: str, dtype: str, width: int) -> None:
    config = made(family, FAMILIES[family])
    model = transformers.AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype)).eval()
    with torch.no_grad():
        answer = model(input_ids=torch.randint(1, 60, (1, 21)), use_cache=True)
    real = cached((answer.get("past_key_values") or answer.get("cache_params")).layers)
    written = json.loads(config.to_json_string(use_diff=False))
    estimate = cache_of(written)
    assert estimate is not None
    assert estimate.exact
    assert estimate.bytes(21, width) == real > 0
    if family != "lfm2":  # older files do not list their layers
        older = {k: v for k, v in written.items() if k not in ("layer_types", "layers_block_type")}
        again = cache_of(older)
        assert again is not None
        assert again.bytes(21, width) == real


WIDE = BASE | {"vocab_size": 500, "hidden_size": 256, "num_hidden_layers": 2, "intermediate_size": 700}
ROPE = {"rope_type": "default", "mrope_section": [8, 12, 12]}
VISION = {
    "depth": 3, "hidden_size": 128, "intermediate_size": 256, "num_heads": 4, "out_hidden_size": 256,
    "num_position_embeddings": 256, "deepstack_visual_indexes": [0, 1, 2],
}  # fmt: skip
QUANTIZED: dict[str, tuple[dict[str, Any], list[str] | None]] = {
    "llama": (WIDE, None),
    "qwen3_moe": (WIDE | MOE | {"num_experts": 4, "head_dim": 64, "tie_word_embeddings": True}, None),
    "qwen3_vl": (
        {
            "text_config": WIDE | {"head_dim": 64, "rope_scaling": ROPE},
            "vision_config": VISION, "image_token_id": 490, "video_token_id": 491, "vision_start_token_id": 492,
            "vision_end_token_id": 493,
        },
        ["model.visual", "lm_head"],
    ),
    "gpt2": ({"vocab_size": 500, "n_embd": 256, "n_layer": 2, "n_head": 4, "n_positions": 128}, None),
}  # fmt: skip


def held(model: Any) -> int:
    """Bytes of its parameters with what quantization keeps beside them."""
    total = 0
    for p in {id(p): p for p in model.parameters()}.values():
        tensors = [p]
        state = getattr(p, "quant_state", None)
        if state is not None:
            tensors += [state.absmax, state.code]
            if state.nested:
                tensors += [state.offset, state.state2.absmax, state.state2.code]
        if getattr(p, "SCB", None) is not None:
            tensors.append(p.SCB)
        total += sum(t.numel() * t.element_size() for t in tensors)
    return total


@pytest.mark.parametrize("family", QUANTIZED)
def test_weights_in_every_mode_are_exact(family: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra models)")
    numbers, skipped = QUANTIZED[family]
    config = transformers.CONFIG_MAPPING[family](**numbers)
    auto = transformers.AutoModelForImageTextToText if skipped else transformers.AutoModelForCausalLM
    auto.from_config(config).to(torch.bfloat16).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    tensors = untied(headers.safetensors(str(tmp_path / "model.safetensors")), written)
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
    for mode, asked in (
        (FP32, None),
        (HALF, None),
        (INT8, {"load_in_8bit": True}),
        (NF4, four),
        (NF4_DOUBLE, four | {"bnb_4bit_use_double_quant": True}),
    ):
        how: dict[str, Any] = {"dtype": torch.float32 if mode == FP32 else torch.bfloat16}
        if asked:
            how["quantization_config"] = transformers.BitsAndBytesConfig(**asked, llm_int8_skip_modules=skipped)
        assert weights(tensors, mode) == held(auto.from_pretrained(tmp_path, **how)), mode


def test_training_is_exact_where_it_says_so(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra models)")
    peft = pytest.importorskip("peft", reason="needs peft")
    auto = transformers.AutoModelForCausalLM
    auto.from_config(transformers.CONFIG_MAPPING["llama"](**WIDE)).to(torch.bfloat16).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    tensors = headers.safetensors(str(tmp_path / "model.safetensors"))
    asked = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )
    model = auto.from_pretrained(tmp_path, quantization_config=asked, dtype=torch.bfloat16)
    model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    base = held(model)
    ask = Ask(rank=4, targets=("q_proj", "down_proj"))
    lora = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=list(ask.targets)))
    assert trainable(tensors, ask) == sum(p.numel() for p in lora.parameters() if p.requires_grad)
    assert training(tensors, text_config(written), ask, True).lines[0].bytes == base


@pytest.mark.parametrize("row", [r for r in catalogue.ROWS if r.native], ids=lambda r: r.repo)
def test_the_catalogue_counts_as_transformers_does(row: catalogue.Row) -> None:
    numbers = json.loads(json.dumps(row.config))
    family = numbers.pop("model_type")
    if family in ("qwen2_vl", "qwen2_5_vl"):
        numbers = {"vision_config": numbers.pop("vision_config"), "text_config": numbers, "tie_word_embeddings": False}
    if family.startswith("qwen3_vl"):
        numbers["text_config"]["rope_scaling"] = {"rope_type": "default", "mrope_section": [24, 20, 20]}
    config = transformers.CONFIG_MAPPING[family](**numbers)
    auto = transformers.AutoModelForImageTextToText if row.sees else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(config)
    model.tie_weights()
    assert sum(p.numel() for p in model.parameters()) == sum(
        t.elements * t.number for t in catalogue.facts(row.repo).tensors
    )


def test_native_means_that_transformers_has_the_class() -> None:
    for row in catalogue.ROWS:
        assert (row.config["model_type"] in transformers.CONFIG_MAPPING) == row.native, row.repo
