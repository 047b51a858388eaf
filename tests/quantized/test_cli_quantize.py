"""cachetui quantize info, verify, clean: what is shown, what goes, and that it comes back."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from click.testing import CliRunner, Result
from entry_world import COMMIT, IDENTITY, make, spoil_byte

from cachetui.cli import cli
from cachetui.demo.builders import Hub
from cachetui.quantized_entries import check, entries, find

DAY = 86400
SHORT = f"quant:{IDENTITY.key[:12]}"


def run(*args: str, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == code, (done.exit_code, done.stdout, done.stderr, done.exception)
    assert "Traceback" not in done.output
    return done


def data(*args: str, code: int = 0) -> Any:
    return json.loads(run(*args, "--json", code=code).stdout)


@pytest.fixture
def folder(home: Path) -> Path:
    path = home / ".cache/qwen_quantized"
    make(path, when=time.time())
    return path


def aged(folder: Path, days: int) -> Path:
    old = Path(make(folder, rank=4, when=time.time() - days * DAY).path)
    for path in old.rglob("*"):
        os.utime(path, (time.time() - days * DAY, path.stat().st_mtime))
    return old


def test_info(folder: Path, home: Path) -> None:
    (folder / f"{'a' * 32}.pt").write_bytes(bytes(5000))
    shown = run("quantize", "info").stdout
    assert str(folder) in shown and "default" in shown and "free" in shown
    assert SHORT in shown and "org/name nf4 @c3c3c3c" in shown and "made by an older script" in shown
    found = data("quantize", "info")
    assert found["folder"] == str(folder) and found["storage"]["kind"] in (
        "SSD",
        "rotating",
        "network",
        "memory",
        "unknown",
    )
    assert {(e["id"], e["kind"], e["commit"]) for e in found["entries"]} >= {(SHORT, "entry", COMMIT)}
    other = data("quantize", "info", "--quant_dir", str(home / "elsewhere"))
    assert (other["exists"], other["origin"], other["entries"]) == (False, "quant_dir of config.toml", [])


def test_the_program_s_info_names_the_folder_and_its_drive(folder: Path) -> None:
    found = data("info")["quantized"]
    assert (found["path"], found["origin"]) == (str(folder), "default") and found["storage"]["means"]
    assert f"{folder} (default)" in run("info").stdout


def test_a_memory_disk_is_called_one() -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir():
        pytest.skip("this system has no /dev/shm")
    from cachetui.quantized_entries.storage import storage

    found = storage(str(shm / "q/deeper"))
    assert found.kind == "memory" and "gone when the machine restarts" in found.words
    assert found.load_words(2_000_000_000) == "2.0 GB usually take 0.2 to 1.0 s to read"


def test_the_variable_and_the_config_name_the_folder(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN_CACHE", str(home / "mine"))
    make(home / "mine", rank=2)
    found = data("quantize", "info")
    assert found["origin"] == "QWEN_CACHE" and len(found["entries"]) == 1
    assert [o["path"] for o in found["other_folders"]] == [str(folder)]
    config = home / ".config/cachetui/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'quant_dir = "{folder}"\n')
    assert data("quantize", "info")["folder"] == str(folder)
    config.write_text("quant_dir = 1\n")
    assert "quant_dir must be a folder" in run("quantize", "info", code=1).stderr


def test_entries_are_items_like_any_other(folder: Path) -> None:
    listed = {i["id"]: i for i in data("ls", "--store", "quant")["items"]}
    assert listed[SHORT]["name"] == "org/name nf4"
    shown = run("show", SHORT).stdout
    for words in ("hf:org/name", COMMIT, "bitsandbytes, nf4", "23 s", "1.0 GB", IDENTITY.key, "lm_head, model.visual"):
        assert words in shown
    assert data("show", "org/name nf4")["id"] == SHORT
    assert "as it was written" in run("quantize", "verify", SHORT, "--full").stdout
    assert data("verify", SHORT)["counts"]["intact"] == 1
    assert "it could not be loaded" in run("rm", f"{SHORT}:config.json", "-y", code=1).stdout
    run("rm", SHORT, "-y", "--include", "young")
    assert entries(str(folder)) == ()
    run("undo", "-y")
    assert len(entries(str(folder))) == 1


def test_a_damaged_one(folder: Path) -> None:
    entry = folder / IDENTITY.key
    spoil_byte(entry / "model.safetensors")
    assert "sizes and times are right" in run("quantize", "verify").stdout
    assert "sha256 is another one" in run("quantize", "verify", "--full", code=1).stdout
    verdict = data("verify", SHORT, "--full", code=1)["verdicts"][0]
    assert verdict["outcome"] == "damaged"
    os.truncate(entry / "model.safetensors", 9)
    assert data("ls", "--store", "quant")["items"][0]["states"] == ["damaged"]
    plan = run("quantize", "clean", "--corrupted", "--dry-run")
    assert "is cut" in plan.stderr and entry.exists()
    run("quantize", "clean", "--corrupted", "-y", "--include", "young")
    assert not entry.exists()
    run("undo", "-y")
    assert entry.exists()
    for path in (entry, *entry.rglob("*")):
        os.utime(path, (time.time() - DAY, time.time() - DAY))
    assert "cachetui quantize hf:org/name --bits 4" in run("verify", SHORT, code=1).stdout
    run("verify", SHORT, "--quarantine", "-y")
    assert not entry.exists()


def test_what_is_old_goes(folder: Path) -> None:
    old = aged(folder, 9)
    assert "Nothing is to be cleaned" in run("quantize", "clean", "--older-than", "30", "-y").stdout
    planned = data("quantize", "clean", "--dry-run")["plan"]
    assert [i["goes"][0]["path"] for i in planned["items"]] == [old.name]
    run("pin", f"quant:{old.name[:12]}")
    assert "Nothing is to be cleaned" in run("quantize", "clean", "-y").stdout
    run("unpin", f"quant:{old.name[:12]}")
    assert "no terminal" in run("quantize", "clean", code=2).stderr
    run("quantize", "clean", "--older-than", "1w", "-y", "--include", "young")
    assert not old.exists() and (folder / IDENTITY.key).exists()
    assert "give a number of days" in run("quantize", "clean", "--older-than", "-3", code=2).stderr


def test_what_is_stale_says_so_and_goes(folder: Path, home: Path) -> None:
    repo = Hub(home / ".cache/huggingface/hub").repo("org/name")
    commit = repo.revision({"config.json": b"{}", "model.safetensors": b"12345678"})
    (item,) = data("ls", "--store", "quant")["items"]
    assert [p["code"] for p in item["problems"]] == ["stale-entry"] and commit[:7] in item["problems"][0]["message"]
    assert "cachetui quantize hf:org/name --bits 4" in item["problems"][0]["hint"]
    assert "stale-entry" in run("quantize", "info").stdout
    make(folder, commit=commit, when=time.time())
    run("quantize", "clean", "--stale", "-y", "--include", "young")
    (left,) = entries(str(folder))
    assert left.manifest is not None and left.manifest.identity.commit == commit


def test_what_older_scripts_left_is_never_opened(folder: Path) -> None:
    older = folder / f"{'a' * 32}.safetensors"
    older.write_bytes(b"x" * 2000)
    older.chmod(0)
    (found,) = [i for i in data("ls", "--store", "quant")["items"] if i["kind"] == "older"]
    assert found["size"] == 2000 and found["id"] == f"quant:{older.name}"
    assert "older convention" in run("show", found["id"]).stdout
    run("rm", found["id"], "-y", "--include", "young")
    assert not older.exists()


def test_what_is_being_made_stays(folder: Path) -> None:
    from cachetui.quantized_entries import Identity
    from cachetui.quantized_entries.making import Making

    with Making(str(folder), Identity(repo="x/y")) as making:
        making.begin()
        assert "Nothing is to be cleaned" in run("quantize", "clean", "--corrupted", "-y").stdout
        assert "it is being made" in run("quantize", "verify").stdout


def test_an_archived_entry_is_still_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        pytest.skip("no second file system without root: /dev/shm")
    entry = folder / IDENTITY.key
    with TemporaryDirectory(prefix="cachetui-", dir=shm) as drive:
        monkeypatch.setenv("CACHETUI_AND_BELOW", drive)
        for path in (entry, *entry.rglob("*")):
            os.utime(path, (time.time() - DAY, path.stat().st_mtime))
        run("archive", SHORT, "--to", drive, "-y", "--include", "young")
        assert entry.is_symlink()
        assert check(str(entry), full=True)
        (item,) = data("ls", "--store", "quant")["items"]
        assert (item["id"], item["states"], item["name"]) == (SHORT, ["archived"], "org/name nf4")
        assert data("verify", SHORT)["counts"]["intact"] == 1
        assert "as it was written" in run("quantize", "verify", "--full").stdout
        assert find(str(folder), IDENTITY) is not None
        assert make(folder).path == str(entry)  # asked for again: it is there
        run("restore", SHORT, "-y")
        assert not entry.is_symlink() and check(str(entry), full=True)
