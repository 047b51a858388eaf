"""The lines that worker and parent exchange."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachetui.config import Config, Where
from cachetui.jobs import environment, protocol, requests
from cachetui.jobs.meter import Meter
from cachetui.jobs.model import Spec

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=30)


@given(TEXT, st.lists(TEXT))
def test_any_name_survives(name: str, names: list[str]) -> None:
    raw = protocol.line("progress", name=name, names=names)
    assert raw.count(b"\n") == 1 and raw.isascii()
    found = protocol.parse(raw)
    assert (found["type"], found["name"], found["names"]) == ("progress", name, names)


@given(st.dictionaries(TEXT, TEXT | st.integers() | st.lists(TEXT)), st.integers(1, 50))
def test_a_result_survives_in_pieces(result: dict[str, object], step: int) -> None:
    raw = b"".join(protocol.result_lines(result))
    lines, text = protocol.Lines(), protocol.ResultText()
    for start in range(0, len(raw), step):
        for line in lines.feed(raw[start : start + step]):
            text.add(protocol.parse(line))
    assert text.value == result


def test_a_long_result_is_cut_into_lines_that_are_allowed() -> None:
    result = {"names": ['\\"\udcff\u202e'] * 200_000}
    pieces = list(protocol.result_lines(result))
    assert len(pieces) > 1 and max(map(len, pieces)) < protocol.MAX_LINE
    text = protocol.ResultText()
    for raw in pieces:
        assert text.value is None
        text.add(protocol.parse(raw))
    assert text.value == result


def test_long_texts_are_cut() -> None:
    assert len(protocol.line("log", text="\U0010ffff" * 10**6)) < protocol.MAX_LINE


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"hello", "not a line of JSON"),
        (b"", "not a line of JSON"),
        (b"[1]", "not a message"),
        (b'{"v": 1}', "not a message"),
        (b'{"v": 2, "type": "done"}', "version 2"),
        (b"[" * 100_000, "not a line of JSON"),
        (b'"\xff"', "not a line of JSON"),
        (b"1" * 10_000, "not a line of JSON"),
    ],
)
def test_what_is_no_message_is_said_in_words(raw: bytes, says: str) -> None:
    with pytest.raises(protocol.ProtocolError, match=says):
        protocol.parse(raw)


def test_a_line_may_be_as_long_as_allowed_and_no_longer() -> None:
    most = protocol.MAX_LINE
    assert list(protocol.Lines().feed(b"x" * (most - 1) + b"\n")) == [b"x" * (most - 1)]
    lines = protocol.Lines()
    assert list(lines.feed(b"x" * (most - 1))) == []
    with pytest.raises(protocol.ProtocolError, match="longer than"):
        list(lines.feed(b"x"))


def test_rate_and_time_left() -> None:
    meter = Meter()
    say = lambda done, now, phase="copy", total=1000: meter.update(  # noqa: E731
        {"phase": phase, "done": done, "total": total}, now
    )
    first = say(0, 100.0)
    assert first is not None and (first.rate, first.eta) == (0.0, None)
    then = say(200, 102.0)
    assert then is not None and (then.rate, then.eta) == (100.0, 8.0)
    late = say(210, 122.0)  # an average of the last seconds, not of all time
    assert late is not None and late.rate < 2
    meter.restart()
    assert say(220, 500.0).rate == 0.0  # type: ignore[union-attr]
    assert say(5, 501.0, "check").rate == 0.0  # type: ignore[union-attr]
    assert say(9, 502.0, "check", 0).eta is None  # type: ignore[union-attr]
    assert meter.update({"phase": "copy", "done": -1, "total": 3}, 1.0) is None
    assert meter.update({"phase": "copy", "done": "5", "total": 3}, 1.0) is None


def test_secrets_are_known_by_name_and_by_value() -> None:
    env = {
        "HF_TOKEN": "hf_x", "HUGGING_FACE_HUB_TOKEN": "hf_x", "OLLAMA_API_KEY": "k", "AWS_SECRET_ACCESS_KEY": "s",
        "DB_PASSWORD": "p", "HTTPS_PROXY": "http://me:pw@proxy:3128", "HF_ENDPOINT": "https://tok@hub.example",
        "PATH": "/bin", "HF_HOME": "/models", "HOME": "/home/me", "LANG": "C", "MY_DIR": "/data",
        "HTTP_PROXY": "http://proxy:3128", "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    kept = environment.of_child("archive", env)
    assert kept.keys() == {
        "PATH",
        "HF_HOME",
        "HOME",
        "LANG",
        "MY_DIR",
        "HTTP_PROXY",
        "HF_HUB_OFFLINE",
        "TOKENIZERS_PARALLELISM",
    }
    assert environment.of_child("pull", env) == env
    assert environment.places(env).keys() == {"HF_HOME", "HOME", "MY_DIR"}


def test_requests_come_back_as_they_went() -> None:
    where = Where(
        {"HF_HOME": "/m", "HF_TOKEN": "hf_secret", "X": "y"},
        "/home/me",
        "/work\udcff",
        ("a",),
        ("b",),
        Config(cache_dirs=("c",), binary_units=True),
    )
    spec = requests.archive(where, [("/root", "hf:a/b"), ("/root\udcff", "x")], "/mnt/big", accept={"young"})
    back = Spec.from_json(json.loads(json.dumps(spec.to_json())))
    assert back == spec
    assert "hf_secret" not in json.dumps(spec.to_json())
    found = requests.where_of(back.request["where"])
    assert (found.env, found.home, found.cwd) == ({"HF_HOME": "/m"}, "/home/me", "/work\udcff")
    assert (found.cache_dirs, found.search_roots, found.config) == (("a",), ("b",), where.config)
    assert requests.targets_of(dict(back.request)) == (("/root", "hf:a/b"), ("/root\udcff", "x"))


def test_asking_for_the_same_is_the_same_job() -> None:
    where = Where({}, "/h", "/h")
    one = requests.archive(where, [("/r", "hf:a/b")], "/mnt", accept={"young"}, digest="1")
    assert one.id == requests.archive(Where({}, "/h", "/x"), [("/r", "hf:a/b")], "/mnt", digest="2").id
    assert one.id != requests.archive(where, [("/r", "hf:a/b")], "/mnt", keep=True).id
    assert one.id != requests.archive(where, [("/r", "hf:a/c")], "/mnt").id


@pytest.mark.parametrize("body", [{}, {"id": 1}, {"id": "a", "kind": "b", "title": "c", "request": [], "drives": []}])
def test_what_is_no_job_is_refused(body: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Spec.from_json(body)
