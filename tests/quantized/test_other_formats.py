"""MLX and GGUF beside bitsandbytes: the same entry, manifest and key; made, asked, killed, known by name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from needs import needs

from cachetui.cli import cli
from cachetui.demo.builders import Hub
from cachetui.quantized_entries import check, entries

torch = needs("torch", reason="needs torch (extra models)")
needs("transformers", reason="needs transformers (extra models)")
pytestmark = pytest.mark.models

sys.path.append(str(Path(__file__).parents[1] / "engine"))
QUESTION = "what colour is this picture? red green"


def run(*args: str, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == code, (done.exit_code, done.stdout, done.stderr, done.exception)
    assert "Traceback" not in done.output
    return done


def data(*args: str, code: int = 0) -> Any:
    return json.loads(run(*args, "--json", code=code).stdout)


@pytest.fixture(scope="module")
def repos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of tiny models in 32 bits."""
    import tiny

    torch.set_num_threads(1)
    base = tmp_path_factory.mktemp("repos")
    kinds = {
        "llama": tiny.KINDS["llama"], "qwen3": tiny.KINDS["qwen3"], "gpt2": tiny.KINDS["gpt2"],
        "qwen2": tiny._plain("qwen2", use_sliding_window=False),
        "mistral": tiny._plain("mistral", sliding_window=None),
        "llama3": tiny._plain(
            "llama", tie_word_embeddings=True, rope_parameters={
                "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
            },
        ),
    }  # fmt: skip
    before = dict(tiny.KINDS)
    tiny.KINDS.update(kinds)
    try:
        for name in kinds:
            tiny.build(name, base / name)
    finally:
        tiny.KINDS.clear()
        tiny.KINDS.update(before)
    return base


def put(home: Path, folder: Path) -> str:
    """The model in the hub cache; its TARGET."""
    name = f"tests/{folder.name}"
    Hub(home / ".cache/huggingface/hub").repo(name).revision({p.name: p.read_bytes() for p in folder.iterdir()})
    return f"hf:{name}"


def nothing_left(home: Path) -> bool:
    kept = home / ".cache/qwen_quantized"
    return not kept.is_dir() or [p.name for p in kept.iterdir()] in ([], [".cachetui-locks"])


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "llama3"])
def test_a_converted_model_answers_as_the_original_does(kind: str, repos: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="needs gguf (extra gguf)")
    pytest.importorskip("xllamacpp", reason="needs xllamacpp (extra gguf)")
    from cachetui.engine import gguf_engine, prompting, repository
    from cachetui.engine.gguf_converting import convert
    from cachetui.engine.loading import load
    from cachetui.engine.progress import Reporter
    from cachetui.wanted import Wanted

    wanted = Wanted(str(repos / kind), kind)
    path = tmp_path / "plain.gguf"
    convert(repository.look(wanted), str(path), Reporter(None, None))
    question = prompting.Question(QUESTION, max_new_tokens=20)
    original = prompting.ask(load(wanted), question)
    converted = gguf_engine.ask(gguf_engine.load(str(path)), question)
    assert converted.prompt_tokens == original.prompt_tokens and len(original.text) > 20
    # Bytes that are no text are shown by each engine in its own way.
    assert converted.text.replace("\ufffd", "") == original.text.replace("\ufffd", "")


def test_gguf_from_the_plan_to_the_answer(home: Path, repos: Path) -> None:
    pytest.importorskip("libgguf", reason="needs libgguf (extra gguf)")
    pytest.importorskip("xllamacpp", reason="needs xllamacpp (extra gguf)")
    target = put(home, repos / "llama")
    plan = data("quantize", target, "--format", "gguf", "--type", "q8_0", "--dry-run")["plan"]
    assert (plan["format"], plan["quantization"], plan["refused"]) == ("gguf", "Q8_0", [])
    made = run("quantize", target, "--format", "gguf", "--type", "q8_0", "-y").stdout
    (entry,) = entries(str(home / ".cache/qwen_quantized"))
    manifest = entry.manifest
    assert manifest is not None and check(entry.path, full=True) and manifest.key == plan["key"]
    assert manifest.identity.method == "gguf" and set(manifest.identity.libraries) == {"gguf", "libgguf"}
    files = {f.path: f.size for f in manifest.files}
    assert set(files) == {"llama-Q8_0.gguf", "Modelfile"}
    from cachetui.memory import headers

    tensors = headers.gguf_tensors(f"{entry.path}/llama-Q8_0.gguf")
    assert sum(t.size for t in tensors) == plan["size"]
    assert f"ollama create llama-q8_0 -f {entry.path}/Modelfile" in made
    assert Path(entry.path, "Modelfile").read_text() == "FROM ./llama-Q8_0.gguf\n"
    short = f"quant:{manifest.key[:12]}"
    told = run("prompt", short, QUESTION, "--max-new-tokens", "6")
    assert "6 tokens" in told.stderr and "Q8_0" in told.stderr
    shown = run("show", short).stdout
    assert "gguf, Q8_0" in shown and f"cachetui quantize {target} --format gguf --type Q8_0" in shown
    again = data("quantize", target, "--format", "gguf", "--type", "Q8_0")
    assert again["plan"]["there"] and again["outcome"] is None
    other = data("quantize", target, "--format", "gguf", "--dry-run")["plan"]
    assert other["quantization"] == "Q4_K_M" and other["key"] != plan["key"]


