"""Asking through Ollama's server: recorded answers of a real one, replayed; the official client in between."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cachetui.engine import ollama_engine
from cachetui.engine.errors import NO_MEMORY, NO_MODEL, NO_SERVER, UNSUPPORTED, Cancelled, EngineError
from cachetui.engine.images import Picture
from cachetui.engine.ollama_engine import OllamaLoaded, ask, load
from cachetui.engine.prompting import Question

DATA = Path(__file__).parents[1] / "data" / "ollama_api"


def recorded(name: str) -> tuple[int, bytes]:
    """(status, body) of an exchange with a real server."""
    head, _, body = (DATA / f"{name}.http").read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
    return int(head.split()[1]), body


class Replay(ThreadingHTTPServer):
    """Answers as the recorded server did."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = {name: recorded(name) for name in ("show", "ps")}
        self.answers["generate"] = recorded("generate_stream")
        self.wait = 0.0
        """Seconds between lines."""
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.hung_up = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients hang up here on purpose

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def lines(self, *lines: dict[str, Any]) -> None:
        """What /api/generate streams."""
        self.answers["generate"] = 200, b"".join(json.dumps(line).encode() + b"\n" for line in lines)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Replay

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._send(*self.server.answers["ps"])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = self.path.removeprefix("/api/")
        self.server.asked.append((name, body))
        if name == "generate" and not body.get("prompt"):
            self._send(*recorded("unload"))
        elif name == "generate":
            self._stream(*self.server.answers[name])
        else:
            self._send(*self.server.answers[name])

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for line in body.splitlines(keepends=True):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
                time.sleep(self.server.wait)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.server.hung_up.set()


@pytest.fixture
def server() -> Iterator[Replay]:
    with Replay() as found:
        threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def model(server: Replay) -> OllamaLoaded:
    return load("tiny", url=server.url)


def sees(model: OllamaLoaded) -> OllamaLoaded:
    model.images = True
    return model


def shown() -> Picture:
    image = pytest.importorskip("PIL.Image").new("RGB", (5, 3), (214, 40, 35))
    return Picture(image, "x.png", "", (5, 3), (5, 3))


def refused(model: OllamaLoaded, **more: Any) -> EngineError:
    with pytest.raises(EngineError) as found:
        ask(model, Question("hi", **more))
    assert found.value.advice
    return found.value


def test_loading_makes_the_server_load(server: Replay) -> None:
    model = load("tiny", url=server.url)
    assert [name for name, _ in server.asked] == ["show", "generate"]
    assert "prompt" not in server.asked[1][1] or not server.asked[1][1]["prompt"]
    assert (model.family, model.quantization, model.images) == ("llama", "unknown", False)
    assert (model.memory, model.context, model.device) == (1237318, 256, "cpu")
    model.free()
    assert server.asked[-1][1]["keep_alive"] == 0


def test_an_old_server_does_not_say_what_a_model_can(server: Replay) -> None:
    status, body = server.answers["show"]
    server.answers["show"] = status, json.dumps({**json.loads(body), "capabilities": None}).encode()
    assert load("tiny", url=server.url).images
    server.answers["show"] = status, json.dumps({**json.loads(body), "capabilities": ["completion", "vision"]}).encode()
    assert load("tiny", url=server.url).images


def test_it_answers(server: Replay, model: OllamaLoaded) -> None:
    pieces: list[str] = []
    answer = ask(model, Question("hi", (), "be short", 5, 0.7, 3), on_token=pieces.append)
    assert pieces == ["r", "\ufffd"] and answer.text == "r\ufffd"
    assert (answer.tokens, answer.prompt_tokens, answer.finish) == (5, 7, "length")
    assert answer.tokens_per_second == pytest.approx(5 / 1.403949)
    assert 0 < answer.first_token_seconds <= answer.seconds
    assert "loaded the model first: 1.0 s" in answer.advice and not answer.state_used
    asked = server.asked[-1][1]
    assert (asked["model"], asked["prompt"], asked["system"], asked["stream"]) == ("tiny", "hi", "be short", True)
    assert asked["options"] == {"num_predict": 5, "temperature": 0.7, "seed": 3} and "images" not in asked


def test_pictures_go_as_they_were_lowered(server: Replay, model: OllamaLoaded) -> None:
    from PIL import Image

    ask(sees(model), Question("hi", [shown(), shown()]))
    images = server.asked[-1][1]["images"]
    assert len(images) == 2
    sent = Image.open(io.BytesIO(base64.b64decode(images[0])))
    assert sent.size == (5, 3) and sent.getpixel((0, 0)) == (214, 40, 35)


