"""Quantized models as items: entries, what the older convention left, makings that did not end."""

from __future__ import annotations

import os
import shlex
import stat
from array import array
from dataclasses import replace

from cachetui import afar, archives, walk
from cachetui.formats import traits
from cachetui.model import (
    DAMAGED,
    FOREIGN_OWNER,
    OK,
    PARTIAL,
    READ_ONLY,
    Blob,
    Item,
    Problem,
    Revision,
    Root,
    Traits,
)
from cachetui.quantized_entries.listing import ENTRY, OLDER, STAGING, UNFINISHED, Entry, look
from cachetui.quantized_entries.manifest import MANIFEST, Manifest
from cachetui.store import Removal, Selection
from cachetui.text import encode_target
from cachetui.units import iso, size

STORE = "quant"
SOURCE, COMMIT, AGAIN, KEY = "made from", "at commit", "made anew by", "key"
"""Labels of rows (`Item.extra`); SOURCE holds a TARGET, COMMIT the whole hash."""
BAD, UNFINISHED_CODE = "bad-entry", "unfinished-entry"
"""Codes of problems."""
CLEAN = "cachetui quantize clean --corrupted moves it to the trash; quantize makes it anew"
_SHORT = 12


def identifiers(names: list[str]) -> dict[str, str]:
    """The ids of names in one folder: keys are cut to their beginning where that is enough."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        beginning = STAGING if name.startswith(STAGING) else ""
        key = name[len(beginning) :]
        short = beginning + key[:_SHORT] if len(key) == 64 else name
        if short in taken:
            short = name
        taken.add(short)
        found[name] = f"{STORE}:{encode_target(short)}"
    return found


def seen(root: Root, name: str, kind: str, st: os.stat_result) -> Entry:
    """What a name in a root says of itself. Never raises, and never waits for a drive that does not answer."""
    path = f"{root.path}/{name}"
    if kind != ENTRY or not stat.S_ISLNK(st.st_mode):
        return look(path, kind)
    lead = afar.follow(path)
    if lead.stat is None:
        return Entry(path, kind)
    return afar.patiently(lead.real, lambda: look(path, kind), Entry(path, kind))


def is_put_elsewhere(root: Root, name: str, kind: str) -> bool:
    """Whether a link in a root stands for something that was archived: any other link is only a link. Never raises."""
    path = f"{root.path}/{name}"
    lead = afar.follow(path)
    if not afar.leaves(root.path, root.dev, lead):
        return False
    if lead.stat is None:
        return archives.holding(lead.path) is not None
    if kind == ENTRY:
        return afar.patiently(lead.real, lambda: os.path.lexists(f"{lead.real}/{MANIFEST}"), True)
    return bool(afar.archive_above(lead.real))


def make(root: Root, entry: Entry, id_: str, st: os.stat_result, nested: frozenset[tuple[int, int]]) -> Item:
    """The item of one name in a root. Never raises."""
    name = os.path.basename(entry.path)
    base = Item(
        id_, STORE, root.path, entry.kind, entry.name, name, last_modified=st.st_mtime, last_used=st.st_atime,
        states=_states(root, st), uid=st.st_uid, gid=st.st_gid,
    )  # fmt: skip
    if stat.S_ISLNK(st.st_mode):
        return _linked(replace(base, overhead=walk.allocated(st)), root, entry, nested)
    if stat.S_ISREG(st.st_mode):
        return _older(replace(base, blobs=(walk.blob(name, st),), file_count=1)).with_sizes()
    tally = walk.tree(root.path, name, nested=nested)
    return _folder(base, entry, tally)


def _folder(base: Item, entry: Entry, tally: walk.Tally) -> Item:
    blobs = tuple(sorted(tally.files))
    names = tuple(b.path[len(base.path) + 1 :] for b in blobs)
    newest = max((b.mtime for b in blobs), default=base.last_modified)
    revision = Revision("", (), base.path, names, array("i", range(len(names))), sum(b.size for b in blobs), newest)
    item = replace(
        base, blobs=blobs, overhead=tally.overhead, revisions=(revision,), file_count=len(blobs),
        last_used=tally.last_used or base.last_used, last_modified=newest, problems=tuple(tally.problems),
    )  # fmt: skip
    if entry.kind == OLDER:
        item = _older(item)
    elif entry.kind == UNFINISHED:
        message = "making it did not end, or goes on now"
        problem = Problem(UNFINISHED_CODE, message, entry.path, "making it again begins anew; or delete it")
        item = replace(item, problems=(*item.problems, problem)).with_states(PARTIAL)
    else:
        item = _entry(item, entry, dict(zip(names, blobs, strict=True)), bool(tally.links))
    return item.with_sizes()


def _entry(item: Item, entry: Entry, there: dict[str, Blob], links: bool) -> Item:
    folder, manifest = os.path.realpath(entry.path), entry.manifest
    item = replace(item, traits=_traits(folder, tuple(there), manifest))
    if manifest is None:
        return _bad(item, entry.problem or "it has no manifest", entry.path)
    item = replace(item, last_modified=manifest.made, extra=rows(manifest, entry.path))
    for f in manifest.files:
        blob = there.get(f.path)
        if blob is None:
            return _bad(item, f"{f.path} is missing", f"{entry.path}/{f.path}")
        if blob.size != f.size:
            return _bad(item, f"{f.path} has {blob.size:,} bytes, not {f.size:,}", f"{entry.path}/{f.path}")
    if links:
        return _bad(item, "it holds links: what was saved were files", entry.path)
    return item


def _bad(item: Item, message: str, path: str) -> Item:
    return replace(item, problems=(*item.problems, Problem(BAD, message, path, CLEAN))).with_states(DAMAGED)


def _traits(folder: str, names: tuple[str, ...], manifest: Manifest | None) -> Traits:
    def read(name: str, cap: int) -> bytes | None:
        try:
            return walk.read_small(f"{folder}/{name}", cap)
        except OSError:
            return None

    found = traits(tuple(n for n in names if n != MANIFEST), read)
    if manifest is None:
        return found
    who = manifest.identity
    return replace(found, quantization=who.label if who.label.startswith(who.method) else f"{who.method} {who.label}")


def _older(item: Item) -> Item:
    """Nothing of it is opened: what it holds may be a pickle."""
    why = "a script of the older convention: its name, an md5, cannot see that a model has a new commit"
    return replace(item, extra=(("made by", why), ("use it", "it is not loaded: cachetui quantize makes it anew")))


def _linked(base: Item, root: Root, entry: Entry, nested: frozenset[tuple[int, int]]) -> Item:
    """An entry that is only a link: what is there is shown, and counts there."""
    lead = afar.follow(entry.path)
    if lead.stat is None:
        return afar.offline(base, lead, entry.path)
    far = Root(STORE, os.path.dirname(lead.real), lead.stat.st_dev, -1, "archive")
    there = lead.stat

    def read() -> Item:
        return make(far, replace(entry, path=lead.real), base.id, there, nested)

    late = afar.slow(base, lead, entry.path)
    item = afar.patiently(lead.real, read, late)
    return item if item is late else afar.archived(base, item, lead.real)


def _states(root: Root, st: os.stat_result) -> tuple[str, ...]:
    states = [] if root.writable else [READ_ONLY]
    if hasattr(os, "geteuid") and os.geteuid() not in (0, st.st_uid):
        states.append(FOREIGN_OWNER)
    return tuple(states) or (OK,)


def rows(manifest: Manifest, path: str) -> tuple[tuple[str, str], ...]:
    """What a person wants to know of an entry."""
    who = manifest.identity
    s = who.settings
    skipped = ", ".join(map(str, s.get("llm_int8_skip_modules") or ()))
    took = f"{manifest.seconds:,.0f} s" if manifest.seconds else ""
    found = (
        (SOURCE, manifest.source.target or manifest.source.folder), (COMMIT, who.commit),
        ("quantized", f"{who.method}, {who.label}"), ("the rest is", who.dtype), ("left as it is", skipped),
        ("for rank", str(who.rank) if who.rank else ""), ("model class", who.model_class), ("made", iso(manifest.made)),
        ("it took", took), ("peak memory", size(manifest.peak_memory) if manifest.peak_memory else ""),
        ("made with", ", ".join(f"{n} {v}" for n, v in manifest.libraries.items())), (KEY, manifest.key),
        ("load it", loading(manifest, path)), (AGAIN, again(manifest)),
    )  # fmt: skip
    return tuple((label, value) for label, value in found if value)


def loading(manifest: Manifest, path: str) -> str:
    """What to write or type to use it elsewhere."""
    if manifest.identity.method == "mlx":
        return f'mlx_lm.load("{path}")'
    if manifest.identity.method == "gguf":
        modelfile = next((f.path for f in manifest.files if f.path == "Modelfile"), "")
        files = [f.path for f in manifest.files if f.path.endswith(".gguf")]
        file = next((f for f in files if not f.startswith("mmproj")), "")
        name = file.removesuffix(".gguf").lower()
        return f"ollama create {name} -f {shlex.quote(f'{path}/{modelfile}')}" if modelfile else f"{path}/{file}"
    return f'from_pretrained("{path}")'


def again(manifest: Manifest) -> str:
    """The command that makes it anew."""
    who = manifest.identity
    words = ["cachetui", "quantize", manifest.source.target or manifest.source.folder]
    if who.method == "bitsandbytes":
        words += ["--bits", "8" if who.label == "int8" else "4"]
        words += ["--double-quant"] if who.label.endswith("-double") else []
    else:
        words += ["--format", who.method]
        words += ["--bits", str(who.settings["bits"])] if "bits" in who.settings else []
        words += ["--type", str(who.settings["type"])] if "type" in who.settings else []
    words += ["--rank", str(who.rank)] if who.rank else []
    return shlex.join(words)


def removal(selection: Selection) -> Removal:
    """What removing one takes: all of it."""
    if not selection.is_whole:
        why = afar.refuse_part(selection.item) or "it is one thing: without a file of it, it could not be loaded"
        return Removal((), refused=why)
    return Removal((selection.item.path,))
