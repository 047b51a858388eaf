"""A Hub for tests: the API that huggingface_hub's real client speaks, a second host for LFS files, faults on demand.

Follows what huggingface_hub 2.4 asks for (hf_api.py, file_download.py) and what the Hub answers: repo info, the tree
in pages by Link header, resolve with X-Repo-Commit, X-Linked-Etag and X-Linked-Size, a redirect to another origin.
Started as a process it is a server for speed: python tests/download/server.py --rate 8000000
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 1000
_SEND = 1 << 16
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


_KNOWN: dict[tuple[str, int], tuple[bytes, str]] = {}
"""Hashes of big contents by identity; the content is kept, so that no other one gets its id."""


def _once(kind: str, content: bytes) -> str:
    start = b"blob %d\0" % len(content) if kind == "sha1" else b""
    if len(content) < 1 << 16:
        return hashlib.new(kind, start + content).hexdigest()
    found = _KNOWN.get((kind, id(content)))
    if found is None:
        digest = hashlib.new(kind, start)
        digest.update(content)
        found = _KNOWN[kind, id(content)] = (content, digest.hexdigest())
    return found[1]


def git_sha1(content: bytes) -> str:
    return _once("sha1", content)


def sha256(content: bytes) -> str:
    return _once("sha256", content)


@dataclass
class Fault:
    """Something that goes wrong with the content of a file.

    kind: cut, reset, stall, 503, 429, 416, wrong-size, flip, no-range, no-etag, expired, changed, gone.
    """

    kind: str
    path: str = ""
    """Of the file; empty for all."""
    times: int = 1
    """How often; -1 for always."""
    after: int = 0
    """Bytes of the body that come before it; for flip, the offset in the file; for 503, what came of it at all."""
    wait: str = "0"
    """Retry-After of 429 and 503."""


@dataclass
class Repo:
    """A repo: its files at the newest commit, and at older ones."""

    files: dict[str, bytes]
    lfs: frozenset[str] = frozenset()
    xet: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    revisions: dict[str, tuple[str, dict[str, bytes]]] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    _commit: tuple[int, str] = (0, "")

    @property
    def commit(self) -> str:
        if self._commit[0] != id(self.files):
            lines = "".join(f"{p}\0{sha256(c)}\n" for p, c in sorted(self.files.items()))
            self._commit = (id(self.files), hashlib.sha1(lines.encode()).hexdigest())
        return self._commit[1]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision in ("main", self.commit):
            return self.commit, self.files
        for name, (commit, files) in self.revisions.items():
            if revision in (name, commit):
                return commit, files
        return None

    def update(self, files: dict[str, bytes]) -> None:
        """A new commit on main; the one before stays by its hash."""
        self.revisions[self.commit] = (self.commit, self.files)
        self.files = {**self.files, **files}


@dataclass
class Request:
    """What was asked for, and how much of it went out."""

    host: str
    method: str
    path: str
    authorization: str
    range: str
    sent: int = 0


class HubServer:
    """Two origins: the Hub, and where LFS content lies. A context manager."""

    def __init__(self, *, rate: float = 0.0, token: str = "") -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.rate = rate
        """Bytes a second for each connection; 0: as fast as it goes."""
        self.token = token
        """What private and gated repos want to see."""
        self.lock = threading.Lock()
        self.came: dict[str, int] = {}
        self.content: dict[str, tuple[bytes, str]] = {}
        self._servers = [_Server(("127.0.0.1", 0), _Handler, self, name) for name in ("hub", "cdn")]
        self._threads: list[threading.Thread] = []
        self.closing = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def cdn(self) -> str:
        return f"http://127.0.0.1:{self._servers[1].server_port}"

    def __enter__(self) -> HubServer:
        for server in self._servers:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add(self, name: str, repo: Repo, kind: str = "model") -> Repo:
        self.repos[name if kind == "model" else f"{kind}s/{name}"] = repo
        return repo

    def fail(self, kind: str, path: str = "", times: int = 1, after: int = 0, wait: str = "0") -> None:
        self.faults.append(Fault(kind, path, times, after, wait))

    def sent(self, part: str = "") -> int:
        """Bytes of content that went out for paths that contain `part`."""
        with self.lock:
            return sum(r.sent for r in self.requests if part in r.path and r.method == "GET" and "/api/" not in r.path)

    def take(self, path: str, *kinds: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                early = fault.kind == "503" and self.came.get(path, 0) < fault.after
                if fault.kind in kinds and fault.times and fault.path in ("", path) and not early:
                    fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: Any, hub: HubServer, name: str) -> None:
        self.hub, self.name = hub, name
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients are killed all the time here


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.server.hub.rate:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        self.entry = Request(
            self.server.name, self.command, path, self.headers.get("Authorization", ""), self.headers.get("Range", "")
        )
        with hub.lock:
            hub.requests.append(self.entry)
        if self.server.name == "cdn":
            self._cdn(path)
        elif match := re.fullmatch(r"/api/(model|dataset|space)s/(.+?)/revision/(.+)", path):
            self._info(match[1], match[2], match[3])
        elif match := re.fullmatch(r"/api/(model|dataset|space)s/(.+?)/tree/(.+)", path):
            self._tree(match[1], match[2], match[3])
        elif path == "/api/models":
            self._search()
        elif match := re.fullmatch(r"/(?:(dataset|space)s/)?(.+?)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1] or "model", match[2], match[3], match[4])
        else:
            self._error(404, "RepoNotFound", "no such page")

    def _json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str = "", message: str = "", headers: dict[str, str] | None = None) -> None:
        body = json.dumps({"error": message}).encode()
        self.send_response(status)
        for name, text in {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})}.items():
            if text:
                self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _repo(self, kind: str, name: str, revision: str) -> tuple[Repo, str, dict[str, bytes]] | None:
        repo = self.server.hub.repos.get(name if kind == "model" else f"{kind}s/{name}")
        allowed = self.entry.authorization == f"Bearer {self.server.hub.token}" and self.server.hub.token
        if repo is None or (repo.private and not allowed):
            self._error(404 if allowed else 401, "RepoNotFound", "Repository not found")
            return None
        found = repo.at(revision)
        if found is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repo, *found

    def _info(self, kind: str, name: str, revision: str) -> None:
        if (found := self._repo(kind, name, revision)) is None:
            return
        repo, commit, files = found
        siblings = [{"rfilename": p} for p in sorted(files)]
        self._json(
            {"_id": "1", "id": name, "modelId": name, "sha": commit, "private": repo.private, "siblings": siblings,
             "gated": "auto" if repo.gated else False, "tags": [], "downloads": 7, "likes": 3, **repo.info}
        )  # fmt: skip

    def _tree(self, kind: str, name: str, revision: str) -> None:
        if (found := self._repo(kind, name, revision)) is None:
            return
        repo, _, files = found
        query = parse_qs(urlsplit(self.path).query)
        start = int(query.get("cursor", ["0"])[0])
        folders = sorted({p.rpartition("/")[0] for p in files if "/" in p})
        rows = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": f} for f in folders]
        rows += [_row(repo, path, files[path]) for path in sorted(files)]
        headers = {}
        if start + PAGE < len(rows):
            base = f"{self.server.hub.endpoint}{urlsplit(self.path).path}"
            headers["Link"] = f'<{base}?recursive=true&expand=false&cursor={start + PAGE}>; rel="next"'
        self._json(rows[start : start + PAGE], headers)

    def _search(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        words = query.get("search", [""])[0].lower()
        wanted = query.get("filter", [])
        rows = []
        for name, repo in self.server.hub.repos.items():
            tags = repo.info.get("tags", [])
            if words in name.lower() and all(w in tags for w in wanted):
                rows.append(
                    {"id": name, "downloads": 7, "likes": 3, "gated": repo.gated, "private": False, **repo.info}
                )
        self._json(rows[: int(query.get("limit", ["100"])[0])])

    def _resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        hub = self.server.hub
        if (found := self._repo(kind, name, revision)) is None:
            return
        repo, commit, files = found
        if repo.gated and not (hub.token and self.entry.authorization == f"Bearer {hub.token}"):
            self._error(403, "GatedRepo", f"Access to model {name} is restricted")
            return
        if path not in files or hub.take(path, "gone"):
            self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return
        content = files[path]
        headers = {"X-Repo-Commit": commit}
        if path not in repo.lfs:
            self._content(path, content, headers, f'"{git_sha1(content)}"')
            return
        key = sha256(content)
        with hub.lock:
            hub.content[key] = (content, path)
        if not hub.take(path, "no-linked-etag") and not any(
            f.kind == "no-etag" and f.path in ("", path) for f in hub.faults
        ):
            headers |= {"X-Linked-Etag": f'"{key}"'}
        headers |= {"X-Linked-Size": str(len(content)), "Location": f"{hub.cdn}/content/{key}?signature=secret"}
        if path in repo.xet:
            headers |= {"X-Xet-Hash": repo.xet[path]}
        self.send_response(302)
        for header, text in headers.items():
            self.send_header(header, text)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _cdn(self, path: str) -> None:
        found = self.server.hub.content.get(path.rpartition("/")[2])
        if found is None:
            self._error(404)
            return
        content, name = found
        if self.server.hub.take(name, "expired"):
            self._error(403, "", "Request has expired")
            return
        tag = f'"{sha256(content)[:32]}"'
        if self.server.hub.take(name, "changed"):
            content, tag = bytes(len(content)), '"other"'
        self._content(name, content, {}, tag)

    def _content(self, path: str, content: bytes, headers: dict[str, str], tag: str) -> None:
        hub = self.server.hub
        if self.command == "GET":
            if fault := hub.take(path, "503", "429", "416"):
                wait = {"Retry-After": fault.wait} if fault.kind != "416" else {}
                self._error(int(fault.kind), "", "busy", wait)
                return
            if fault := hub.take(path, "wrong-size"):
                content = content[: fault.after]
            if fault := hub.take(path, "flip"):
                at = fault.after
                content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        start, end, status = 0, len(content), 200
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        condition = self.headers.get("If-Range", tag)
        if match and condition == tag and not any(f.kind == "no-range" and f.path in ("", path) for f in hub.faults):
            start, end = int(match[1]), min(int(match[2] or end - 1) + 1, end)
            status = 206
            if start >= len(content):
                self._error(416, headers={"Content-Range": f"bytes */{len(content)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        self.send_response(status)
        if not any(f.kind == "no-etag" and f.path in ("", path) for f in hub.faults):
            headers["ETag"] = tag
        for header, text in headers.items():
            self.send_header(header, text)
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.command == "GET":
            self._body(path, memoryview(content)[start:end])

    def _body(self, path: str, body: memoryview) -> None:
        hub = self.server.hub
        fault = hub.take(path, "cut", "reset", "stall")
        limit = min(fault.after, len(body)) if fault else len(body)
        began = time.monotonic()
        at = 0
        size = _SEND if hub.rate else 1 << 20
        while at < limit:
            piece = body[at : min(at + size, limit)]
            self.connection.sendall(piece)
            at += len(piece)
            self.entry.sent += len(piece)
            hub.came[path] = hub.came.get(path, 0) + len(piece)
            if hub.rate:
                time.sleep(max(began + at / hub.rate - time.monotonic(), 0))
        if fault is None:
            return
        self.close_connection = True
        if fault.kind == "stall":
            hub.closing.wait(30)
        if fault.kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


def _row(repo: Repo, path: str, content: bytes) -> dict[str, Any]:
    if path not in repo.lfs:
        return {"type": "file", "oid": git_sha1(content), "size": len(content), "path": path}
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(content)}\nsize {len(content)}\n"
    row = {
        "type": "file", "oid": git_sha1(pointer.encode()), "size": len(content), "path": path,
        "lfs": {"oid": sha256(content), "size": len(content), "pointerSize": len(pointer)},
    }  # fmt: skip
    return row | ({"xetHash": repo.xet[path]} if path in repo.xet else {})


def main() -> None:
    """A server in a process of its own, for measuring: prints its address; ends with its standard input."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--small", type=int, default=40)
    parser.add_argument("--big", type=int, nargs="*", default=[])
    given = parser.parse_args()
    block = hashlib.sha512(b"weights").digest() * (1 << 14)
    files = {f"file{n}.json": f'{{"n": {n}}}'.encode() * 40 for n in range(given.small)}
    weights = {}
    for n, size in enumerate(given.big):
        weights[f"model-{n}.safetensors"] = (str(n).encode() + block * (size // len(block) + 1))[:size]
    repo = Repo({**files, **weights}, frozenset(weights))
    with HubServer(rate=given.rate) as hub:
        hub.add("acme/bench", repo)
        for path in weights:  # hashed once, before anybody measures
            _row(repo, path, weights[path])
        print(hub.endpoint, repo.commit, flush=True)
        import sys

        sys.stdin.read()


if __name__ == "__main__":
    main()
