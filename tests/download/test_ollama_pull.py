"""Pulling through Ollama: recorded answers of a real server, replayed; a real one where a binary is on PATH."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cachetui.config import Where
from cachetui.download import errors, ollama
from cachetui.download.errors import PullCancelled, PullError

DATA = Path(__file__).parents[1] / "data" / "ollama_api"
Told = list[tuple[str, int, int, str]]


def body(name: str) -> bytes:
    return (DATA / f"{name}.http").read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")[2]


class Replay(ThreadingHTTPServer):
    """Streams the lines of a recorded pull."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pull: list[bytes] = []
        self.wait = 0.0
        """Seconds between lines."""
        self.cut = False
        """Hang up before the last line."""
        self.asked: list[dict[str, Any]] = []
        self.hung_up = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Replay

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        answer = body("version" if self.path == "/api/version" else "tags")
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for line in self.server.pull:
                if not line and self.server.cut:
                    self.close_connection = True
                    return
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
                time.sleep(self.server.wait)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.server.hung_up.set()


@pytest.fixture
def replay() -> Iterator[Replay]:
    with Replay() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


def pulled(replay: Replay, name: str, target: str = "ollama:tiny") -> tuple[dict[str, Any], Told]:
    replay.pull = [line + b"\n" for line in body(name).splitlines() if line]
    told: Told = []
    request = {"url": replay.url, "target": target}
    return ollama.pull(request, tell=lambda *a: told.append(a), cancelled=lambda: False), told


def at(where: Where, url: str) -> Where:
    return replace(where, env={**where.env, "OLLAMA_HOST": url})


def test_the_plan_names_the_server_and_what_it_has(replay: Replay, where: Where) -> None:
    plan = ollama.prepare(at(where, replay.url), "ollama:tiny")
    assert (plan.name, plan.version, plan.here) == ("tiny:latest", "0.33.0-rc2", True)
    assert not ollama.prepare(at(where, replay.url), "ollama:nope:7b").here


def test_progress_by_layer(replay: Replay) -> None:
    done, told = pulled(replay, "pull_resume")
    assert done["received"] == 253113024 and done["layers"] == 1
    assert next(t[1:3] for t in told if "pulling a5fd" in t[3]) == (219836608, 253113024)
    assert told[-1][3] == "success"
    assert [(a["model"], a["stream"]) for a in replay.asked] == [("tiny:latest", True)]


def test_it_is_there_already(replay: Replay) -> None:
    assert pulled(replay, "pull_ok")[0]["layers"] == 0


def test_names_of_a_hub_pass_through(replay: Replay) -> None:
    pulled(replay, "pull_ok", "ollama:hf.co/org/name-GGUF:Q4_K_M")
    assert replay.asked[0]["model"] == "hf.co/org/name-GGUF:Q4_K_M"


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("pull_404", errors.NO_REPO, "file does not exist"),
        ("pull_offline", errors.UNREACHABLE, "no such host"),
        ("pull_corrupt", errors.CONTENT, "digest mismatch"),
        ("pull_https_refused", errors.SERVER, "TLS handshake"),
        ("pull_big_progress", errors.SERVER, "no Location header"),
    ],
)
def test_errors_inside_the_200(replay: Replay, name: str, code: str, words: str) -> None:
    with pytest.raises(PullError, match=words) as found:
        pulled(replay, name)
    assert found.value.code == code and found.value.advice


def test_a_stream_that_ends_early(replay: Replay) -> None:
    replay.pull = [b'{"status":"pulling manifest"}\n']
    with pytest.raises(PullError, match=r"stopped in the middle \(pulling manifest\)"):
        ollama.pull({"url": replay.url, "target": "ollama:x"}, tell=lambda *_: None, cancelled=lambda: False)


@pytest.mark.parametrize("line", [b"<html>\n", b"[1]\n", b"[" * 100_000 + b"\n"])
def test_what_is_no_ollama(replay: Replay, line: bytes) -> None:
    replay.pull = [line]
    with pytest.raises(PullError, match="not JSON"):
        ollama.pull({"url": replay.url, "target": "ollama:x"}, tell=lambda *_: None, cancelled=lambda: False)


def test_cancelling_hangs_up(replay: Replay) -> None:
    replay.pull = [b'{"status":"pulling x","digest":"sha256:1","total":10,"completed":1}\n'] * 1000
    replay.wait = 0.05
    told: Told = []
    with pytest.raises(PullCancelled):
        ollama.pull(
            {"url": replay.url, "target": "ollama:x"}, tell=lambda *a: told.append(a), cancelled=lambda: len(told) > 2
        )
    assert replay.hung_up.wait(10)


def test_cancelling_does_not_wait_for_a_silent_server(replay: Replay) -> None:
    replay.pull = [b'{"status":"verifying sha256 digest"}\n', b"{}\n"]
    replay.wait = 3600.0
    told: Told = []
    with pytest.raises(PullCancelled):
        ollama.pull(
            {"url": replay.url, "target": "ollama:x"}, tell=lambda *a: told.append(a), cancelled=lambda: bool(told)
        )


def test_a_server_that_goes_away(replay: Replay) -> None:
    replay.pull = [b'{"status":"pulling manifest"}\n', b""]
    replay.cut = True
    with pytest.raises(PullError, match="went away") as found:
        ollama.pull({"url": replay.url, "target": "ollama:x"}, tell=lambda *_: None, cancelled=lambda: False)
    assert "goes on where it stopped" in found.value.advice


def test_a_server_that_ended_before_the_pull() -> None:
    with pytest.raises(PullError, match="no Ollama server answers"):
        ollama.pull({"url": "http://127.0.0.1:9", "target": "ollama:x"}, tell=lambda *_: None, cancelled=lambda: False)


def test_no_server_says_how_to_start_one(where: Where) -> None:
    with pytest.raises(PullError, match="no Ollama server answers") as found:
        ollama.prepare(at(where, "127.0.0.1:9"), "ollama:tiny")
    assert "ollama serve" in found.value.advice


@pytest.mark.parametrize("text", ["ollama:", "ollama:../x", "ollama:a b", "ollama:-x", "ollama:a//b"])
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(PullError):
        ollama.parse(text)


@pytest.mark.skipif(shutil.which("ollama") is None, reason="no ollama binary on PATH")
def test_a_real_server(where: Where, tmp_path: Path) -> None:
    env = {**where.env, "OLLAMA_HOST": "127.0.0.1:11977", "OLLAMA_MODELS": str(tmp_path / "models")}
    with subprocess.Popen(["ollama", "serve"], env=env, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(100):
                try:
                    plan = ollama.prepare(replace(where, env=env), "ollama:nosuchmodel:none")
                    break
                except PullError:
                    time.sleep(0.1)
            with pytest.raises(PullError):
                ollama.pull(plan.job(), tell=lambda *_: None, cancelled=lambda: False)
        finally:
            server.terminate()
