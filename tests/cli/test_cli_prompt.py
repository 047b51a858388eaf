"""prompt on the command line: what words mean, what streams, rows of many, and every refusal with its command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_terminal import Terminal
from cli_world import Run
from click.testing import CliRunner

from cachetui.cli import cli, prompt_run, prompt_show
from cachetui.cli.common import Session
from cachetui.demo.builders import Hub, OllamaStore, gguf_bytes, safetensors_bytes
from cachetui.jobs.child import Settings
from cachetui.jobs.warm import Pool
from cachetui.states import Identity, Image, StateInfo, form, write

WORKER = str(Path(__file__).with_name("prompt_worker.py"))
WEIGHTS = safetensors_bytes({"w": ("BF16", (40, 50))})
SEES = {"model_type": "qwen3_vl", "architectures": ["Qwen3VLForConditionalGeneration"], "vision_config": {}}
READS = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


def files(config: dict[str, Any], **more: bytes) -> dict[str, bytes]:
    """Of a repo that loads."""
    return {"config.json": json.dumps(config).encode(), "model.safetensors": WEIGHTS, **more}


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Two models; prompts go to the stand-in worker."""

    @contextmanager
    def pool_of(session: Session) -> Iterator[Pool]:
        pool = Pool(settings=Settings(command=lambda kind: [sys.executable, WORKER]))
        yield pool
        pool.close()

    monkeypatch.setattr(prompt_run, "pool_of", pool_of)
    monkeypatch.setattr("cachetui.cli.prompt_states.pool_of", pool_of)
    made = Hub(home / ".cache/huggingface/hub")
    made.repo("Qwen/Qwen3-VL-2B-Instruct").revision(files(SEES))
    made.repo("org/reads").revision(files(READS))
    (home / "cat.png").write_bytes(b"\x89PNG")
    return made


def asked(out: str) -> dict[str, Any]:
    """What the worker was told, from its answer."""
    found = json.loads(out[out.index("{") : out.rindex("}") + 1])
    assert isinstance(found, dict)
    return found


def test_an_answer_streams_and_its_figures_go_to_stderr(hub: Hub, run: Run) -> None:
    answer = run("prompt", "org/reads", "What is it?")
    assert answer.out.startswith("Red.\n\\x1b]0;owned\\x07 {") and answer.out.endswith("}\n")
    for words in (
        "12 tokens, 16.0 a second", "the first after 0.2 s", "no saved state", "model loaded in", "(cpu, bfloat16)",
        "be brief",
    ):  # fmt: skip
        assert words in answer.err
    told = asked(answer.out)
    assert told["text"] == "What is it?" and told["images"] == [] and not told["auto_state"]
    assert (told["max_new_tokens"], told["temperature"], told["seed"], told["system"]) == (128, 0.0, 0, "")


CAT = "cat.png"


@pytest.mark.parametrize(
    "words",
    [
        ("qwen3", "Hi there", "--image", CAT),
        ("Qwen/Qwen3-VL-2B-Instruct", "Hi there", "--image", CAT),
        ("--model", "qwen3", "Hi there", "--image", CAT),
        ("--model", "Qwen/Qwen3-VL-2B-Instruct", "--prompt", "Hi there", "--image", CAT),
        ("qwen3", "--prompt", "Hi there", "--image", CAT),
        ("Hi there", "--image", CAT),
        ("--prompt", "Hi there", "--image", CAT),
    ],
)
def test_spellings_of_one_question(hub: Hub, run: Run, home: Path, words: tuple[str, ...]) -> None:
    told = asked(run("prompt", *words).out)
    assert (told["text"], told["images"]) == ("Hi there", [str(home / CAT)])


