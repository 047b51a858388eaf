"""Which files of a repo are needed: patterns, else one format of the weights, and one quantization of a GGUF repo."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cachetui.alternatives import PROJECTOR, SHARD, matches, other_formats
from cachetui.download.listing import Entry
from cachetui.formats import is_weights
from cachetui.gguf import type_in_name

_PROJECTORS = ("F16", "BF16", "F32", "Q8_0")


@dataclass(frozen=True, slots=True)
class Quant:
    """One quantization of a GGUF repo."""

    name: str
    """E.g. Q4_K_M; the file's name where it tells none."""
    size: int
    """Bytes of its files, projector not included."""
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selected:
    """What is taken, and why the rest is not."""

    entries: tuple[Entry, ...]
    left_out: tuple[tuple[Entry, str], ...]
    quants: tuple[Quant, ...] = ()
    """What there is to choose from; smallest first."""
    must_choose: bool = False
    """Several quantizations, and none was chosen."""
    unknown: str = ""
    """A path, pattern or quantization that matches nothing."""


def select(
    entries: Sequence[Entry],
    *,
    path: str = "",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    quant: str = "",
    everything: bool = False,
) -> Selected:
    """The files to get. `path`, `include` and `everything` (all formats) turn the defaults off."""
    left: dict[str, str] = {}
    unknown, must_choose = "", False
    quants = quantizations(entries)
    if path:
        asked = [e for e in entries if e.path == path or e.path.startswith(path.rstrip("/") + "/")]
        unknown = "" if asked else path
        left = dict.fromkeys({e.path for e in entries} - {e.path for e in asked}, "not asked for")
    elif include:
        left = {e.path: "not asked for" for e in entries if not matches(e.path, include)}
        unknown = ", ".join(p for p in include if not any(matches(e.path, [p]) for e in entries))
    elif quant:
        left, unknown = _one_quant(entries, quants, quant)
    elif not everything:
        left = other_formats(e.path for e in entries)
        taken = [q for q in quants if not all(f in left for f in q.files)]
        if taken:
            must_choose = len(taken) > 1
            more, _ = _one_quant(entries, quants, taken[0].name)
            left |= {} if must_choose else more
    left |= {e.path: "excluded" for e in entries if exclude and e.path not in left and matches(e.path, exclude)}
    return Selected(
        tuple(e for e in entries if e.path not in left),
        tuple((e, left[e.path]) for e in entries if e.path in left),
        quants,
        must_choose,
        unknown,
    )


def quantizations(entries: Sequence[Entry]) -> tuple[Quant, ...]:
    """The GGUF files of a repo as choices: shards together, projectors apart, smallest first."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for e in entries:
        if e.path.lower().endswith(".gguf") and not PROJECTOR.search(e.path):
            groups[SHARD.sub("", e.path)].append(e)
    names = [type_in_name(path) or path for path in groups]
    found = []
    for (path, files), name in zip(groups.items(), names, strict=True):
        title = name if names.count(name) == 1 else path
        found.append(Quant(title, sum(e.size for e in files), tuple(e.path for e in files)))
    return tuple(sorted(found, key=lambda q: (q.size, q.name)))


def _one_quant(entries: Sequence[Entry], quants: Sequence[Quant], wanted: str) -> tuple[dict[str, str], str]:
    """What is left out when one quantization is taken: the others, other weights, all projectors but the best."""
    chosen = next((q for q in quants if wanted.lower() in (q.name.lower(), *(f.lower() for f in q.files))), None)
    if chosen is None:
        return {}, wanted
    projectors = sorted((e for e in entries if _is_projector(e)), key=_projector_rank)
    keep = {*chosen.files, *(e.path for e in projectors[:1])}
    return {
        e.path: "another quantization" if e.path.lower().endswith(".gguf") else "weights in another format"
        for e in entries
        if e.path not in keep and (is_weights(e.path) or e.path.lower().endswith(".gguf"))
    }, ""


def _is_projector(entry: Entry) -> bool:
    return entry.path.lower().endswith(".gguf") and PROJECTOR.search(entry.path) is not None


def _projector_rank(entry: Entry) -> tuple[int, str]:
    name = type_in_name(entry.path)
    return (_PROJECTORS.index(name) if name in _PROJECTORS else len(_PROJECTORS), entry.path)
