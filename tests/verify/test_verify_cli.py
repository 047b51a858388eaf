"""The verb: what it says, its exit codes, its JSON, Control-C, the Hub, repairs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from verify_world import CONFIG, World, flip, weights

from cachetui.demo.builders import HubRepo, git_sha1, sha256

WEIGHTS = weights("a", 80_000)
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS}


@pytest.fixture
def made(world: World) -> HubRepo:
    found = world.hub.repo("org/name")
    found.revision(FILES)
    return found


def run(*args: str, code: int = 0, **env: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "cachetui", "verify", *args],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, (out, err)
    assert "Traceback" not in err, err
    assert "\x1b" not in out + err
    return out, err


def as_json(*args: str, code: int = 0, **env: str) -> dict[str, Any]:
    out, _ = run("--json", *args, code=code, **env)
    found = json.loads(out)
    assert found["schema"] == 1
    assert isinstance(found, dict)
    return found


def test_intact_is_0_damaged_is_1_and_both_are_said(made: HubRepo) -> None:
    out, _ = run()
    assert "intact" in out
    assert "1 intact" in out
    out, _ = run()
    assert "unchanged since they were read" in out
    flip(made.path / "blobs" / sha256(WEIGHTS))
    out, _ = run(code=1)
    assert "model.safetensors: its sha256 is" in out
    assert "hf download org/name model.safetensors" in out
    assert "1 damaged" in out


def test_incomplete_and_cannot_tell_are_0_and_said(world: World) -> None:
    world.hub.repo("org/part").revision(FILES, missing=("model.safetensors",))
    world.hub.repo("org/real").revision(FILES, real_files=True, tree=False)
    out, _ = run()
    assert "incomplete" in out
    assert "1 of 2 files were not downloaded: model.safetensors" in out
    assert "cannot tell" in out
    assert "--online asks the Hub" in out


def test_json(made: HubRepo, world: World) -> None:
    path = made.path / "blobs" / sha256(WEIGHTS)
    flip(path)
    world.hub.repo("org/fine").revision({"x.txt": b"x"})
    found = as_json("hf:org/name", code=1)
    assert (found["verb"], found["complete"], found["items"]) == ("verify", True, 1)
    assert found["counts"] == {"damaged": 1, "incomplete": 0, "cannot-tell": 0, "intact": 0}
    (verdict,) = found["verdicts"]
    assert (verdict["id"], verdict["outcome"], verdict["files"]) == ("hf:org/name", "damaged", 2)
    (finding,) = verdict["findings"]
    assert (finding["code"], finding["name"], finding["path"]) == ("hash", "model.safetensors", str(path))
    assert finding["digest"] == sha256(WEIGHTS)
    assert as_json("--filter", "size<100")["items"] == 1
    assert as_json("--store", "ollama")["verdicts"] == []


def test_wrong_words(made: HubRepo) -> None:
    assert "nothing" in run("hf:org/nothing", code=1)[1].lower()
    run("--store", "nope", code=2)
    run("--repair", "--quarantine", "-y", code=2)
    run("--dry-run", code=2)
    assert "add -y" in run("--repair", code=2)[1]


def test_a_damaged_memory_is_said(made: HubRepo, home: Path) -> None:
    run()
    (home / ".cache/cachetui/verified.sqlite").write_bytes(b"no database" * 1000)
    out, err = run()
    assert "the memory of what was verified is damaged" in err
    assert "1 intact" in out


def test_control_c_keeps_what_was_found(world: World, home: Path) -> None:
    for n in range(3):
        world.hub.repo(f"org/small{n}").revision({"x.bin": weights(str(n), 70_000)})
    big = world.hub.repo("org/big").revision({"x.bin": b"x" * 70_000})
    blob = (world.hub.repo("org/big").path / "snapshots" / big / "x.bin").resolve()
    os.truncate(blob, 60 << 30)  # sparse: minutes of hashing
    (world.hub.repo("org/big").path / "trees" / f"{big}.json").unlink()
    process = subprocess.Popen(
        [sys.executable, "-m", "cachetui", "verify", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    memory = home / ".cache/cachetui/verified.sqlite"
    while process.poll() is None and not memory.exists():
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    found = json.loads(out)
    assert not found["complete"]
    assert found["items"] == 4
    assert "Interrupted" in err.decode()
    assert {v["id"] for v in found["verdicts"]} <= {"hf:org/small0", "hf:org/small1", "hf:org/small2"}


def test_repair_and_undo(made: HubRepo, world: World) -> None:
    path = made.path / "blobs" / sha256(WEIGHTS)
    world.hub.repo("org/other").revision({"w.safetensors": WEIGHTS})
    flip(path)
    bad = path.read_bytes()
    out, _ = run("--repair", "--dry-run")
    assert "comes from" in out
    assert path.read_bytes() == bad
    plan = as_json("--repair", "--dry-run")["plan"]
    assert [s["path"] for i in plan["items"] for s in i["goes"]] == [f"models--org--name/blobs/{path.name}"]
    out, _ = run("--repair", "-y")
    assert "Repaired: hf:org/name:model.safetensors" in out
    assert path.read_bytes() == WEIGHTS
    run(code=0)
    subprocess.run([sys.executable, "-m", "cachetui", "undo", "-y"], check=True, capture_output=True)
    assert path.read_bytes() == bad


def test_quarantine(made: HubRepo) -> None:
    path = made.path / "blobs" / sha256(WEIGHTS)
    flip(path)
    found = as_json("--quarantine", "-y")
    assert found["outcome"]["ok"]
    assert not path.exists()
    assert as_json()["counts"]["incomplete"] == 1
    assert "Nothing is damaged" in run("--quarantine", "-y")[0]


def test_nothing_to_repair_from_is_1(made: HubRepo) -> None:
    flip(made.path / "blobs" / sha256(WEIGHTS))
    out, _ = run("--repair", "-y", code=1)
    assert "no other copy of it was found" in out


@pytest.fixture
def hub_server() -> Iterator[tuple[str, list[str]]]:
    """A Hub that knows one repo's tree."""
    asked: list[str] = []
    rows = [
        {"rfilename": "config.json", "size": len(CONFIG), "blobId": git_sha1(CONFIG)},
        {"rfilename": "model.safetensors", "size": len(WEIGHTS), "blobId": "0" * 40,
         "lfs": {"sha256": sha256(WEIGHTS), "size": len(WEIGHTS), "pointerSize": 130}},
        {"rfilename": "extra.json", "size": 5, "blobId": "1" * 40},
    ]  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            known = self.path.startswith("/api/models/org/name/revision/")
            body = json.dumps({"id": "org/name", "siblings": rows} if known else {"error": "no"}).encode()
            self.send_response(200 if known else 404)
            if not known:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_online_asks_the_hub_and_only_then(world: World, hub_server: tuple[str, list[str]]) -> None:
    url, asked = hub_server
    made = world.hub.repo("org/name")
    commit = made.revision(FILES, real_files=True, tree=False)
    assert as_json(HF_ENDPOINT=url)["counts"]["cannot-tell"] == 1
    assert asked == []
    found = as_json("--online", HF_ENDPOINT=url)
    assert asked
    (verdict,) = found["verdicts"]
    assert (verdict["outcome"], verdict["files"]) == ("incomplete", 2)  # extra.json was not downloaded
    flip(made.path / "snapshots" / commit / "model.safetensors")
    (verdict,) = as_json("--online", code=1, HF_ENDPOINT=url)["verdicts"]
    assert [f["code"] for f in verdict["findings"]] == ["hash", "not-downloaded"]
    assert "by the Hub" in verdict["findings"][0]["message"]


