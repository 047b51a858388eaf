"""Every architecture through the real loading code; what stands in the way becomes a reason and advice."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from needs import needs

from cachetui import families
from cachetui.engine import devices, environment, repository
from cachetui.engine.errors import Cancelled, EngineError
from cachetui.wanted import Wanted

torch = needs("torch", reason="needs torch (extra models)")
transformers = needs("transformers", reason="needs transformers (extra models)")
pytestmark = pytest.mark.models

from cachetui.engine import processors  # noqa: E402
from cachetui.engine.architectures import eyes, read_config, unquantized  # noqa: E402
from cachetui.engine.loading import load, must_be_plain, quantized_modules  # noqa: E402

Repo = Callable[..., Path]


def wanted(folder: Path, **more: Any) -> Wanted:
    return Wanted(str(folder), folder.name, **({"dtype": "float32"} | more))


@pytest.fixture
def copied(repo: Repo, tmp_path: Path) -> Callable[..., Path]:
    """A repo of one's own, to damage."""

    def get(kind: str) -> Path:
        return Path(shutil.copytree(repo(kind), tmp_path / kind))

    return get


def refused(folder: Path, **more: Any) -> EngineError:
    """The error that loading ends in; its reason and advice are for people."""
    with pytest.raises(EngineError) as caught:
        load(wanted(folder, **more))
    assert "Traceback" not in caught.value.reason
    assert "\n" not in caught.value.reason
    return caught.value


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_it_loads(kind: str, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    told: list[tuple[str, int, int, str]] = []
    loaded = load(wanted(repo(kind)), progress=lambda *step: told.append(step))
    made = tiny.KINDS[kind]
    assert loaded.images == made.sees == (loaded.processor is not None)
    assert (loaded.tokenizer is not None) == made.tokenizer
    assert not loaded.model.training
    assert (str(loaded.device), loaded.dtype, loaded.quantization) == ("cpu", torch.float32, "")
    saved = json.loads((repo(kind) / "config.json").read_text())
    assert [loaded.model_class] == saved["architectures"]
    numbers = sum(p.numel() for p in loaded.model.parameters())
    assert loaded.memory == numbers * 4 + sum(b.numel() * b.element_size() for b in loaded.model.buffers())
    phases = [phase for phase, *_ in told]
    assert phases == sorted(phases, key=["prepare", "load"].index)
    assert told[-1][1] == told[-1][2] > 10
    assert sum(name in dict(loaded.model.named_parameters()) for _, _, _, name in told) > 10


@pytest.mark.parametrize("kind", tiny.SEEING)
def test_pictures_reach_the_model(kind: str, repo: Repo) -> None:
    from PIL import Image

    loaded = load(wanted(repo(kind)))
    words = loaded.processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what colour?"}]}], tokenize=False
    )
    answers = []
    for colour in ("red", "blue"):
        picture = Image.new("RGB", (90, 70), colour)
        found = loaded.processor(text=[words], images=[[picture]], return_tensors="pt")
        with torch.no_grad():
            answers.append(loaded.model(**found).logits[0, -1])
    assert not torch.equal(*answers)
    again = json.loads(loaded.processor.to_json_string())
    assert again["processor_class"] == tiny.KINDS[kind].processor["processor_class"]


_CASES = [(kind, 4) for kind in (*tiny.SEEING, "llama", "gpt2", "bert", "deepseek_v3")]


@pytest.mark.parametrize(("kind", "bits"), [*_CASES, ("qwen3_vl", 8), ("llava", 8), ("gpt2", 8), ("bert", 8)])
def test_it_is_quantized_but_for_eyes_and_head(kind: str, bits: int, repo: Repo) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra models)")
    plain = load(wanted(repo(kind, "bfloat16"), dtype="bfloat16"))
    loaded = load(wanted(repo(kind, "bfloat16"), dtype="auto", bits=bits))
    assert loaded.quantization == {4: "nf4", 8: "int8"}[bits]
    assert loaded.memory < plain.memory
    names = quantized_modules(loaded.model)
    assert names
    family = families.of(loaded.model.config.to_dict())
    eyes = family.vision if family else ()
    assert bool(eyes) == loaded.images
    assert not [n for n in names if n.startswith((*eyes, "lm_head"))]
    assert loaded.model.get_output_embeddings().weight.dtype == loaded.dtype == torch.bfloat16


