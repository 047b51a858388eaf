"""What QLoRA training takes: peft and bitsandbytes as their documentation sets them up.

`prepare_model_for_kbit_training` (peft) makes everything that is not quantized float32; adapters, their gradients and
AdamW's two moments are float32 (8-bit AdamW: one byte each, in blocks of 256). Activations are a rough figure.
"""

from __future__ import annotations

from collections.abc import Sequence

from cachetui.memory.config import Config
from cachetui.memory.model import ACTIVATIONS, NF4_DOUBLE, RUNTIME, TRAINING, WEIGHTS, Ask, Line, Mode, Tensor
from cachetui.memory.weights import is_linear, is_quantized, weights

CUDA_CONTEXT = 450_000_000
_ATTENTION = frozenset((
    "q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "out_proj", "c_attn", "wqkv", "wo", "query_key_value", "dense",
))  # fmt: skip
_SMALL = 4096
"""Tensors with fewer elements keep 32-bit moments in 8-bit AdamW (bitsandbytes `min_8bit_size`)."""


def adapted(tensors: Sequence[Tensor], ask: Ask) -> list[Tensor]:
    """The weights that get an adapter."""
    wanted = frozenset(ask.targets)
    if "attention" in wanted:
        wanted = (wanted - {"attention"}) | _ATTENTION
    found = []
    for t in tensors:
        if is_linear(t, skip_vision=True):
            module = t.name[: -len(".weight")]
            if not wanted or module.rpartition(".")[2] in wanted:
                found.append(t)
    return found


def trainable(tensors: Sequence[Tensor], ask: Ask) -> int:
    """Parameters of the adapters: rank * (in + out) for each layer that gets one."""
    return sum(ask.rank * sum(t.shape) * t.number for t in adapted(tensors, ask))


def _moments(tensors: Sequence[Tensor], ask: Ask) -> int:
    if ask.optimizer_bits == 32:
        return 8 * trainable(tensors, ask)
    total = 0
    for t in adapted(tensors, ask):
        for side in t.shape:
            n = ask.rank * side
            total += t.number * (8 * n if n < _SMALL else 2 * (n + 4 * -(-n // 256)))
    return total


def training(tensors: Sequence[Tensor], text: Config, ask: Ask, exact: bool) -> Mode:
    """The sum for one step of `ask.train_tokens` tokens, with gradient checkpointing."""
    if not tensors:
        return Mode(TRAINING, reason="the layers are not known")
    if is_quantized(tensors):
        return Mode(TRAINING, reason="it is quantized already; the memory for training is told of the full weights")
    count = trainable(tensors, ask)
    if not count:
        return Mode(TRAINING, reason=f"no layer is called {', '.join(ask.targets) or 'linear'}")
    base = weights(tensors, NF4_DOUBLE, skip_vision=ask.skip_vision, rest=4)
    tokens, bits = ask.train_tokens, ask.optimizer_bits
    # Kept: the input of every layer (checkpoints). Peak: one layer unfolded, and the logits with their gradient.
    kept = tokens * text.hidden * text.layers * 2
    layer = tokens * (8 * text.hidden + 4 * text.inner) * 2
    logits = tokens * text.vocab * 4 * 2
    note = f"rough: {tokens} tokens a step, gradient checkpointing"
    return Mode(
        TRAINING,
        (
            Line(WEIGHTS, base, exact, "nf4 double-quant; what is not quantized in fp32"),
            Line("adapters", 4 * count, exact, f"rank {ask.rank}, {count} parameters in fp32"),
            Line("gradients", 4 * count, exact, "fp32"),
            Line("optimizer", _moments(tensors, ask), exact, f"AdamW, {bits}-bit"),
            Line(ACTIVATIONS, kept + layer + logits, False, note),
            Line(RUNTIME, CUDA_CONTEXT, False, "CUDA context, 0.3 to 0.6 GB"),
        ),
    )
