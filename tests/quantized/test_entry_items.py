"""Entries as items: what runs, what does not and why; names in a manifest are outside strings."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from entry_world import FILES, IDENTITY, make

from cachetui.cli import cli
from cachetui.config import Where
from cachetui.model import Item
from cachetui.quantized_entries import MANIFEST, Source, manifest
from cachetui.quantized_entries.making import Making
from cachetui.runnable import NotRunnable, runnable_of
from cachetui.scan import scan
from cachetui.store import Selection

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "quantization_config": {"load_in_4bit": True}}
WHOLE = {**FILES, "config.json": json.dumps(LLAMA).encode(), "tokenizer.json": b"{}"}


@pytest.fixture
def folder(home: Path) -> Path:
    return home / ".cache/qwen_quantized"


def items(where: Where) -> dict[str, Item]:
    return {i.path: i for i in scan(where, stores=["quant"]).items}


def test_an_entry_runs_as_it_is_stored(folder: Path, where: Where) -> None:
    entry = make(folder, files=WHOLE)
    found = runnable_of(Selection(items(where)[IDENTITY.key]))
    assert (found.engine, found.wanted.folder, found.wanted.bits) == ("transformers", entry.path, 0)
    assert found.wanted.name == "org/name nf4"


def test_what_does_not_run_says_why(folder: Path, where: Where) -> None:
    entry = make(folder, files=WHOLE)
    os.truncate(f"{entry.path}/model.safetensors", 50)
    (folder / ("a" * 32)).write_bytes(b"\x80\x04.")
    (folder / f".cachetui-making-{'b' * 64}").mkdir()
    reasons = {}
    for path, item in items(where).items():
        with pytest.raises(NotRunnable) as found:
            runnable_of(Selection(item))
        reasons[path] = str(found.value)
    assert "damaged: model.safetensors has 50 bytes" in reasons[IDENTITY.key]
    assert "pickle" in reasons["a" * 32] and "not finished" in reasons[f".cachetui-making-{'b' * 64}"]


EVIL = "evil\x1b]0;owned\x07\u202e[@click=app.quit]x\n--"


def test_names_in_a_manifest_reach_no_terminal(folder: Path) -> None:
    with Making(str(folder), IDENTITY) as making:
        (Path(making.begin()) / "config.json").write_bytes(b"{}")
        entry = making.publish(Source(EVIL, EVIL, EVIL), device=EVIL, libraries={EVIL: EVIL})
    for command in (("ls",), ("quantize", "info"), ("quantize", "verify"), ("show", f"quant:{IDENTITY.key[:12]}"),
                    ("rm", f"quant:{IDENTITY.key[:12]}", "--dry-run")):  # fmt: skip
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == 0 and not any(c in done.output for c in "\x1b\x07\u202e"), (command, done.output)
    body = json.loads(Path(entry.path, MANIFEST).read_text())
    body["files"].append({"path": EVIL, "size": 1, "sha256": "0" * 64, "mtime_ns": 1})
    body.pop("seal")
    Path(entry.path, MANIFEST).write_text(json.dumps({**body, "seal": manifest._seal(body)}))
    done = CliRunner().invoke(cli, ("quantize", "verify"))
    assert done.exit_code == 1 and "is missing" in done.stdout and "\x1b" not in done.output


def test_the_manifest_is_no_part_of_what_is_pickled(folder: Path) -> None:
    """No byte of what the older convention left is read, whatever asks for it."""
    older = folder / f"{'c' * 32}.pt"
    folder.mkdir(parents=True)
    os.mkfifo(older)  # whoever opened it would wait for ever
    done = CliRunner().invoke(cli, ("quantize", "info", "--json"))
    assert done.exit_code == 0 and json.loads(done.stdout)["entries"] == []