def test_double_quantization_and_names_to_skip(repo: Repo) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra models)")
    loaded = load(wanted(repo("llama"), bits=4, double_quant=True, skip=("model.layers.0",)))
    assert loaded.quantization == "nf4-double"
    names = quantized_modules(loaded.model)
    assert names and all(n.startswith("model.layers.1.") for n in names)
    with pytest.raises(EngineError, match="quantized that must not be"):
        must_be_plain(loaded.wanted, loaded.model, ("model.layers.1.mlp",))


@pytest.mark.parametrize("kind", tiny.SEEING)
def test_an_unknown_family_is_asked_where_its_eyes_are(kind: str, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    found = repository.look(wanted(repo(kind)))
    config = read_config(found)
    known = families.of(found.config)
    assert known is not None
    made = getattr(transformers, found.config["architectures"][0])
    by_table = unquantized(found, made, config)
    assert (by_table.vision, by_table.head) == (known.vision, ("lm_head",))
    monkeypatch.setattr(families, "_FAMILIES", {})
    assert unquantized(found, made, config) == by_table


def test_what_is_stored_quantized_is_loaded_as_it_is(repo: Repo, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra models)")
    fresh = load(wanted(repo("qwen3_vl"), bits=4))
    kept = Path(shutil.copytree(repo("qwen3_vl"), tmp_path / "kept"))
    (kept / "model.safetensors").unlink()
    fresh.model.save_pretrained(kept)
    again = load(wanted(kept, dtype="auto"))
    assert again.quantization == "nf4"
    assert quantized_modules(again.model) == quantized_modules(fresh.model)
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        assert torch.equal(again.model(input_ids=ids).logits, fresh.model(input_ids=ids).logits)
    assert load(wanted(kept, dtype="auto", bits=4)).quantization == "nf4"
    assert refused(kept, bits=8).code == "unsupported"


def test_shards(repo: Repo, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(repo("llama"), tmp_path / "sharded"))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert load(wanted(folder)).memory == load(wanted(repo("llama"))).memory
    shards[1].unlink()
    error = refused(folder)
    assert error.code == "damaged"
    assert shards[1].name in error.reason
    assert "cachetui verify" in error.advice


@pytest.mark.parametrize("after", [0, 3, 9])
def test_it_can_be_stopped(after: int, repo: Repo) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > after

    with pytest.raises(Cancelled):
        load(wanted(repo("qwen3_vl")), cancelled=stop)
    assert len(asked) == after + 1
    assert load(wanted(repo("qwen3_vl"))).images


def test_weights_that_are_missing_are_not_made_up(copied: Callable[..., Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder = copied("llama")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    error = refused(folder)
    assert error.code == "damaged"
    assert "model.layers.1.mlp.up_proj.weight" in error.reason


def test_a_config_that_does_not_fit_its_weights(copied: Callable[..., Path]) -> None:
    folder = copied("llama")
    edit(folder / "config.json", intermediate_size=96)
    assert refused(folder).code == "damaged"
    edit(folder / "config.json", hidden_size="wide")
    assert refused(folder).code == "damaged"


def _code(folder: Path) -> None:
    """A repo with Python of its own."""
    (folder / "configuration_own.py").write_text(
        "from pathlib import Path\nfrom transformers import LlamaConfig\n"
        f"Path({str(folder.parent / 'ran')!r}).touch()\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own_thing'\n"
    )
    (folder / "modeling_own.py").write_text(
        "from transformers import LlamaForCausalLM\nfrom .configuration_own import OwnConfig\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    names = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    edit(folder / "config.json", model_type="own_thing", architectures=["OwnModel"], auto_map=names)


def test_code_of_strangers_runs_only_where_it_is_allowed(copied: Callable[..., Path]) -> None:
    folder = copied("llama")
    _code(folder)
    error = refused(folder)
    assert error.code == "remote-code"
    assert "--trust-remote-code" in error.advice
    assert not (folder.parent / "ran").exists()
    assert load(wanted(folder, trust_remote_code=True)).model_class == "OwnModel"
    assert (folder.parent / "ran").exists()


def test_a_native_model_needs_no_code_of_its_repo(copied: Callable[..., Path]) -> None:
    folder = copied("llama")
    _code(folder)
    edit(folder / "config.json", model_type="llama", architectures=["LlamaForCausalLM"])
    assert load(wanted(folder)).model_class == "LlamaForCausalLM"
    assert not (folder.parent / "ran").exists()


def test_a_tokenizer_of_strangers(copied: Callable[..., Path]) -> None:
    folder = copied("llama")
    (folder / "tokenization_own.py").write_text(f"open({str(folder.parent / 'ran')!r}, 'w')\n")
    (folder / "qwen.tiktoken").touch()
    (folder / "tokenizer.json").unlink()
    names = {"AutoTokenizer": ["tokenization_own.Own", None]}
    edit(folder / "tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=names)
    error = refused(folder)
    assert error.code == "remote-code"
    assert "--trust-remote-code" in error.advice
    assert not (folder.parent / "ran").exists()


def test_families_without_a_class_name_their_successor(copied: Callable[..., Path]) -> None:
    folder = copied("llama")
    for kind, family in families.foreign():
        assert kind not in transformers.CONFIG_MAPPING
        for brought in ({"AutoModel": "modeling.Own"}, {}):
            edit(folder / "config.json", model_type=kind, auto_map=brought)
            error = refused(folder)
            assert error.code == "remote-code"
            assert family.successor and family.successor in error.advice
            assert ("--trust-remote-code" in error.advice) == bool(brought)


def test_an_architecture_nobody_knows(copied: Callable[..., Path]) -> None:
    folder = copied("llama")
    edit(folder / "config.json", model_type="of_the_future")
    error = refused(folder)
    assert error.code == "unknown-architecture"
    assert "of_the_future" in error.reason


def test_layers_of_odd_shape_compute(repo: Repo) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra models)")
    loaded = load(wanted(repo("deepseek_v3"), bits=4))
    odd = [n for n in quantized_modules(loaded.model) if loaded.model.get_submodule(n).out_features % 32]
    assert odd
    with torch.no_grad():
        assert loaded.model(input_ids=torch.arange(5, 15)[None]).logits.isfinite().all()


_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma4": {"vision_config": {}, "audio_config": {}},
    "aya_vision": {"vision_config": {"model_type": "siglip_vision_model"}},
}


@pytest.mark.parametrize(("kind", "family"), [f for f in families.native() if f[0] != "gemma3n"])
def test_eyes_are_where_the_table_says(kind: str, family: families.Family) -> None:
    """gemma3n is left out: its eyes need a package of their own even without weights."""
    config = transformers.CONFIG_MAPPING[kind](**_DEFAULTS.get(kind, {}))
    for part in (config, getattr(config, "text_config", None)):
        if hasattr(part, "num_hidden_layers"):
            part.num_hidden_layers = 1
            if getattr(part, "layer_types", None):
                part.layer_types = part.layer_types[-1:]
    auto = transformers.AutoModelForMultimodalLM
    with torch.device("meta"):
        model = auto.from_config(config)
    names = {name for name, _ in model.named_modules()}
    assert set(family.vision) <= names
    assert all(f"{n}.".startswith(tuple(f"{v}." for v in family.vision)) for n in eyes(model))


def test_a_gpu_that_is_not_there(repo: Repo) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(EngineError) as caught:
        load(wanted(repo("llama"), device="cuda"))
    assert caught.value.code == "device"
    assert "--device cpu" in caught.value.advice


def test_no_room(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free", lambda device: 100_000)
    error = refused(repo("llama"))
    assert error.code == "no-memory"
    assert "--bits 4" in error.advice and "--dtype bfloat16" in error.advice
    with pytest.raises(RuntimeError) as real:
        torch.empty(1 << 50)
    assert devices.is_out_of_memory(real.value)
    assert not devices.is_out_of_memory(RuntimeError("shapes do not match"))


def test_16_bit_where_the_cpu_cannot(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "computes", lambda dtype: False)
    loaded = load(wanted(repo("llama", "bfloat16"), dtype="auto"))
    assert loaded.dtype == torch.float32
    assert "computed in float32" in loaded.notes[0]
    monkeypatch.setattr(devices, "_all_ram", lambda: loaded.memory)
    loaded = load(wanted(repo("llama", "bfloat16"), dtype="auto"))
    assert loaded.dtype == torch.bfloat16
    assert "slow" in loaded.notes[0]
    monkeypatch.setattr(devices, "computes", lambda dtype: True)
    assert load(wanted(repo("llama", "bfloat16"), dtype="auto")).notes == ()
    assert load(wanted(repo("llama"), dtype="auto")).dtype == torch.float32
    assert torch.get_num_threads() <= environment.cores()


def test_a_processor_that_needs_torchvision_says_so(copied: Callable[..., Path]) -> None:
    if processors.importlib.util.find_spec("torchvision"):
        pytest.skip("torchvision is here")
    folder = copied("qwen3_vl")
    edit(folder / "preprocessor_config.json", image_processor_type="Phi4MultimodalImageProcessor")
    error = refused(folder)
    assert (error.code, error.advice) == ("not-installed", "pip install torchvision")


def test_fp8_is_unpacked_on_a_cpu(repo: Repo, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    side = 64
    folder = Path(shutil.copytree(repo("llama", "bfloat16"), tmp_path / "fp8"))
    tensors: dict[str, Any] = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if ".layers." not in name or weight.dim() != 2:
            tensors[name] = weight
            continue
        rows, columns = (-(-n // side) for n in weight.shape)
        padded = torch.zeros(rows * side, columns * side)
        padded[: weight.shape[0], : weight.shape[1]] = weight.float()
        blocks = padded.view(rows, side, columns, side)
        scale = blocks.abs().amax(dim=(1, 3)) / 448
        small = (blocks / scale[:, None, :, None]).view_as(padded)[: weight.shape[0], : weight.shape[1]]
        tensors[name] = small.to(torch.float8_e4m3fn).contiguous()
        tensors[f"{name}_scale_inv"] = scale
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    how = {"quant_method": "fp8", "weight_block_size": [side, side], "activation_scheme": "dynamic", "fmt": "e4m3"}
    edit(folder / "config.json", quantization_config=how)
    plain, loaded = load(wanted(repo("llama", "bfloat16"), dtype="auto")), load(wanted(folder, dtype="auto"))
    assert loaded.quantization == "fp8"
    if str(loaded.device) == "cpu":
        assert "only GPUs" in loaded.notes[0]
        assert devices.need(loaded.wanted, repository.look(loaded.wanted), "cpu", "bfloat16") >= loaded.memory
    ids = torch.arange(5, 25)[None].to(loaded.device)
    with torch.no_grad():
        both = [m(input_ids=ids).logits.float().flatten() for m in (plain.model, loaded.model)]
    assert torch.corrcoef(torch.stack(both))[0, 1] > 0.98


@pytest.mark.parametrize(
    ("method", "code", "advice"),
    [
        ("gptq", "not-installed", "pip install optimum gptqmodel"),
        ("awq", "not-installed", "pip install gptqmodel"),
        ("compressed-tensors", "not-installed", "pip install compressed-tensors"),
        ("eetq", "unsupported", "another quantization"),
        ("higgs", "device", "another quantization"),
    ],
)
def test_what_a_stored_quantization_needs(method: str, code: str, advice: str, copied: Callable[..., Path]) -> None:
    if code == "not-installed" and all(processors.importlib.util.find_spec(n) for n in ("gptqmodel", "optimum")):
        pytest.skip("it is installed")
    folder = copied("llama")
    edit(folder / "config.json", quantization_config={"quant_method": method, "bits": 4})
    error = refused(folder)
    assert error.code == code
    assert advice in error.advice


def test_mlx_is_for_mlx(copied: Callable[..., Path]) -> None:
    folder = copied("llama")
    edit(folder / "config.json", quantization={"group_size": 64, "bits": 4})
    assert "cachetui[mlx]" in refused(folder).advice


def test_attention(repo: Repo) -> None:
    assert load(wanted(repo("llama"), attention="eager")).model.config._attn_implementation == "eager"
    assert refused(repo("llama"), attention="flash_attention_3").code == "not-installed"


def test_what_stands_before_a_model_is_missing(copied: Callable[..., Path]) -> None:
    folder = copied("qwen2_vl")
    (folder / "processor_config.json").unlink()
    assert load(wanted(folder)).images
    (folder / "preprocessor_config.json").unlink()
    error = refused(folder, repo="org/x")
    assert (error.code, "preprocessor_config.json" in error.reason) == ("missing-processor", True)
    assert "cachetui pull hf:org/x" in error.advice
    (folder / "tokenizer.json").write_text("{}")
    assert refused(folder).code == "missing-processor"
    (folder / "tokenizer.json").unlink()
    edit(folder / "tokenizer_config.json", tokenizer_class="Qwen2Tokenizer")
    assert len(transformers.AutoTokenizer.from_pretrained(folder)) < 10, "it is empty and says nothing"
    assert "vocabulary" in refused(folder).reason


def test_folders_as_they_are(repo: Repo, tmp_path: Path) -> None:
    """As the hub cache has them, as transformers 5 writes them, and under a name that is no text."""
    snapshot = tmp_path / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    for file in repo("smolvlm").iterdir():
        blob = tmp_path / "blobs" / file.name
        blob.parent.mkdir(exist_ok=True)
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    loaded = load(wanted(snapshot))
    saved = os.fsdecode(os.fsencode(tmp_path) + b"/saved \xff")
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.processor.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "preprocessor_config.json").exists()
    os.rename(tmp_path / "saved", saved)
    again = load(Wanted(saved, "x", dtype="float32"))
    assert again.processor.to_json_string() == loaded.processor.to_json_string()
    assert again.wanted.folder == saved


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_that_runs_out_is_no_traceback(copied: Callable[..., Path]) -> None:
    import resource

    folder = copied("llama")
    config = transformers.AutoConfig.from_pretrained(folder)
    config.intermediate_size, config.num_hidden_layers = 100_000, 1
    transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    assert load(wanted(folder)).memory > 70_000_000
    limit = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    try:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (60 << 20), limit[1]))
        error = refused(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
    assert error.code == "no-memory"
    assert "--bits 4" in error.advice


def test_the_link_to_a_drive_that_is_away(repo: Repo, tmp_path: Path) -> None:
    away = tmp_path / "drive" / "model"
    link = tmp_path / "model"
    link.symlink_to(away)
    error = refused(link)
    assert "is not there now" in error.reason
    assert "cachetui restore" in error.advice
    away.parent.mkdir()
    shutil.copytree(repo("llama"), away)
    assert load(wanted(link)).model_class == "LlamaForCausalLM"
    os.rename(away / "model.safetensors", away / "elsewhere")
    (away / "model.safetensors").symlink_to(tmp_path / "drive" / "nothing")
    assert "link to nothing" in refused(link).reason
