"""What of a model's folder a state depends on, as hashes. No weights are read but a little of every tensor."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable
from functools import lru_cache

from cachetui.memory import headers

TOKENIZER = (
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "merges.txt", "vocab.txt",
    "spiece.model", "sentencepiece.bpe.model", "special_tokens_map.json", "added_tokens.json", "tekken.json",
)  # fmt: skip
PROCESSOR = ("preprocessor_config.json", "processor_config.json")
_SAMPLE = 1024
_MAX_FILE = 256 << 20
_SPANS = re.compile(rb'"data_offsets"\s*:\s*\[\s*(\d{1,18})\s*,\s*(\d{1,18})\s*\]')
_COMMIT = re.compile(r"/snapshots/([0-9a-f]{40})/*\Z")
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def commit_of(folder: str) -> str:
    """The commit that a folder of a hub cache stands for; empty for any other folder."""
    found = _COMMIT.search(folder)
    return found[1] if found else ""


def files_digest(folder: str, names: Iterable[str]) -> str:
    """sha256 over those of the files that are there; empty where none is. What cannot be read counts as not there."""
    found = [(name, digest) for name in names if (digest := _file_digest(os.path.join(folder, name)))]
    return hashlib.sha256(repr(found).encode()).hexdigest() if found else ""


def weights_digest(folder: str) -> str:
    """sha256 over name, size, header and a kilobyte from the middle of every tensor of a folder's weight files.

    Another training changes nearly every number of a tensor, so it is seen; a flipped byte is for `verify`. Costs a
    small read for each tensor. Empty where there are no safetensors. Raises OSError.
    """
    found = []
    for name in sorted(n for n in os.listdir(folder) if n.endswith(".safetensors")):
        path = os.path.join(folder, name)
        st = os.stat(path)
        if stat.S_ISREG(st.st_mode):
            found.append((name, _sampled(path, st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns)))
    return hashlib.sha256(repr(found).encode("utf-8", "surrogateescape")).hexdigest() if found else ""


@lru_cache(maxsize=1024)
def _sampled(path: str, dev: int, ino: int, size: int, mtime_ns: int) -> str:
    """sha256 of size, header and samples of one file, once for as long as it stays as it is."""
    digest = hashlib.sha256(f"{size}\0".encode())
    fd = os.open(path, _FLAGS)
    try:
        length = int.from_bytes(os.pread(fd, 8, 0), "little")
        if 2 <= length <= min(size - 8, headers.MAX_SAFETENSORS):
            raw = os.pread(fd, length, 8)
            digest.update(raw)
            for start, end in sorted((int(s[1]), int(s[2])) for s in _SPANS.finditer(raw)):
                middle = 8 + length + (start + end) // 2
                if end > start and middle < size:
                    at = max(middle - _SAMPLE // 2, 8 + length + start)
                    digest.update(os.pread(fd, min(_SAMPLE, end - start), at))
    finally:
        os.close(fd)
    return digest.hexdigest()


def _file_digest(path: str) -> str:
    try:
        st = os.stat(path)
    except OSError:
        return ""
    return _hashed(path, st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns) if stat.S_ISREG(st.st_mode) else ""


@lru_cache(maxsize=256)
def _hashed(path: str, dev: int, ino: int, size: int, mtime_ns: int) -> str:
    """sha256 of a small file, once for as long as it stays as it is."""
    try:
        with open(os.open(path, _FLAGS), "rb") as f:  # noqa: PTH123 - a descriptor
            return hashlib.sha256(f.read(_MAX_FILE)).hexdigest()
    except OSError:
        return ""
