"""What the details pane tells of an item, counted from its files. No Textual in here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cachetui import formats
from cachetui.ledger import Holder, Scan
from cachetui.model import Item

QUICK = 4000
"""Up to so many files the facts are counted at once; beyond, in a thread."""
ROLES = ("weights", "tokenizer", "config", "other")


@dataclass(frozen=True, slots=True)
class Facts:
    """Numbers of one item. Bytes; None until the scan is complete."""

    roles: tuple[tuple[str, int, int], ...]
    """(role, files, apparent bytes), each blob once."""
    redundant: int
    """Apparent bytes of files that repeat the weights."""
    own: int | None = None
    shared: int | None = None
    frees: int | None = None
    """What deleting it alone gives back."""
    up_to: bool = False
    """`frees` is an upper bound: the file system can share extents."""
    holders: tuple[Holder, ...] = ()


def facts_of(item: Item, scan: Scan | None) -> Facts:
    """Count. `scan` is complete and holds the item, or is None."""
    count = dict.fromkeys(ROLES, 0)
    size = dict.fromkeys(ROLES, 0)
    redundant = 0
    again = set(item.traits.redundant)
    content = item.content
    for name, at in _distinct(item):
        role = formats.role(name)
        role = role if role in count else "other"
        count[role] += 1
        size[role] += content[at].size
        if name in again:
            redundant += content[at].size
    roles = tuple((r, count[r], size[r]) for r in ROLES if count[r])
    if scan is None or item.key not in scan.by_key:
        return Facts(roles, redundant)
    ledger = scan.ledger
    shared = ledger.shared(item)
    holders = ledger.shared_with(item) if shared else ()
    up_to = scan.root_of(item).reflinks
    return Facts(roles, redundant, item.size - shared, shared, ledger.frees([item]), up_to, holders)


def _distinct(item: Item) -> Iterator[tuple[str, int]]:
    """(first name, position) of every blob that a revision names."""
    seen: set[int] = set()
    for revision in item.revisions:
        for name, at in zip(revision.names, revision.index, strict=True):
            if at >= 0 and at not in seen:
                seen.add(at)
                yield name, at


def load_hint(item: Item) -> str:
    """The shortest way to use it. Holds outside strings; empty where there is none to tell."""
    if item.kind == "dataset":
        return f'load_dataset("{item.name}")'
    loads = item.traits.loads_with
    local = item.store not in ("hf", "ollama")
    name = f"{item.root}/{item.path}".rstrip("/") if local else item.name
    if item.store == "ollama" and item.kind == "model":
        return f"ollama run {name}"
    if "mlx_lm" in loads and "mlx" in item.traits.formats:
        return f"mlx_lm.generate --model {name}"
    if "llama.cpp" in loads:
        return f"llama-cli -m {name}" if local else f"llama-cli -hf {name}"
    if "diffusers" in loads:
        return f'DiffusionPipeline.from_pretrained("{name}")'
    return f'from_pretrained("{name}")' if "transformers" in loads else ""