def test_thoughts_are_shown_as_other_models_write_them(server: Replay, model: OllamaLoaded) -> None:
    server.lines(
        {"model": "tiny", "response": "", "thinking": "let me", "done": False},
        {"model": "tiny", "response": "", "thinking": " see", "done": False},
        {"model": "tiny", "response": "red", "done": False},
        {"model": "tiny", "response": "", "done": True, "done_reason": "stop", "eval_count": 9},
    )
    answer = ask(model, Question("hi"))
    assert answer.text == "<think>let me see</think>\nred" and answer.finish == "stop"


def test_a_full_context_is_said(server: Replay, model: OllamaLoaded) -> None:
    end = {"done": True, "done_reason": "length", "eval_count": 56, "prompt_eval_count": 200}
    server.lines({"model": "tiny", "response": "x", "done": False}, {"model": "tiny", "response": "", **end})
    assert "room for 256 tokens and all are used" in ask(model, Question("hi")).advice


def test_a_model_that_is_not_there(server: Replay) -> None:
    server.answers["show"] = recorded("show_404")
    with pytest.raises(EngineError, match="no model nope") as found:
        load("nope", url=server.url)
    assert found.value.code == NO_MODEL and found.value.advice == "cachetui pull ollama:nope"


def test_it_goes_away_between_two_questions(server: Replay, model: OllamaLoaded) -> None:
    server.answers["generate"] = recorded("generate_404")
    assert refused(model).code == NO_MODEL


def test_pictures_for_a_model_without_eyes(server: Replay, model: OllamaLoaded) -> None:
    assert refused(model, pictures=[shown()]).code == UNSUPPORTED
    assert server.asked[-1][0] != "generate" or "images" not in server.asked[-1][1]
    server.answers["generate"] = recorded("generate_images_nonvision")
    error = refused(sees(model), pictures=[shown()])
    assert "takes no pictures" in error.reason and error.code == UNSUPPORTED


def test_errors_inside_the_200(server: Replay, model: OllamaLoaded) -> None:
    server.lines({"error": "model requires more system memory (9.1 GiB) than is available (3.2 GiB)"})
    error = refused(model)
    assert error.code == NO_MEMORY and "9.1 GiB" in error.reason and "ollama ps" in error.advice
    server.lines({"model": "tiny", "response": "x", "done": False}, {"error": "llama runner process has terminated"})
    error = refused(model)
    assert error.code == NO_SERVER and "runner process has terminated" in error.reason
    server.lines({"error": '{"error":{"code":500,"message":"inner words"}}'})
    assert refused(model).reason == "the server says: inner words"


def test_a_stream_that_ends_early(server: Replay, model: OllamaLoaded) -> None:
    server.lines({"model": "tiny", "response": "x", "done": False})
    assert "stopped in the middle" in refused(model).reason


@pytest.mark.parametrize("body", [b"<html>\n", b"[1]\n", b'{"done": "what"}\n'])
def test_what_is_no_ollama(server: Replay, model: OllamaLoaded, body: bytes) -> None:
    server.answers["generate"] = 200, body
    error = refused(model)
    assert error.code == NO_SERVER and "is no Ollama" in error.reason and "OLLAMA_HOST" in error.advice


def test_no_server_says_how_to_start_one() -> None:
    with pytest.raises(EngineError, match="no Ollama server answers") as found:
        load("tiny", url="http://127.0.0.1:9")
    assert found.value.code == NO_SERVER and "ollama serve" in found.value.advice


def test_cancelling_hangs_up(server: Replay, model: OllamaLoaded) -> None:
    server.lines(*[{"model": "tiny", "response": f"{n} ", "done": False} for n in range(2000)])
    server.wait = 0.02
    pieces: list[str] = []
    answer = ask(model, Question("hi"), on_token=pieces.append, cancelled=lambda: len(pieces) > 2)
    assert answer.finish == "cancelled" and answer.text == "0 1 2 " == "".join(pieces)
    assert server.hung_up.wait(10)


def test_cancelling_does_not_wait_for_a_silent_server(server: Replay, model: OllamaLoaded) -> None:
    server.lines({"model": "tiny", "response": "x", "done": False}, {"model": "tiny", "response": "y", "done": True})
    server.wait = 3.0
    asked: list[int] = []
    answer = ask(model, Question("hi"), cancelled=lambda: bool(asked.append(1)) or len(asked) > 3)
    assert answer.finish == "cancelled" and not server.hung_up.is_set()
    with pytest.raises(Cancelled):
        load("tiny", url=server.url, cancelled=lambda: True)


def test_no_proxy_of_the_environment_hears_of_it(server: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ollama_engine.load("tiny", url=server.url).context == 256