def test_spellings_of_options(hub: Hub, run: Run) -> None:
    told = asked(run("prompt", "qwen3", "Hi", "--max_new_tokens", "7", "--system_prompt", "Be", "--seed", "3",
                     "--temperature", "0.5", "--max_pixels", "99", "--image", "noise").out)  # fmt: skip
    assert (told["max_new_tokens"], told["system"], told["seed"], told["temperature"]) == (7, "Be", 3, 0.5)
    assert (told["max_pixels"], told["resize"], told["images"]) == (99, None, ["noise"])
    assert asked(run("prompt", "qwen3", "Hi", "--resize", "64x48").out)["resize"] == [64, 48]
    assert asked(run("prompt", "qwen3", "--mode", "noise").out)["images"] == ["noise"]
    assert asked(run("prompt", "qwen3", "--mode", "noise").out)["text"] == "Describe this image."
    assert asked(run("prompt", "qwen3", stdin="piped in\n").out)["text"] == "piped in"


@pytest.mark.parametrize("words", [("--all",), ("--model", "all"), ("qwen3", "org/reads"), ("org/reads", "qwen3", "Q")])
def test_many_models_are_a_row_each(hub: Hub, run: Run, words: tuple[str, ...]) -> None:
    answer = run("prompt", *words)
    lines = answer.out.splitlines()
    assert lines[0].split() == ["model", "loads", "in", "memory", "tokens/s", "first", "says"]
    assert {line.split()[0]: line.split()[1] for line in lines[1:3]} == {
        "Qwen/Qwen3-VL-2B-Instruct": "yes",
        "org/reads": "yes",
    }
    assert "2 asked, 2 answered" in answer.out
    if "--all" in words:
        assert "Not on disk (cachetui pull):\n" in answer.err and "\n  hf:llava-hf/llava-1.5-7b-hf\n" in answer.err
        assert "Qwen3-VL-2B-Instruct" not in answer.err.partition("Not on disk")[2]


def test_a_smoke_test_asks_about_noise_what_sees(hub: Hub, run: Run) -> None:
    rows = run("prompt", "--all", "--json").data["rows"]
    told = {r["name"]: asked(r["text"]) for r in rows}
    assert (told["Qwen/Qwen3-VL-2B-Instruct"]["text"], told["Qwen/Qwen3-VL-2B-Instruct"]["images"]) == (
        "Describe this image.",
        ["noise"],
    )
    assert (told["org/reads"]["text"], told["org/reads"]["images"]) == ("Say hello in one sentence.", [])
    assert all(r["memory"] > 1_000_000 and r["load_seconds"] > 0 for r in rows)
    only = run("prompt", "--model", "all", "--mode", "noise", "--json").data
    assert [r["name"] for r in only["rows"]] == ["Qwen/Qwen3-VL-2B-Instruct"]


def test_a_smoke_test_goes_on_after_failures(hub: Hub, run: Run) -> None:
    hub.repo("org/heavy").revision(files(READS))
    hub.repo("org/dies").revision(files(READS))
    hub.repo("org/pickled").revision({"config.json": json.dumps(READS).encode(), "model.bin": b"x" * 999})
    quants = {f"m-{q}.gguf": gguf_bytes({"general.architecture": "llama"}, n) for q, n in (("Q4", 900), ("Q8", 1900))}
    hub.repo("org/quants").revision(quants)
    hub.repo("org/encoder").revision(files({"model_type": "bert", "architectures": ["BertModel"]}))
    hub.repo("org/rows", "dataset").revision({"a.parquet": b"PAR1"})
    answer = run("prompt", "--all", code=1)
    assert "6 asked, 3 answered, 3 failed" in answer.out
    assert "org/heavy: org/heavy does not fit\\x1b[2J\n  take --bits 4" in answer.out
    assert "exit code 5" in answer.out
    assert "org/pickled: its weights are pytorch; only safetensors are loaded" in answer.out
    assert "org/quants:m-Q4.gguf " in answer.out
    assert "encoder" not in answer.out and "rows" not in answer.out
    named = run("prompt", "org/heavy", "nothing/here", "qwen3", "Hi", code=1)
    assert "3 asked, 1 answered, 2 failed" in named.out and "nothing here is called nothing/here" in named.out


