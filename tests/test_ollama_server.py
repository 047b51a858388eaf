"""Whose store a server serves: recorded answers of a real server, replayed; its own store beside them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cachetui import ollama_server
from cachetui.config import Where
from cachetui.demo.builders import OllamaStore
from cachetui.model import RootScan, Silent
from cachetui.ollama_server import Kind, Server, ServerError, delete, probe, server_url
from cachetui.store import make_root, store_named

DATA = Path(__file__).parent / "data"


def recorded(name: str) -> bytes:
    return (DATA / "ollama_api" / f"{name}.http").read_bytes()


class Replay:
    """Answers each connection with the next of its answers, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.answers: list[bytes] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                data = connection.recv(65536)
                if b"Content-Length: " in data and data.endswith(b"\r\n\r\n"):
                    data += connection.recv(65536)
                self.asked.append(data)
                if self.answers:
                    connection.sendall(self.answers.pop(0))


@pytest.fixture
def server() -> Iterator[Replay]:
    replay = Replay()
    yield replay
    replay.socket.close()


_serving = ollama_server._serving


@pytest.fixture(autouse=True)
def no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs on this machine must not decide a test."""
    monkeypatch.setattr(ollama_server, "_serving", list)


_PROCESS = """
import ctypes, socket, sys
ctypes.CDLL(None).prctl(15, b"ollama", 0, 0, 0)
with socket.create_server(("127.0.0.1", 0)) as s:
    print(s.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@contextmanager
def process(*arguments: str, **env: str) -> Iterator[tuple[int, int]]:
    """A real process called `ollama` that listens: (pid, port)."""
    command = [sys.executable, "-c", _PROCESS, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, cwd="/") as child:
        assert child.stdin is not None and child.stdout is not None
        try:
            yield child.pid, int(child.stdout.readline())
        finally:
            child.stdin.close()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The store as it was when /api/tags was recorded: two models were made afterwards."""
    shutil.unpack_archive(DATA / "ollama_store_0.33.0-rc2.tar.gz", tmp_path)
    shutil.rmtree(tmp_path / "models" / "manifests" / "127.0.0.1:5055")
    shutil.rmtree(tmp_path / "models" / "manifests" / "registry.ollama.ai" / "library" / "tiny-sys")
    return tmp_path / "models"


def read(path: Path) -> RootScan:
    root = make_root("ollama", str(path), "test")
    assert root is not None
    return store_named("ollama").scan(root, frozenset(), Silent())


def where(server: Replay) -> Where:
    return Where({"OLLAMA_HOST": f"127.0.0.1:{server.port}"}, "/nowhere", "/")


def test_the_real_answers_prove_the_real_store(server: Replay, store: Path) -> None:
    server.answers = [recorded("tags")]
    assert probe(read(store), where(server)) == Server(Kind.SERVES, server.url)
    assert server.asked[0].startswith(b"GET /api/tags HTTP/1.1\r\n")


def _add(path: Path) -> None:
    OllamaStore(path).model("one-more:latest", {"model": b"x"})


def _lose(path: Path) -> None:
    (path / "manifests" / "registry.ollama.ai" / "acme" / "other" / "q").unlink()


def _change(path: Path) -> None:
    manifest = path / "manifests" / "registry.ollama.ai" / "acme" / "other" / "q"
    manifest.write_bytes(manifest.read_bytes() + b"\n")


@pytest.mark.parametrize("change", [_add, _lose, _change])
def test_any_difference_is_a_doubt(server: Replay, store: Path, change: Callable[[Path], None]) -> None:
    change(store)
    server.answers = [recorded("tags")]
    found = probe(read(store), where(server))
    assert found.kind == Kind.DOUBT and "other models" in found.reason


def test_what_the_server_skips_is_not_compared(server: Replay, store: Path) -> None:
    bad = OllamaStore(store).model("bad:latest", {"model": b"x"})
    bad.write_bytes(b"{")
    server.answers = [recorded("tags")]
    assert probe(read(store), where(server)).kind == Kind.SERVES


def test_two_stores_with_the_same_models_are_a_doubt(server: Replay, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "twin")
    server.answers = [recorded("tags")] * 2
    ours, twin = read(store), read(tmp_path / "twin")
    found = probe(ours, where(server), (ours, twin))
    assert found.kind == Kind.DOUBT and "several" in found.reason
    assert probe(ours, where(server), (ours,)).kind == Kind.SERVES


def test_a_server_that_serves_another_known_store_is_no_obstacle(server: Replay, store: Path, tmp_path: Path) -> None:
    mine = OllamaStore(tmp_path / "mine")
    mine.model("a:latest", {"model": b"x"})
    server.answers = [recorded("tags")]
    assert probe(read(mine.path), where(server), (read(store), read(mine.path))).kind == Kind.NONE


def test_an_empty_store_is_never_proven(server: Replay, tmp_path: Path) -> None:
    OllamaStore(tmp_path / "empty")
    server.answers = [b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"models":[]}']
    assert probe(read(tmp_path / "empty"), where(server)).kind == Kind.DOUBT


def test_nothing_answers(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    place = Where({"OLLAMA_HOST": f"127.0.0.1:{port}"}, "/nowhere", "/")
    assert probe(read(store), place) == Server(Kind.NONE)

    class Elsewhere:
        pid = 4711

    monkeypatch.setattr(ollama_server, "_serving", lambda: [Elsewhere()])
    found = probe(read(store), place)
    assert found.kind == Kind.DOUBT and "4711" in found.reason


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
     b"SSH-2.0-x\r\n",
     b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"models":[5]}', b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
     b"HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\nContent-Length: 0\r\n\r\n"],
)  # fmt: skip
def test_strange_answers_are_a_doubt(server: Replay, store: Path, answer: bytes) -> None:
    server.answers = [answer]
    assert probe(read(store), where(server)).kind == Kind.DOUBT
    assert len(server.asked) == 1


def test_a_server_that_never_answers_is_a_doubt(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama_server, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = Where({"OLLAMA_HOST": f"127.0.0.1:{silent.getsockname()[1]}"}, "/nowhere", "/")
        assert probe(read(store), place).kind == Kind.DOUBT


def test_a_proxy_of_the_environment_is_not_asked(server: Replay, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    server.answers = [recorded("tags")]
    assert probe(read(store), where(server)).kind == Kind.SERVES


def test_what_a_process_says_outweighs_its_list(server: Replay, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment says which store it serves, also when another one holds the same models."""
    monkeypatch.setattr(ollama_server, "_serving", lambda: [object()])
    here = store.stat()
    for folder, kind in (((here.st_dev, here.st_ino), Kind.SERVES), ((here.st_dev, 1), Kind.NONE)):
        monkeypatch.setattr(ollama_server, "_its_folder", lambda process, port, folder=folder: folder)
        server.answers = [recorded("tags")]
        assert probe(read(store), where(server)).kind == kind


def test_delete(server: Replay) -> None:
    proven = Server(Kind.SERVES, server.url)
    server.answers = [recorded("delete"), recorded("delete_404"), recorded("bad_json"), b""]
    delete(proven, "tiny:latest")
    head, _, body = server.asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"DELETE /api/delete HTTP/1.1\r\n") and json.loads(body) == {"model": "tiny:latest"}
    for name, message in (("nope", "model 'nope' not found"), ("x", "unexpected EOF"), ("y", "does not answer")):
        with pytest.raises(ServerError, match=message):
            delete(proven, name)


