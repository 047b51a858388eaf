"""The running Ollama server, asked over plain HTTP: does it serve this very store, and deleting through it.

Where a server serves a store, files must not be changed under it: its list is cached. Where it is not certain whose
store a server serves, nothing is done at all. Follows Ollama 0.33: GET /api/tags, DELETE /api/delete, and the rules
of envconfig.Host for OLLAMA_HOST.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import psutil

from cachetui.config import Where
from cachetui.model import Item, RootScan

TIMEOUT = 2.0
"""Seconds for a list of models; a server that takes longer is a doubt, not a hang."""
DELETE_TIMEOUT = 60.0
_MAX_ANSWER = 16 << 20
_DEFAULT_PORT = 11434
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
_HEX = re.compile(r"[0-9a-f]{64}")


class ServerError(Exception):
    """The server refused, or cannot be reached; the message may hold outside strings."""


class Kind(StrEnum):
    """What is known about a server and a store."""

    NONE = "none"
    """No server answers and none seems to run: files may be changed."""
    SERVES = "serves"
    """It serves exactly this store: delete through it."""
    DOUBT = "doubt"
    """It cannot be told: change nothing."""


@dataclass(frozen=True, slots=True)
class Server:
    """What was found."""

    kind: Kind
    url: str = ""
    """Of the one that answered."""
    reason: str = ""
    """In words, for a doubt; may hold outside strings."""


def server_url(host: str) -> str:
    """OLLAMA_HOST as the server and its client read it (envconfig.Host): scheme, address and port have defaults."""
    text = host.strip().strip("\"'").strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    port = {"http": _DEFAULT_PORT if not separator else 80, "https": 443}.get(scheme, _DEFAULT_PORT)
    rest = rest.partition("/")[0]
    try:
        parts = urlsplit(f"//{rest}")
        name, port = parts.hostname or "", parts.port or port
    except ValueError:
        name = rest.rpartition(":")[0] or rest  # a port out of range: the default one
    name = _ANY.get(name, name)
    url = f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}"
    try:
        urlsplit(url)
    except ValueError:  # brackets that do not close
        return f"http://127.0.0.1:{_DEFAULT_PORT}"
    return url


def probe(root: RootScan, where: Where, others: Sequence[RootScan] = ()) -> Server:
    """Whether a server serves this store. `others`: the other Ollama stores of the scan. Takes at most seconds."""
    ours = _digests(root)
    url = server_url(where.env.get("OLLAMA_HOST", ""))
    if not _is_local(url):
        if _lists(url) == ours and ours:
            return Server(Kind.DOUBT, url, f"the server at {url}, on another machine, lists exactly these models")
        url = server_url("")
    try:
        listed = _tags(url)
    except ConnectionRefusedError:
        running = _serving()
        if not running:
            return Server(Kind.NONE)
        reason = (
            f"nothing answers at {url}, but Ollama serves (process {running[0].pid}): set OLLAMA_HOST to its address"
        )
        return Server(Kind.DOUBT, "", reason)
    except (OSError, ServerError, http.client.HTTPException) as e:
        return Server(Kind.DOUBT, url, f"what answers at {url} cannot be asked for its models ({e})")
    return _compare(url, listed, ours, root, [o for o in others if o.root.path != root.root.path])


def _compare(
    url: str, listed: dict[str, str], ours: dict[str, str], root: RootScan, others: Sequence[RootScan]
) -> Server:
    """What a server's list says about a store, next to the other stores there are."""
    serving = _serving()
    folders = {f for p in serving if (f := _its_folder(p, urlsplit(url).port)) is not None}
    same = [o for o in others if listed and _digests(o) == listed]
    if folders and (root.root.dev, root.root.ino) not in folders:
        if len(serving) == 1:
            return Server(Kind.NONE)
        return Server(Kind.DOUBT, url, f"the server at {url} serves another folder, and a second server runs")
    if not listed or listed != ours:
        if same and len(serving) <= 1:
            return Server(Kind.NONE)
        return Server(Kind.DOUBT, url, f"the server at {url} lists other models than this folder holds")
    if same and not folders:
        return Server(Kind.DOUBT, url, f"the server at {url} could serve several folders: they hold the same models")
    return Server(Kind.SERVES, url)


