"""A model quantized once answers in a new process, from its folder, bit for bit as it did when it was fresh."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reload
import tiny
from needs import needs

from cachetui import families
from cachetui.engine.errors import Cancelled, EngineError
from cachetui.fs import Fs
from cachetui.memory.weights import is_vision
from cachetui.wanted import Wanted

torch = needs("torch", reason="needs torch (extra models)")
needs("transformers", reason="needs transformers (extra models)")
needs("bitsandbytes", reason="needs bitsandbytes (extra models)")
pytestmark = pytest.mark.models

from cachetui.engine import quantizing, repository  # noqa: E402
from cachetui.engine.loading import load, quantized_modules  # noqa: E402
from cachetui.engine.quantizing import Quantized, quantize  # noqa: E402

Repo = Callable[..., Path]
TEXT = ("llama", "gemma3_text", "qwen3_next", "deepseek_v3", "gpt2")
MODES: dict[str, dict[str, Any]] = {
    "nf4": {"bits": 4},
    "double": {"bits": 4, "double_quant": True},
    "int8": {"bits": 8},
}
EVERY = [(kind, mode) for kind in (*tiny.SEEING, *TEXT) for mode in MODES]
SAMPLE = [(kind, "nf4") for kind in (*tiny.SEEING, *TEXT)]
SAMPLE += [("qwen3_vl", "int8"), ("deepseek_v3", "int8"), ("gpt2", "int8"), ("llama", "double"), ("llava", "double")]


def wanted(folder: Path, **more: Any) -> Wanted:
    return Wanted(str(folder), folder.name, **({"dtype": "bfloat16", "bits": 4} | more))


def made(repo: Repo, kind: str, folder: Path, **more: Any) -> Quantized:
    folder.mkdir()
    return quantize(wanted(repo(kind, "bfloat16"), **more), str(folder))


@pytest.mark.parametrize("cases", [SAMPLE, pytest.param(EVERY, marks=pytest.mark.sweep)], ids=["sample", "every"])
def test_it_answers_the_same_in_a_new_process(cases: list[tuple[str, str]], repo: Repo, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folders, fresh = {}, {}
    for kind, mode in cases:
        name = f"{kind}-{mode}"
        result = made(repo, kind, tmp_path / name, **MODES[mode])
        family = families.of(json.loads((repo(kind, "bfloat16") / "config.json").read_text()))
        eyes = family.vision if family else ()
        layers = quantized_modules(result.loaded.model)
        assert layers and not [n for n in layers if n.startswith((*eyes, "lm_head"))], name
        folders[name], fresh[name] = str(tmp_path / name), reload.logits(result.loaded)
    request, answer = tmp_path / "request.json", tmp_path / "answer.safetensors"
    request.write_text(json.dumps(folders))
    subprocess.run([sys.executable, reload.__file__, str(request), str(answer)], check=True)
    again = load_file(answer)
    assert [name for name in folders if not torch.equal(again[name], fresh[name])] == []
    alike = [n for n, t in fresh.items() if len(set(t.argmax(-1).tolist())) < 5 or not t.isfinite().all()]
    assert alike == [], "a model that repeats itself proves nothing"
    for kind in {kind for kind, _ in cases}:
        mine = [fresh[f"{kind}-{mode}"] for mode in MODES if f"{kind}-{mode}" in fresh]
        assert not any(torch.equal(mine[0], other) for other in mine[1:]), kind


def test_the_folder_is_whole_by_itself(repo: Repo, tmp_path: Path) -> None:
    result = made(repo, "qwen3_vl", tmp_path / "entry", skip=("model.language_model.layers.0",))
    assert set(result.files) == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
        "preprocessor_config.json", "processor_config.json", "generation_config.json",
    }  # fmt: skip
    for name in result.files:
        if name not in ("config.json", "model.safetensors"):
            assert (tmp_path / "entry" / name).read_bytes() == (repo("qwen3_vl", "bfloat16") / name).read_bytes()
    assert (result.model_class, result.device) == ("Qwen3VLForConditionalGeneration", "cpu")
    assert result.seconds > 0
    assert result.peak_memory > 50_000_000
    assert {"torch", "transformers", "bitsandbytes", "python"} <= set(result.libraries)
    found = repository.look(Wanted(str(tmp_path / "entry"), "entry"))
    kept = [t for t in found.tensors if is_vision(t.name) or "layers.0." in t.name or t.name.startswith("lm_head")]
    assert len(kept) > 20 and {t.dtype for t in kept} == {"BF16"}
    loaded = load(Wanted(str(tmp_path / "entry"), "entry"))
    assert (loaded.quantization, loaded.images, loaded.dtype) == ("nf4", True, torch.bfloat16)
    assert all(".layers.1." in n for n in quantized_modules(loaded.model))


def test_made_twice_it_is_the_same(repo: Repo, tmp_path: Path) -> None:
    for name in ("a", "b"):
        made(repo, "llama", tmp_path / name, double_quant=True)
    for file in sorted(os.listdir(tmp_path / "a")):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_it_is_written_before_anything_is_computed(repo: Repo, tmp_path: Path) -> None:
    """Computing on a CPU with AVX512-BF16 rounds the maxima of the blocks to bfloat16, for ever."""
    from safetensors.torch import load_file

    (tmp_path / "a").mkdir()
    quantize(wanted(repo("llama"), dtype="float32"), str(tmp_path / "a"))
    tensors = load_file(tmp_path / "a" / "model.safetensors")
    maxima = [t for name, t in tensors.items() if name.endswith(".absmax")]
    assert len(maxima) == 14
    assert all((t != t.bfloat16().float()).any() for t in maxima)


def test_what_lies_beside_a_model(repo: Repo, tmp_path: Path) -> None:
    """Links of a snapshot become files; other weights, hidden files and code stay behind; odd settings come along."""
    source = Path(shutil.copytree(repo("llama", "bfloat16"), tmp_path / "source"))
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for file in list(source.iterdir()):
        file.rename(blobs / file.name)
        file.symlink_to(blobs / file.name)
    (source / "generation_config.json").unlink()
    strange = {"do_sample": False, "temperature": 0.2, "top_p": 0.3}
    (source / "generation_config.json").write_text(json.dumps(strange))
    for name in ("LICENSE.txt", "modeling_own.py", "model.gguf", ".gitattributes", "pytorch_model.bin", "trace.log"):
        (source / name).touch()
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tool.jinja").write_text("{{ messages }}")
    (source / "onnx").mkdir()
    (source / "onnx" / "config.json").touch()
    os.mkfifo(source / "pipe.json")
    (tmp_path / "entry").mkdir()
    result = quantize(wanted(source), str(tmp_path / "entry"))
    assert set(result.files) == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
        "generation_config.json", "LICENSE.txt", "additional_chat_templates/tool.jinja",
    }  # fmt: skip
    assert json.loads((tmp_path / "entry" / "generation_config.json").read_text()) == strange
    assert quantizing.belongs("modeling_own.py", code=True)
    assert not any(path.is_symlink() for path in (tmp_path / "entry").rglob("*"))
    assert load(Wanted(str(tmp_path / "entry"), "x")).model.generation_config.top_p == 0.3


def test_progress_ends_and_it_can_be_stopped(repo: Repo, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    (tmp_path / "a").mkdir()
    quantize(wanted(repo("llama", "bfloat16")), str(tmp_path / "a"), progress=lambda *step: told.append(step[:3]))
    phases = list(dict.fromkeys(phase for phase, _, _ in told))
    assert phases == ["prepare", "load", "write", "copy"]
    for phase in phases[1:]:
        last = [step for step in told if step[0] == phase][-1]
        assert last[1] == last[2] > 0
    for number, stop_in in enumerate(("load", "write", "copy")):
        seen: list[str] = []
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(Cancelled):
            quantize(
                wanted(repo("llama", "bfloat16")),
                str(folder),
                progress=lambda phase, *_: seen.append(phase),  # noqa: B023 - called within this turn
                cancelled=lambda: stop_in in seen,  # noqa: B023
            )


def test_what_cannot_be_quantized(repo: Repo, tmp_path: Path) -> None:
    made(repo, "llama", tmp_path / "entry")
    for folder, more in ((tmp_path / "entry", {}), (repo("llama"), {"bits": 0})):
        with pytest.raises(EngineError) as caught:
            quantize(wanted(folder, **more), str(tmp_path))
        assert caught.value.code == "unsupported"


def test_what_was_written_is_looked_at(repo: Repo, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="nothing in it is quantized"):
        quantizing.check(wanted(repo("llama")), str(repo("llama")))
    seeing = tmp_path / "seeing"
    loaded = load(wanted(repo("llava", "bfloat16")))
    loaded.model.save_pretrained(seeing)
    assert quantizing.check(wanted(seeing), str(seeing))
    from safetensors.torch import load_file, save_file

    tensors = load_file(seeing / "model.safetensors")
    eye = next(n for n in tensors if is_vision(n) and n.endswith("q_proj.weight"))
    save_file(tensors | {f"{eye}.absmax": torch.zeros(4)}, seeing / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineError, match="is quantized"):
        quantizing.check(wanted(seeing), str(seeing))


def test_a_disk_that_is_full_is_an_error_of_the_disk(repo: Repo, tmp_path: Path) -> None:
    class Full(Fs):
        def create(self, parent: int, name: str, mode: int = 0o600) -> int:
            raise OSError(28, "No space left on device")

    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="No space left"):
        quantize(wanted(repo("llama", "bfloat16")), str(tmp_path / "a"), fs=Full())
    import resource

    (tmp_path / "b").mkdir()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))
        with pytest.raises(OSError, match="cannot be written"):
            quantize(wanted(repo("llama", "bfloat16")), str(tmp_path / "b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
