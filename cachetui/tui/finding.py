"""What the search picker asks a Hub for. Everything here waits for a network: for threads. No Textual in here."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from cachetui import units
from cachetui.download import search as hub
from cachetui.download import selection
from cachetui.download.client import Client, offline
from cachetui.download.errors import PullError
from cachetui.download.listing import read
from cachetui.download.ollama import parse as parse_ollama
from cachetui.download.search import Hit
from cachetui.download.selection import Quant
from cachetui.download.spelling import parse_hub
from cachetui.formats import role

ROLES = ("weights", "tokenizer", "config", "other")
_PATIENCE = 10.0
"""Seconds without a byte after which a Hub is said not to answer; a person waits."""
_BETWEEN = re.compile(r"(\S+?)\s*(?:-|\.\.)\s*(\S+)")


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for. Sizes in bytes, 0 for any."""

    words: str = ""
    task: str = ""
    smallest: int = 0
    largest: int = 0


@dataclass(frozen=True, slots=True)
class About:
    """One model, before it is chosen. All strings are outside strings."""

    repo: str
    roles: tuple[tuple[str, int, int], ...]
    """(role, files, bytes) of what would come by default."""
    left_out: int
    """Bytes of other formats of the same weights."""
    quants: tuple[Quant, ...]
    variants: tuple[Hit, ...]


def direct(text: str) -> str:
    """The TARGET of a typed name (ORG/NAME, hf:..., ollama:...); empty where these are words to look for."""
    text = text.strip()
    try:
        if text.startswith("ollama:"):
            return f"ollama:{parse_ollama(text)}" if text != "ollama:" else ""
        if "/" in text or text.startswith("hf:"):
            parse_hub(text)
            return text if text.startswith("hf:") else f"hf:{text}"
    except PullError:
        pass
    return ""


def bounds(text: str) -> tuple[int, int]:
    """(smallest, largest) of `<10GB`, `>2GB`, `2GB-10GB` or `10GB`, 0 for none. Raises ValueError."""
    text = text.strip()
    if not text:
        return 0, 0
    if text[0] == ">":
        return units.parse_size(text[1:].lstrip("= ")), 0
    if match := _BETWEEN.fullmatch(text):
        return units.parse_size(match[1]), units.parse_size(match[2])
    return 0, units.parse_size(text.lstrip("<= "))


def ready() -> str:
    """The Hub that is asked. Raises PullError at once where nothing may be asked."""
    client = _client()
    if client.offline:
        raise offline()
    return client.endpoint


def find(query: Query, here: Collection[str]) -> tuple[Hit, ...]:
    """Models that match. Raises PullError."""
    return hub.search(
        _client(), query.words, task=query.task, smallest=query.smallest, largest=query.largest, here=here
    )


def about(repo: str, here: Collection[str]) -> About:
    """What a model consists of, and what others made of it. Raises PullError."""
    client = _client()
    listing = read(client, parse_hub(f"hf:{repo}"))
    chosen = selection.select(listing.entries)
    roles: dict[str, tuple[int, int]] = {}
    for e in chosen.entries:
        count, size = roles.get(role(e.path), (0, 0))
        roles[role(e.path)] = (count + 1, size + e.size)
    try:
        variants = hub.variants(client, repo, here=here)
    except PullError:
        variants = ()  # a mirror need not know them
    return About(
        repo,
        tuple((name, *roles[name]) for name in ROLES if name in roles),
        sum(e.size for e, _ in chosen.left_out),
        chosen.quants if chosen.must_choose else (),
        variants,
    )


def variants(repo: str, here: Collection[str]) -> tuple[Hit, ...]:
    """GGUF, GPTQ, AWQ and MLX versions of a model. Raises PullError."""
    return hub.variants(_client(), repo, here=here)


def _client() -> Client:
    return Client(_PATIENCE, tries=1)