@pytest.mark.parametrize(
    ("host", "url"),
    [("", "http://127.0.0.1:11434"), ("0.0.0.0", "http://127.0.0.1:11434"), ("0.0.0.0:80", "http://127.0.0.1:80"),
     (":8080", "http://127.0.0.1:8080"), ("[::]:1234", "http://[::1]:1234"), ("[::1]", "http://[::1]:11434"),
     ("box", "http://box:11434"), ("http://box", "http://box:80"), ("https://box", "https://box:443"),
     ("https://box:8443/path", "https://box:8443"), (' "127.0.0.1:5" ', "http://127.0.0.1:5"),
     ("box:99999", "http://box:11434"), ("box:x", "http://box:11434")],
)  # fmt: skip
def test_ollama_host(host: str, url: str) -> None:
    assert server_url(host) == url


@pytest.mark.parametrize("host", ["a" * 70 + ".b", "\x00", "ex\u00e4mple..com", "[::1", "http://", "x y"])
def test_hosts_that_are_none_are_no_proof(store: Path, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama_server, "_DEFAULT_PORT", 9)  # nobody's
    assert probe(read(store), Where({"OLLAMA_HOST": host}, "/nowhere", "/")).kind in (Kind.NONE, Kind.DOUBT)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names a process with prctl")
def test_a_server_s_folder_is_read_from_its_process(tmp_path: Path) -> None:
    inodes = []
    for name in ("data", "home/.ollama/models"):
        (tmp_path / name).mkdir(parents=True)
        st = (tmp_path / name).stat()
        inodes.append((st.st_dev, st.st_ino))
    home = str(tmp_path / "home")
    for env, inode in (
        ({"OLLAMA_MODELS": f" '{tmp_path}/data' ", "HOME": home}, inodes[0]),
        ({"HOME": home}, inodes[1]),
    ):
        with process("serve", **env) as (pid, port):
            (mine,) = [p for p in _serving() if p.pid == pid]
            assert ollama_server._its_folder(mine, port) == inode
            assert ollama_server._its_folder(mine, port + 1) is None, "another port is another server"
    with process("run", "llama3") as (pid, _):
        assert pid not in [p.pid for p in _serving()], "a client is no server"