def test_what_does_not_go_in_is_not_tried_unless_it_is_meant(
    hub: Hub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cachetui.jobs.warm.free_memory", lambda device: 1000)
    every = run("prompt", "--all", "--json", code=1).data["rows"]
    assert all(r["reason"].startswith("not tried: it needs about ") for r in every) and len(every) == 2
    assert all("cachetui estimate --all tells what fits" in r["advice"] for r in every)
    one = run("prompt", "org/reads", "Hi there")
    assert "org/reads needs about" in one.err and "1.0 kB are free" in one.err and "Trying it all the same" in one.err
    loads = run("verify", "--load", "--json").data["rows"]
    assert [r["outcome"] for r in loads] == ["not checked"] * 2


def test_one_json_object(hub: Hub, run: Run) -> None:
    found = run("prompt", "org/reads", "Hi", "--json").data
    assert (found["verb"], found["target"], found["works"], found["tokens"]) == ("prompt", "hf:org/reads", True, 12)
    assert found["text"].startswith("Red.\n\x1b]0;owned") and found["finish"] == "stop" and found["state"] is None
    hub.repo("org/heavy").revision(files(READS))
    failed = run("prompt", "org/heavy", "Hi", "--json", code=1).data
    assert (failed["works"], failed["code"], failed["advice"]) == (False, "no-memory", "take --bits 4")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("qwen3", "Hi", "--image", "gone.png"), 2, "--image: there is no file"),
        (("qwen3", "Hi", "--resize", "big"), 2, "write 640x480"),
        (("qwen3", "Hi", "--resize", "8x8", "--max-pixels", "9"), 2, "not both"),
        (("qwen3", "Hi", "--device", "tpu"), 2, "there are auto, cpu"),
        (("qwen3", "Hi", "--dtype", "int3"), 2, "there are auto, float32"),
        (("--all", "--trust-remote-code"), 2, "for models that are named"),
        (("qwen3", "Q", "--all"), 2, "leave the names out"),
        (("org/reads",), 2, "nothing is asked"),
        (("hf:org/nowhere", "Hi"), 1, "cachetui prompt hf:org/nowhere --pull"),
        (("llava", "Hi"), 1, "cachetui prompt hf:llava-hf/llava-1.5-7b-hf --pull   (about "),
        (("Hello",), 1, "If that is what you ask: cachetui prompt --prompt Hello"),
        (("Qwen/Qwen3-VL-70B", "Hi"), 1, "no such model was published; nearest are Qwen/Qwen3-VL-32B-Instruct"),
    ],
)
def test_what_cannot_be_says_what_to_type(hub: Hub, run: Run, words: tuple[str, ...], code: int, says: str) -> None:
    assert says in run("prompt", *words, code=code).err


def test_models_that_cannot_be_asked_say_why(hub: Hub, run: Run, home: Path) -> None:
    def refusal(target: str) -> str:
        return run("prompt", target, "Hi there", code=1).err

    hub.repo("org/rows", "dataset").revision({"a.parquet": b"PAR1"})
    assert "it is a dataset, not a model" in refusal("hf:datasets/org/rows")
    hub.repo("org/shards").revision(
        files(READS) | {"model.safetensors.index.json": b'{"weight_map": {"a": "gone-1.safetensors"}}'}
    )
    assert "gone-1.safetensors is missing\nfetch the rest: cachetui pull hf:org/shards" in refusal("org/shards")
    hub.repo("org/phi").revision(files({"model_type": "phi3_v"}))
    assert "--trust-remote-code" in refusal("org/phi") and "Phi-4" in refusal("org/phi")
    assert run("prompt", "org/phi", "Hi there", "--trust-remote-code").code == 0
    hub.repo("org/lora").revision(
        {"adapter_config.json": b'{"base_model_name_or_path": "org/base"}', "adapter_model.safetensors": WEIGHTS}
    )
    assert "an adapter for org/base" in refusal("org/lora")
    quants = {f"m-{q}.gguf": gguf_bytes({"general.architecture": "llama"}, n) for q, n in (("Q4", 900), ("Q8", 1900))}
    hub.repo("org/quants").revision(quants)
    assert "hf:org/quants:m-Q4.gguf  hf:org/quants:m-Q8.gguf" in refusal("org/quants")
    stored = run("prompt", "hf:org/quants:m-Q8.gguf", "Hi there", "--bits", "4")
    assert "--bits is for transformers; gguf runs org/quants:m-Q8.gguf as it is." in stored.err
    assert refusal("hf:org/shards:config.json").count("one file of it") == 1


