"""What a model on a Hub would need, before it is downloaded: its config and the headers of its weights, by ranges.

Of a safetensors file the first 64 KiB are asked for, which hold the whole header of most; of a GGUF its values. Weights
themselves never come. huggingface_hub's `get_safetensors_metadata` does the same for safetensors alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Protocol

from cachetui import formats
from cachetui.download import selection
from cachetui.download.client import Client, offline
from cachetui.download.listing import Entry, Listing, read
from cachetui.download.spelling import HubName, parse_hub
from cachetui.gguf import MAX_HEADER, gguf_header
from cachetui.memory import headers
from cachetui.memory.config import from_gguf
from cachetui.memory.model import Tensor
from cachetui.memory.sources import MAX_CONFIG, Facts, NotAModel, labelled, loads, main_weights

_FIRST = 1 << 16
_MAX_FILES = 200
_AT_ONCE = 8


class _Get(Protocol):
    """So many bytes of a file from `start` on."""

    def __call__(self, path: str, length: int, start: int = 0) -> bytes: ...


def ask(client: Client, target: str) -> Facts:
    """What a Hub tells of a model that is not here. Raises PullError (offline too), NotAModel."""
    name = parse_hub(target)
    if client.offline:
        raise offline()
    if name.kind != "model":
        raise NotAModel(f"it is a {name.kind}")
    listing = read(client, name)
    chosen = selection.select(listing.entries, path=name.path)
    if chosen.must_choose:
        # As on disk: the smallest is what is loaded when memory is short.
        chosen = selection.select(listing.entries, quant=chosen.quants[0].name)
    found = facts_of(client, name, listing, chosen.entries)
    return replace(found, source=f"{client.endpoint}/{name.repo}, commit {listing.commit[:12]}")


def facts_of(client: Client, name: HubName, listing: Listing, entries: Sequence[Entry]) -> Facts:
    """The same of files that are chosen already. Raises PullError, NotAModel."""
    by_name = {e.path: e for e in entries}
    everything = {e.path: e for e in listing.entries}
    get = partial(_bytes, client, name, listing.commit)
    raw: dict[str, bytes] = {}
    if (config_file := everything.get("config.json")) is not None and config_file.size <= MAX_CONFIG:
        raw["config.json"] = get("config.json", config_file.size)
    config = loads(raw.get("config.json", b""))
    base = Facts(
        name.target, name.repo, config, download=sum({e.etag: e.size for e in entries}.values()),
        weights=sum(e.size for e in entries if formats.is_weights(e.path)), exact=False,
    )  # fmt: skip
    tensors = main_weights(by_name, ".safetensors", has_config=bool(config))
    gguf = [n for n in sorted(by_name) if n.lower().endswith(".gguf")]
    if tensors:
        return _from_safetensors(base, tensors, by_name, raw, get)
    if gguf:
        return _from_gguf(base, gguf, by_name, get)
    if not base.weights:
        raise NotAModel("it holds no weights")
    note = "no safetensors header: weights by the length of their files"
    return replace(base, quantization=_label(list(by_name), raw, name.repo), notes=(note,))


def _from_safetensors(
    base: Facts, names: Sequence[str], by_name: dict[str, Entry], raw: dict[str, bytes], get: _Get
) -> Facts:
    if len(names) > _MAX_FILES:
        raise NotAModel(f"its weights lie in {len(names)} files: that many headers are not asked for")

    def one(name: str) -> bytes:
        size = by_name[name].size
        first = get(name, min(size, _FIRST))
        length = int.from_bytes(first[:8], "little")
        if not 2 <= length <= size - 8:
            raise NotAModel(f"{name}: the header is longer than the file")
        if length > headers.MAX_SAFETENSORS:
            raise NotAModel(f"{name}: a header of {length} bytes is not read")
        more = 8 + length - len(first)
        return first + (get(name, more, len(first)) if more > 0 else b"")

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(one, names))
    tensors: list[Tensor] = []
    for name, head in zip(names, found, strict=True):
        raw[name] = head
        try:
            tensors += headers.safetensors_header(head[8 : 8 + int.from_bytes(head[:8], "little")])
        except headers.BadHeader as e:
            raise NotAModel(f"{name}: {e}") from None
    return replace(
        base, tensors=tuple(tensors), weights=sum(t.size for t in tensors), exact=True,
        quantization=_label(list(by_name), raw, base.name),
    )  # fmt: skip


def _from_gguf(base: Facts, names: Sequence[str], by_name: dict[str, Entry], get: _Get) -> Facts:
    main = next((n for n in names if "mmproj" not in n), names[0])
    header = None
    for cap in (_FIRST, MAX_HEADER):
        header = gguf_header(get(main, min(cap, by_name[main].size)))
        if header is None:
            raise NotAModel(f"{main}: not a GGUF file")
        if header.complete or f"{header.architecture}.block_count" in header.values:
            break
    assert header is not None
    return replace(
        base, config=from_gguf(header.values), weights=sum(by_name[n].size for n in names), is_gguf=True,
        quantization=header.quantization, stated=labelled(header.parameters),
        notes=(("counted: " + ", ".join(names),) if len(names) > 1 else ()),
    )  # fmt: skip


def _bytes(client: Client, name: HubName, commit: str, path: str, length: int, start: int = 0) -> bytes:
    """So many bytes of a file from `start` on, or what it has; one connection, tried as often as the API."""
    from cachetui.download.preflight import file_url

    url = file_url(client, name.kind, name.repo, commit, path)
    for attempt in range(client.tries):
        try:
            with client.open("GET", url, {"Range": f"bytes={start}-{start + length - 1}"}) as answer:
                client.must_be_ok(answer)
                # A server without ranges sends all of it: what comes first is skipped, the rest is not waited for.
                skip = start if answer.status == 200 else 0
                body = bytearray()
                for chunk in answer.response.iter_bytes():
                    body += chunk
                    if len(body) >= skip + length:
                        break
                return bytes(body[skip : skip + length])
        except client.transient as e:
            if attempt == client.tries - 1:
                raise client.unreachable(url, e) from e
    raise AssertionError


def _label(names: Sequence[str], raw: dict[str, bytes], repo: str) -> str:
    return formats.traits(names, lambda name, cap: raw.get(name), repo).quantization
