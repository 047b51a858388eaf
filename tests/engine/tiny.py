"""Tiny repos of many architectures, as the Hub has them: config, random weights, a trained tokenizer, a template.

The weights are untied and larger than a fresh model's: a fresh tied one repeats one token, and then every test of
equality passes. Inner sizes are multiples of 64: then bitsandbytes repacks 4-bit layers on a CPU as it does in real
models. A repo takes a tenth of a second; the same name, dtype and seed give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VOCABULARY = 320
_TEXT = (
    "the quick brown fox jumps over the lazy dog. what colour is this picture? red green blue yellow white black "
    "describe this image. you are a helpful assistant analyzing an image. a small cat sat on the mat and looked at "
    "the moon over the sea; how many birds are there in the sky? one two three four five six seven eight nine ten. "
)
_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}MARK{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<pad>"]


@dataclass(frozen=True)
class Kind:
    """How one architecture is made small."""

    config: Callable[[Mapping[str, int]], Any]
    """From the ids of special tokens to a config of transformers."""
    mark: str = ""
    """What the template writes for a picture."""
    special: tuple[str, ...] = ()
    tokens: Mapping[str, str] = field(default_factory=dict)
    """Names that the tokenizer has for some of them (`image_token` ...)."""
    images: Callable[[], Any] | None = None
    """The image processor."""
    processor: Mapping[str, Any] = field(default_factory=dict)
    """processor_config.json."""
    auto: str = "AutoModelForCausalLM"
    tokenizer: bool = True

    @property
    def sees(self) -> bool:
        """Whether it reads pictures."""
        return self.images is not None


def _text(**more: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 128, "max_position_embeddings": 2048,
        "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 3, **more,
    }  # fmt: skip


def _made(family: str, **numbers: Any) -> Any:
    import transformers

    return transformers.CONFIG_MAPPING[family](**numbers)


_QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def _qwen_ids(ids: Mapping[str, int]) -> dict[str, int]:
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return {name: ids[token] for name, token in zip(names, _QWEN_TOKENS, strict=True)}


def _mrope(*sections: int) -> dict[str, Any]:
    return {"rope_type": "default", "mrope_section": list(sections), "rope_theta": 10000.0}


def _qwen2_vl(ids: Mapping[str, int]) -> Any:
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    text = _text(rope_parameters=_mrope(2, 3, 3))
    return _made("qwen2_vl", text_config=text, vision_config=vision, tie_word_embeddings=False, **_qwen_ids(ids))


def _qwen2_5_vl(ids: Mapping[str, int]) -> Any:
    vision = {
        "depth": 2, "hidden_size": 32, "out_hidden_size": 64, "num_heads": 2, "intermediate_size": 48,
        "fullatt_block_indexes": [1], "window_size": 56, "patch_size": 14,
    }  # fmt: skip
    text = _text(rope_parameters=_mrope(2, 3, 3))
    return _made("qwen2_5_vl", text_config=text, vision_config=vision, tie_word_embeddings=False, **_qwen_ids(ids))


def _qwen3_vl(ids: Mapping[str, int]) -> Any:
    vision = {
        "depth": 2, "hidden_size": 32, "out_hidden_size": 64, "num_heads": 2, "intermediate_size": 48,
        "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1], "patch_size": 16,
    }  # fmt: skip
    text = _text(head_dim=16, rope_parameters=_mrope(2, 3, 3))
    return _made("qwen3_vl", text_config=text, vision_config=vision, tie_word_embeddings=False, **_qwen_ids(ids))


def _qwen_pictures(patch: int, *, three: bool = False) -> Callable[[], Any]:
    def made() -> Any:
        import transformers

        kind = transformers.Qwen2VLImageProcessorPil
        side = patch * 2
        size = {"shortest_edge": side * side * 2, "longest_edge": side * side * 64}
        mean = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} if three else {}
        return kind(patch_size=patch, temporal_patch_size=2, merge_size=2, size=size, **mean)

    return made


_EYES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56,
    "patch_size": 14,
}  # fmt: skip


def _llava(ids: Mapping[str, int]) -> Any:
    return _made(
        "llava", text_config={"model_type": "llama", **_text()}, tie_word_embeddings=False,
        vision_config={"model_type": "clip_vision_model", "projection_dim": 32, **_EYES},
        image_token_id=ids["<image>"], image_seq_length=16, vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )  # fmt: skip


def _clip_pictures() -> Any:
    import transformers

    return transformers.CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})


def _internvl(ids: Mapping[str, int]) -> Any:
    eyes = {**_EYES, "image_size": [56, 56], "patch_size": [14, 14]}
    return _made(
        "internvl", text_config={"model_type": "qwen2", **_text()}, tie_word_embeddings=False, vision_config=eyes,
        image_token_id=ids["<IMG_CONTEXT>"], image_seq_length=4, downsample_ratio=0.5,
    )  # fmt: skip


def _internvl_pictures() -> Any:
    import transformers

    size = {"height": 56, "width": 56}
    return transformers.GotOcr2ImageProcessorPil(size=size, crop_to_patches=True, min_patches=1, max_patches=2)


def _smol(family: str) -> Callable[[Mapping[str, int]], Any]:
    def made(ids: Mapping[str, int]) -> Any:
        text = {"model_type": "llama", **_text()}
        return _made(
            family, text_config=text, vision_config={**_EYES, "patch_size": 14, "image_size": 56}, scale_factor=2,
            image_token_id=ids["<image>"], tie_word_embeddings=False, pad_token_id=3,
        )  # fmt: skip

    return made


def _smol_pictures(family: str) -> Callable[[], Any]:
    def made() -> Any:
        import transformers

        kind = getattr(transformers, f"{family}ImageProcessorPil")
        return kind(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})

    return made


_SMOL_TOKENS = (
    "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>",
    *(f"<row_{r}_col_{c}>" for r in range(1, 4) for c in range(1, 4)),
)  # fmt: skip


def _gemma3(ids: Mapping[str, int]) -> Any:
    text = _text(head_dim=16, sliding_window=8, num_hidden_layers=3, layer_types=_layers("sliding_attention", 3))
    return _made(
        "gemma3", text_config=text, tie_word_embeddings=False,
        vision_config={**_EYES, "model_type": "siglip_vision_model"},
        mm_tokens_per_image=4, boi_token_index=ids["<start_of_image>"], eoi_token_index=ids["<end_of_image>"],
        image_token_index=ids["<image_soft_token>"], image_token_id=ids["<image_soft_token>"],
    )  # fmt: skip


def _gemma3_pictures() -> Any:
    import transformers

    return transformers.Gemma3ImageProcessorPil(size={"height": 56, "width": 56})


_MINICPM_TOKENS = {
    "image_token": "<|image_pad|>", "video_token": "<|video_pad|>", "image_start_token": "<image>",
    "image_end_token": "</image>", "slice_start_token": "<slice>", "slice_end_token": "</slice>",
    "image_id_start_token": "<image_id>", "image_id_end_token": "</image_id>",
}  # fmt: skip


def _minicpm(ids: Mapping[str, int]) -> Any:
    linear = {k: v for k, v in _LINEAR.items() if k.startswith(("linear", "head", "layer"))}
    text = _text(model_type="qwen3_5_text", rope_parameters=_mrope(1, 1, 2) | {"partial_rotary_factor": 0.5}, **linear)
    return _made(
        "minicpmv4_6", text_config=text, vision_config={**_EYES, "insert_layer_id": 0}, image_size=56,
        insert_layer_id=0, image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        tie_word_embeddings=False,
    )  # fmt: skip


def _minicpm_pictures() -> Any:
    import transformers

    return transformers.MiniCPMV4_6ImageProcessorPil(scale_resolution=56, max_slice_nums=2)


def _layers(first: str, count: int) -> list[str]:
    return [first] * (count - 1) + ["full_attention"]


_MLA = {
    "num_key_value_heads": 4, "kv_lora_rank": 64, "q_lora_rank": 64, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1,
}  # fmt: skip
_LINEAR = {
    "head_dim": 16, "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16, "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip


def _plain(family: str, **more: Any) -> Kind:
    return Kind(lambda _: _made(family, **_text(**more)))


_IMAGE = {"image_token": "<image>"}
KINDS: Mapping[str, Kind] = {
    "qwen2_vl": Kind(
        _qwen2_vl, "<|vision_start|><|image_pad|><|vision_end|>", _QWEN_TOKENS, images=_qwen_pictures(14),
        processor={"processor_class": "Qwen2VLProcessor"},
    ),
    "qwen2_5_vl": Kind(
        _qwen2_5_vl, "<|vision_start|><|image_pad|><|vision_end|>", _QWEN_TOKENS, images=_qwen_pictures(14),
        processor={"processor_class": "Qwen2_5_VLProcessor"},
    ),
    "qwen3_vl": Kind(
        _qwen3_vl, "<|vision_start|><|image_pad|><|vision_end|>", _QWEN_TOKENS,
        images=_qwen_pictures(16, three=True), processor={"processor_class": "Qwen3VLProcessor"},
    ),
    "llava": Kind(
        _llava, "<image>\n", ("<image>",), images=_clip_pictures,
        processor={
            "processor_class": "LlavaProcessor", "patch_size": 14, "num_additional_image_tokens": 1,
            "vision_feature_select_strategy": "default", "image_token": "<image>",
        },
    ),
    "internvl": Kind(
        _internvl, "<IMG_CONTEXT>\n", ("<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
        {
            "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        _internvl_pictures, {"processor_class": "InternVLProcessor", "image_seq_length": 4},
    ),
    "smolvlm": Kind(
        _smol("smolvlm"), "<image>", _SMOL_TOKENS, _IMAGE, _smol_pictures("SmolVLM"),
        {"processor_class": "SmolVLMProcessor", "image_seq_len": 4},
    ),
    "idefics3": Kind(
        _smol("idefics3"), "<image>", _SMOL_TOKENS, _IMAGE, _smol_pictures("Idefics3"),
        {"processor_class": "Idefics3Processor", "image_seq_len": 4},
    ),
    "gemma3": Kind(
        _gemma3, "<start_of_image>", ("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
        {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"},
        _gemma3_pictures, {"processor_class": "Gemma3Processor", "image_seq_length": 4},
    ),
    "minicpmv4_6": Kind(
        _minicpm, "<|image_pad|>", tuple(_MINICPM_TOKENS.values()), _MINICPM_TOKENS, _minicpm_pictures,
        {"processor_class": "MiniCPMV4_6Processor"},
    ),
    "llama": _plain("llama"),
    "qwen3": _plain("qwen3", head_dim=16),
    "gemma3_text": _plain(
        "gemma3_text", head_dim=16, sliding_window=8, num_hidden_layers=3, layer_types=_layers("sliding_attention", 3)
    ),
    "qwen3_next": _plain("qwen3_next", **_LINEAR),
    "deepseek_v3": _plain("deepseek_v3", **_MLA),
    "mamba": Kind(lambda _: _made("mamba", **_text(state_size=8))),
    "gpt2": Kind(
        lambda _: _made(
            "gpt2", vocab_size=VOCABULARY, n_embd=64, n_layer=2, n_head=4, n_positions=512, bos_token_id=0,
            eos_token_id=2, tie_word_embeddings=False,
        )
    ),
    "bert": Kind(
        lambda _: _made("bert", **{k: v for k, v in _text().items() if k != "num_key_value_heads"}),
        auto="AutoModelForMaskedLM",
    ),
    "vit": Kind(
        lambda _: _made("vit", **{**_EYES, "patch_size": 14}), auto="AutoModelForImageClassification", tokenizer=False
    ),
}  # fmt: skip
SEEING = tuple(name for name, kind in KINDS.items() if kind.sees)
WRITING = tuple(name for name, kind in KINDS.items() if kind.auto == "AutoModelForCausalLM")
"""Pictures and text, or text alone."""


def build(name: str, folder: Path, *, dtype: str = "float32", seed: int = 0) -> Path:
    """Write the repo of a kind into `folder` (made where it is not there) and return it."""
    import torch
    import transformers

    kind = KINDS[name]
    folder.mkdir(parents=True, exist_ok=True)
    ids: Mapping[str, int] = {}
    if kind.tokenizer:
        made = tokenizer(kind)
        ids = made.get_vocab()
        made.save_pretrained(folder)
    config = kind.config(ids)
    torch.manual_seed(seed)
    auto = "AutoModelForImageTextToText" if kind.sees else kind.auto
    model = getattr(transformers, auto).from_config(config)
    _enlarge(model)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    if kind.images is not None:
        kind.images().save_pretrained(folder)
        (folder / "processor_config.json").write_text(json.dumps(kind.processor), encoding="utf-8")
    return folder


def tokenizer(kind: Kind) -> Any:
    """A byte-level BPE trained on a few sentences, with the special tokens and the chat template of the kind."""
    import tokenizers
    import transformers

    words = tokenizers.Tokenizer(tokenizers.models.BPE())
    words.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = tokenizers.decoders.ByteLevel()
    special = [*_SPECIAL, *kind.special]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    words.train_from_iterator([_TEXT], trainer)
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<|endoftext|>", eos_token="<|im_end|>", pad_token="<pad>",
        extra_special_tokens=dict(kind.tokens), model_max_length=2048,
    )  # fmt: skip
    made.chat_template = _CHATML.replace("MARK", kind.mark)
    return made


def _enlarge(model: Any) -> None:
    """So large that every token answers something else."""
    import torch

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight.normal_(0.0, 1.0)
            elif isinstance(module, torch.nn.Linear):
                module.weight.normal_(0.0, 1.5 / module.weight.shape[1] ** 0.5)
        for name, weight in model.named_parameters():
            # Fused experts are no module of their own; Gemma 3 starts with a projection that lets no picture through.
            if (".experts." in name and weight.dim() == 3) or (weight.dim() == 2 and not weight.any()):
                weight.normal_(0.0, 1.5 / weight.shape[-1] ** 0.5)