def test_short_names_work_wherever_a_target_is_taken(hub: Hub, run: Run) -> None:
    assert "Qwen/Qwen3-VL-2B-Instruct" in run("show", "qwen3").out
    assert run("verify", "qwen3", "--json").data["verdicts"][0]["id"] == "hf:Qwen/Qwen3-VL-2B-Instruct"
    assert "Qwen3-VL-2B" in run("rm", "qwen3", "--dry-run").out
    for short in ("qwen2", "qwen2.5", "llava", "internvl", "phi3", "minicpm", "tinyllama", "phi2", "gemma", "mistral"):
        assert f"{short} is not on disk; to get it:\n  cachetui pull hf:" in run("show", short, code=1).err
    hub.repo("Qwen/Qwen3-VL-8B-Instruct").revision(files(SEES))
    several = run("prompt", "qwen3", "Hi", code=1).err
    assert "write one of\n  hf:Qwen/Qwen3-VL-2B-Instruct\n  hf:Qwen/Qwen3-VL-8B-Instruct" in several
    hub.repo("org/qwen3").revision(files(READS))
    assert run("prompt", "org/qwen3", "Hi").code == 0


def state(path: Path, **identity: Any) -> Path:
    """A saved state with one tensor."""
    who = Identity(repo="Qwen/Qwen3-VL-2B-Instruct", images=(Image("cat.png", "0" * 64, 8, 8),), **identity)
    info = StateInfo(str(path), who, 72, 0, 1.7e9, "Qwen/Qwen3-VL-2B-Instruct", "cpu", "test", ())
    write(info, [form.Raw("ids", "I64", (1, 2), bytes(16))])
    return path


def test_a_state_names_its_model_and_how_it_was_loaded(hub: Hub, run: Run, home: Path) -> None:
    file = state(home / "photo_cache.pt", quantization="nf4-double", dtype="bfloat16")
    for words in (("--state", file.name), ("--cache", str(file)), ("qwen3", "--state", file.name)):
        *target, option, given = words
        answer = run("prompt", *target, "How many?", option, given)
        assert asked(answer.out)["state"] == str(file)
        assert "from the saved state photo_cache.pt, loaded in 4 ms" in answer.err


def test_a_state_is_a_target_too(hub: Hub, run: Run, home: Path) -> None:
    from cachetui import state_folders

    (home / "caches").mkdir()
    file = state(home / "caches/cat.safetensors")
    state_folders.remember(str(file.parent))
    for target in ("state:cat.safetensors", "caches/cat.safetensors"):
        told = asked(run("prompt", target, "How many?").out)
        assert (told["state"], told["text"]) == (str(file), "How many?")
    assert "--pull" not in run("prompt", "state:gone", "Hi there", code=1).err


def test_one_question_to_many_states(hub: Hub, run: Run, home: Path) -> None:
    folder = home / "caches"
    folder.mkdir()
    for name in ("b_cache.pt", "a.safetensors"):
        state(folder / name)
    (folder / "notes.txt").write_text("no state")
    answer = run("prompt", "How many?", "--state", "caches")
    lines = answer.out.splitlines()
    assert lines[0].split() == ["state", "tokens", "loaded", "in", "first", "says"]
    assert [line.split()[:4] for line in lines[1:3]] == [
        ["a.safetensors", "72", "4", "ms"],
        ["b_cache.pt", "72", "4", "ms"],
    ]
    bad = home / "torch.pt"
    bad.write_bytes(b"PK\x03\x04" + bytes(100))
    rows = run("prompt", "Q", "--state", "caches/a.safetensors", "--state", "torch.pt", "--json", code=1).data["rows"]
    assert [r["works"] for r in rows] == [True, False]
    assert rows[0]["memory"] > 1_000_000
    assert "never unpickled" in rows[1]["reason"] and "cachetui state save" in rows[1]["advice"]
    alone = run("prompt", "Q", "--state", "torch.pt", code=1)
    assert "never unpickled" in alone.err and "make it again with: cachetui state save" in alone.err
    assert "there is no saved state in it" in run("prompt", "Q", "--state", str(hub.path), code=1).err


