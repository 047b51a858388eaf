"""What a worker and its parent say to each other: one JSON object a line.

From the worker: `started` (pid), `progress` (phase, done, total, unit, name), `heartbeat` (work: a count that grows
with the work), `log` (text), `result` (a piece of its JSON text, `last`), `failed` (reason, advice), `done`
(cancelled). To the worker: the request on the first line, then `cancel`. Every object has `"v": 1` and a `type`; a
type or key that is not known is ignored. Names are written as ASCII escapes, so that undecodable bytes
(surrogateescape) survive.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cachetui.jobs.model import Json

VERSION = 1
MAX_LINE = 1 << 20
"""Bytes in one line, the line end included."""
MAX_RESULT = 1 << 28
MAX_REQUEST = 1 << 26
"""The parent is trusted, and may name ten thousand TARGETs."""
_PIECE = 200_000  # characters of a result in one line: escaped twice it stays below MAX_LINE
_TEXT = 64_000  # characters of an outside string: escaped it stays below MAX_LINE
_SHOWN = 40


class ProtocolError(Exception):
    """The other side does not speak this protocol; the message says what came."""


def line(type_: str, **fields: Any) -> bytes:
    """One message. Raises TypeError or ValueError for what JSON cannot carry."""
    for key, value in fields.items():
        if isinstance(value, str) and len(value) > _TEXT and type_ != "result":
            fields[key] = value[:_TEXT]
    return json.dumps({"v": VERSION, "type": type_, **fields}, allow_nan=False).encode("ascii") + b"\n"


def parse(raw: bytes) -> Json:
    """A message. Raises ProtocolError."""
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        raise ProtocolError(f"not a line of JSON: {raw[:_SHOWN]!r}") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolError(f"not a message: {raw[:_SHOWN]!r}")
    if message.get("v") != VERSION:
        raise ProtocolError(f"version {message.get('v')!r} of the protocol, where {VERSION} is spoken")
    return message


def result_lines(result: Json) -> Iterator[bytes]:
    """A result of any size as messages. Raises TypeError or ValueError for what JSON cannot carry."""
    text = json.dumps(result, allow_nan=False)
    for start in range(0, len(text), _PIECE):
        yield line("result", piece=text[start : start + _PIECE], last=start + _PIECE >= len(text))


class Lines:
    """Cuts what comes in pieces into lines."""

    def __init__(self, most: int = MAX_LINE) -> None:
        self._most = most
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that are complete with `data`. Raises ProtocolError for one that is too long."""
        *whole, rest = data.split(b"\n")
        for part in whole:
            self._add(part)
            found = bytes(self._rest)
            self._rest.clear()
            yield found
        self._add(rest)

    def _add(self, part: bytes) -> None:
        if len(self._rest) + len(part) >= self._most:
            raise ProtocolError(f"a line longer than {self._most} bytes")
        self._rest += part


class ResultText:
    """Puts the pieces of a result together."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self.value: Json | None = None
        """The result, once its last piece came."""

    def add(self, message: Json) -> None:
        """One `result` message. Raises ProtocolError."""
        piece = message.get("piece")
        if not isinstance(piece, str):
            raise ProtocolError("a result without content")
        self._length += len(piece)
        if self._length > MAX_RESULT:
            raise ProtocolError(f"a result longer than {MAX_RESULT} characters")
        self._pieces.append(piece)
        if not message.get("last"):
            return
        try:
            value = json.loads("".join(self._pieces))
        except (ValueError, RecursionError):
            raise ProtocolError("a result that is not JSON") from None
        if not isinstance(value, dict):
            raise ProtocolError("a result that is not an object")
        self.value = value