def test_a_hub_that_cannot_be_asked_decides_nothing(world: World, hub_server: tuple[str, list[str]]) -> None:
    url, asked = hub_server
    world.hub.repo("org/name").revision(FILES, real_files=True, tree=False)
    world.hub.repo("org/unknown").revision(FILES, real_files=True, tree=False)
    out, err = run("--online", HF_ENDPOINT=url, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in err
    assert asked == []
    assert "2 cannot tell" in out
    assert "could not be asked" in run("--online", "hf:org/name", HF_ENDPOINT="http://127.0.0.1:9")[1]
    assert "no such repo" in run("--online", "hf:org/unknown", HF_ENDPOINT=url)[1]


@pytest.mark.parametrize("name", ["a@b:c", "x\x1b]0;y\x07[/red]", "\udcff\udcfe", "sp ace", "~orphan", "日本"])
def test_names_of_any_kind_reach_the_worker_and_come_back(world: World, home: Path, name: str) -> None:
    folder = home / "models" / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(CONFIG)
    (folder / "model.safetensors").write_bytes(WEIGHTS[:-5])
    world.hub.repo("org/other").revision({"x": b"x"})
    found = as_json("--store", "dir", code=1)
    (verdict,) = found["verdicts"]
    assert [f["code"] for f in verdict["findings"]] == ["structure", "no-hash"]
    assert os.fsencode(name).decode("utf-8", "replace").strip("\ufffd")[:1] in verdict["id"]
    out, _ = run("--store", "dir", code=1)
    assert "cut short" in out


def test_prepared_datasets_and_caches_cannot_be_told(home: Path, world: World) -> None:
    folder = home / ".cache/huggingface/datasets/org___rows"
    folder.mkdir(parents=True)
    (folder / "a.arrow").write_bytes(b"ARROW1" * 100)
    found = as_json()
    assert [v["outcome"] for v in found["verdicts"]] == ["cannot-tell"]
    os.rename(folder, home / "elsewhere")
    folder.symlink_to(home / "elsewhere")
    assert [v["outcome"] for v in as_json()["verdicts"]] in ([], ["cannot-tell"])
