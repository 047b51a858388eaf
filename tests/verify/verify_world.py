"""Caches to verify, and ways to break them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cachetui import verify
from cachetui.config import Where
from cachetui.demo.builders import Hub, OllamaStore, safetensors_bytes
from cachetui.ledger import Scan
from cachetui.scan import scan as scan_all
from cachetui.verify import Verdict

CONFIG = b'{"model_type": "llama"}'


def weights(seed: str = "", count: int = 40_000) -> bytes:
    """A valid safetensors file with content that differs by seed."""
    head = safetensors_bytes({"w": ("U8", (count,))}, data=False)
    block = hashlib.sha512(seed.encode()).digest()
    return head + (block * (count // len(block) + 1))[:count]


def flip(path: Path, at: int = 5000) -> None:
    """Flip a bit, without a trace in size and mtime."""
    st = path.stat()
    os.chmod(path, 0o644)
    with path.open("r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 4]))
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def cut(path: Path, length: int) -> None:
    """Make a file shorter."""
    os.chmod(path, 0o644)
    os.truncate(path, length)


@dataclass
class Reads:
    """Counts what is really read, and fails where it is told to."""

    bytes: int = 0
    hook: Callable[[int], None] | None = None
    """Called with the offset before each read."""

    def __call__(self, fd: int, buffers: Sequence[memoryview], offset: int, /) -> int:
        if self.hook is not None:
            self.hook(offset)
        count = os.preadv(fd, buffers, offset)
        self.bytes += count
        return count


@dataclass
class Told:
    """A progress that remembers."""

    calls: list[tuple[str, int, int, str]] = field(default_factory=list)

    def advance(self, phase: str, done: int, total: int, name: str) -> None:
        self.calls.append((phase, done, total, name))


@dataclass
class World:
    """The caches of a home."""

    home: Path
    where: Where

    @property
    def hub(self) -> Hub:
        return Hub(self.home / ".cache/huggingface/hub")

    @property
    def ollama(self) -> OllamaStore:
        return OllamaStore(self.home / ".ollama/models")

    def scan(self) -> Scan:
        return scan_all(self.where)

    def check(self, *ids: str, **options: Any) -> dict[str, Verdict]:
        """Verdicts by item id (all items without ids)."""
        found = self.scan()
        items = [i for i in found.items if not ids or i.id in ids]
        assert not ids or len(items) == len(ids), [i.id for i in found.items]
        return {v.target: v for v in verify.check(found, items, **options)}

    def one(self, item: str, **options: Any) -> Verdict:
        return self.check(item, **options)[item]


def codes(verdict: Verdict) -> list[str]:
    """Codes of its findings."""
    return [f.code for f in verdict.findings]
