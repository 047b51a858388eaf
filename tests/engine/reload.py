"""In a new process: load folders and write the logits of each; test_quantizing compares them with its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def logits(loaded: Any) -> Any:
    """What a model answers to a fixed picture and text: float32 (tokens, vocabulary)."""
    import torch
    from PIL import Image

    if loaded.images:
        messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what colour?"}]}]
        words = loaded.processor.apply_chat_template(messages, tokenize=False)
        picture = Image.new("RGB", (90, 70), "teal")
        found = loaded.processor(text=[words], images=[[picture]], return_tensors="pt")
    else:
        found = {"input_ids": torch.arange(4, 44)[None]}
    found = {k: v.to(loaded.dtype) if v.is_floating_point() else v for k, v in found.items()}
    with torch.no_grad():
        return loaded.model(**found).logits[0].float()


def main(request: str, answer: str) -> None:
    """`request`: a JSON object name -> folder; `answer`: where the tensors go."""
    from cachetui.engine import environment

    environment.prepare(True)
    import torch
    from safetensors.torch import save_file

    from cachetui.engine.loading import load
    from cachetui.wanted import Wanted

    torch.set_num_threads(1)
    folders = json.loads(Path(request).read_text())
    save_file({name: logits(load(Wanted(folder, name))).contiguous() for name, folder in folders.items()}, answer)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
