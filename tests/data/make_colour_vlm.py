"""Trains the small vision-language model in tests/data/colour_vlm: it says which of six colours a picture has.

    python tests/data/make_colour_vlm.py FOLDER

A LLaVA of 90,000 parameters (CLIP vision tower, Llama text model, 27 words), 600 steps of 36 pictures from a fixed
seed: 30 s of one core. The numbers come out a little different on another CPU, the answers do not.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

SEED, STEPS, BATCH, RATE = 0, 600, 36, 3e-3
COLOURS = {
    "red": (220, 30, 30), "green": (30, 170, 50), "blue": (30, 60, 220), "yellow": (235, 215, 40),
    "black": (15, 15, 15), "white": (245, 245, 245),
}  # fmt: skip
WORDS = [
    "<pad>", "<s>", "</s>", "<unk>", "<image>", "USER:", "ASSISTANT:", "what", "colour", "color", "is", "this",
    "picture", "image", "describe", "it", "?", ".", "the", "a", "and", *COLOURS,
]  # fmt: skip
QUESTIONS = (
    "what colour is this picture ?", "what color is this image ?", "what colour is it ?", "describe this picture .",
    "describe the image .",
)  # fmt: skip
ANSWER = "the picture is {} . </s>"
TEMPLATE = (
    "{% for m in messages %}{{ m['role'].upper() }}: {% for c in m['content'] %}{% if c['type']=='image' %}<image> "
    "{% else %}{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
SIDE, PATCH = 32, 16


def picture(colour: str, rng: random.Random) -> Image.Image:
    """One colour, never quite the same, with a little noise, in any shape of page."""
    shade = [max(0, min(255, c + rng.randint(-25, 25))) for c in COLOURS[colour]]
    small = Image.new("RGB", (8, 8))
    small.putdata([tuple(max(0, min(255, c + rng.randint(-12, 12))) for c in shade) for _ in range(64)])
    return small.resize((rng.randint(32, 80), rng.randint(32, 80)), Image.Resampling.BICUBIC)


def processor(folder: Path) -> LlavaProcessor:
    """Words as tokens, pictures as four patches; saved beside the model."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit()])
    words.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
        padding_side="left",
    ).save_pretrained(folder)
    found = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, do_convert_rgb=True
        ),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    found.save_pretrained(folder)
    return found


def model() -> LlavaForConditionalGeneration:
    """Two layers of each tower, from the seed."""
    torch.manual_seed(SEED)
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
        patch_size=PATCH, projection_dim=32,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        tie_word_embeddings=False,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=WORDS.index("<image>"),
        image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    return LlavaForConditionalGeneration(config)


def batch(maker: LlavaProcessor, rng: random.Random) -> dict[str, torch.Tensor]:
    """Questions with answers; only the answers count for the loss."""
    colours = [list(COLOURS)[i % len(COLOURS)] for i in range(BATCH)]
    asked = [f"USER: <image> {rng.choice(QUESTIONS)} ASSISTANT:" for _ in colours]
    answers = [ANSWER.format(c) for c in colours]
    found = maker(
        text=[f"{q} {a}" for q, a in zip(asked, answers, strict=True)],
        images=[picture(c, rng) for c in colours],
        return_tensors="pt",
        padding=True,
    )
    labels = torch.full_like(found["input_ids"], -100)
    for row, answer in enumerate(answers):
        count = len(answer.split())  # padded on the left: the answer stands at the end
        labels[row, -count:] = found["input_ids"][row, -count:]
    return {**found, "labels": labels}


def train(folder: Path) -> None:
    """From nothing to a folder that from_pretrained takes."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rng = random.Random(SEED)
    maker, net = processor(folder), model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    net.train()
    for step in range(STEPS):
        loss = net(**batch(maker, rng)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.4f}", file=sys.stderr)
    net.eval().save_pretrained(folder)


if __name__ == "__main__":
    train(Path(sys.argv[1]))
