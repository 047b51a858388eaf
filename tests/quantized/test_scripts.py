"""What training scripts call, with real models: kept, loaded, damaged and made anew, raced for, trained on."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from needs import needs

from cachetui import quantized
from cachetui.demo.builders import Hub
from cachetui.quantized_entries import entries

torch = needs("torch", reason="needs torch (extra models)")
needs("transformers", reason="needs transformers (extra models)")
needs("bitsandbytes", reason="needs bitsandbytes (extra models)")
pytestmark = pytest.mark.models

sys.path.append(str(Path(__file__).parents[1] / "engine"))
COLOUR = Path(__file__).parents[1] / "data" / "colour_vlm"
NAME = "tests/model"


def _put(home: Path, files: dict[str, bytes], name: str = NAME) -> Path:
    """A repo in the hub cache, with main."""
    hub = home / ".cache/huggingface/hub"
    Hub(hub).repo(name).revision(files)
    return next((hub / f"models--{name.replace('/', '--')}" / "snapshots").iterdir())


def _files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a tiny Llama."""
    import tiny

    torch.set_num_threads(1)
    return _files(tiny.build("llama", tmp_path_factory.mktemp("llama") / "repo", dtype="bfloat16"))


@pytest.fixture
def folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where they are kept."""
    path = home.parent / "kept"
    monkeypatch.setenv("QWEN_CACHE", str(path))
    return path


def _logits(model: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 25).unsqueeze(0)).logits


def test_the_first_call_keeps_and_the_second_loads(
    home: Path, folder: Path, llama: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    _put(home, llama)
    caplog.set_level(logging.INFO, "cachetui.quantized")
    fresh = quantized.load_or_quantize(NAME, torch.bfloat16, 8)
    assert "Successfully loaded" not in caplog.text and "Quantizing tests/model (nf4)" in caplog.text
    assert f"Using quantized model cache directory: {folder}" in caplog.text and "Cache info: {" in caplog.text
    assert "Available disk space: " in caplog.text
    (entry,) = entries(str(folder))
    assert entry.path == quantized.get_quantized_model_cache_path(NAME, torch.bfloat16, 8)
    caplog.clear()
    again = quantized.load_or_quantize(NAME, torch.bfloat16, 8)
    assert "Successfully loaded quantized model from cache" in caplog.messages
    assert torch.equal(_logits(fresh), _logits(again))
    caplog.clear()
    quantized.load_or_quantize(NAME, torch.bfloat16, 16)
    assert "its key differs: rank: 8 here, 16 there" in caplog.text
    assert len(entries(str(folder))) == 2


def test_what_is_damaged_goes_to_the_trash_and_is_made_anew(
    home: Path, folder: Path, llama: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    _put(home, llama)
    quantized.load_or_quantize(NAME, "bfloat16", 8)
    weights = Path(entries(str(folder))[0].path) / "model.safetensors"
    good = weights.read_bytes()
    for damage in (good[:-7], good[:-1] + bytes((good[-1] ^ 1,))):
        weights.write_bytes(damage)
        caplog.clear()
        quantized.load_or_quantize(NAME, "bfloat16", 8)
        assert "model.safetensors" in caplog.text and "it goes to the trash and is made anew" in caplog.text
        assert weights.read_bytes() == good
    weights.unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors.*in the trash.*load_or_quantize makes it anew"):
        quantized.load_quantized_model(None, str(weights.parent))
    assert not weights.parent.exists()


def test_a_new_commit_is_a_new_entry(
    home: Path, folder: Path, llama: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    _put(home, llama)
    quantized.load_or_quantize(NAME, "bfloat16", 8)
    caplog.set_level(logging.INFO, "cachetui.quantized")
    changed = llama | {"generation_config.json": b'{"temperature": 0.5}'}
    Hub(home / ".cache/huggingface/hub").repo(NAME).revision(changed)
    quantized.load_or_quantize(NAME, "bfloat16", 8)
    assert "its key differs: commit: " in caplog.text and len(entries(str(folder))) == 2


def test_without_quantizing_without_room_and_without_the_folder_it_is_loaded_all_the_same(
    home: Path, folder: Path, llama: dict[str, bytes], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cachetui.engine import entries as engine_entries
    from cachetui.engine.loading import quantized_modules
    from cachetui.quantized_entries.places import Room

    _put(home, llama)
    caplog.set_level(logging.INFO, "cachetui.quantized")
    assert not quantized_modules(quantized.load_or_quantize(NAME, "bfloat16", 8, False))
    assert "is not used: quantize is off" in caplog.text
    with monkeypatch.context() as patched:
        patched.setattr(engine_entries, "room", lambda path, needed: Room(0, 1, "nothing is left"))
        assert quantized_modules(quantized.load_or_quantize(NAME, "bfloat16", 8))
    assert "no space in" in caplog.text and not entries(str(folder))
    monkeypatch.setenv("QWEN_CACHE", "/proc/nowhere")
    assert quantized_modules(quantized.load_or_quantize(NAME, "bfloat16", 8))
    assert "Quantized model cache is not used: /proc/nowhere cannot be written to" in caplog.text


def test_a_script_saves_what_it_quantized_itself(home: Path, folder: Path, llama: dict[str, bytes]) -> None:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaForCausalLM

    snapshot = _put(home, llama)

    def load(**how: Any) -> Any:
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", **how)
        return AutoModelForCausalLM.from_pretrained(
            snapshot, dtype=torch.bfloat16, device_map={"": "cpu"}, quantization_config=config
        )

    path = quantized.get_quantized_model_cache_path(NAME, torch.bfloat16, 4)
    right = {"bnb_4bit_compute_dtype": torch.bfloat16, "llm_int8_skip_modules": ["lm_head"]}
    model = load(**right)
    assert quantized.save_quantized_model(model, path) == path
    assert quantized.validate_cache_integrity(path)
    assert (Path(path) / "tokenizer.json").read_bytes() == llama["tokenizer.json"]
    for given in (None, LlamaForCausalLM, model):
        assert torch.equal(_logits(quantized.load_quantized_model(given, path)), _logits(model))
    other = quantized.get_quantized_model_cache_path(NAME, torch.bfloat16, 5)
    with pytest.raises(ValueError, match=r"settings\.bnb_4bit_compute_dtype"):
        quantized.save_quantized_model(load(llm_int8_skip_modules=["lm_head"]), other)
    states = [getattr(getattr(m, "weight", None), "quant_state", None) for m in model.modules()]
    if any(getattr(state, "packing_format_for_cpu", False) for state in states):  # CPUs with AVX512-BF16
        with pytest.raises(ValueError, match="before the first forward"):
            quantized.save_quantized_model(model, other)
    with pytest.raises(ValueError, match="not quantized by bitsandbytes"):
        quantized.save_quantized_model(AutoModelForCausalLM.from_pretrained(snapshot), str(folder / ("0" * 64)))
    older = folder / ("0" * 32 + ".pt")
    older.write_bytes(b"never opened")
    with pytest.raises(ValueError, match="older script"):
        quantized.load_quantized_model(None, str(older))
    assert older.read_bytes() == b"never opened"


def test_it_is_ready_to_be_trained(home: Path, folder: Path, llama: dict[str, bytes]) -> None:
    """Four steps on an entry that was loaded lower the loss: nothing was computed with it before."""
    peft = pytest.importorskip("peft", reason="needs peft")
    _put(home, llama)
    quantized.load_or_quantize(NAME, torch.bfloat16, 8)
    model = peft.prepare_model_for_kbit_training(quantized.load_or_quantize(NAME, torch.bfloat16, 8))
    torch.manual_seed(0)
    model = peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules="all-linear"))
    model.train()
    steps = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    ids = torch.arange(5, 37).unsqueeze(0)
    losses = []
    for _ in range(4):
        loss = model(input_ids=ids, labels=ids).loss
        losses.append(loss.item())
        loss.backward()
        steps.step()
        steps.zero_grad()
    assert losses[3] < losses[2] < losses[0]


def test_it_still_names_colours(home: Path, folder: Path) -> None:
    from PIL import Image

    from cachetui.config import Where
    from cachetui.engine.entries import ensure, load_entry
    from cachetui.engine.images import picture_of
    from cachetui.engine.prompting import Question, ask
    from cachetui.quantized_entries.wishes import find_model

    _put(home, _files(COLOUR))
    for bits in (4, 8):
        wanted = find_model(Where.current(), NAME, bits=bits)
        loaded = load_entry(ensure(wanted, str(folder)).entry)
        for name, rgb in (("red", (220, 20, 20)), ("blue", (20, 20, 220))):
            picture = picture_of(Image.new("RGB", (64, 64), rgb))
            answer = ask(loaded, Question("what colour is this picture?", (picture,)))
            assert name in answer.text, (bits, answer.text)


_RACE = """
import sys, torch
sys.argv
from cachetui.quantized import load_or_quantize
import logging
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
print(type(load_or_quantize("tests/model", torch.bfloat16, 8)).__name__)
"""


def test_two_processes_make_one_entry_and_both_go_on(home: Path, folder: Path, llama: dict[str, bytes]) -> None:
    _put(home, llama)
    both = [subprocess.Popen([sys.executable, "-c", _RACE], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [p.communicate()[0] for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert all("LlamaForCausalLM" in s for s in said)
    assert sorted("Quantizing" in s for s in said) == [False, True] or len(entries(str(folder))) == 1
    assert [e.kind for e in entries(str(folder))] == ["entry"]
