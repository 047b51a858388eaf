"""Deleting through a server that serves the store: what it unlinks can be brought back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from plans_world import ALL, FaultyFs, Killed, World, blobs

from cachetui.demo.builders import sha256
from cachetui.plans import model, trash
from cachetui.plans.executor import execute
from cachetui.plans.recovery import recover


@dataclass
class Server:
    """Lists and deletes as Ollama 0.33 does: the manifest, then every layer that no other manifest names."""

    store: Path
    refuses: bool = False
    hides: bool = False
    deleted: list[str] = field(default_factory=list)

    def tags(self) -> list[dict[str, object]]:
        found = []
        for path in sorted((self.store / "manifests/registry.ollama.ai/library").glob("*/*")):
            name = f"{path.parent.name}:{path.name}"
            found.append({"name": name, "model": name, "digest": sha256(path.read_bytes()), "size": 1})
        return found[1:] if self.hides else found

    def delete(self, name: str) -> bool:
        short, _, tag = name.partition(":")
        path = self.store / "manifests/registry.ollama.ai/library" / short / tag
        if self.refuses or not path.exists():
            return False
        mine = self._layers(path)
        path.unlink()
        kept = {d for p in (self.store / "manifests").rglob("*") if p.is_file() for d in self._layers(p)}
        for digest in mine - kept:
            (self.store / "blobs" / digest.replace(":", "-")).unlink()
        self.deleted.append(name)
        return True

    def _layers(self, path: Path) -> set[str]:
        body = json.loads(path.read_bytes())
        return {row["digest"] for row in [*body["layers"], body["config"]]}


@pytest.fixture
def server(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A real HTTP server on this machine that serves the world's store."""
    state = Server(world.ollama.path)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, {"models": state.tags()})

        def do_DELETE(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            done = state.delete(asked["model"])
            self._answer(200 if done else 404, {} if done else {"error": "model not found"})

        def _answer(self, status: int, body: object) -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=http.serve_forever, daemon=True).start()
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{http.server_port}")
    yield state
    http.shutdown()
    http.server_close()


TAGS = [("ollama:llama3.2:3b",), ("ollama:llama3.2:3b", "ollama:llama3.2:latest")]


@pytest.mark.parametrize("targets", TAGS, ids="+".join)
def test_the_server_deletes_and_undo_brings_it_back(world: World, server: Server, targets: tuple[str, ...]) -> None:
    before, held = world.stores(), blobs(world.ollama.path)
    plan = world.plan(*targets)
    assert all(i.via_server for i in plan.items) and plan.frees_now == 0 and plan.cautions == frozenset()
    outcome = execute(plan)
    assert outcome.ok and outcome.freed == 0 and outcome.moved > 0, outcome
    assert len(server.deleted) == len(targets)
    (entry,) = trash.entries(world.roots())
    assert {i.target for i in entry.items} == set(targets)
    assert trash.restore(entry).ok
    assert world.stores() == before and blobs(world.ollama.path) == held
    assert trash.entries(world.roots()) == ()
    assert {p.stat().st_nlink for p in world.ollama.path.rglob("*") if p.is_file()} == {1}


def test_emptying_frees_what_the_server_left_in_the_trash(world: World, server: Server) -> None:
    plan = world.plan(*TAGS[1])
    assert execute(plan).ok
    emptied = trash.empty(trash.entries(world.roots()))
    assert emptied.ok and emptied.freed == plan.frees_when_emptied > 0


def test_permanently_frees_at_once(world: World, server: Server) -> None:
    plan = world.plan(*TAGS[1], permanent=True)
    outcome = execute(plan, accept=ALL)
    assert outcome.ok and outcome.freed == plan.frees_now > 0
    assert trash.entries(world.roots()) == ()


def test_what_the_server_refuses_is_left_as_it_was(world: World, server: Server) -> None:
    before = world.stores()
    server.refuses = True
    outcome = world.remove(*TAGS[1])
    assert [r.done for r in outcome.results] == [False, False] and "model not found" in outcome.results[0].message
    assert world.stores() == before and trash.entries(world.roots()) == ()
    assert {p.stat().st_nlink for p in world.ollama.path.rglob("*") if p.is_file()} == {1}


def test_in_doubt_nothing_is_done(world: World, server: Server) -> None:
    server.hides = True
    plan = world.plan("ollama:llama3.2:3b", "hf:acme/left")
    assert [bool(i.refused) for i in plan.items] == [True, False]
    assert "lists other models" in plan.items[0].refused


def test_orphans_go_by_hand_and_ask(world: World, server: Server) -> None:
    orphan = world.ollama.orphan(b"nobody names me")
    assert orphan.exists()
    (item,) = [i for i in world.scan().items if i.store == "ollama" and i.kind == "orphan"]
    plan = world.plan(item.id)
    assert plan.cautions == {model.SERVER} and not plan.items[0].via_server
    assert execute(plan, accept=ALL).ok and not orphan.exists()
    assert world.undo().ok and orphan.exists()


@pytest.mark.parametrize("fault", ["before", "after"])
def test_killed_at_any_call(world: World, server: Server, fault: str) -> None:
    """A tag is there whole, or in the trash whole."""
    before, held = world.stores(), blobs(world.ollama.path)
    for at in range(1, 200):
        plan = world.plan(*TAGS[1])
        fs = FaultyFs(at, fault)
        try:
            execute(plan, fs=fs)
        except Killed:
            pass
        assert all(r.action in ("finished", "reverted") for r in recover(world.roots())), at
        assert recover(world.roots()) == ()
        assert blobs(world.home / ".ollama") >= held
        for entry in trash.entries(world.roots()):
            assert trash.check(entry) == ({}, ()), at
            assert trash.restore(entry).ok, at
        assert world.stores() == before, at
        assert {p.stat().st_nlink for p in world.ollama.path.rglob("*") if p.is_file()} == {1}, at
        if not fs.hit:
            break
    assert at > 15


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files to another user")
def test_what_cannot_be_linked_needs_the_louder_confirmation(world: World, server: Server) -> None:
    """A service install: the files are another user's, and only the server may delete them."""
    for path in (world.home, *world.home.parents):
        if path == Path("/tmp"):
            break
        path.chmod(0o755)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            plan = world.plan("ollama:llama3.2:3b")
            assert model.NO_UNDO in plan.cautions and plan.frees_now == plan.frees_when_emptied > 0
            assert not execute(plan).ok
            outcome = execute(plan, accept=ALL)
            assert outcome.ok and outcome.freed == plan.frees_now, outcome
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not (world.ollama.path / "manifests/registry.ollama.ai/library/llama3.2/3b").exists()
