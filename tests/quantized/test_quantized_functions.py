"""The functions for scripts: names, arguments and log lines that people have in theirs; none of them needs torch."""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from entry_world import IDENTITY, make, spoil_byte

from cachetui import quantized
from cachetui.demo.builders import Hub
from cachetui.quantized_entries import entries
from cachetui.quantized_entries.wishes import NotHere

DAY = 86400


@pytest.fixture
def folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = home / "q"
    monkeypatch.setenv("QWEN_CACHE", str(path))
    return path


def hub(home: Path) -> tuple[Hub, str]:
    made = Hub(home / ".cache/huggingface/hub")
    config = {"model_type": "qwen3_vl", "architectures": ["Qwen3VLForConditionalGeneration"], "dtype": "float16"}
    commit = made.repo("Qwen/Qwen3-VL-2B-Instruct").revision(
        {"config.json": json.dumps(config).encode(), "model.safetensors": b"12345678{}"}
    )
    return made, commit


def test_signatures() -> None:
    def names(function: object) -> list[str]:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
        return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]

    assert names(quantized.get_quantized_model_cache_path) == ["model_path", "weight_dtype", "rank"]
    assert names(quantized.validate_cache_integrity) == ["cache_path"]
    assert names(quantized.get_cache_info) == names(quantized.cleanup_corrupted_cache) == ["cache_dir"]
    assert names(quantized.clear_old_cache_files) == ["cache_dir", "max_age_days"]
    assert inspect.signature(quantized.clear_old_cache_files).parameters["max_age_days"].default == 7


def test_no_torch_is_imported() -> None:
    code = "import sys, cachetui.quantized; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "bitsandbytes", "textual", "rich", "huggingface_hub"} & set(loaded)


def test_a_path_for_each_model_dtype_and_rank(home: Path, folder: Path) -> None:
    made, commit = hub(home)
    path = quantized.get_quantized_model_cache_path
    name = "Qwen/Qwen3-VL-2B-Instruct"
    first = path(name, "bfloat16", 8)
    assert re.fullmatch(re.escape(f"{folder}/") + "[0-9a-f]{64}", first)
    snapshot = home / ".cache/huggingface/hub/models--Qwen--Qwen3-VL-2B-Instruct/snapshots" / commit
    assert path(str(snapshot), "torch.bfloat16", 8) == path(name, "bf16", 8) == first
    others = [path(name, "float16", 8), path(name, "bfloat16", 4), path(name, "bfloat16", 8, bits=8)]
    others.append(path(name, "bfloat16", 8, double_quant=True))
    made.repo(name).revision({"config.json": b'{"model_type": "qwen3_vl"}', "model.safetensors": b"other"})
    others.append(path(name, "bfloat16", 8))  # a new commit
    assert len({first, *others}) == 6
    with pytest.raises(NotHere, match="cachetui pull hf:org/none"):
        path("org/none", "bfloat16", 8)


def test_a_folder_of_no_repo(home: Path, folder: Path) -> None:
    model = home / "mine"
    model.mkdir()
    with pytest.raises(NotHere, match=r"config\.json"):
        quantized.get_quantized_model_cache_path(str(model), "bfloat16", 0)
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "model.safetensors").write_bytes(b"a")
    before = quantized.get_quantized_model_cache_path(str(model), "bfloat16", 0)
    (model / "model.safetensors").write_bytes(b"b")
    assert quantized.get_quantized_model_cache_path(str(model), "bfloat16", 0) != before


def test_info(folder: Path) -> None:
    assert quantized.get_cache_info(str(folder))["file_count"] == 0
    make(folder)
    (folder / f"{'a' * 32}.pt").write_bytes(bytes(1_000_000))
    found = quantized.get_cache_info(str(folder))
    assert (found["cache_dir"], found["file_count"], found["total_size_mb"]) == (str(folder), 2, 1.0)
    assert {r["name"] for r in found["entries"]} == {"org/name nf4", f"{'a' * 32}.pt"} and found["free_gb"] > 0


def test_a_failed_validation_carries_its_reason(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry = Path(make(folder).path)
    whole = quantized.validate_cache_integrity(str(entry))
    assert whole and len(repr(whole)) < 400  # scripts print it
    spoil_byte(entry / "model.safetensors")
    found = quantized.validate_cache_integrity(str(entry))
    assert not found and found.file == "model.safetensors" and "sha256" in found.reason
    older = folder / f"{'a' * 32}.pt"
    older.write_bytes(b"\x80\x04.")
    assert "older script" in quantized.validate_cache_integrity(str(older)).reason
    assert "no such file" in quantized.validate_cache_integrity(str(folder / "none")).reason
    assert sum("Validation of" in r.getMessage() for r in caplog.records) == 3


def test_what_is_old_goes_and_comes_back(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cachetui.quantized")
    now = time.time()
    young, aged = make(folder, when=now), make(folder, rank=4, when=now - 9 * DAY)
    older = folder / ("a" * 32)
    older.write_bytes(b"x")
    for path in (*Path(aged.path).rglob("*"), older):
        os.utime(path, (now - 8 * DAY, now - 9 * DAY))
    gone = quantized.clear_old_cache_files(str(folder))
    assert set(gone) == {aged.path, str(older)} and [e.path for e in entries(str(folder))] == [young.path]
    assert "Cleaned up 2 of 2 quantized models older than 7 days" in caplog.text
    from click.testing import CliRunner

    from cachetui.cli import cli

    assert CliRunner().invoke(cli, ["undo", "-y"]).exit_code == 0
    assert Path(aged.path).exists() and older.exists()
    assert quantized.clear_old_cache_files(str(folder), 10_000) == []


def test_what_is_spoilt_goes(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = make(folder), Path(make(folder, rank=4).path)
    spoil_byte(bad / "model.safetensors")
    empty, broken, fine = (folder / f"{c * 32}.pt" for c in "abc")
    empty.write_bytes(b"")
    broken.write_bytes(b"PK\x03\x04" + bytes(2000))
    fine.write_bytes(b"\x80\x04 an old pickle: nothing tells that it is damaged")
    half = folder / f".cachetui-making-{'d' * 64}"
    half.mkdir()
    gone = quantized.cleanup_corrupted_cache(str(folder))
    assert set(gone) == {str(bad), str(empty), str(broken), str(half)}
    assert {e.path for e in entries(str(folder))} == {good.path, str(fine)}
    assert "Cleaned up 4 of 4" not in caplog.text and "Validation of" in caplog.text  # INFO is not on by itself


def test_the_log_lines_people_look_for(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cachetui.quantized")
    make(folder)
    quantized.announce(str(folder))
    lines = [r.getMessage() for r in caplog.records]
    assert lines[0] == f"Using quantized model cache directory: {folder}"
    assert lines[1] == f"Cache info: {{'cache_dir': '{folder}', 'file_count': 1, 'total_size_mb': 0.0}}"
    assert re.fullmatch(r"Available disk space: \d+\.\d\d GB", lines[2])


def test_identity_is_the_key(folder: Path) -> None:
    assert os.path.basename(make(folder).path) == IDENTITY.key
