"""A model that lies directly in models--ORG--NAME: recognised, moved into snapshots and refs, brought back."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from huggingface_hub import scan_cache_dir, snapshot_download
from plans_world import FAULTS, FaultyFs, Killed

from cachetui.cli import cli
from cachetui.config import Where
from cachetui.fs import Fs
from cachetui.hub_making import NameTakenError, publish
from cachetui.ledger import Scan
from cachetui.model import OK
from cachetui.plans import trash
from cachetui.plans.recovery import recover
from cachetui.scan import scan
from cachetui.transfer import flat

HEADER = b'{"__metadata__":{"format":"mlx"},"w":{"dtype":"U32","shape":[2],"data_offsets":[0,8]}}'
FILES = {
    "config.json": b'{"model_type": "llama", "quantization": {"group_size": 64, "bits": 4}}',
    "model.safetensors": len(HEADER).to_bytes(8, "little") + HEADER + bytes(range(8)),
    "tokenizer.json": b"{}",
    "more/template.jinja": b"{}",
    "more/the same.jinja": b"{}",
}
TARGET = "hf:me/flat"
ADOPT = ("adopt", TARGET, "-y")


@pytest.fixture
def repo(home: Path) -> Path:
    return lay(home)


def lay(home: Path) -> Path:
    folder = home / ".cache/huggingface/hub/models--me--flat"
    for name, body in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return folder


def run(*args: str, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == code, (done.exit_code, done.stdout, done.stderr, done.exception)
    return done


def data(*args: str, code: int = 0) -> Any:
    return json.loads(run(*args, "--json", code=code).stdout)


def held(folder: Path) -> dict[str, bytes]:
    """Every file below, with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.is_symlink()}


def loads(home: Path) -> bool:
    """Whether huggingface_hub finds it by name, with every byte."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    cache = home / ".cache/huggingface/hub"
    try:
        folder = Path(snapshot_download("me/flat", cache_dir=cache, local_files_only=True))
    except OSError:
        return False
    return {name: (folder / name).read_bytes() for name in FILES} == FILES


def whole(home: Path) -> bool:
    """The same by what lies there: a sweep looks often."""
    repo = home / ".cache/huggingface/hub/models--me--flat"
    try:
        folder = repo / "snapshots" / (repo / "refs/main").read_text()
        return {name: (folder / name).read_bytes() for name in FILES} == FILES
    except OSError:
        return False


def test_it_is_recognised(repo: Path, home: Path) -> None:
    (item,) = data("ls")["items"]
    assert item["id"] == TARGET and item["states"] == [OK]
    shown = run("show", TARGET).stdout
    assert "a model lies in it directly" in shown and f"cachetui adopt {TARGET}" in shown
    assert "MLX 4-bit" in shown and "mlx_lm" in shown
    assert not loads(home)
    (repo / "config.json").unlink()
    assert "holds no revision" in run("show", TARGET).stdout


def test_it_is_moved_and_brought_back(repo: Path, home: Path) -> None:
    plan = data("adopt", TARGET, "--dry-run")["plan"]
    os.utime(repo / "config.json")
    assert "a conversion may go on [young]" in run("adopt", TARGET, "-y", code=1).stdout
    os.utime(repo / "config.json", (1_700_000_000, 1_700_000_000))
    assert [s["path"] for s in plan["items"][0]["goes"]] == ["models--me--flat"] and held(repo) == FILES
    inode = (repo / "model.safetensors").stat().st_ino
    run(*ADOPT)
    assert loads(home)
    (snapshot,) = (repo / "snapshots").iterdir()
    assert (snapshot / "model.safetensors").is_symlink() and (snapshot / "model.safetensors").stat().st_ino == inode
    assert (repo / "refs/main").read_text() == snapshot.name
    cache = scan_cache_dir(repo.parent)
    assert not cache.warnings and [r.repo_id for r in cache.repos] == ["me/flat"]
    assert data("verify", TARGET, "--full")["counts"]["intact"] == 1
    assert "adopted" in run("trash").stdout
    run("undo", "-y")
    assert held(repo) == FILES and not (repo / "snapshots").exists()
    run(*ADOPT)
    run("trash", "empty", "-y")
    assert loads(home)


def test_what_is_not_moved(repo: Path, home: Path) -> None:
    (repo / "link").symlink_to("config.json")
    assert "it holds links" in run(*ADOPT, code=1).stdout
    (repo / "link").unlink()
    (repo / "refs").mkdir()
    (repo / "refs/note.txt").write_text("x")
    assert "it has refs as well" in run(*ADOPT, code=1).stdout
    assert not (repo / "snapshots").exists()


def test_without_second_names_it_is_copied(repo: Path, home: Path, where: Where) -> None:
    class NoLinks(Fs):
        def link(self, src_fd: int, src: str, dst_fd: int, dst: str) -> None:
            raise PermissionError(1, "Operation not permitted")

    inode = (repo / "model.safetensors").stat().st_ino
    found = scan(where)
    assert flat.carry_out(flat.prepare(found, found.items), fs=NoLinks()).ok
    assert loads(home)
    (snapshot,) = (repo / "snapshots").iterdir()
    assert (snapshot / "model.safetensors").stat().st_ino != inode


IN_CI = ("before", "ENOSPC+")


@pytest.mark.parametrize("fault", [f if f in IN_CI else pytest.param(f, marks=pytest.mark.sweep) for f in FAULTS])
def test_at_every_call_it_is_the_old_one_or_the_new(fault: str, home: Path, where: Where) -> None:
    at, ways = 0, set()
    while True:
        at += 1
        repo = lay(home)
        found = scan(where)
        fs = FaultyFs(at, fault)
        try:
            flat.carry_out(flat.prepare(found, found.items), fs=fs)
        except Killed:
            recover([r.root for r in found.roots])
        moved = whole(home)
        assert moved or held(repo) == FILES, (fault, at, fs.hit)
        ways.add(moved)
        _clear(found, repo)
        if not fs.hit:
            break
    assert ways == {True, False} and at > 20


@pytest.mark.parametrize("fault", IN_CI)
def test_a_name_is_given_whole_or_not_at_all(fault: str, home: Path, tmp_path: Path) -> None:
    source, cache = tmp_path / "entry", home / ".cache/huggingface/hub"
    files = {name: hashlib.sha256(body).hexdigest() for name, body in FILES.items()}
    for name, body in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(body)
    for at in itertools.count(1):
        fs = FaultyFs(at, fault)
        with contextlib.suppress(Killed, OSError):
            publish(fs, str(cache), "me/flat", str(source), files)
        assert whole(home) or not (cache / "models--me--flat").exists(), (at, fs.hit)
        path = publish(Fs(), str(cache), "me/flat", str(source), files)
        assert whole(home) and path == publish(Fs(), str(cache), "me/flat", str(source), files)
        assert not [p.name for p in cache.iterdir() if p.name.startswith(".cachetui-making")]
        if not fs.hit:
            break
        shutil.rmtree(cache)
    with pytest.raises(NameTakenError, match="other content"):
        publish(Fs(), str(cache), "me/flat", str(source), {"config.json": files["config.json"]})
    assert held(source) == FILES


def _clear(found: Scan, repo: Path) -> None:
    """Nothing of it, nor of what was deleted before."""
    shutil.rmtree(repo)
    trash.empty(trash.entries([r.root for r in found.roots]))
