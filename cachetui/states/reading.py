"""Reading states: what one says of itself, whether it is whole, its bytes."""

from __future__ import annotations

import os
import shlex
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cachetui.checked import CheckError, number, rows, size, text
from cachetui.states import form
from cachetui.states.errors import DAMAGED, PICKLE, StateError
from cachetui.states.identity import Identity

MAX_TOKENS = 1 << 24
MAX_LAYERS = 1 << 12
SAVE_AGAIN = "save it again: cachetui state save"


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer of the cache is."""

    kind: str
    """The class of transformers' cache that held it."""
    seen: int
    """Tokens it has read, those that left its window included; 0 where it does not count."""


@dataclass(frozen=True, slots=True)
class StateInfo:
    """What a state's header says. Every string may come from a stranger."""

    path: str
    identity: Identity
    tokens: int
    """System prompt and pictures, as the model reads them."""
    bytes: int
    """Of the file."""
    created: float
    """POSIX seconds."""
    model: str
    """The TARGET, or the name, of the model as it was loaded."""
    device: str
    """Where it was made: no part of the identity."""
    program: str
    """What made it, with versions."""
    layers: tuple[Layer, ...]
    data_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """For people's programs and the protocol of workers."""
        who = self.identity.to_json()
        return {
            "path": self.path, "identity": who, "key": self.identity.key, "tokens": self.tokens, "bytes": self.bytes,
            "created": self.created, "model": self.model, "device": self.device, "program": self.program,
            "layers": len(self.layers),
        }  # fmt: skip

    def described(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {
            "identity": self.identity.to_json(), "tokens": self.tokens, "created": self.created, "model": self.model,
            "device": self.device, "program": self.program, "layers": [[x.kind, x.seen] for x in self.layers],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Opened:
    """A state's file held open: header and data are of the same file, whatever happens to the path. Close `fd`."""

    fd: int
    header: form.Header
    info: StateInfo

    @property
    def stamp(self) -> tuple[int, int, int, int, int]:
        """Device, inode, size, mtime and ctime: while these are the same, so is the content."""
        st = os.fstat(self.fd)
        return st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns


def open_state(path: str) -> Opened:
    """Open a state and check its header. Raises StateError."""
    fd = form.open_state(path)
    try:
        header = form.read_header(fd)
        return Opened(fd, header, _info(path, header))
    except BaseException as e:
        os.close(fd)
        if isinstance(e, StateError) and (e.code == PICKLE or (e.code == DAMAGED and not e.advice)):
            raise StateError(e.code, e.reason, anew(path)) from None
        raise


def read(path: str) -> StateInfo:
    """What a state says of itself; its data is not read. The content decides, not the suffix. Raises StateError."""
    opened = open_state(path)
    os.close(opened.fd)
    return opened.info


def of_file(fd: int, path: str) -> StateInfo:
    """What an open file says of itself; for who opens files in his own way. Raises StateError."""
    return _info(path, form.read_header(fd))


def check(path: str) -> str | None:
    """Why a state is not as it was written: header, structure, and every byte of its data; None where it is."""
    try:
        opened = open_state(path)
    except StateError as e:
        return e.reason
    try:
        return damage(opened, form.data_digest(opened.fd, opened.header))
    except StateError as e:
        return e.reason
    finally:
        os.close(opened.fd)


def foreign_zip(path: str) -> str | None:
    """What the checksums of a torch.save file say of it, which is not unpickled for that; None where it has none."""
    try:
        with zipfile.ZipFile(path) as file:
            bad = file.testzip()
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, zlib.error):
        return None
    return f"by its own checksums {bad} in it is damaged" if bad else "by its own checksums it is whole"


def damage(opened: Opened, digest: str) -> str | None:
    """Why the data is not what was written, by its sha256; None where it is."""
    if digest == opened.header.data_sha256:
        return None
    return "its data is damaged: sha256 is not what was written"


def anew(path: str) -> str:
    """The command that makes a state of ours in the place of a file of another kind."""
    return f"make it again with: cachetui state save --image PICTURE --output {shlex.quote(path)}"


def start_length() -> int:
    """Bytes that `is_start` needs."""
    return 8 + len(_START)


_START = b'{"__metadata__":{"cachetui.state":"'


def is_start(head: bytes | None) -> bool:
    """Whether a file that begins like this is a state, be it damaged or of another version."""
    return head is not None and head[8 : 8 + len(_START)] == _START


def _info(path: str, header: form.Header) -> StateInfo:
    try:
        body: Mapping[str, Any] = header.info
        layers = tuple(_layer(row) for row in rows(body, "layers"))
        tokens = size(body, "tokens")
        if not 0 < tokens <= MAX_TOKENS or len(layers) > MAX_LAYERS:
            raise CheckError(f"it is damaged: {tokens} tokens in {len(layers)} layers")
        return StateInfo(
            path, Identity.from_json(body.get("identity")), tokens, header.size, number(body, "created"),
            text(body, "model"), text(body, "device"), text(body, "program"), layers, header.data_sha256,
        )  # fmt: skip
    except CheckError as e:
        raise StateError(DAMAGED, str(e), SAVE_AGAIN) from None


def _layer(row: object) -> Layer:
    if not isinstance(row, list) or len(row) != 2:
        raise CheckError("it is damaged: a layer is not described")
    named = {"kind": row[0], "seen": row[1]}
    return Layer(text(named, "kind"), size(named, "seen"))
