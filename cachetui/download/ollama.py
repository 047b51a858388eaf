"""Pulling through the running Ollama server: POST /api/pull, a stream of JSON lines (Ollama 0.33, server/routes.go).

The answer is 200 even where it fails: a line with `error` says so. Hanging up stops the pull; the server keeps its
partials and the next pull goes on. Nothing is written here: the store is the server's.
"""

from __future__ import annotations

import http.client
import json
import queue
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cachetui.config import Where
from cachetui.download import errors
from cachetui.download.errors import PullCancelled, PullError
from cachetui.ollama_server import server_url

_AGAIN = "pull it again: it goes on where it stopped"
_CONNECT = 5.0
_LINE = 1 << 20
_WORDS = 500
_NAME = re.compile(r"[A-Za-z0-9][\w./:-]{0,254}", re.ASCII)
_MEANINGS = (
    ("file does not exist", errors.NO_REPO, "check its name and tag on ollama.com"),
    ("no such host", errors.UNREACHABLE, "the server has no network: check its connection and proxy"),
    ("dial tcp", errors.UNREACHABLE, "the server cannot reach the registry: check its connection and proxy"),
    ("digest mismatch", errors.CONTENT, "pull it again: the server threw the damaged layer away"),
    ("no space left", errors.NO_ROOM, "make room where the server keeps its models (OLLAMA_MODELS), then pull again"),
    ("newer version", errors.SERVER, "update Ollama, then pull again"),
    ("unauthorized", errors.DENIED, "sign in with: ollama signin"),
)


@dataclass(frozen=True, slots=True)
class OllamaPlan:
    """A pull through a server, before it."""

    name: str
    """As the server takes it, tag included."""
    url: str
    version: str
    here: bool
    """The server lists it already: only what changed will come."""

    @property
    def target(self) -> str:
        """As a TARGET."""
        return f"ollama:{self.name}"

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"target": self.target, "server": self.url, "version": self.version, "here": self.here}

    def job(self) -> dict[str, Any]:
        """What the worker is told."""
        return {"source": "ollama", "target": self.target, "url": self.url}


def parse(text: str) -> str:
    """The server's name for `ollama:NAME[:TAG]` or `hf.co/ORG/NAME[:QUANT]`. Raises PullError."""
    name = text.removeprefix("ollama:")
    if not _NAME.fullmatch(name) or ".." in name or "//" in name:
        raise PullError(
            errors.USAGE, f"{text} names no model", "write it like ollama:llama3.2:3b or ollama:hf.co/ORG/NAME:Q4_K_M"
        )
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def prepare(where: Where, target: str) -> OllamaPlan:
    """Ask the server who it is and what it has. Raises PullError with how to start one."""
    name = parse(target)
    url = server_url(where.env.get("OLLAMA_HOST", ""))
    try:
        version = _get(url, "/api/version").get("version", "")
        models = _get(url, "/api/tags").get("models") or []
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as e:
        raise no_server(url, e) from e
    here = any(isinstance(m, dict) and m.get("name") == name for m in models)
    return OllamaPlan(name, url, str(version)[:40], here)


def no_server(url: str, error: Exception) -> PullError:
    """Nothing (useful) answers."""
    if shutil.which("ollama"):
        advice = "start it with: ollama serve (or: systemctl start ollama)"
    else:
        advice = "install Ollama (ollama.com/download), start it with: ollama serve; OLLAMA_HOST says where it is"
    words = (str(error).split("\n")[0] or type(error).__name__)[:_WORDS]
    return PullError(errors.UNREACHABLE, f"no Ollama server answers at {url} ({words})", advice)


@dataclass
class _Layers:
    """How far each layer is."""

    done: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)

    def take(self, line: dict[str, Any]) -> None:
        digest, total, completed = line.get("digest"), line.get("total"), line.get("completed", 0)
        if isinstance(digest, str) and type(total) is int and type(completed) is int:
            self.total[digest], self.done[digest] = total, min(completed, total)


def pull(
    request: dict[str, Any], *, tell: Callable[[str, int, int, str], None], cancelled: Callable[[], bool]
) -> dict[str, Any]:
    """Have the server pull a model. Raises PullError, PullCancelled."""
    url, name = request["url"], parse(request["target"])
    layers, status, success = _Layers(), "", False
    for line in _stream(url, {"model": name, "stream": True}, cancelled):
        if isinstance(line.get("error"), str):
            raise _meaning(line["error"])
        status = str(line.get("status", ""))[:_WORDS]
        layers.take(line)
        success = status == "success"
        tell("pull", sum(layers.done.values()), sum(layers.total.values()), status)
    if not success:
        said = status or "it said nothing"
        raise PullError(errors.SERVER, f"the server at {url} stopped in the middle ({said})", _AGAIN)
    return {
        "target": f"ollama:{name}",
        "server": url,
        "layers": len(layers.total),
        "received": sum(layers.total.values()),
    }


def _meaning(words: str) -> PullError:
    for part, code, advice in _MEANINGS:
        if part in words:
            return PullError(code, words[:_WORDS], advice)
    return PullError(errors.SERVER, words[:_WORDS], "see the server's log: journalctl -u ollama, or ~/.ollama/logs")


def _connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=_CONNECT)


def _get(url: str, path: str) -> dict[str, Any]:
    connection = _connect(url)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != 200:
            raise ValueError(f"HTTP {response.status}")
        found = json.loads(response.read(16 << 20))
    finally:
        connection.close()
    if not isinstance(found, dict):
        raise ValueError("its answer is no object")
    return found


def _stream(url: str, body: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """The lines of a streamed answer, read by a thread so that cancelling never waits for the server."""
    lines: queue.SimpleQueue[bytes | Exception | None] = queue.SimpleQueue()
    connection = _connect(url)
    try:
        try:
            connection.connect()
            threading.Thread(target=_read, args=(connection, body, lines), name="server", daemon=True).start()
        except OSError as e:
            raise no_server(url, e) from e
        while True:
            try:
                found = lines.get(timeout=0.2)
            except queue.Empty:
                found = b""
            if cancelled():
                raise PullCancelled
            if found is None:
                return
            if isinstance(found, Exception):
                raise PullError(
                    errors.SERVER,
                    f"the server at {url} went away ({found})",
                    "start it and pull again: it goes on where it stopped",
                ) from found
            if found.strip():
                yield _line(found)
    finally:
        with suppress(OSError):
            if connection.sock is not None:
                connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()


def _line(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise PullError(errors.SERVER, "the server says what is not JSON: it may be no Ollama", "check OLLAMA_HOST")
    return value


def _read(connection: http.client.HTTPConnection, body: dict[str, Any], lines: queue.SimpleQueue[Any]) -> None:
    try:
        assert connection.sock is not None
        connection.sock.settimeout(None)  # hashing a big layer takes minutes, and nothing is said meanwhile
        connection.request("POST", "/api/pull", json.dumps(body).encode(), {"Content-Type": "application/json"})
        response = connection.getresponse()
        while raw := response.readline(_LINE):
            lines.put(raw)
        lines.put(None)
    except Exception as e:
        lines.put(e)