def test_every_mix_weighs_what_the_plan_says(repos: Path, tmp_path: Path) -> None:
    pytest.importorskip("libgguf", reason="needs libgguf (extra gguf)")
    from cachetui.engine import gguf_quantizing, repository
    from cachetui.engine.progress import Reporter
    from cachetui.memory import headers
    from cachetui.memory.weights import alike, untied
    from cachetui.quantized_entries.ways import GGUF, TYPES, Way, size
    from cachetui.wanted import Wanted

    for kind in ("qwen3", "llama3"):
        wanted = Wanted(str(repos / kind), kind)
        repo = repository.look(wanted)
        kept = untied(alike(repo.tensors), repo.config)
        for type_ in TYPES:
            way, folder = Way(GGUF, type=type_), tmp_path / f"{kind}-{type_}"
            folder.mkdir()
            gguf_quantizing.quantize(wanted, way, str(folder), Reporter(None, None))
            tensors = headers.gguf_tensors(str(folder / f"{kind}-{type_}.gguf"))
            written = sum(t.size for t in tensors if t.name != "rope_freqs.weight")
            assert written == size(way, kept, repo.config, "float32"), (kind, type_)


def test_mlx_is_made_and_found_by_name(home: Path, repos: Path) -> None:
    pytest.importorskip("mlx_lm", reason="needs mlx_lm (extra mlx)")
    target = put(home, repos / "llama")
    command = ("quantize", target, "--format", "mlx", "--name", "me/llama-4bit")
    made = data(*command, "-y")
    plan, outcome = made["plan"], made["outcome"]
    (entry,) = entries(str(home / ".cache/qwen_quantized"))
    manifest = entry.manifest
    assert manifest is not None and check(entry.path, full=True) and manifest.key == plan["key"]
    assert set(manifest.identity.libraries) == {"mlx", "mlx-lm"}
    assert manifest.identity.settings == {"bits": 4, "group_size": 64, "mode": "affine"}
    from cachetui.memory import headers

    tensors = headers.safetensors(f"{entry.path}/model.safetensors")
    assert sum(t.size for t in tensors) == plan["size"]
    repo = home / ".cache/huggingface/hub/models--me--llama-4bit"
    assert outcome["named"].startswith(f"{repo}/snapshots/")
    assert data("verify", "hf:me/llama-4bit", "--full")["counts"]["intact"] == 1
    assert {i["id"] for i in data("ls")["items"]} >= {"hf:me/llama-4bit", f"quant:{manifest.key[:12]}"}
    again = data(*command)
    assert again["plan"]["there"] and again["outcome"] is None
    other = run("quantize", target, "--format", "mlx", "--bits", "8", "--name", "me/llama-4bit", code=1)
    assert "is in" in other.stdout and "choose another --name" in other.stdout

    flat = home / ".cache/huggingface/hub/models--me--flat"
    flat.mkdir()
    for f in manifest.files:
        (flat / f.path).write_bytes(Path(entry.path, f.path).read_bytes())
    told = run("show", "hf:me/flat").stdout
    assert "a model lies in it directly" in told and "MLX 4-bit" in told
    run("adopt", "hf:me/flat", "-y", "--include", "young")
    script = (
        "import huggingface_hub, mlx_lm\n"
        "cache = huggingface_hub.scan_cache_dir()\n"
        "assert not cache.warnings, cache.warnings\n"
        "assert {'me/flat', 'me/llama-4bit'} <= {r.repo_id for r in cache.repos}\n"
        "said = set()\n"
        "for name in ('me/flat', 'me/llama-4bit'):\n"
        "    model, tokenizer = mlx_lm.load(name)\n"
        "    said.add(mlx_lm.generate(model, tokenizer, prompt='the quick', max_tokens=4))\n"
        "assert len(said) == 1 and said != {''}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_stopping_mlx_ends_the_program_and_leaves_nothing(home: Path, repos: Path) -> None:
    pytest.importorskip("mlx_lm", reason="needs mlx_lm (extra mlx)")
    from cachetui.engine import entries as engine
    from cachetui.engine.errors import Cancelled
    from cachetui.quantized_entries.ways import MLX, Way
    from cachetui.wanted import Wanted

    stop = threading.Event()
    seen: list[str] = []

    def progress(phase: str, done: int, total: int, name: str) -> None:
        seen.append(phase)
        if seen.count("convert") > 3:
            stop.set()

    kept = home / ".cache/qwen_quantized"
    with pytest.raises(Cancelled):
        engine.ensure(
            Wanted(str(repos / "llama"), "llama"), str(kept), way=Way(MLX), progress=progress, cancelled=stop.is_set
        )
    assert "convert" in seen and nothing_left(home)
    assert not subprocess.run(["pgrep", "-f", f"mlx-path {kept}"], capture_output=True, text=True).stdout


def test_a_killed_run_leaves_no_entry(home: Path, repos: Path) -> None:
    pytest.importorskip("libgguf", reason="needs libgguf (extra gguf)")
    target = put(home, repos / "llama")
    command = [sys.executable, "-m", "cachetui", "quantize", target, "--format", "gguf", "-y"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    kept = home / ".cache/qwen_quantized"
    while process.poll() is None and not list(kept.glob(".cachetui-making-*")):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert all(e.kind != "entry" or check(e.path, full=True) for e in entries(str(kept)))
    assert "interrupted" not in run("quantize", target, "--format", "gguf", "-y").stderr
    (entry,) = entries(str(kept))
    assert entry.kind == "entry" and check(entry.path, full=True)


def test_what_cannot_be_made_says_why(home: Path, repos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    target = put(home, repos / "gpt2")
    plan = run("quantize", target, "--format", "gguf", "-y", code=1)
    assert "GPT2LMHeadModel is not among those" in plan.stdout and "convert_hf_to_gguf.py" in plan.stdout
    model = put(home, repos / "llama")
    monkeypatch.setattr("cachetui.quantized_entries.ways.version", lambda name: "")
    for name in ("mlx", "gguf"):
        refused = data("quantize", model, "--format", name, "--dry-run")["plan"]["refused"]
        assert [r["code"] for r in refused] == ["not-installed"]
        assert f"pip install 'cachetui[{name}]'" in refused[0]["advice"]
    for words in (
        ("--format", "gguf", "--bits", "8"), ("--format", "mlx", "--rank", "4"), ("--type", "Q6_K"),
        ("--name", "me/x"), ("--format", "mlx", "--name", "nothing"), ("--format", "gguf", "--skip", "lm_head"),
    ):  # fmt: skip
        assert run("quantize", model, *words, code=2).stderr


def test_llama_cpp_s_own_tools_are_taken_where_they_are_on_path(
    home: Path, repos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A converter that does what llama.cpp's does, for an architecture that is not converted here."""
    pytest.importorskip("libgguf", reason="needs libgguf (extra gguf)")
    from cachetui.engine import entries as engine
    from cachetui.engine.errors import EngineError
    from cachetui.quantized_entries.ways import GGUF, Way
    from cachetui.wanted import Wanted

    plain = tmp_path / "plain.gguf"
    from cachetui.engine import repository
    from cachetui.engine.gguf_converting import convert
    from cachetui.engine.progress import Reporter

    convert(repository.look(Wanted(str(repos / "llama"), "llama")), str(plain), Reporter(None, None))
    tools = tmp_path / "bin"
    tools.mkdir()
    script = tools / "convert_hf_to_gguf.py"
    script.write_text(f'#!/bin/sh\nwhile [ "$1" != --outfile ]; do shift; done\ncp {plain} "$2"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    wanted, kept = Wanted(str(repos / "gpt2"), "gpt2"), str(home / ".cache/qwen_quantized")
    had = engine.ensure(wanted, kept, way=Way(GGUF))
    manifest = had.entry.manifest
    assert manifest is not None and {f.path for f in manifest.files} == {"gpt2-Q4_K_M.gguf", "Modelfile"}
    script.write_text('#!/bin/sh\necho "ERROR: no such architecture" >&2\nexit 3\n')
    other = replace(manifest.identity, settings={**manifest.identity.settings, "converter": "another"})
    assert other.key != manifest.key
    with pytest.raises(EngineError, match="ERROR: no such architecture"):
        engine.ensure(wanted, kept, way=Way(GGUF))
    assert len(entries(kept)) == 1