def test_ollama_goes_to_its_server(hub: Hub, run: Run, home: Path) -> None:
    store = OllamaStore(home / ".ollama/models")
    store.model("llama3.2:latest", {"model": gguf_bytes({"general.architecture": "llama"}, 3000)})
    assert run("prompt", "ollama:llama3.2", "Hi there", "--json").data["engine"] == "ollama"


def test_no_torch_in_this_process(hub: Hub, home: Path) -> None:
    """Neither in the UI, nor in `ls`, nor in a prompt's own process."""
    program = (
        "import sys, pkgutil, importlib\n"
        "from cachetui.cli import VERBS, cli\n"
        "import cachetui.cli, cachetui.tui, cachetui.jobs, cachetui.memory\n"
        "for args in (['ls'], ['prompt', 'org/nothing', 'Hi'], ['prompt', 'org/heavy', 'Hi', '--json']):\n"
        "    try: cli.main(args)\n"
        "    except SystemExit: pass\n"
        "for package in (cachetui.cli, cachetui.tui, cachetui.jobs, cachetui.memory):\n"
        "    names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + '.')]\n"
        "    for name in names: importlib.import_module(name)\n"
        "heavy = {'torch', 'transformers', 'bitsandbytes', 'safetensors', 'xllamacpp', 'mlx', 'cachetui.engine'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, text=True, cwd=home)
    assert done.returncode == 0, done.stderr[-500:]


def test_control_c_stops_the_answer(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    write = prompt_show.Stream.write

    def then_interrupt(self: prompt_show.Stream, piece: str) -> None:
        write(self, piece)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(prompt_show.Stream, "write", then_interrupt)
    result = CliRunner().invoke(cli, ["prompt", "org/reads", "stop at once"], prog_name="cachetui")
    assert result.exit_code == 130
    assert result.stdout == "Red.\n" and "Stopped." in result.stderr


def test_a_conversation(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal without a text; Control-D ends it. Without the engine each answer is its advice."""
    Hub(home / ".cache/huggingface/hub").repo("org/reads").revision(files(READS))
    terminal = Terminal("prompt", "org/reads")
    terminal.until("Control-D ends.")
    terminal.until("> ")
    terminal.send("\x04")
    terminal.until()
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]) == 0


def test_on_a_terminal_what_is_not_here_is_offered_for_download(hub: Hub) -> None:
    terminal = Terminal("prompt", "hf:org/nowhere", "Hi", HF_HUB_OFFLINE="1")
    terminal.until("See what downloading hf:org/nowhere takes? [y/N]")
    terminal.send("n\n")
    assert terminal.wait() == 1
    assert b"cachetui prompt hf:org/nowhere --pull" in terminal.seen
    terminal = Terminal("prompt", "hf:org/nowhere", "Hi", HF_HUB_OFFLINE="1")
    terminal.until("[y/N]")
    terminal.send("y\n")
    assert terminal.wait() == 1
    assert b"HF_HUB_OFFLINE" in terminal.seen


def test_a_load_check_of_what_cannot_be_loaded(hub: Hub, run: Run) -> None:
    hub.repo("org/pickled").revision({"config.json": json.dumps(READS).encode(), "model.bin": b"x" * 999})
    hub.repo("org/rows", "dataset").revision({"a.parquet": b"PAR1"})
    named = run("verify", "--load", "org/pickled", "hf:datasets/org/rows", code=1)
    assert named.out.startswith("not checked  hf:org/pickled\n             its weights are pytorch")
    assert "it is a dataset, not a model" in named.out and "2 not checked" in named.out
    assert "compares no hashes" in run("verify", "--load", "--full", code=2).err
    rows = run("verify", "--load", "--filter", "size<1", "--json", code=1)
    assert "no model here that could be loaded" in rows.err