def delete(server: Server, name: str) -> None:
    """Delete a tag through the server's API. Raises ServerError."""
    try:
        status, body = _request(server.url, "DELETE", "/api/delete", {"model": name}, DELETE_TIMEOUT)
    except (OSError, http.client.HTTPException) as e:
        raise ServerError(f"the server at {server.url} does not answer: {e}") from e
    if status != 200:
        raise ServerError(f"the server at {server.url} refused to delete {name}: {_error(body) or f'HTTP {status}'}")


def _digests(root: RootScan) -> dict[str, str]:
    """Name to manifest sha256, of what a server would list of this store: it skips what it cannot read."""
    return {i.name: i.revisions[0].commit for i in root.items if i.kind == "model" and i.revisions and _is_listed(i)}


def _is_listed(item: Item) -> bool:
    revision = item.revisions[0]
    config = [at for name, at in zip(revision.names, revision.index, strict=True) if name.startswith("config")]
    return -1 not in config and not any(p.code in ("bad-manifest", "misplaced") for p in item.problems)


def _lists(url: str) -> dict[str, str] | None:
    try:
        return _tags(url)
    except (OSError, ServerError, http.client.HTTPException):
        return None


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host in ("localhost", "::1") or host.startswith("127."):
        return True
    return any(a.address.partition("%")[0] == host for addresses in psutil.net_if_addrs().values() for a in addresses)


def get(url: str, path: str) -> dict[str, Any]:
    """The object that an address of the API answers. Raises ServerError, OSError, HTTPException."""
    status, body = _request(url, "GET", path, None, TIMEOUT)
    if status != 200:
        raise ServerError(_error(body) or f"HTTP {status}")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ServerError("its answer is no object")
    return found


def _tags(url: str) -> dict[str, str]:
    try:
        rows = get(url, "/api/tags")["models"] or []
        found = {row["name"]: row["digest"] for row in rows}
    except (KeyError, TypeError):
        raise ServerError("its answer is no list of models") from None
    if not all(isinstance(n, str) and isinstance(d, str) and _HEX.fullmatch(d) for n, d in found.items()):
        raise ServerError("its answer is no list of models")
    return found


def _error(body: bytes) -> str:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    error = value.get("error") if isinstance(value, dict) else None
    return error[:500] if isinstance(error, str) else ""


def _request(url: str, method: str, path: str, body: object, timeout: float) -> tuple[int, bytes]:
    """One exchange, straight to the server: no proxy of the environment, no redirect."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=timeout)
    try:
        raw = None if body is None else json.dumps(body).encode()
        connection.request(method, path, raw, {"Content-Type": "application/json"} if raw else {})
        response = connection.getresponse()
        end = time.monotonic() + timeout
        answer = bytearray()
        while len(answer) < _MAX_ANSWER and (chunk := response.read1(1 << 16)):
            answer += chunk
            if time.monotonic() > end:  # the socket's own timeout starts anew with every byte
                raise TimeoutError("it answers too slowly")
        return response.status, bytes(answer)
    except ValueError as e:  # a host name that cannot be one
        raise ServerError(str(e)) from e
    finally:
        connection.close()


def _serving() -> list[psutil.Process]:
    """Processes that are an Ollama server, also those of other users; not its runners and clients."""
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        name = (process.info["name"] or "").lower().removesuffix(".exe")
        line = process.info["cmdline"]
        if name == "ollama" and (not line or "serve" in line):
            found.append(process)
    return found


def _its_folder(process: psutil.Process, port: int | None) -> tuple[int, int] | None:
    """The store of the server that listens on a port, as (device, inode); None where that cannot be found out."""
    try:
        if not any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in process.net_connections("tcp")):
            return None
        environment = process.environ()
        given = environment.get("OLLAMA_MODELS", "").strip().strip("\"'")
        home = environment.get("HOME", "")
        if not given and not home:
            return None
        path = os.path.join(process.cwd(), given) if given else os.path.join(home, ".ollama", "models")
        # The path as that process sees it: in a container it is another folder than here.
        st = os.stat(f"/proc/{process.pid}/root{path}" if sys.platform.startswith("linux") else path)
    except (psutil.Error, OSError, ValueError):
        return None
    return st.st_dev, st.st_ino
