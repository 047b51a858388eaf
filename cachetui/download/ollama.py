"""Pulling through the running Ollama server, with its official client: POST /api/pull, a stream of JSON lines.

The answer is 200 even where it fails: a line with `error` says so. Hanging up stops the pull; the server keeps its
partials and the next pull goes on. Nothing is written here: the store is the server's. The client (0.5 s to import) is
loaded by the one who pulls; who the server is and what it has, asked before, is ollama_server's plain HTTP, for the
client has no call for the version and a preflight must not wait without limit.
"""

from __future__ import annotations

import http.client
import queue
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cachetui import ollama_server
from cachetui.config import Where
from cachetui.download import errors
from cachetui.download.errors import PullCancelled, PullError

if TYPE_CHECKING:
    from ollama import ProgressResponse

_AGAIN = "pull it again: it goes on where it stopped"
_CONNECT = 5.0
"""Seconds for a connection; once it stands, hashing a big layer may take minutes in silence."""
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
    url = ollama_server.server_url(where.env.get("OLLAMA_HOST", ""))
    try:
        version = ollama_server.get(url, "/api/version").get("version", "")
        models = ollama_server.get(url, "/api/tags").get("models")
    except (OSError, http.client.HTTPException, ollama_server.ServerError) as e:
        raise no_server(url, e) from e
    here = isinstance(models, list) and any(isinstance(m, dict) and m.get("name") == name for m in models)
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

    def take(self, line: ProgressResponse) -> None:
        if line.digest and line.total is not None:
            self.total[line.digest], self.done[line.digest] = line.total, min(line.completed or 0, line.total)


def pull(
    request: dict[str, Any], *, tell: Callable[[str, int, int, str], None], cancelled: Callable[[], bool]
) -> dict[str, Any]:
    """Have the server pull a model. Raises PullError, PullCancelled."""
    url, name = request["url"], parse(request["target"])
    layers, status = _Layers(), ""
    for line in _stream(url, name, cancelled):
        status = (line.status or "")[:_WORDS]
        layers.take(line)
        tell("pull", sum(layers.done.values()), sum(layers.total.values()), status)
    if status != "success":
        said = status or "it said nothing"
        raise PullError(errors.SERVER, f"the server at {url} stopped in the middle ({said})", _AGAIN)
    return {
        "target": f"ollama:{name}",
        "server": url,
        "layers": len(layers.total),
        "received": sum(layers.total.values()),
    }


def _stream(url: str, name: str, cancelled: Callable[[], bool]) -> Iterator[ProgressResponse]:
    """What the server says, read by a thread so that cancelling never waits for it; the thread hangs up."""
    lines: queue.SimpleQueue[ProgressResponse | Exception | None] = queue.SimpleQueue()
    over = threading.Event()
    threading.Thread(target=_read, args=(url, name, lines, over), name="server", daemon=True).start()
    try:
        while not cancelled():
            try:
                found = lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if found is None:
                return
            if isinstance(found, Exception):
                raise _meaning(url, found) from found
            yield found
        raise PullCancelled
    finally:
        over.set()


def _read(url: str, name: str, lines: queue.SimpleQueue[Any], over: threading.Event) -> None:
    """Until the end of the stream or until it is `over`. A silent server is hung up on when the worker ends."""
    try:
        import httpx
        from ollama import Client

        timeout = httpx.Timeout(None, connect=_CONNECT)
        with Client(url, timeout=timeout, trust_env=False) as client:  # straight to it: no proxy of the environment
            for line in client.pull(name, stream=True):
                if over.is_set():
                    return
                lines.put(line)
        lines.put(None)
    except Exception as e:
        lines.put(e)


def _meaning(url: str, error: Exception) -> PullError:
    """What the client raised, for people."""
    import httpx
    from ollama import ResponseError

    if isinstance(error, ResponseError):
        said = error.error[:_WORDS]
        for part, code, advice in _MEANINGS:
            if part in said:
                return PullError(code, said, advice)
        return PullError(errors.SERVER, said, "see the server's log: journalctl -u ollama, or ~/.ollama/logs")
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        return no_server(url, error)
    if isinstance(error, httpx.HTTPError):
        advice = "start it and pull again: it goes on where it stopped"
        return PullError(errors.SERVER, f"the server at {url} went away ({error})", advice)
    return PullError(errors.SERVER, "the server says what is not JSON: it may be no Ollama", "check OLLAMA_HOST")
