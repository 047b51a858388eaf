"""Families whose caches are unlike others': gone on from exactly, written and read again, or refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from needs import needs

torch = needs("torch", reason="needs torch (extra models)")
transformers = needs("transformers", reason="needs transformers (extra models)")
pytestmark = pytest.mark.models

import tiny  # noqa: E402

from cachetui.engine import kept, state, state_file  # noqa: E402
from cachetui.fs import DISK  # noqa: E402
from cachetui.states import Identity, StateInfo  # noqa: E402
from cachetui.states.reading import open_state  # noqa: E402

GOING_ON: dict[str, dict[str, Any]] = {
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_d_ssm": 128},
    "granitemoehybrid": {
        "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "num_local_experts": 2,
        "num_experts_per_tok": 1, "shared_intermediate_size": 32, "layer_types": ["mamba", "attention"],
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_experts": 4, "num_experts_per_tok": 2},
    "nemotron_h": {
        "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 8, "n_groups": 1, "head_dim": 16,
        "layers_block_type": ["mamba", "attention"],
    },
    "olmo_hybrid": {}, "qwen3_5_text": {}, "qwen3_5_moe_text": {}, "qwen3_next": {},
    "zamba2": {
        "mamba_d_state": 8, "n_mamba_heads": 8, "mamba_ngroups": 1, "layers_block_type": ["mamba", "hybrid"],
        "hybrid_layer_ids": [1], "num_mem_blocks": 1, "adapter_rank": 4,
    },
}  # fmt: skip
LINEAR = {
    "head_dim": 16, "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16, "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip


UNLIKE: dict[str, dict[str, Any]] = {
    "llama4_text": {
        "attention_chunk_size": 16, "head_dim": 16, "num_local_experts": 2, "intermediate_size_mlp": 96,
        "num_hidden_layers": 4,
    },
    "gemma3n_text": {
        "head_dim": 16, "sliding_window": 8, "num_kv_shared_layers": 2, "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2, "vocab_size_per_layer_input": 320,
        "hidden_size_per_layer_input": 8, "intermediate_size": [96] * 4, "activation_sparsity_pattern": [0.0] * 4,
    },
    "gpt_oss": {"head_dim": 16, "sliding_window": 8, "num_local_experts": 2, "num_experts_per_tok": 1},
    "phi3": {"sliding_window": 9}, "bloom": {"n_head": 4, "n_layer": 2}, "falcon": {"multi_query": True},
}  # fmt: skip
"""Chunked, shared, alternating, always sliding, named otherwise, one head for all."""
READ, WHOLE = 41, 60


@pytest.mark.parametrize("family", [*sorted(kept.GOES_ON), *UNLIKE])
def test_it_is_gone_on_from_exactly(family: str, tmp_path: Path) -> None:
    """41 tokens, then 19 more at once from the file, against 60: what a family must do to be in the table."""
    numbers = UNLIKE.get(family) or GOING_ON[family] or LINEAR
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[family](**(tiny._text() | numbers))
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    tiny._enlarge(model)
    wanted = SimpleNamespace(name=family, repo="", folder="")
    loaded: Any = SimpleNamespace(model=model, device=torch.device("cpu"), model_class=family, wanted=wanted)
    assert kept.unsupported(loaded) == ""
    ids = torch.randint(4, 319, (1, WHOLE))
    cache = kept.new_cache(config)
    with torch.no_grad():
        at_once = model(input_ids=ids, use_cache=True).logits[:, READ:]
        model(input_ids=ids[:, :READ], past_key_values=cache, use_cache=True)
        tensors, layers = kept.tensors_of(cache)
        tensors |= {"input_ids": ids[:, :READ], "attention_mask": torch.ones_like(ids[:, :READ])}
        info = StateInfo("", Identity(), READ, 0, 1.0, "m", "cpu", "p", layers)
        path = state.save(DISK, state.State(info, tensors), str(tmp_path / "x")).path
        found = state_file.tensors(open_state(path), loaded, verify=True)
        again = kept.filled(config, found, layers)
        after = model(input_ids=ids[:, READ:], attention_mask=torch.ones_like(ids), past_key_values=again).logits
    assert torch.allclose(at_once, after, atol=1e-3)
    if family in kept.GOES_ON:
        assert any(layer.kind.startswith("LinearAttention") for layer in layers)


@pytest.mark.parametrize("family", ["bamba", "jamba", "recurrent_gemma", "mamba2", "rwkv", "minimax"])
def test_what_forgets_is_refused(family: str) -> None:
    """Nothing is loaded for it: config and class tell."""
    config = transformers.CONFIG_MAPPING[family]()
    kind = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    model: Any = SimpleNamespace(config=config, forward=kind.forward, can_generate=lambda: True)
    loaded: Any = SimpleNamespace(model=model, model_class=kind.__name__, wanted=SimpleNamespace(name=family))
    assert "running state" in kept.unsupported(loaded)
