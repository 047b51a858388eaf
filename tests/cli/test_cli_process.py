"""The program as a process: exit codes, terminals, pipes, imports, and names that attack."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from cli_shape import LS, SHOW, fits
from cli_terminal import Terminal
from cli_world import Run, World

from cachetui.cli import SECOND_NAMES, VERBS, common
from cachetui.demo.builders import Hub

ATTACKS = (
    "models--a\x1b]52;c;ZXZpbA==\x07--b", "models--[@click=app.quit]x--y", "models--\x9b31mred", "models--new\nline",
    "models--\u202egnp", "models--" + "z" * 240, "models--wide\u3000\u200bzero", "models--[--foo]", "models--back\\x41",
    "models--c\rr", "datasets--del\x7f\x08",
)  # fmt: skip
RAW = (b"models--not\xffutf8", b"models--\xc3(--\xe2\x28\xa1", b"models--\xed\xa0\x80")


def terminal(args: Sequence[str], **env: str) -> tuple[int, str]:
    it = Terminal(*args, **env)
    return it.wait(), it.seen.decode()


def test_ls_imports_neither_the_interface_nor_the_engine(world: World) -> None:
    code = (
        "import sys\nfrom cachetui.cli import cli\n"
        "try:\n    cli.main(['ls', *sys.argv[1:]])\n"
        "finally:\n    print(sorted(m for m in sys.modules if '.' not in m), file=sys.stderr)\n"
    )
    for options in ([], ["--json"], ["--problems", "--files"], ["--filter", "size>1"]):
        done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=True)
        loaded = set(done.stderr.split("'"))
        assert "cachetui" in loaded
        assert not loaded & {"textual", "torch", "transformers", "huggingface_hub", "rich", "numpy", "ollama"}


@pytest.mark.parametrize("verb", [*VERBS, *SECOND_NAMES])
def test_every_verb_has_help_with_an_example(run: Run, verb: str) -> None:
    text = run(verb, "--help").out
    assert "Examples:" in text
    assert "cachetui " + SECOND_NAMES.get(verb, verb) in text
    assert run(verb, "-h").out == text


def test_the_help_names_every_verb(spawn: Run) -> None:
    text = spawn("--help").out
    assert all(f" {verb} " in text for verb in VERBS)
    assert "\x1b" not in text
    assert spawn("--version").out.startswith("cachetui ")


@pytest.mark.parametrize(
    ("args", "code"),
    [(["ls"], 0), (["ls", "--filter", "size>1TB"], 0), (["show", "hf:no/such"], 1), (["rm", "hf:org/plain"], 2),
     (["nope"], 2), (["ls", "--nope"], 2), ([], 2), (["rm"], 2), (["trash", "nope"], 2), (["undo", "-y"], 1),
     (["--cache-dir", "x", "ls"], 2), (["trash", "--json", "restore", "x"], 2)],
)  # fmt: skip
def test_exit_codes(world: World, spawn: Run, args: list[str], code: int) -> None:
    answer = spawn(*args, code=code)
    assert "\x1b" not in answer.out + answer.err
    assert "Traceback" not in answer.err
    if code:
        assert answer.err


def test_no_escape_sequence_without_a_terminal_or_with_no_color(world: World, spawn: Run) -> None:
    for verb in (["ls", "--files", "--problems"], ["show", "hf:org/broken"], ["info"], ["--help"], ["rm", "--help"]):
        assert "\x1b" not in spawn(*verb).out
        code, shown = terminal(verb, NO_COLOR="1")
        assert code == 0
        assert "\x1b[3" not in shown and "\x1b[9" not in shown and "\x1b[4" not in shown
    assert "\x1b[" in terminal(["ls"])[1]


def test_a_terminal_gets_bars_and_lines_that_fit(world: World, run: Run) -> None:
    world.hub.repo("org/" + "long-" * 20).revision({"config.json": b"{}"})
    for width in (40, 60, 80, 120, 200):
        code, shown = terminal(["ls"], NO_COLOR="1", COLUMNS=str(width))
        assert code == 0
        assert max(len(line) for line in shown.splitlines()) <= max(width, 60)
        assert ("█" in shown) is (width >= 120)
        assert ("…" in shown) is (width < 200)
    assert "#" in terminal(["ls"], NO_COLOR="1", PYTHONIOENCODING="ascii", COLUMNS="120")[1]


def test_words_are_not_torn_at_the_edge_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    words = "12 tokens, 16.0 a second; the first after 0.2 s; no saved state; model loaded in 5.2 s (cpu, float32, nf4)"
    code = f"from cachetui.cli import common; common.prose({words!r})"
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", code], {**os.environ, "COLUMNS": "80"})
    shown = b""
    with suppress(OSError):  # so Linux says that nobody writes any more
        while piece := os.read(fd, 4096):
            shown += piece
    os.close(fd)
    os.waitpid(pid, 0)
    lines = shown.decode().splitlines()
    assert " ".join(lines) == words and [len(line) <= 80 for line in lines] == [True, True]
    common.prose(words)
    assert capsys.readouterr().err == f"{words}\n"


def test_the_same_id_twice_has_a_root_by_number_on_a_terminal(world: World, home: Path) -> None:
    Hub(home / "mine").repo("org/plain").revision({"config.json": b"{}"})
    shown = terminal(["ls", "--cache-dir", str(home / "mine"), "--filter", "plain"], NO_COLOR="1")[1]
    assert f"root 1: {world.hub.path}" in shown
    assert f"root 2: {home / 'mine'}" in shown


def test_the_demo_opens_on_its_own_world_and_leaves_nothing(home: Path, world: World) -> None:
    (home / "tmp").mkdir()
    it = Terminal("demo", TMPDIR=str(home / "tmp"), HF_HUB_CACHE=str(world.hub.path))
    it.until("Qwen3-VL-8B")
    assert len(os.listdir(home / "tmp")) == 1
    assert "org/plain" not in it.seen.decode()
    assert it.press("q") == 0
    assert os.listdir(home / "tmp") == []


def test_asking_on_a_terminal(world: World, run: Run) -> None:
    no = Terminal("rm", "hf:org/plain", NO_COLOR="1")
    no.until("[y/N]")
    no.send("n\n")
    assert no.wait() == 1
    assert "hf:org/plain" in run("ls", "-q").out
    yes = Terminal("rm", "hf:org/plain", NO_COLOR="1")
    yes.until("[y/N]")
    yes.send("y\n")
    assert yes.wait() == 0
    assert "hf:org/plain" not in run("ls", "-q").out
    undo = Terminal("undo", NO_COLOR="1")
    undo.until("[y/N]")
    undo.send("y\n")
    assert undo.wait() == 0
    assert "hf:org/plain" in run("ls", "-q").out


def test_json_asks_nothing_even_on_a_terminal(world: World, run: Run) -> None:
    for verb in (["rm", "hf:org/plain", "--json"], ["rm", "hf:org/plain", "--permanent", "--json"]):
        code, shown = terminal(verb)
        assert code == 2
        assert "--json asks nothing" in shown
    assert "hf:org/plain" in run("ls", "-q").out


def test_for_good_needs_the_word(world: World, run: Run) -> None:
    for typed, code in (("y", 1), ("delete", 0)):
        it = Terminal("rm", "hf:org/plain", "--permanent", NO_COLOR="1")
        it.until("Type delete")
        it.send(typed + "\n")
        assert it.wait() == code
    assert "hf:org/plain" not in run("ls", "-q").out


def test_a_caution_asks_by_itself(world: World, run: Run) -> None:
    partial = world.hub.repo("org/two").partial(b"half of it")
    for answers, code, there in ((("y", "n"), 1, True), (("y", "y"), 0, False)):
        it = Terminal("rm", "hf:org/two@~partial", NO_COLOR="1")
        it.until("Delete 1?")
        it.send(answers[0] + "\n")
        it.until("[young]", 30)
        it.until("all the same?")
        it.send(answers[1] + "\n")
        assert it.wait() == code
        assert partial.exists() is there


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_interrupted_is_130(world: World, key: str) -> None:
    it = Terminal("rm", "hf:org/plain", NO_COLOR="1")
    it.until("[y/N]")
    assert it.press(key) == 130
    assert "Traceback" not in it.seen.decode()


def test_interrupted_by_a_signal_is_130(home: Path) -> None:
    code = (
        "import os, signal, sys\nimport cachetui.scan\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "cachetui.scan.find_roots = lambda where: os.kill(os.getpid(), signal.SIGINT)\n"
        "from cachetui.cli import main\nsys.argv = ['cachetui', 'ls']\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.strip() == "Interrupted."


def test_a_reader_that_leaves_is_no_trouble(world: World) -> None:
    for n in range(400):
        world.hub.repo(f"org/{n:03}-{'x' * 200}").revision({"config.json": b"{}"}, tree=False)
    for verb in (["ls"], ["ls", "--json"], ["ls", "-q"]):
        with subprocess.Popen(
            [sys.executable, "-m", "cachetui", *verb], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as it:
            assert it.stdout is not None and it.stderr is not None
            it.stdout.read(100)
            it.stdout.close()
            assert it.stderr.read() == b""
            assert it.wait() == 1


@pytest.fixture
def hostile(world: World) -> list[str]:
    """Repos whose names attack, with files, refs and a payload of the same kind."""
    made = [os.fsencode(name) for name in ATTACKS] + list(RAW)
    for name in made:
        top = os.path.join(os.fsencode(world.hub.path), name)
        commit = b"c" * 40
        snapshot = os.path.join(top, b"snapshots", commit)
        os.makedirs(snapshot)
        os.makedirs(os.path.join(top, b"refs"))
        os.makedirs(os.path.join(top, b"blobs"))
        for file in (b"\x1b[2J.bin", b"\xfe\xfe", b"config.json"):
            Path(os.fsdecode(os.path.join(snapshot, file))).write_bytes(b'{"model_type": "\\u001b[31m\\u202e"}')
        Path(os.fsdecode(os.path.join(top, b"refs", b"\x1b]0;x\x07\xff"))).write_bytes(commit)
        os.symlink(b"../../blobs/\x1b[2Jgone", os.path.join(snapshot, b"\x9b1;31mlost"))
    world.age()
    return [os.fsdecode(n) for n in made]


def test_hostile_names_reach_no_terminal_and_every_id_works(hostile: list[str], world: World, run: Run) -> None:
    data = run("ls", "--json", "--files").data
    fits(data, LS)
    items = {i["path"]: i for i in data["items"]}
    assert len({i["id"] for i in data["items"]}) == len(items)
    found = [i for i in data["items"] if os.path.basename(i["path"]).startswith(("models--", "datasets--"))]
    assert len(found) >= len(hostile)
    for item in found:
        shown = run("show", item["id"], "--root", item["root"], "--json").data
        fits(shown, SHOW)
        assert shown["id"] == item["id"]
    lossy = [i for i in found if "path_bytes" in i]
    assert len(lossy) >= len(RAW)
    for shown_id in run("ls", "-q").out.splitlines():
        assert run("show", shown_id, "--json").data["id"]


def test_hostile_names_in_every_verb(hostile: list[str], world: World, run: Run) -> None:
    picks = [i["id"] for i in run("ls", "--json", "--store", "hf").data["items"] if "org/" not in i["id"]]
    assert len(picks) >= len(hostile)
    for args in (["ls", "--files", "--problems", "--revisions", "--in-use"], ["ls", "-q", "--files"], ["info"]):
        run(*args)
    for target in picks:
        run("show", target)
        run("pin", target)
    run("unpin", *picks)
    run("rm", *picks, "--dry-run")
    run("rm", *picks, "-y", "--include", "young")
    assert len(json.loads(run("trash", "--json").out)["entries"][0]["items"]) == len(picks)
    run("trash")
    run("history")
    run("undo", "--dry-run")
    run("undo", "-y")
    run("rm", picks[0] + "x", "-y", code=1)
    run("show", "hf:\x1b[2Jnone\x07", code=1)
    run("ls", "--filter", "\x1b[2J>3", "--sort", "\x1b", code=2)
    run("ls", "--root", "/\x1b[2J", code=1)
    assert sorted(
        i["id"] for i in run("ls", "--json", "--store", "hf").data["items"] if "org/" not in i["id"]
    ) == sorted(picks)


def test_hostile_names_in_a_real_terminal(hostile: list[str], world: World) -> None:
    for verb in (["ls", "--files", "--problems"], ["ls", "-q"], ["rm", "--filter", "store=hf", "--dry-run"]):
        code, shown = terminal(verb, NO_COLOR="1")
        assert code == 0
        assert "\x1b]" not in shown and "\x9b" not in shown and "\x07" not in shown and "\x1b[2J" not in shown
        assert "\u202e" not in shown and "\u200b" not in shown
